"""What comes back of a facility's commands, and what its gateway did by itself: into the owner's view and the journal.

The session is in `control`; nothing is sent from here.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import structlog

from hcp_pipelines.allocator import metrics
from hcp_pipelines.allocator.journal import AuditRow, Observation, Outcome
from hcp_pipelines.allocator.leases import Lease
from hcp_pipelines.allocator.owner import Owner
from hcp_pipelines.allocator.saved_table import SavedRow
from hcp_pipelines.allocator.wave import Wave
from hcp_pipelines.allocator.wave_spans import tell_wave
from hcp_pipelines.allocator.writer import JournalWriter
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.modes import ReasonCode
from hcp_pipelines.policy.arrays import Bools
from hcp_pipelines.policy.waves import Move, Slots
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import decode_slots, encode_slots
from hcp_pipelines.wire.work import decode_keys

PAUSE_AFTER_REFUSAL_S = 5.0
HOLDS = {"direct": True, "released": False}  # a direct order holds the whole facility down until it is released
LOSSES = {"shed": True, "power_returned": False}  # a feeder has no power, or has it again
UNAUDITED = frozenset({"fallback", "lockout"})  # the gateway's own, each journalled with its reason


@dataclass
class InFlight:
    """A command that left and has no ack yet."""

    wave: Wave
    sent_ns: int
    journalled_ns: int


@dataclass(frozen=True)
class Wiring:
    """What the controls of one allocator share."""

    name: str
    clock: SystemClock
    writer: JournalWriter
    wake: Callable[[], None]

    def alert(self, facility_id: str, what: str, **said: object) -> None:
        """Tell people, by way of `audit_log`."""
        self.writer.batch.audits.append(AuditRow(self.name, f"alert.{what}", facility_id, said))
        self.writer.wake()


class Returns:
    """Acks, settling, local events and discrepancies of one facility."""

    def __init__(self, owner: Owner, lease: Lease, wiring: Wiring) -> None:
        self._owner, self._lease, self._wiring = owner, lease, wiring
        self.in_flight: dict[str, InFlight] = {}
        self._log = structlog.get_logger("allocator").bind(facility_id=owner.site.facility_id)

    def adopt(self, state: pb.FacilityState) -> None:
        """What a gateway that follows us from now on says of its devices."""
        works = decode_keys(state.at_work, state.work_keys, self._owner.site.shape.slots)
        starting = self.mask(state.starting)
        self._owner.devices.adopt(state.states, state.observed, self._now_s(), works, starting)
        self._owner.held, self._owner.devices.dark = self.mask(state.held), self.mask(state.dark)
        self._owner.tells_saved = self.mask(state.tells_saved)

    # -- acks ---------------------------------------------------------------------------------------------------------

    def take_ack(self, ack: pb.Ack) -> None:
        """A command's answer: journalled, and what was not accepted is as it was before."""
        flight = self.in_flight.pop(ack.command_id, None)
        if ack.refusal:
            self._take_refusal(ack, flight)
            return
        if ack.duplicate and flight is None:
            return
        steps = self._steps(flight)
        for answer in ack.assignments:
            accepted = self._accepted(answer, flight)
            self._wiring.writer.batch.outcomes.append(self._outcome(ack, answer, len(accepted), steps))
            if flight is not None:
                self._note_answer(answer, accepted, flight.wave.plan.moves[answer.index])
        self._tell_work()
        self._wiring.writer.batch.note_seq(self._owner.site.facility_id, ack.seq)

    def _accepted(self, answer: pb.AssignmentAck, flight: InFlight | None) -> Slots:
        """What was taken on: as a rule all, and then the command's own bitmap comes back."""
        if flight is not None and answer.accepted == flight.wave.rows[answer.index].slots:
            return flight.wave.plan.moves[answer.index].slots
        return self._slots(answer.accepted)

    def _outcome(self, ack: pb.Ack, answer: pb.AssignmentAck, accepted: int, steps: dict[str, float] | None) -> Outcome:
        return Outcome(
            self._owner.site.facility_id,
            "acked",
            ack.command_id,
            answer.index,
            self._wiring.clock.now(),
            devices=accepted,
            refused=sum(self._count(r.slots) for r in answer.refused),
            deferred=self._count(answer.deferred),
            detail=ack.detail or ", ".join(r.code for r in answer.refused),
            steps_ms=steps,
        )

    def _steps(self, flight: InFlight | None) -> dict[str, float] | None:
        """The latency breakdown of a first wave, milliseconds since the tick row's commit."""
        if flight is None:
            return None
        wave, now_ns = flight.wave, self._wiring.clock.monotonic_ns()
        if wave.origin_ns is None:
            tell_wave(wave, (now_ns - wave.decision.started_ns) / 1e6, {})
            return None
        instants = {"journal": flight.journalled_ns, "send": flight.sent_ns, "ack": now_ns}
        later = {name: round((at_ns - wave.origin_ns) / 1e6, 3) for name, at_ns in instants.items()}
        metrics.TICK_TO_ACK_SECONDS.observe(later["ack"] / 1e3)
        steps = wave.steps_ms | later
        tell_wave(wave, steps["ack"], steps)
        return steps

    def _note_answer(self, answer: pb.AssignmentAck, accepted: Slots, move: Move) -> None:
        devices = self._owner.devices
        devices.taken_on(accepted, move.to_state, move.work)
        for what, payloads in (("refused", [r.slots for r in answer.refused]), ("deferred", [answer.deferred])):
            for slots in (self._slots(p) for p in payloads):
                if len(slots):
                    metrics.UNDONE.labels(what).inc(len(slots))
                    now_s = self._wiring.clock.monotonic_s()
                    devices.put_back(slots, move.to_state, now_s, PAUSE_AFTER_REFUSAL_S, move.work)

    def _take_refusal(self, ack: pb.Ack, flight: InFlight | None) -> None:
        self._log.warning("command refused", refusal=ack.refusal, detail=ack.detail, command_id=ack.command_id)
        if flight is None:
            return
        metrics.UNDONE.labels(ack.refusal).inc(sum(len(m.slots) for m in flight.wave.plan.moves))
        for n, move in enumerate(flight.wave.plan.moves):
            refused = Outcome(
                self._owner.site.facility_id,
                "acked",
                ack.command_id,
                n,
                self._wiring.clock.now(),
                refused=len(move.slots),
                detail=ack.refusal,
            )
            self._wiring.writer.batch.outcomes.append(refused)
            now_s = self._wiring.clock.monotonic_s()
            self._owner.devices.put_back(move.slots, move.to_state, now_s, PAUSE_AFTER_REFUSAL_S, move.work)

    # -- settling and what the gateway did by itself ------------------------------------------------------------------

    def take_settled(self, settled: pb.Settled) -> None:
        """Devices that arrived, or did not in time."""
        arrived, failed = self._slots(settled.settled), self._slots(settled.failed)
        self._owner.devices.settled(arrived)
        if len(failed):
            metrics.UNDONE.labels("not_settled").inc(len(failed))
            self._log.warning("devices did not settle", command_id=settled.command_id, devices=len(failed))
            unfit = np.intersect1d(failed, self._slots(settled.unfit))
            self._owner.give_up_work(unfit, settled.problem)
            not_now = np.setdiff1d(np.intersect1d(failed, self._slots(settled.not_now)), unfit)
            self._owner.devices.left_alone(not_now)
            self._owner.devices.failed(np.setdiff1d(failed, np.union1d(unfit, not_now)))
        self._tell_work()
        outcome = Outcome(
            self._owner.site.facility_id,
            "settled",
            settled.command_id,
            settled.index,
            _instant(settled.simulated_at, self._wiring.clock),
            devices=len(arrived),
            failed=len(failed),
            superseded=self._count(settled.superseded),
        )
        self._wiring.writer.batch.outcomes.append(outcome)
        self._wiring.writer.batch.note_seq(self._owner.site.facility_id, settled.seq)

    def _tell_work(self) -> None:
        """What has become of desired rows by what their devices say."""
        self._owner.settle_work()
        self._wiring.writer.note(desired=self._owner.take_work_news())

    def take_saved(self, saved: pb.Saved) -> None:
        """Work stands still: kept, or not. A name that no workload of ours has is none."""
        site = self._owner.site
        self._wiring.writer.batch.note_seq(site.facility_id, saved.seq)
        try:
            workload_id = uuid.UUID(saved.workload_id)
        except ValueError:
            self._log.warning("work stands still that is none of ours", workload=saved.workload_id)
            return
        slots, at = encode_slots(self._slots(saved.slots)), _instant(saved.simulated_at, self._wiring.clock)
        row = SavedRow(
            self._event_id(saved.seq, saved.simulated_at, saved.workload_id),
            site.facility_id,
            site.generation,
            workload_id,
            slots,
            saved.checkpoint,
            saved.problem,
            at,
        )
        self._wiring.writer.batch.saved.append(row)

    def _event_id(self, seq: int, simulated_at: str, what: str) -> uuid.UUID:
        """Of an entry of the gateway's log: the same whoever reads it, and however often.

        A log that begins anew counts from 1 again, so that the number alone would name another entry of the one before.
        """
        site = self._owner.site
        return uuid.uuid5(uuid.NAMESPACE_URL, f"{site.facility_id}/{site.generation}/{seq}/{simulated_at}/{what}")

    def take_local(self, event: pb.LocalEvent) -> None:
        """Something the gateway did alone: believed, journalled, and planned upon."""
        slots = self._slots(event.slots)
        event_id = self._event_id(event.seq, event.simulated_at, event.kind)
        at = _instant(event.simulated_at, self._wiring.clock)
        detail = " ".join(text for text in (event.kind, event.order_id, event.detail) if text)
        if LOSSES.get(event.kind):
            self._owner.lose_power(slots, at.timestamp())
        by_group_mw = self._owner.take_local(slots, event.state, at.timestamp(), event.mw_delta)
        if LOSSES.get(event.kind) is False:
            self._owner.regain_power(slots, at.timestamp())
        groups = self._owner.site.shape.group_of_slot[slots]
        for n, (g, mw) in enumerate(sorted(by_group_mw.items())):
            row = self._observation(event_id, n, g, None, event.state, slots[groups == g], at, mw)
            self._wiring.writer.batch.observations.append(row(event.reason, detail, event.actor or "gateway"))
        if event.kind in HOLDS:
            self._owner.held = self._owner.site.shape.group_of_slot >= 0 if HOLDS[event.kind] else self.mask(b"")
        if event.actor or event.kind not in UNAUDITED:
            self._wiring.writer.batch.audits.append(self._audit(event, sum(by_group_mw.values())))
        self._wiring.writer.batch.note_seq(self._owner.site.facility_id, event.seq)
        self._owner.ask()
        self._wiring.wake()

    def _audit(self, event: pb.LocalEvent, mw_delta: float) -> AuditRow:
        """What somebody ordered at the gateway itself, or what it did for safety, in the audit log."""
        detail = {
            "seq": event.seq, "order_id": event.order_id, "reason": event.detail or event.reason,
            "devices": self._count(event.slots), "mw_delta": round(mw_delta, 6), "simulated_at": event.simulated_at,
        }  # fmt: skip
        return AuditRow(event.actor or "gateway", f"gateway.{event.kind}", self._owner.site.facility_id, detail)

    def mask(self, payload: bytes) -> Bools:
        """[n] the slots of a bitmap."""
        mask = np.zeros(self._owner.site.shape.slots, dtype=bool)
        mask[self._slots(payload)] = True
        return mask

    def reconcile(self, state: pb.FacilityState) -> None:
        """Hold the owner's view against gateway and meter; what differs is journalled and driven again."""
        self._owner.devices.dark = self.mask(state.dark)
        found = self._owner.reconcile(state.states, state.observed, self._now_s())
        event_id, now = uuid.uuid4(), self._wiring.clock.now()
        for n, d in enumerate(found):
            metrics.DISCREPANCIES.inc(len(d.slots))
            row = self._observation(event_id, n, d.group_index, d.commanded, d.observed, d.slots, now)
            self._wiring.writer.batch.observations.append(
                row(ReasonCode.RECONCILE.value, "power says otherwise", self._wiring.name)
            )
        if found:
            self._log.warning("devices found in another state", devices=sum(len(d.slots) for d in found))
            self._wiring.writer.wake()
            self._owner.ask()
            self._wiring.wake()

    def _observation(
        self,
        event_id: uuid.UUID,
        number: int,
        g: int,
        from_state: int | None,
        to_state: int,
        slots: Slots,
        at: datetime,
        mw_delta: float = 0.0,
    ) -> Callable[[str, str, str], Observation]:
        shape = self._owner.site.shape

        def row(reason: str, detail: str, actor: str) -> Observation:
            return Observation(
                self._owner.site.facility_id, self._wiring.name, self._lease.epoch, event_id, number, self._owner.site.generation,
                shape.group_ids[g], shape.feeder_of_group[g], from_state, to_state, len(slots), encode_slots(slots),
                reason, detail, actor, at, mw_delta,
            )  # fmt: skip

        return row

    def _slots(self, payload: bytes) -> Slots:
        return decode_slots(payload, self._owner.site.shape.slots)

    def _count(self, payload: bytes) -> int:
        return len(self._slots(payload))

    def _now_s(self) -> float:
        return self._wiring.clock.now().timestamp()


def _instant(text: str, clock: SystemClock) -> datetime:
    return datetime.fromisoformat(text) if text else clock.now()
