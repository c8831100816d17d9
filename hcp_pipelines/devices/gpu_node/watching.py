"""Operations of agents, watched to their end: what failed is reported, and so is who says that it has obeyed and has not.

The mode is compared here; whether power follows is judged by settling, from the readings.
"""

import structlog

from hcp_pipelines.devices.gpu_node import metrics
from hcp_pipelines.devices.gpu_node.device import GpuNode
from hcp_pipelines.devices.gpu_node.fleet import Node, UnderWay
from hcp_pipelines.devices.gpu_node.values import Operation
from hcp_pipelines.domain.errors import DeviceRefusedError

_log = structlog.get_logger("devices.gpu_node")


async def watch(node: Node, device: GpuNode) -> None:
    """Look at every operation under way of a node, and read its GPUs' modes once some have ended.

    Raises:
        DeviceUnreachableError, DeviceReplyError: it is looked at again.
    """
    ended = [operation_id for operation_id in list(node.operations) if await _has_ended(node, device, operation_id)]
    if not ended:
        return
    node.status = {one.index: one for one in await device.read_status()}
    for operation_id in ended:
        _compare(node, node.operations.pop(operation_id))


async def _has_ended(node: Node, device: GpuNode, operation_id: str) -> bool:
    try:
        operation = await device.read_operation(operation_id)
    except DeviceRefusedError:
        metrics.OPERATIONS.labels("forgotten").inc()  # the agent keeps 256; the modes tell
        return True
    if operation.is_running:
        return False
    metrics.OPERATIONS.labels(operation.state).inc()
    if operation.state != "succeeded":
        _report(node, operation, node.operations[operation_id])
    return True


def _report(node: Node, operation: Operation, under_way: UnderWay) -> None:
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
