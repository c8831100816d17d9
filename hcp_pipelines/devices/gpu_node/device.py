"""One GPU node as a device: read what it does, put its GPUs into a state, check by mode *and* power, and mend an XID.

States are absolute; which steps lead to one is in `steps`, and the agent takes its time over them. Deadlines until a state must
have been reached, retries and quarantine are the gateway's. Each request id is the caller's, so that a repetition is harmless.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field

from hcp_pipelines.devices.gpu_node import agent_codec as codec
from hcp_pipelines.devices.gpu_node.exporter_codec import decode_metrics
from hcp_pipelines.devices.gpu_node.limits import draws_like
from hcp_pipelines.devices.gpu_node.steps import AT_WORK, NOTHING, RESUME, SLEEPS, START, Gpus, Step, steps_to
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


@dataclass(frozen=True, slots=True)
class _Asked:
    """A state that somebody asks for, and what has come of it."""

    state: DeviceState
    request_id: str
    spec: WorkloadSpec
    status: dict[int, GpuStatus]
    outcome: StateOutcome = field(default_factory=StateOutcome)


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

    async def is_drained(self) -> bool:
        """Whether it takes no new work."""
        return codec.decode_is_drained(await self._transport.get("/v1/node"), self._address)

    async def read_telemetry(self) -> NodeTelemetry:
        """What the exporter collected last: it may be as old as its interval, and a lost GPU is not in it."""
        answer = await self._transport.metrics()
        if answer.status != 200:
            raise DeviceRefusedError(f"{self._address}: the exporter answers with status {answer.status}")
        return decode_metrics(answer.body, self._address)

    async def read_status(self) -> tuple[GpuStatus, ...]:
        """What the agent says of each GPU now."""
        return codec.decode_gpus(await self._transport.get("/v1/gpus"), self._address)

    async def read_operation(self, operation_id: str, wait_s: float = 0.0) -> Operation:
        """How far an accepted write is; the agent may take so many real seconds for the answer, until it has ended.

        Raises:
            DeviceRefusedError: the agent doesn't know it (any more).
        """
        waiting = f"?wait_s={wait_s:g}" if wait_s else ""
        answer = await self._transport.get(f"/v1/operations/{operation_id}{waiting}")
        return codec.decode_operation(answer, self._address)

    async def sleep(self, kind: str, gpus: Gpus, request_id: str) -> Operation:
        """Pause or checkpoint what runs on GPUs, which are idle then."""
        return await self._write(f"/v1/workloads/{kind}", codec.encode_write(request_id, gpus, park=False))

    async def resume(self, gpus: Gpus, request_id: str) -> Operation:
        """Wake what sleeps on GPUs."""
        return await self._write("/v1/workloads/resume", codec.encode_write(request_id, gpus))

    async def stop(self, gpus: Gpus, request_id: str, *, park: bool = False) -> Operation:
        """End what is on GPUs."""
        return await self._write("/v1/workloads/stop", codec.encode_write(request_id, gpus, park=park))

    async def start(self, state: DeviceState, gpus: Gpus, spec: WorkloadSpec, request_id: str) -> Operation:
        """Load one copy over GPUs."""
        return await self._write("/v1/workloads/start", codec.encode_start(request_id, gpus, state, spec))

    async def set_state(
        self, state: DeviceState, gpus: Collection[int], request_id: str, spec: WorkloadSpec | None = None
    ) -> StateOutcome:
        """Ask for a state; what of it is accepted, to be asked for again, or refused. Nothing is awaited.

        Raises:
            ValueError: a state that no GPU has.
        """
        if state not in codec.STATE_OF_NAME.values():
            message = f"a GPU has no state {state.label}"
            raise ValueError(message)
        status = {one.index: one for one in await self.read_status()}
        asked = _Asked(state, request_id, spec or WorkloadSpec(), status)
        for index in gpus:
            if index not in status:
                asked.outcome.refused[index] = DeviceRefusedError(f"{self._address}: no GPU {index}")
        there, spec = [status[index] for index in gpus if index in status], asked.spec
        for step in steps_to(state, there, spec.gpus_each, spec.workload_id, spec.checkpoint):
            await self._take_step(step, asked)
        return asked.outcome

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

    async def carry_out(self, action: XidAction, gpus: Collection[int], request_id: str) -> list[Operation]:
        """Do at the node what an XID asks for; empty where that is nothing, or nothing that can be done from here.

        `gpus`: the one with the XID, and those that share its workload. Ends work: when it may is for the caller to decide.
        """
        stop = codec.encode_write(f"{request_id}.stop", tuple(gpus))
        steps: dict[XidAction, list[Callable[[], Awaitable[Operation]]]] = {
            XidAction.RESTART_APP: [lambda: self._write("/v1/workloads/stop", stop)],
            XidAction.RESET_GPU: [lambda: self.reset(gpus, f"{request_id}.reset")],
            XidAction.DRAIN_AND_RESET: [
                lambda: self.drain(f"{request_id}.drain"),
                lambda: self.reset(gpus, f"{request_id}.reset"),
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

    async def _take_step(self, step: Step, asked: _Asked) -> None:
        """One request for all GPUs of a step; where that is refused one a workload, so that one doesn't hold up the others."""
        if step.name == NOTHING:
            asked.outcome.accepted.update(dict.fromkeys(step.gpus, ""))
            return
        if step.name == AT_WORK:
            asked.outcome.at_work.update({gpu: asked.status[gpu] for gpu in step.gpus})
            return
        if len(step.parts) > 1 and step.name != START:
            whole = StateOutcome()
            await self._ask_for(step.name, step.gpus, asked, whole)
            if whole.accepted:
                asked.outcome.accepted.update(whole.accepted)
                asked.outcome.let_go.update(whole.let_go)
                return
        for gpus in step.parts:
            await self._ask_for(step.name, gpus, asked, asked.outcome)

    async def _ask_for(self, step: str, gpus: Gpus, asked: _Asked, outcome: StateOutcome) -> None:
        own_id = f"{asked.request_id}.{step}.{'-'.join(map(str, gpus))}"
        if step == START:
            body = codec.encode_start(own_id, gpus, asked.state, asked.spec)
        elif step == RESUME:
            body = codec.encode_write(own_id, gpus)
        else:
            body = codec.encode_write(own_id, gpus, park=asked.state is DeviceState.CURTAILED)
        try:
            operation = await self._write(f"/v1/workloads/{step}", body)
        except codec.BusyError as error:
            outcome.busy.update(dict.fromkeys(gpus, str(error)))
        except DeviceRefusedError as error:
            outcome.refused.update(dict.fromkeys(gpus, error))
        else:
            outcome.accepted.update(dict.fromkeys(gpus, operation.operation_id))
            if step in SLEEPS:
                outcome.let_go.update({gpu: asked.status[gpu].work for gpu in gpus if asked.status[gpu].work})

    async def _write(self, path: str, body: bytes) -> Operation:
        answer: Answer = await self._transport.post(path, body)
        return codec.decode_operation(answer, self._address)


def _verdict(state: DeviceState, gpu: GpuStatus | None, measured: GpuTelemetry | None) -> Verdict:
    if gpu is None or gpu.state is None:
        return Verdict.LOST
    if gpu.state is not state:
        return Verdict.ON_THE_WAY if gpu.operation_id else Verdict.WRONG_MODE
    if measured is None or measured.power_w is None:
        return Verdict.NO_POWER_YET
    is_alike = draws_like(state, measured.power_w, gpu.power_cap_w, measured.model)
    return Verdict.ARRIVED if is_alike else Verdict.WRONG_POWER
