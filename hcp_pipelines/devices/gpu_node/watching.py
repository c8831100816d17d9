"""Operations of agents, watched to their end: what failed is reported, and so is who says that it has obeyed and has not.

The mode is compared here; whether power follows is judged by settling, from the readings.
"""

from collections import defaultdict

import structlog

from hcp_pipelines.devices.gpu_node import metrics
from hcp_pipelines.devices.gpu_node.device import GpuNode
from hcp_pipelines.devices.gpu_node.fleet import Node, UnderWay
from hcp_pipelines.devices.gpu_node.steps import SLEEPS, warm_state
from hcp_pipelines.devices.gpu_node.values import GpuStatus, Operation
from hcp_pipelines.devices.switches import Saved, SwitchBook, newest_name, tell_saved
from hcp_pipelines.domain.errors import DeviceRefusedError
from hcp_pipelines.domain.modes import DeviceState

NOBODYS_TICKET = -1  # of what no command of this process asked for

_log = structlog.get_logger("devices.gpu_node")


async def catch_up(node: Node, device: GpuNode, book: SwitchBook) -> None:
    """What an earlier process did not live to hear: what sleeps is told by its agent's word, pauses under way are watched.

    What was told before is told once more, which changes nothing.

    Raises:
        DeviceUnreachableError, DeviceReplyError: it is asked again.
    """
    asleep, busy = defaultdict[str, list[GpuStatus]](list), set[str]()
    for status in node.status.values():
        if status.operation_id is not None:
            busy.add(status.operation_id)
        elif status.work and warm_state(status) is not None and status.index < node.gpus:
            asleep[status.work].append(status)
    for operation_id in busy - set(node.operations):
        operation = await _looked_at(device, operation_id)
        let_go = {gpu: node.status[gpu].work for gpu in operation.gpus if gpu < node.gpus} if operation else {}
        if operation is not None and operation.kind in SLEEPS:
            own = {gpu: work for gpu, work in let_go.items() if work}
            node.operations[operation_id] = UnderWay("", NOBODYS_TICKET, DeviceState.IDLE, operation.gpus, own)
    for work, gpus in sorted(asleep.items()):
        slots = tuple(sorted(node.first_slot + gpu.index for gpu in gpus))
        await tell_saved(book, Saved(work, slots, newest_name(gpu.saved for gpu in gpus)))


async def watch(node: Node, device: GpuNode, book: SwitchBook) -> None:
    """Look at every operation under way of a node, and read its GPUs' modes once some have ended.

    Raises:
        DeviceUnreachableError, DeviceReplyError: it is looked at again.
    """
    looked_at = [(one, await _looked_at(device, one)) for one in list(node.operations)]
    ended = [(one, operation) for one, operation in looked_at if operation is None or not operation.is_running]
    if not ended:
        return
    node.status = {one.index: one for one in await device.read_status()}
    for operation_id, operation in ended:
        under_way = node.operations.pop(operation_id)
        if operation is not None:
            metrics.OPERATIONS.labels(operation.state).inc()
            if operation.state != "succeeded":
                _report(node, operation, under_way, book)
        _compare(node, under_way)
        await _tell_saved(node, under_way, operation, book)


async def _looked_at(device: GpuNode, operation_id: str) -> Operation | None:
    """How an operation stands; None: nobody knows any more."""
    try:
        return await device.read_operation(operation_id)
    except DeviceRefusedError:
        metrics.OPERATIONS.labels("forgotten").inc()  # the agent keeps 256; the modes tell
        return None


async def _tell_saved(node: Node, under_way: UnderWay, operation: Operation | None, book: SwitchBook) -> None:
    """Say of each workload that was put to sleep whether it is kept, and under which name where it is still there."""
    if operation is None:
        return  # what nobody tells is not kept
    problem = "" if operation.state == "succeeded" else operation.problem or operation.state
    for work in sorted(set(under_way.let_go.values())):
        gpus = [gpu for gpu, own in under_way.let_go.items() if own == work]
        names = {node.status[gpu].saved for gpu in gpus if gpu in node.status and node.status[gpu].work == work}
        name = "" if problem else newest_name(names)
        await tell_saved(book, Saved(work, tuple(node.first_slot + gpu for gpu in sorted(gpus)), name, problem))


def _report(node: Node, operation: Operation, under_way: UnderWay, book: SwitchBook) -> None:
    if operation.is_works_own:
        command_id, _, index = under_way.command.rpartition("/")
        slots = [node.first_slot + gpu for gpu in under_way.gpus]
        book.note_unfit(command_id, int(index), slots, operation.problem)
    _log.warning(
        "an operation has failed", node=node.address, command=under_way.command, kind=operation.kind,
        gpus=list(operation.gpus), problem=operation.problem,
    )  # fmt: skip


def _compare(node: Node, under_way: UnderWay) -> None:
    """Whether the modes are what was asked for; not where somebody has asked for something else since."""
    newest = [gpu for gpu in under_way.gpus if node.tickets[gpu] == under_way.ticket]
    other = [gpu for gpu in newest if gpu in node.status and node.status[gpu].state is not under_way.state]
    if other:
        metrics.CALLS.labels("command", "not_taken").inc(len(other))
        _log.warning(
            "GPUs say yes and read back another mode", node=node.address, command=under_way.command, gpus=other
        )
