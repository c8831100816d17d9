"""One facility under control: its owner's state joined to the gateway session and the journal. One object a lease.

Commands in flight, acks, settling, local events, reconcile. When to plan is the service's to say.
"""

import asyncio
import math
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import psycopg
import structlog

from hcp_pipelines.allocator import metrics
from hcp_pipelines.allocator.approvals import Approved
from hcp_pipelines.allocator.decide import Limits
from hcp_pipelines.allocator.incoming import check
from hcp_pipelines.allocator.journal import AuditRow, MemoryRow, Observation, Outcome
from hcp_pipelines.allocator.leases import Lease
from hcp_pipelines.allocator.obligations import write_obligation
from hcp_pipelines.allocator.owner import Owner
from hcp_pipelines.allocator.session import GatewaySession, Handlers
from hcp_pipelines.allocator.site import Site
from hcp_pipelines.allocator.standing import Standing
from hcp_pipelines.allocator.wave import ACK_DEADLINE_MS, Wave
from hcp_pipelines.allocator.writer import JournalWriter
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.modes import ReasonCode
from hcp_pipelines.policy.arrays import Bools
from hcp_pipelines.policy.waves import Move, Slots
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.channels import ClientTls
from hcp_pipelines.wire.slots import decode_slots, encode_slots

PAUSE_AFTER_REFUSAL_S = 5.0
REMEMBER_EACH_S = 5.0
HOLDS = {"direct": True, "released": False}  # a direct order holds the whole facility down until it is released
UNAUDITED = frozenset({"fallback", "lockout"})  # the gateway's own, each journalled with its reason
RESUMED = "resumed"  # the gateway's word for: what you missed has been sent


Connect = Callable[[], Awaitable["psycopg.AsyncConnection[Any]"]]


@dataclass
class _InFlight:
    """A command that left and has no ack yet."""

    wave: Wave
    sent_ns: int
    journalled_ns: int


@dataclass(frozen=True)
class Wiring:
    """What a control shares with the others."""

    name: str
    clock: SystemClock
    limits: Limits
    writer: JournalWriter
    announce: Callable[["FacilityControl"], Awaitable[pb.Announce]]
    resumed: Callable[["FacilityControl"], Awaitable[bool]]
    wake: Callable[[], None]
    tls: ClientTls | None = None


class FacilityControl:
    """Owner, session and commands in flight of one facility."""

    def __init__(self, site: Site, lease: Lease, wiring: Wiring) -> None:
        self.site, self.lease = site, lease
        self.owner = Owner(site, lease.epoch, wiring.clock, wiring.limits)
        self._wiring = wiring
        self._in_flight: dict[str, _InFlight] = {}
        self._remembered: dict[str, object] = {}
        self._remember_at_s = float("-inf")
        self._meter_mw = math.nan
        self.asked = ""  # the question that was put before an operator last
        self._locks_held = 0  # the version that the gateway holds
        self._log = structlog.get_logger("allocator").bind(facility_id=site.facility_id)
        handlers = Handlers(self._announced, self._received, self._lost, lambda: wiring.announce(self))
        self.session = GatewaySession(site.facility_id, site.address, handlers, wiring.tls)
        self._resuming: asyncio.Task[None] | None = None
        self._task = asyncio.create_task(self.session.run())
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """End the session; nothing is sent after this."""
        self.owner.is_ready = False
        metrics.IS_READY.labels(self.site.facility_id).set(0)
        tasks = [t for t in (self._task, self._resuming) if t is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- out ----------------------------------------------------------------------------------------------------------

    def send(self, wave: Wave, journalled_ns: int) -> None:
        """The journalled wave leaves."""
        self.owner.take(wave)
        if not self.session.send(pb.OwnerMessage(command=wave.command)):
            return
        self._in_flight[str(wave.command_id)] = _InFlight(wave, time.monotonic_ns(), journalled_ns)

    def give_up(self, wave: Wave, *, is_journalled: bool) -> None:
        """A wave that may not leave after all; if it is in the journal already, that says so."""
        self.owner.ask()
        if not is_journalled:
            return
        now = self._wiring.clock.now()
        self._wiring.writer.batch.outcomes += [
            Outcome("expired", str(wave.command_id), row.assignment, now, detail="never sent") for row in wave.rows
        ]
        self._wiring.writer.wake()

    async def advance_obligations(self, connect: Connect) -> None:
        """Step the obligations on clock and meter, and write what changed; the load follows at once, the writing behind it."""
        book = self.owner.obligations
        if not self.owner.is_ready or not book.obligations:
            return
        if book.wants_meter:
            state = await self.session.read_state()
            self._meter_mw = state.power_kw / 1000 if state is not None else math.nan
        if book.advance(self._now_s(), self._meter_mw):
            self.owner.ask()
            self._wiring.wake()
        unwritten = book.to_write(self._wiring.clock.monotonic_s())
        if unwritten:
            async with await connect() as connection:
                for before, after in unwritten:
                    await write_obligation(connection, self._wiring.name, self.lease.epoch, before, after)
                    book.written(after)

    def remember(self) -> None:
        """Keep what a successor should know, where it has changed."""
        monotonic_s = self._wiring.clock.monotonic_s()
        if not self.owner.is_ready or monotonic_s < self._remember_at_s:
            return
        memory, self._remember_at_s = self.owner.memory(), monotonic_s + REMEMBER_EACH_S
        if memory != self._remembered:
            self._remembered = memory
            now, facility_id = self._wiring.clock.now(), self.site.facility_id
            self._wiring.writer.batch.memories[facility_id] = MemoryRow(facility_id, self.lease.epoch, now, memory)
            self._wiring.writer.wake()

    def heartbeat(self, indices: dict[str, float], price: float | None, price_at: datetime | None) -> None:
        """Tell the gateway that its owner is there; give up a session whose acks stay out."""
        if not self.owner.is_ready:
            return
        seq = self._wiring.writer.journalled.get(self.site.facility_id, 0)
        beat = pb.Heartbeat(epoch=self.lease.epoch, indices=indices, journalled_seq=seq)
        if price is not None and price_at is not None:
            beat.decision_price_usd_per_mwh, beat.price_at = price, price_at.isoformat()
        self.session.send(pb.OwnerMessage(heartbeat=beat))
        limit_ns = time.monotonic_ns() - ACK_DEADLINE_MS * 1_000_000
        if any(f.sent_ns < limit_ns for f in self._in_flight.values()):
            self.session.hang_up(f"no ack within {ACK_DEADLINE_MS} ms")

    def approve(self, approved: Approved) -> None:
        """Somebody has agreed to these."""
        if approved != self.owner.approved:
            self.owner.approved = approved
            self.owner.ask()
            self._wiring.wake()

    def stand(self, standing: Standing) -> None:
        """What stands over the facility is this now; the gateway is told of the locks before anything that follows from them."""
        if standing == self.owner.standing:
            return
        self.site = self.owner.site = replace(self.site, obligations_version=standing.obligations_version)
        self.owner.stand(standing)
        if self.owner.is_ready:
            self._tell_locks()
        self._wiring.wake()

    def _tell_locks(self) -> None:
        version = self.owner.standing.version
        if version == self._locks_held:
            return
        slots = encode_slots(np.flatnonzero(self.owner.locked).astype(np.uint32))
        locks = pb.SetLocks(facility_id=self.site.facility_id, epoch=self.lease.epoch, version=version, slots=slots)
        self.session.send(pb.OwnerMessage(set_locks=locks))

    # -- session ------------------------------------------------------------------------------------------------------

    def _announced(self, state: pb.FacilityState) -> None:
        self.owner.devices.adopt(state.states, state.observed, self._now_s())
        self._locks_held = state.locks_version
        self.owner.held = self._mask(state.held)

    def _lost(self, why: str) -> None:
        if self.owner.is_ready:
            self._log.warning("gateway lost", why=why)
        if self._resuming is not None:
            self._resuming.cancel()
        self.owner.is_ready = False
        metrics.IS_READY.labels(self.site.facility_id).set(0)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception() is not None:
            self._log.error("the session has a defect", exc_info=task.exception())
            self.session.problem = f"defect: {task.exception()!r}"
            self._lost(self.session.problem)

    def _received(self, message: pb.GatewayMessage) -> None:
        check(message)
        match message.WhichOneof("body"):
            case "ack":
                self._take_ack(message.ack)
            case "settled":
                self._take_settled(message.settled)
            case "locks_held":
                self._take_locks_held(message.locks_held)
            case "local_event" if message.local_event.kind == RESUMED:
                self._resume()
            case "local_event":
                self._take_local(message.local_event)
            case kind:
                self._log.warning("an unexpected message", kind=kind)
        self._wiring.writer.wake()

    def _resume(self) -> None:
        """All that was missed is known: what is still in flight never arrived, and is planned again."""
        for flight in self._in_flight.values():
            self._log.warning("command never reached the gateway", command_id=str(flight.wave.command_id))
        self._in_flight.clear()
        self._resuming = asyncio.create_task(self._finish_resuming())

    async def _finish_resuming(self) -> None:
        if not await self._wiring.resumed(self):
            self.session.hang_up("the journal can't be brought up to date")
            return
        self._tell_locks()
        self.owner.is_ready = True
        self.owner.ask()
        metrics.IS_READY.labels(self.site.facility_id).set(1)
        self._wiring.wake()

    def _take_locks_held(self, held: pb.LocksHeld) -> None:
        if held.refusal:
            self._log.error("the gateway does not hold the locks", refusal=held.refusal, detail=held.detail)
            return
        self._locks_held = held.version
        self._wiring.writer.batch.note_seq(self.site.facility_id, held.seq)

    # -- acks ---------------------------------------------------------------------------------------------------------

    def _take_ack(self, ack: pb.Ack) -> None:
        flight = self._in_flight.pop(ack.command_id, None)
        if ack.refusal:
            self._take_refusal(ack, flight)
            return
        if ack.duplicate and flight is None:
            return
        steps = self._steps(flight)
        for answer in ack.assignments:
            self._wiring.writer.batch.outcomes.append(self._outcome(ack, answer, steps))
            if flight is not None:
                self._put_back_unaccepted(answer, flight.wave.plan.moves[answer.index])
        self._wiring.writer.batch.note_seq(self.site.facility_id, ack.seq)

    def _outcome(self, ack: pb.Ack, answer: pb.AssignmentAck, steps: dict[str, float] | None) -> Outcome:
        return Outcome(
            "acked",
            ack.command_id,
            answer.index,
            self._wiring.clock.now(),
            devices=self._count(answer.accepted),
            refused=sum(self._count(r.slots) for r in answer.refused),
            deferred=self._count(answer.deferred),
            detail=ack.detail or ", ".join(r.code for r in answer.refused),
            steps_ms=steps,
        )

    def _steps(self, flight: _InFlight | None) -> dict[str, float] | None:
        """The latency breakdown of a first wave, milliseconds since the tick row's commit."""
        if flight is None or flight.wave.origin_ns is None:
            return None
        instants = {"journal": flight.journalled_ns, "send": flight.sent_ns, "ack": time.monotonic_ns()}
        later = {name: round((at_ns - flight.wave.origin_ns) / 1e6, 3) for name, at_ns in instants.items()}
        metrics.TICK_TO_ACK_SECONDS.observe(later["ack"] / 1e3)
        return flight.wave.steps_ms | later

    def _put_back_unaccepted(self, answer: pb.AssignmentAck, move: Move) -> None:
        for what, payloads in (("refused", [r.slots for r in answer.refused]), ("deferred", [answer.deferred])):
            for slots in (self._slots(p) for p in payloads):
                if len(slots):
                    metrics.UNDONE.labels(what).inc(len(slots))
                    self.owner.devices.put_back(
                        slots, move.from_state, self._wiring.clock.monotonic_s(), PAUSE_AFTER_REFUSAL_S
                    )

    def _take_refusal(self, ack: pb.Ack, flight: _InFlight | None) -> None:
        self._log.warning("command refused", refusal=ack.refusal, detail=ack.detail, command_id=ack.command_id)
        if flight is None:
            return
        metrics.UNDONE.labels(ack.refusal).inc(sum(len(m.slots) for m in flight.wave.plan.moves))
        for n, move in enumerate(flight.wave.plan.moves):
            refused = Outcome(
                "acked", ack.command_id, n, self._wiring.clock.now(), refused=len(move.slots), detail=ack.refusal
            )
            self._wiring.writer.batch.outcomes.append(refused)
            self.owner.devices.put_back(
                move.slots, move.from_state, self._wiring.clock.monotonic_s(), PAUSE_AFTER_REFUSAL_S
            )

    # -- settling and what the gateway did by itself ------------------------------------------------------------------

    def _take_settled(self, settled: pb.Settled) -> None:
        arrived, failed = self._slots(settled.settled), self._slots(settled.failed)
        self.owner.devices.settled(arrived)
        if len(failed):
            metrics.UNDONE.labels("not_settled").inc(len(failed))
            self._log.warning("devices did not settle", command_id=settled.command_id, devices=len(failed))
            self.owner.devices.failed(failed)
        outcome = Outcome(
            "settled",
            settled.command_id,
            settled.index,
            _instant(settled.simulated_at, self._wiring.clock),
            devices=len(arrived),
            failed=len(failed),
            superseded=self._count(settled.superseded),
        )
        self._wiring.writer.batch.outcomes.append(outcome)
        self._wiring.writer.batch.note_seq(self.site.facility_id, settled.seq)

    def _take_local(self, event: pb.LocalEvent) -> None:
        """Something the gateway did alone: believed, journalled, and planned upon."""
        slots = self._slots(event.slots)
        event_id = uuid.uuid5(uuid.NAMESPACE_URL, f"{self.site.facility_id}/{self.site.generation}/{event.seq}")
        at = _instant(event.simulated_at, self._wiring.clock)
        detail = " ".join(text for text in (event.kind, event.order_id, event.detail) if text)
        by_group_mw = self.owner.take_local(slots, event.state, at.timestamp())
        groups = self.site.shape.group_of_slot[slots]
        for n, (g, mw) in enumerate(sorted(by_group_mw.items())):
            row = self._observation(event_id, n, g, None, event.state, slots[groups == g], at, mw)
            self._wiring.writer.batch.observations.append(row(event.reason, detail, event.actor or "gateway"))
        if event.kind in HOLDS:
            self.owner.held = self.site.shape.group_of_slot >= 0 if HOLDS[event.kind] else self._mask(b"")
        if event.actor or event.kind not in UNAUDITED:
            self._wiring.writer.batch.audits.append(self._audit(event, sum(by_group_mw.values())))
        self._wiring.writer.batch.note_seq(self.site.facility_id, event.seq)
        self.owner.ask()
        self._wiring.wake()

    def _audit(self, event: pb.LocalEvent, mw_delta: float) -> AuditRow:
        """What somebody ordered at the gateway itself, or what it did for safety, in the audit log."""
        detail = {
            "seq": event.seq, "order_id": event.order_id, "reason": event.detail or event.reason,
            "devices": self._count(event.slots), "mw_delta": round(mw_delta, 6), "simulated_at": event.simulated_at,
        }  # fmt: skip
        return AuditRow(event.actor or "gateway", f"gateway.{event.kind}", self.site.facility_id, detail)

    def _mask(self, payload: bytes) -> Bools:
        mask = np.zeros(self.site.shape.slots, dtype=bool)
        mask[self._slots(payload)] = True
        return mask

    async def reconcile(self) -> None:
        """Hold the owner's view against gateway and meter; what differs is journalled and driven again."""
        if not self.owner.is_ready:
            return
        state = await self.session.read_state()
        if state is None or not self.owner.is_ready or state.generation != self.site.generation:
            return
        found = self.owner.devices.reconcile(state.states, state.observed, self._now_s())
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
            self.owner.ask()
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
        shape = self.site.shape

        def row(reason: str, detail: str, actor: str) -> Observation:
            return Observation(
                self.site.facility_id, self._wiring.name, self.lease.epoch, event_id, number, self.site.generation,
                shape.group_ids[g], shape.feeder_of_group[g], from_state, to_state, len(slots), encode_slots(slots),
                reason, detail, actor, at, mw_delta,
            )  # fmt: skip

        return row

    def _slots(self, payload: bytes) -> Slots:
        return decode_slots(payload, self.site.shape.slots)

    def _count(self, payload: bytes) -> int:
        return len(self._slots(payload))

    def _now_s(self) -> float:
        return self._wiring.clock.now().timestamp()


def _instant(text: str, clock: SystemClock) -> datetime:
    return datetime.fromisoformat(text) if text else clock.now()
