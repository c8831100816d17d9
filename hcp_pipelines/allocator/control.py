"""One facility under control: its owner joined to the gateway session. One object a lease.

What comes back is taken in by `returns`; when to plan is the service's to say.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from hcp_pipelines.allocator import metrics
from hcp_pipelines.allocator.approvals import Approved
from hcp_pipelines.allocator.decide import InForce, Limits
from hcp_pipelines.allocator.desired_table import StoredRows
from hcp_pipelines.allocator.incoming import check
from hcp_pipelines.allocator.journal import MemoryRow, Outcome
from hcp_pipelines.allocator.leases import Lease
from hcp_pipelines.allocator.locks import Ahead, Locks
from hcp_pipelines.allocator.market import MarketBook
from hcp_pipelines.allocator.owner import Owner
from hcp_pipelines.allocator.returns import InFlight, Returns, Wiring
from hcp_pipelines.allocator.session import Dial, GatewaySession, Handlers
from hcp_pipelines.allocator.site import Site
from hcp_pipelines.allocator.standing import Standing
from hcp_pipelines.allocator.stepping import Stepping
from hcp_pipelines.allocator.wave import ACK_DEADLINE_MS, COMMIT_WITHIN_S, Wave
from hcp_pipelines.domain.modes import RefusalCode
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.channels import ClientTls

REMEMBER_EACH_S = 5.0
RESUMED = "resumed"  # the gateway's word for: what you missed has been sent


@dataclass(frozen=True)
class Hooks:
    """What the service does for a control."""

    limits: Limits
    dial: Dial
    tls: ClientTls | None
    announce: Callable[["FacilityControl"], Awaitable[pb.Announce]]
    resumed: Callable[["FacilityControl"], Awaitable[bool]]
    outdated: Callable[[Lease, int], None]


class FacilityControl:
    """Owner, session and commands in flight of one facility."""

    def __init__(self, site: Site, lease: Lease, wiring: Wiring, hooks: Hooks) -> None:
        self.site, self.lease = site, lease
        self.owner = Owner(site, lease.epoch, wiring.clock, hooks.limits.of(site.staleness))
        self._wiring, self._hooks = wiring, hooks
        self._returns = Returns(self.owner, lease, wiring)
        self._remembered: dict[str, object] = {}
        self._remember_at_s = float("-inf")
        self.asked = ""  # the question that was put before an operator last
        self._policy_held = 0  # by the gateway
        self._locks = Locks(site.facility_id)
        self._sessions = self._planned_in = 0
        self._session = 0  # the number of the stream, as announced
        self._planned_at_s = float("-inf")
        self._is_outdated = False  # and it has been told
        self._heard_at_s = self._now_s()  # simulated: its gateway followed us last
        self._log = structlog.get_logger("allocator").bind(facility_id=site.facility_id)
        handlers = Handlers(self._announced, self._received, self._refused, self._lost, self._announce)
        self.session = GatewaySession(site.facility_id, site.address, handlers, hooks.dial, hooks.tls)
        self.stepping = Stepping(self.owner, self.session, lease, wiring)
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

    def plan(self, book: MarketBook) -> Wave | None:
        """The owner's next wave; it may leave in the session that there is now, and in no other."""
        self._planned_in, self._planned_at_s = self._sessions, self._wiring.clock.monotonic_s()
        if self.owner.is_ready:
            self._heard_at_s = self._now_s()
        else:
            self.owner.note_silence(self._now_s() - self._heard_at_s, self.owner.following.limits.hold_s)
        return self.owner.plan(book)

    def may_send(self) -> bool:
        """Whether what was planned last may still leave.

        Its commit may have taken longer than the lease, or than the session: a new one closes what was journalled and not sent.
        """
        now_s = self._wiring.clock.monotonic_s()
        is_same = self._planned_in == self._sessions and now_s - self._planned_at_s < COMMIT_WITHIN_S
        return is_same and self.owner.is_ready and self.lease.holds(now_s)

    def send(self, wave: Wave, journalled_ns: int) -> None:
        """The journalled wave leaves."""
        self.owner.take(wave)
        wave.command.session = self._session
        if not self.session.send(pb.OwnerMessage(command=wave.command)):
            return
        self._returns.in_flight[str(wave.command_id)] = InFlight(wave, self._wiring.clock.monotonic_ns(), journalled_ns)

    def give_up(self, wave: Wave) -> None:
        """A wave that may not leave after all; if it is in the journal, that says so: a commit may have lost its answer."""
        self.owner.ask()
        now = self._wiring.clock.now()
        self._wiring.writer.batch.outcomes += [
            Outcome(wave.facility_id, "expired", str(wave.command_id), row.assignment, now, detail="never sent")
            for row in wave.rows
        ]
        self._wiring.writer.wake()

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
        beat.floors.CopyFrom(self.owner.obligations.floors())
        if price is not None and price_at is not None:
            beat.decision_price_usd_per_mwh, beat.price_at = price, price_at.isoformat()
        self.session.send(pb.OwnerMessage(heartbeat=beat))
        limit_ns = self._wiring.clock.monotonic_ns() - ACK_DEADLINE_MS * 1_000_000
        if any(f.sent_ns < limit_ns for f in self._returns.in_flight.values()):
            self.session.hang_up(f"no ack within {ACK_DEADLINE_MS} ms")

    def follow(self, in_force: InForce) -> None:
        """Put an admitted policy in force, and hand it to the gateway: it judges for itself, and may need it when cut off."""
        self.owner.follow(in_force)
        if in_force.policy_id == self._policy_held:
            return
        body = in_force.policy.model_dump_json().encode()
        message = pb.SetPolicy(
            facility_id=self.site.facility_id, epoch=self.lease.epoch, policy_id=in_force.policy_id, body=body
        )
        self.session.send(pb.OwnerMessage(set_policy=message))

    def approve(self, approved: Approved) -> None:
        """Somebody has agreed to these."""
        if approved != self.owner.approved:
            self.owner.approved = approved
            self.owner.ask()
            self._wiring.wake()

    def desire(self, stored: StoredRows) -> None:
        """What the scheduler wants of the facility is this now."""
        if self.owner.desire(stored):
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
        locks = self._locks.news(self.lease.epoch, self.owner.standing.version, self.owner.locked)
        if locks is not None:
            self.session.send(pb.OwnerMessage(set_locks=locks))

    def locks_ahead(self) -> Ahead | None:
        """What the gateway holds of locks that is not in the books; told to people."""
        ahead = self._locks.ahead(self.owner.standing.version, self.owner.locked)
        if ahead is not None:
            said = {"version": ahead.books_version, "held": ahead.version, "devices": ahead.devices}
            self._wiring.alert(self.site.facility_id, "locks_behind", **said)
        return ahead

    # -- session ------------------------------------------------------------------------------------------------------

    async def _announce(self) -> pb.Announce:
        message = await self._hooks.announce(self)
        message.session = self._session = uuid.uuid4().int >> 64
        return message

    def _announced(self, state: pb.FacilityState) -> None:
        self._returns.adopt(state)
        there = self.site.shape.group_of_slot >= 0
        self._locks.adopt(state.locks_version, self._returns.mask(state.locked) & there)
        self._policy_held = state.policy_id

    def _refused(self, reply: pb.AnnounceReply) -> None:
        """A higher epoch while our lease stands is of somebody who owns nothing, or Postgres was restored."""
        now_s = self._wiring.clock.monotonic_s()
        if reply.refusal != RefusalCode.OLD_EPOCH.value or not self.lease.holds(now_s):
            return
        if not self._is_outdated:
            self._wiring.alert(
                self.site.facility_id, "epoch_behind", epoch=self.lease.epoch, highest_epoch=reply.highest_epoch
            )
        self._is_outdated = True
        self._hooks.outdated(self.lease, reply.highest_epoch)

    def _lost(self, why: str) -> None:
        if self.owner.is_ready:
            self._log.warning("gateway lost", why=why)
        if self._resuming is not None:
            self._resuming.cancel()
        self.owner.is_ready = False
        self._sessions += 1
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
                self._returns.take_ack(message.ack)
            case "settled":
                self._returns.take_settled(message.settled)
            case "saved":
                self._returns.take_saved(message.saved)
            case "policy_judged":
                self._take_policy_judged(message.policy_judged)
            case "locks_held":
                self._take_locks_held(message.locks_held)
            case "local_event" if message.local_event.kind == RESUMED:
                self._resume()
            case "local_event":
                self._returns.take_local(message.local_event)
            case kind:
                self._log.warning("an unexpected message", kind=kind)
        self._wiring.writer.wake()

    def _resume(self) -> None:
        """All that was missed is known: what is still in flight never arrived, and is planned again."""
        for flight in self._returns.in_flight.values():
            self._log.warning("command never reached the gateway", command_id=str(flight.wave.command_id))
        self._returns.in_flight.clear()
        self._resuming = asyncio.create_task(self._finish_resuming())

    async def _finish_resuming(self) -> None:
        if not await self._hooks.resumed(self):
            self.session.hang_up("the journal can't be brought up to date")
            return
        self._tell_locks()
        self.owner.is_ready = True
        self.owner.ask()
        metrics.IS_READY.labels(self.site.facility_id).set(1)
        self._wiring.wake()

    def _take_policy_judged(self, judged: pb.PolicyJudged) -> None:
        if judged.refusal:
            self._log.warning("the gateway refuses a policy", policy_id=judged.policy_id, refusal=judged.refusal)
            return
        self._policy_held = judged.policy_id
        self._wiring.writer.batch.note_seq(self.site.facility_id, judged.seq)

    def _take_locks_held(self, held: pb.LocksHeld) -> None:
        if held.refusal:
            self._log.error("the gateway does not hold the locks", refusal=held.refusal, detail=held.detail)
            return
        self._locks.version = held.version
        self._wiring.writer.batch.note_seq(self.site.facility_id, held.seq)

    def _now_s(self) -> float:
        return self._wiring.clock.now().timestamp()

    async def reconcile(self) -> None:
        """Hold the owner's view against gateway and meter."""
        if not self.owner.is_ready:
            return
        state = await self.session.read_state()
        if state is None or not self.owner.is_ready or state.generation != self.site.generation:
            return
        had_unknown = self.owner.devices.has_unknown
        try:
            self._returns.reconcile(state)
        except (ValueError, IndexError) as error:
            self.session.hang_up(f"its state makes no sense: {error}")
        if had_unknown and not self.owner.devices.has_unknown:
            self.owner.ask()
            self._wiring.wake()
