"""One GPU node as a device: read what it does, put its GPUs into a state, check by mode *and* power, and mend an XID.

States are absolute and asked for GPU by GPU; the agent carries them out over time. Deadlines until a state must have been
reached, retries and quarantine are the gateway's. Each request id is the caller's, so that a repetition is harmless.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection

from hcp_pipelines.devices.gpu_node import agent_codec as codec
from hcp_pipelines.devices.gpu_node.exporter_codec import decode_metrics
from hcp_pipelines.devices.gpu_node.limits import draws_like
from hcp_pipelines.devices.gpu_node.transport import Answer, NodeTransport
from hcp_pipelines.devices.gpu_node.values import (
    GpuStatus,
    GpuTelemetry,
    NodeIdentity,
    NodeTelemetry,
    Operation,
    StateOutcome,
    Verdict,
    WorkloadSpec,
)
from hcp_pipelines.devices.xid import XidAction
from hcp_pipelines.domain.errors import DeviceRefusedError
from hcp_pipelines.domain.modes import DeviceState

_RESTING = (DeviceState.IDLE, DeviceState.CURTAILED)
_TRAINING = codec.CLASS_OF_STATE[DeviceState.TRAINING]
_SLEEPING = frozenset({"paused", "checkpointed"})

Step = tuple[str, tuple[int, ...]]  # what to ask for, and of which GPUs


class GpuNode:
    """A node behind a transport. Every call raises DeviceUnreachableError or DeviceReplyError where the node fails to answer."""

    def __init__(self, transport: NodeTransport, address: str) -> None:
        self._transport = transport
        self._address = address

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def identify(self) -> NodeIdentity:
        """Who it is, with the uuid of each board."""
        gpus = await self.read_status()
        return codec.decode_identity(await self._transport.get("/v1/node"), gpus, self._address)

    async def read_telemetry(self) -> NodeTelemetry:
        """What the exporter collected last: it may be as old as its interval, and a lost GPU is not in it."""
        answer = await self._transport.metrics()
        if answer.status != 200:
            raise DeviceRefusedError(f"{self._address}: the exporter answers with status {answer.status}")
        return decode_metrics(answer.body, self._address)

    async def read_status(self) -> tuple[GpuStatus, ...]:
        """What the agent says of each GPU now."""
        return codec.decode_gpus(await self._transport.get("/v1/gpus"), self._address)

    async def read_operation(self, operation_id: str) -> Operation:
        """How far an accepted write is.

        Raises:
            DeviceRefusedError: the agent doesn't know it (any more).
        """
        return codec.decode_operation(await self._transport.get(f"/v1/operations/{operation_id}"), self._address)

    async def set_state(
        self, state: DeviceState, gpus: Collection[int], request_id: str, spec: WorkloadSpec | None = None
    ) -> StateOutcome:
        """Ask for a state; what of it is accepted, to be asked for again, or refused. Nothing is awaited.

        What is lost least is chosen: inference sleeps, training is checkpointed, and what sleeps is woken rather than loaded.

        Raises:
            ValueError: a state that no GPU has.
        """
        if state not in codec.STATE_OF_NAME.values():
            message = f"a GPU has no state {state.label}"
            raise ValueError(message)
        outcome = StateOutcome()
        status = {one.index: one for one in await self.read_status()}
        for index in gpus:
            if index not in status:
                outcome.refused[index] = f"{self._address}: no GPU {index}"
        for step, some in _steps(state, [status[index] for index in gpus if index in status]):
            await self._take_step(step, some, state, request_id, spec or WorkloadSpec(), outcome)
        return outcome

    async def read_back(self, state: DeviceState, gpus: Collection[int]) -> dict[int, Verdict]:
        """Whether GPUs are in a state: the mode as the agent says, the power as the exporter measured.

        Two sources on purpose: an agent that says yes and does nothing is found out by the draw.
        """
        status = {one.index: one for one in await self.read_status()}
        measured = {one.index: one for one in (await self.read_telemetry()).gpus}
        return {index: _verdict(state, status.get(index), measured.get(index)) for index in gpus}

    async def set_power_cap(self, cap_w: float, gpus: Collection[int], request_id: str) -> Operation:
        """Limit the board's draw. Its bounds are in the specification.

        Raises:
            DeviceRefusedError: outside the bounds, or a GPU is lost.
        """
        return await self._write("/v1/gpus/power-cap", codec.encode_write(request_id, tuple(gpus), cap_w=cap_w))

    async def drain(self, request_id: str) -> Operation:
        """No new work on this node; what runs goes on."""
        return await self._write("/v1/node/drain", codec.encode_write(request_id))

    async def undrain(self, request_id: str) -> Operation:
        """New work again."""
        return await self._write("/v1/node/undrain", codec.encode_write(request_id))

    async def reset(self, gpus: Collection[int], request_id: str) -> Operation:
        """Reset GPUs, ending what runs on them."""
        return await self._write("/v1/gpus/reset", codec.encode_write(request_id, tuple(gpus), force=True))

    async def reboot(self, request_id: str) -> Operation:
        """Restart the host; the same request id never restarts it twice."""
        return await self._write("/v1/node/reboot", codec.encode_write(request_id))

    async def carry_out(self, action: XidAction, gpu: int, request_id: str) -> list[Operation]:
        """Do at the node what an XID asks for; empty where that is nothing, or nothing that can be done from here.

        Ends work: when it may is for the caller to decide.
        """
        ended = codec.encode_write(f"{request_id}.stop", (gpu,))
        steps: dict[XidAction, list[Callable[[], Awaitable[Operation]]]] = {
            XidAction.RESTART_APP: [lambda: self._write("/v1/workloads/stop", ended)],
            XidAction.RESET_GPU: [lambda: self.reset([gpu], f"{request_id}.reset")],
            XidAction.DRAIN_AND_RESET: [
                lambda: self.drain(f"{request_id}.drain"),
                lambda: self.reset([gpu], f"{request_id}.reset"),
            ],
            XidAction.CHECK_NVLINK: [lambda: self.drain(f"{request_id}.drain")],
            XidAction.CHECK_MECHANICALS: [lambda: self.drain(f"{request_id}.drain")],
            XidAction.CONTACT_SUPPORT: [lambda: self.drain(f"{request_id}.drain")],
            XidAction.REBOOT_NODE: [
                lambda: self.drain(f"{request_id}.drain"),
                lambda: self.reboot(f"{request_id}.reboot"),
            ],
        }
        return [await step() for step in steps.get(action, [])]

    async def _take_step(
        self,
        step: str,
        gpus: tuple[int, ...],
        state: DeviceState,
        request_id: str,
        spec: WorkloadSpec,
        outcome: StateOutcome,
    ) -> None:
        if step == "nothing":
            outcome.accepted.update(dict.fromkeys(gpus, ""))
            return
        own_id = f"{request_id}.{step}.{'-'.join(map(str, gpus))}"
        if step == "start":
            body = codec.encode_start(own_id, gpus, state, spec)
        elif step == "resume":
            body = codec.encode_write(own_id, gpus)
        else:
            body = codec.encode_write(own_id, gpus, park=state is DeviceState.CURTAILED)
        try:
            operation = await self._write(f"/v1/workloads/{step}", body)
        except codec.BusyError as error:
            outcome.busy.update(dict.fromkeys(gpus, str(error)))
        except DeviceRefusedError as error:
            outcome.refused.update(dict.fromkeys(gpus, str(error)))
        else:
            outcome.accepted.update(dict.fromkeys(gpus, operation.operation_id))

    async def _write(self, path: str, body: bytes) -> Operation:
        answer: Answer = await self._transport.post(path, body)
        return codec.decode_operation(answer, self._address)


def _steps(state: DeviceState, gpus: list[GpuStatus]) -> list[Step]:
    """What to ask for so that GPUs come into a state, whole workloads together."""
    steps: dict[tuple[str, str], list[int]] = defaultdict(list)
    for gpu in gpus:
        step = _step(state, gpu)
        alone = gpu.workload_id or "" if step not in ("start", "nothing") else ""
        steps[step, alone].append(gpu.index)
    return [(step, tuple(sorted(indices))) for (step, _), indices in steps.items()]


def _step(state: DeviceState, gpu: GpuStatus) -> str:
    if state in _RESTING:
        if gpu.workload_phase == "running":
            return "checkpoint" if gpu.workload_class == _TRAINING else "pause"
        is_there = gpu.state is state and gpu.operation_id is None
        if gpu.workload_phase in _SLEEPING and not is_there:
            return "checkpoint" if gpu.workload_phase == "checkpointed" else "pause"
        return "nothing" if is_there else "stop"
    is_wanted = gpu.workload_class == codec.CLASS_OF_STATE[state]
    if is_wanted and gpu.workload_phase in _SLEEPING:
        return "resume"
    return "nothing" if is_wanted and gpu.workload_phase in ("running", "loading") else "start"


def _verdict(state: DeviceState, gpu: GpuStatus | None, measured: GpuTelemetry | None) -> Verdict:
    if gpu is None or gpu.state is None:
        return Verdict.LOST
    if gpu.state is not state:
        return Verdict.ON_THE_WAY if gpu.operation_id else Verdict.WRONG_MODE
    if measured is None or measured.power_w is None:
        return Verdict.NO_POWER_YET
    is_alike = draws_like(state, measured.power_w, gpu.power_cap_w, measured.model)
    return Verdict.ARRIVED if is_alike else Verdict.WRONG_POWER
