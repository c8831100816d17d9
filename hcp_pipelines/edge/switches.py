"""The book of switches in a facility's durable log, and the wire form of switches and work. Pure but for the log.

What a switch is, is in `devices.switches`; who carries it out is its driver.
"""

from collections.abc import Callable, Mapping

import numpy as np

from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.devices.switches import Outcome, Phase, Saved, Stage, Switch, SwitchBook
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.edge.log import FacilityLog
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import decode_slots, encode_slots
from hcp_pipelines.wire.work import TEXT_MAX


class LoggedSwitches(SwitchBook):
    """A book that is as durable as the facility's log."""

    def __init__(self, log: FacilityLog, clock: Clock, known: SwitchBook) -> None:
        super().__init__()
        self._log, self._clock, self._storing = log, clock, 0
        self.tell: Callable[[pb.GatewayMessage], None] = lambda _: None
        for switch in known:
            self.take(switch)

    @property
    def is_storing(self) -> bool:
        """Whether something is on its way to the log."""
        return self._storing > 0

    async def keep(self, switch: Switch) -> None:
        """Store how a switch stands.

        Raises:
            StorageError: the disk refused; nothing has changed.
        """
        message = switch_message(switch)
        message.simulated_at = self._clock.now().isoformat()
        await self._store(self._log.reserve(), "switch", message)
        self.take(switch)

    async def saved(self, saved: Saved) -> None:
        """Store that work stands still, and tell the owner; who comes later reads it from the log.

        Raises:
            StorageError: the disk refused; nothing was told.
        """
        message = pb.Saved(
            seq=self._log.reserve(),
            workload_id=saved.workload_id,
            slots=encode_slots(np.array(saved.slots, dtype=np.uint32)),
            checkpoint=saved.checkpoint[:TEXT_MAX],
            problem=saved.problem[:TEXT_MAX],
            simulated_at=self._clock.now().isoformat(),
        )
        await self._store(message.seq, "saved", message)
        self.tell(pb.GatewayMessage(saved=message))

    async def _store(self, seq: int, kind: str, message: "pb.Switch | pb.Saved") -> None:
        self._storing += 1
        try:
            await self._log.append([(seq, kind, message.SerializeToString())])
        finally:
            self._storing -= 1


def work_in(assignment: pb.Assignment) -> WorkloadSpec | None:
    """What an assignment says is to run; None where it does not say."""
    return work_of(assignment.work) if assignment.HasField("work") else None


def work_of(work: pb.Work) -> WorkloadSpec:
    """Work as its driver takes it; what it leaves out is as in a file that leaves it out."""
    return WorkloadSpec(
        model=work.model or "unnamed",
        weights_gib=work.weights_gib or 16.0,
        load=work.load or "cold",
        gpus_each=work.gpus_each or 1,
        workload_id=work.workload_id,
        checkpoint=work.checkpoint,
    )


def work_message(work: WorkloadSpec) -> pb.Work:
    """Work on the wire."""
    return pb.Work(
        workload_id=work.workload_id,
        model=work.model,
        weights_gib=work.weights_gib,
        gpus_each=work.gpus_each,
        load=work.load,
        checkpoint=work.checkpoint,
    )


def switch_message(switch: Switch) -> pb.Switch:
    """A switch on the wire."""
    message = pb.Switch(
        command_id=switch.command_id,
        index=switch.index,
        node=switch.node,
        slots=encode_slots(np.array(switch.slots, dtype=np.uint32)),
        before_slots=encode_slots(np.array(switch.before_slots, dtype=np.uint32)),
        from_state=switch.from_state,
        before=work_message(switch.before),
        to_state=switch.to_state,
        work=None if switch.work is None else work_message(switch.work),
        stage=switch.stage,
        outcome=switch.outcome or "",
        success=switch.is_success,
        total_duration_ms=switch.total_ms,
        problem=switch.problem[:TEXT_MAX],
    )
    for phases, told in ((message.phases, switch.phases_ms), (message.device, switch.device_ms)):
        for phase, took_ms in told.items():
            setattr(phases, f"{phase}_ms", took_ms)
    return message


def switch_of(message: pb.Switch, slots: int) -> Switch:
    """A switch of a facility of so many slots, from the wire.

    Raises:
        ValueError: what it says is none.
    """
    return Switch(
        command_id=message.command_id,
        index=message.index,
        node=message.node,
        slots=tuple(decode_slots(message.slots, slots).tolist()),
        from_state=DeviceState(message.from_state),
        before=work_of(message.before),
        before_slots=tuple(decode_slots(message.before_slots, slots).tolist()),
        to_state=DeviceState(message.to_state),
        work=work_of(message.work) if message.HasField("work") else None,
        stage=Stage(message.stage),
        outcome=Outcome(message.outcome) if message.outcome else None,
        phases_ms=_phases_of(message.phases),
        device_ms=_phases_of(message.device),
        total_ms=message.total_duration_ms,
        problem=message.problem,
    )


def _phases_of(phases: pb.SwitchPhases) -> Mapping[Phase, float]:
    return {phase: float(getattr(phases, f"{phase}_ms")) for phase in Phase if phases.HasField(f"{phase}_ms")}
