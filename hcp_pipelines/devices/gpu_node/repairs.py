"""What is done about XIDs: each is noted, logged and counted once, and acted on once where the site's settings say `act`.

A GPU that the exporter no longer shows and the agent calls lost is XID 79. A node is restarted only when nothing else runs on it,
or all its GPUs are lost; until then the others work on. An application is loaded anew only if the agent says that it has failed.
What was drained for a repair is opened again after it; after a reset or a restart the facility's owner decides what runs.
What an XID asks for is in `devices.xid`, what has been dealt with in `xid_record`.
"""

from collections.abc import Iterator
from dataclasses import replace

import structlog

from hcp_pipelines.devices.gpu_node import metrics
from hcp_pipelines.devices.gpu_node.agent_codec import BusyError
from hcp_pipelines.devices.gpu_node.device import GpuNode
from hcp_pipelines.devices.gpu_node.fleet import GpuNodeOptions, Node
from hcp_pipelines.devices.gpu_node.values import StateOutcome
from hcp_pipelines.devices.gpu_node.xid_record import XidEvent, XidRecord
from hcp_pipelines.devices.xid import XIDS, XidAction, xid_of
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import DeviceRefusedError
from hcp_pipelines.domain.modes import DeviceState

OFF_THE_BUS = 79
QUIET_S = 300.0  # simulated: so long nobody has commanded a GPU of a node that is to restart (setting)
_STAYS_DRAINED = frozenset({XidAction.CHECK_NVLINK, XidAction.CHECK_MECHANICALS, XidAction.CONTACT_SUPPORT})
_OPENED_AGAIN = frozenset({XidAction.DRAIN_AND_RESET, XidAction.REBOOT_NODE})
_TO_DO = frozenset({XidAction.RESTART_APP, XidAction.RESET_GPU}) | _OPENED_AGAIN | _STAYS_DRAINED
_AT_WORK = frozenset({"running", "loading"})
_WORKING = (DeviceState.INFERENCE_REALTIME, DeviceState.INFERENCE_BATCH, DeviceState.TRAINING)


class Repairs:
    """The XIDs of one site."""

    def __init__(self, options: GpuNodeOptions, record: XidRecord, clock: Clock) -> None:
        self._options, self._record, self._clock = options, record, clock
        self._acts = options.xid_actions == "act"
        self._log = structlog.get_logger("devices.gpu_node")

    async def look_after(self, node: Node, device: GpuNode) -> None:
        """Note what a node's fresh page shows, and take every open action one step on.

        Raises:
            DeviceUnreachableError, DeviceReplyError, StorageError: gone on with at the next round.
        """
        for gpu, code in _codes(node):
            last = self._record.last(_name(node, gpu))
            is_news = code != (last.code if last else 0) and not (last and last.is_open and last.has_begun)
            if is_news and await _is_so(node, device, gpu, code):
                await self._note(node, gpu, code)
        for gpu in range(node.gpus):
            event = self._record.last(_name(node, gpu))
            if event is not None and event.is_open and self._acts:
                await self._advance(node, device, gpu, event)

    async def _note(self, node: Node, gpu: int, code: int) -> None:
        xid = xid_of(code)
        await self._record.begin(_name(node, gpu), code, is_open=self._acts and xid.action in _TO_DO)
        if code:
            metrics.XIDS.labels(_label(code), xid.action.value, "seen").inc()
            tell = self._log.warning if xid.takes_gpu_out else self._log.info
            tell("an XID", node=node.address, gpu=gpu, xid=code, meaning=xid.meaning, action=xid.action.value)

    async def _advance(self, node: Node, device: GpuNode, gpu: int, event: XidEvent) -> None:
        """One step: begin, or see whether it has ended. What is busy is asked for again at the next round."""
        try:
            if event.operations:
                last = await device.read_operation(event.operations[-1])
                if not last.is_running:
                    await self._end(node, device, gpu, "" if last.state == "succeeded" else last.problem or "failed")
            else:
                async with node.lock:
                    await self._begin(node, device, gpu, event)
        except BusyError:
            return
        except DeviceRefusedError as error:
            await self._end(node, device, gpu, str(error))

    async def _begin(self, node: Node, device: GpuNode, gpu: int, event: XidEvent) -> None:
        """Begin, once it may be. An action that had begun when the process ended has the same request ids again."""
        action, name = xid_of(event.code).action, _name(node, gpu)
        node.status = {one.index: one for one in await device.read_status()}
        if not event.has_begun and not _is_needed(node, gpu, action):
            await self._record.end(name)
            return
        if action is XidAction.REBOOT_NODE and not _is_free(node, self._clock.now().timestamp()):
            return
        if not event.has_begun:
            was_drained = action in _OPENED_AGAIN and await device.is_drained()
            event = replace(event, has_begun=True, was_drained=was_drained)
            await self._record.write(name, event)
        operations = await self._carry_out(node, device, gpu, event, action)
        await self._record.write(name, replace(event, operations=tuple(operations)))
        self._log.warning("acting on an XID", node=node.address, gpu=gpu, xid=event.code, action=action.value)

    async def _carry_out(self, node: Node, device: GpuNode, gpu: int, event: XidEvent, action: XidAction) -> list[str]:
        """Ids of the operations that were begun. A failed application is loaded anew in its place where it is still wanted."""
        shares = node.status[gpu].workload_gpus if gpu in node.status else ()
        gpus, request_id = shares or (gpu,), event.request_id(_name(node, gpu))
        state = _wanted(node, gpus)
        if action is XidAction.RESTART_APP and state in _WORKING:
            outcome = await device.set_state(state, gpus, request_id, self._options.workloads.get(state))
            return _operations(outcome)
        return [operation.operation_id for operation in await device.carry_out(action, gpus, request_id)]

    async def _end(self, node: Node, device: GpuNode, gpu: int, problem: str) -> None:
        """The action is over, well or not; it is not begun again."""
        name = _name(node, gpu)
        event = self._record.last(name)
        if event is None:
            return
        xid = xid_of(event.code)
        metrics.XIDS.labels(_label(xid.code), xid.action.value, "failed" if problem else "done").inc()
        told = {"node": node.address, "gpu": gpu, "xid": xid.code, "action": xid.action.value}
        if problem:
            self._log.error("an XID's action has failed", problem=problem, then=xid.then.value, **told)
        else:
            self._log.info("an XID's action is done", **told)
            if xid.action in _OPENED_AGAIN and not event.was_drained and not self._stays_drained(node):
                await device.undrain(f"{event.request_id(name)}.undrain")
        await self._record.end(name)

    def _stays_drained(self, node: Node) -> bool:
        events = (self._record.last(_name(node, gpu)) for gpu in range(node.gpus))
        return any(event is not None and xid_of(event.code).action in _STAYS_DRAINED for event in events)


def _name(node: Node, gpu: int) -> str:
    return f"{node.address}/{gpu}"


def _label(code: int) -> str:
    """A code as a metric's label: those of the catalogue, and one for all others."""
    return str(code) if code in XIDS else "other"


def _codes(node: Node) -> Iterator[tuple[int, int]]:
    """The last XID of each GPU that the page shows, and of each that it should show."""
    if node.telemetry is None:
        return
    yield from ((gpu.index, gpu.last_xid or 0) for gpu in node.telemetry.gpus if gpu.index < node.gpus)
    yield from ((index, OFF_THE_BUS) for index in node.telemetry.missing(node.gpus))


async def _is_so(node: Node, device: GpuNode, gpu: int, code: int) -> bool:
    """Whether the agent agrees that a GPU is lost; exporters may leave one out for other reasons."""
    if code != OFF_THE_BUS:
        return True
    node.status = {one.index: one for one in await device.read_status()}
    return gpu in node.status and node.status[gpu].state is None


def _is_needed(node: Node, gpu: int, action: XidAction) -> bool:
    """Whether the agent agrees: an application has failed, a GPU is lost. Pages are stale for a while."""
    status = node.status.get(gpu)
    match action:
        case XidAction.RESTART_APP:
            return status is not None and status.workload_phase == "failed"
        case XidAction.REBOOT_NODE:
            return status is None or status.state is None
        case _:
            return True


def _is_free(node: Node, now_s: float) -> bool:
    """Whether nothing runs, loads, changes or has yet to settle on a node, GPUs that are lost left out."""
    there = [gpu for gpu in node.status.values() if gpu.state is not None and gpu.index < node.gpus]
    is_used = any(gpu.workload_phase in _AT_WORK or gpu.operation_id for gpu in there)
    return not is_used and all(now_s - node.wanted_at_s[gpu.index] >= QUIET_S for gpu in there)


def _wanted(node: Node, gpus: tuple[int, ...]) -> DeviceState | None:
    """The state that all of these GPUs were last commanded into; None where it is not one, or nobody has commanded yet."""
    wanted = {node.wanted[gpu] for gpu in gpus if gpu < node.gpus}
    return next((state for state in DeviceState if wanted == {state}), None)


def _operations(outcome: StateOutcome) -> list[str]:
    if outcome.busy:
        raise BusyError(next(iter(outcome.busy.values())))
    if outcome.refused:
        raise next(iter(outcome.refused.values()))
    return list(dict.fromkeys(outcome.accepted.values()))
