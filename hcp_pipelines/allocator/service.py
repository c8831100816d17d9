"""The allocator put together: leases, intake, one planning loop, sessions, the journal. See docs/architecture.md.

One loop has all owned facilities planned (`planning.py`), the others bring in what that rests on and keep watch.
"""

import asyncio
import contextlib
from datetime import datetime

from hcp_pipelines.allocator import metrics
from hcp_pipelines.allocator.approvals import limit_in_approve_mw
from hcp_pipelines.allocator.control import FacilityControl, Hooks
from hcp_pipelines.allocator.decide import Limits
from hcp_pipelines.allocator.desired_desk import DesiredDesk
from hcp_pipelines.allocator.holdings import Holdings
from hcp_pipelines.allocator.late_commits import LateCommits
from hcp_pipelines.allocator.leases import Lease, LeaseKeeper
from hcp_pipelines.allocator.market import MarketBook
from hcp_pipelines.allocator.planning import Planner
from hcp_pipelines.allocator.policies import PolicyDesk
from hcp_pipelines.allocator.returns import Wiring
from hcp_pipelines.allocator.session import CannotAnnounceError, Dial, dial
from hcp_pipelines.allocator.store import STORE_ERRORS, PostgresStore, Store
from hcp_pipelines.allocator.writer import JournalWriter
from hcp_pipelines.runtime.endless import endless
from hcp_pipelines.runtime.process import ProcessContext
from hcp_pipelines.runtime.spans import platform_name
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.channels import client_tls

IDLE_S = 0.25  # dwell times, holds and expiries are looked at so often without a wake-up
LEAST_WAIT_S = 0.001
HEARTBEAT_S = 0.5
RECONCILE_S = 30.0
UNKNOWN_EACH_S = 1.0
OBLIGE_EACH_S = 0.5
RESUME_WITHIN_S = 5.0
LATE_POLL_S = 5.0
POLICIES_AGAIN_S = 1.0


class Allocator:
    """One allocator process."""

    def __init__(self, context: ProcessContext, name: str, store: Store | None = None, dial: Dial = dial) -> None:
        self._context, self._name = context, name
        settings, clock = context.settings, context.clock
        self._store: Store = store or PostgresStore(settings, clock)
        self._intake = self._store.intake
        self._book = MarketBook()
        self._writer = JournalWriter(self._store.write_outcomes, name)
        self._late = LateCommits(clock, self._writer, self._store.close_unsent)
        self._desk = PolicyDesk(name, settings, clock, self._intake, self._book)
        self._work, self._wants_steps, self._wants_policies = asyncio.Event(), asyncio.Event(), asyncio.Event()
        limits = Limits(
            settings.price_staleness_s, settings.btc_staleness_s, settings.hold_s,
            limit_in_approve_mw(settings.approval_mw),
        )  # fmt: skip
        hooks = Hooks(limits, dial, client_tls(settings, "allocator"), self._announce, self._resumed, self._outdated)
        self._held = Holdings(self._intake, Wiring(name, clock, self._writer, self._work.set), hooks)
        self._controls = self._held.controls
        self._desired = DesiredDesk(self._store, self._controls, clock)
        self._planner = Planner(context, name, self._store, self._book, self._controls, self._writer, self._late)
        self._keeper = LeaseKeeper(self._store.leases, name, clock, self._held.gain, self._held.lose)

    async def run(self) -> None:
        """Work until told to stop; leases are given up at the end, so that the other may start at once."""
        self._book.take(await self._intake.recent())
        await self._held.load_sites(self._keeper.held)
        jobs = (
            self._keeper.run, self._keeper.watch, self._listen, self._policy_loop, self._plan_loop, self._writer.run,
            self._beat, self._reconcile_loop, self._oblige_loop, self._desired.run,
        )  # fmt: skip
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(endless(job())) for job in jobs]
            self._context.ready()
            await self._context.stop.wait()
            for task in tasks:
                task.cancel()
        await self._keeper.give_up()
        self._planner.note_history()
        await self._writer.flush()
        await self._store.close()

    # -- sessions -----------------------------------------------------------------------------------------------------

    async def _announce(self, control: FacilityControl) -> pb.Announce:
        """What a session begins with; the predecessors' ramp windows are counted before anything is sent."""
        try:
            since = control.owner.ramp_horizon(self._context.clock.now())
            usage = await self._store.read_usage(control.site.facility_id, since)
            control.owner.restore_ramps(usage.bookings)
            self._writer.journalled[control.site.facility_id] = usage.journalled_seq
        except STORE_ERRORS as error:
            raise CannotAnnounceError(f"Postgres: {str(error).strip()}") from error
        return pb.Announce(
            facility_id=control.site.facility_id,
            owner=self._name,
            epoch=control.lease.epoch,
            lease_epoch=control.lease.epoch,
            generation=control.site.generation,
            resume_after_seq=usage.journalled_seq,
            platform=platform_name(),
        )

    async def _resumed(self, control: FacilityControl) -> bool:
        """Close what was journalled and never sent, by us or a predecessor, before anything new is: whether that went well."""
        try:
            async with asyncio.timeout(RESUME_WITHIN_S):
                await self._writer.drained()  # acks that came with the replay are journalled first
                legacy = await self._store.take_over(
                    control.site.facility_id, control.site.generation, self._context.clock.now()
                )
            control.owner.inherit(legacy.memory, legacy.last_policy)
            control.owner.devices.restore(legacy.switches)
            control.stand(legacy.standing)
            is_behind = await self._catch_up_with_locks(control)
            control.owner.obligations.take(legacy.obligations)
            control.desire(legacy.desired)
        except (*STORE_ERRORS, TimeoutError) as error:
            self._context.log.warning("old commands not closed", error=str(error).strip())
            return False
        self._late.expect(control.site.facility_id)  # a predecessor may have begun a commit that nobody has seen
        if legacy.closed:
            self._context.log.warning(
                "commands never left", facility_id=control.site.facility_id, assignments=legacy.closed
            )
        self._wants_policies.set()  # it has none yet, and acts on no price without
        return not is_behind  # still: in another session, a step further

    async def _catch_up_with_locks(self, control: FacilityControl) -> bool:
        """Enter in the books what the gateway holds of locks beyond them; whether it holds more even then."""
        facility_id = control.site.facility_id
        if (ahead := control.locks_ahead()) is None:
            return False
        await self._store.enter_locks(self._name, control.lease.epoch, ahead)
        control.stand((await self._intake.standing([facility_id]))[facility_id])
        return control.locks_ahead() is not None

    def _outdated(self, lease: Lease, highest_epoch: int) -> None:
        self._keeper.outdated(lease, highest_epoch)

    # -- intake -------------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        async with self._store.listen() as listener:
            next_look_s = 0.0
            while True:
                batch = await listener.wait()
                now_s = self._context.clock.monotonic_s()
                looks_back = now_s >= next_look_s
                if looks_back:
                    next_look_s, self._held.wants_standing = now_s + LATE_POLL_S, True
                channels = {n.channel for n in batch}
                self._desired.hear(n.payload for n in batch if n.channel == "hcp_desired")
                if channels == {"hcp_desired"} and not looks_back:
                    continue
                self._held.note_time(self._context.clock.now())
                self._held.wants_sites |= "hcp_facility" in channels
                self._held.wants_standing |= "hcp_directive" in channels
                await self._take_in(looks_back or not batch)
                if looks_back or "hcp_policy" in channels:
                    self._wants_policies.set()

    async def _take_in(self, looks_back: bool) -> None:
        """Read what is new; Postgres away means that nothing is new, and that the leases will end."""
        try:
            rows = await self._intake.new_ticks(looks_back=looks_back)
            metrics.TICKS.inc(len(rows))
            if self._book.take(rows):
                self._work.set()
                await asyncio.sleep(0)  # the tick first, the rest behind it
            if self._held.wants_standing:
                await self._held.load_standing()
                self._wants_policies.set()  # one may have waited for an answer
                self._wants_steps.set()
            if self._held.wants_sites:
                await self._held.load_sites(self._keeper.held)
        except STORE_ERRORS as error:
            metrics.POSTGRES_ERRORS.labels("intake").inc()
            self._held.wants_sites = self._held.wants_standing = True  # what was told meanwhile may be lost
            self._context.health["postgres"] = f"prices and policies can't be read: {str(error).strip()}"
            await asyncio.sleep(0.1)
        else:
            self._context.health["postgres"] = ""

    async def _policy_loop(self) -> None:
        """Policies are read as soon as something asks for it: a tick or a notification may be long in coming."""
        while True:
            await self._wants_policies.wait()
            self._wants_policies.clear()
            try:
                await self._desk.load(self._controls)
            except STORE_ERRORS as error:
                metrics.POSTGRES_ERRORS.labels("intake").inc()
                self._context.log.warning("policies can't be read", error=str(error).strip())
                await asyncio.sleep(POLICIES_AGAIN_S)
                self._wants_policies.set()
            self._work.set()

    async def _plan_loop(self) -> None:
        while True:
            room_in_s = min((c.owner.pace.has_room_in_s() for c in self._controls.values()), default=IDLE_S)
            try:
                async with asyncio.timeout(max(min(room_in_s, IDLE_S), LEAST_WAIT_S)):
                    await self._work.wait()
            except TimeoutError:
                pass
            self._work.clear()
            await self._planner.plan()

    # -- in the background --------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            for control in list(self._controls.values()):
                point = control.site.settlement_point
                power = self._book.power(point)
                price_at: datetime | None = power.source_at if power else None
                control.heartbeat(self._book.indices, self._book.decision_price(point), price_at)
                control.remember()
            self._report_health()
            await asyncio.sleep(HEARTBEAT_S)

    def _report_health(self) -> None:
        self._context.health["leases"] = self._keeper.last_error
        self._context.health["journal"] = self._writer.problem
        for facility_id in self._held.sites:
            control = self._controls.get(facility_id)
            self._context.health[facility_id] = "" if control is None else control.session.problem

    async def _oblige_loop(self) -> None:
        """Obligations are stepped when the grid says something, and often enough for a meter's proof."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(OBLIGE_EACH_S):
                    await self._wants_steps.wait()
            self._wants_steps.clear()
            for control in list(self._controls.values()):
                try:
                    await control.stepping.advance(self._store.write_obligation)
                    await self._ask(control)
                except STORE_ERRORS as error:
                    metrics.POSTGRES_ERRORS.labels("obligations").inc()
                    self._context.log.warning("an obligation's step was not written", error=str(error).strip())

    async def _ask(self, control: FacilityControl) -> None:
        """What a facility in `approve` would do is put before an operator, once."""
        question = control.owner.question
        if question is not None and question.subject != control.asked:
            control.asked = question.subject
            await self._intake.ask(control.site.facility_id, question, self._name)

    async def _reconcile_loop(self) -> None:
        """Every half a minute; every second where devices are not known: their gateway may have reached them since."""
        next_s = self._context.clock.monotonic_s() + RECONCILE_S
        while True:
            await asyncio.sleep(UNKNOWN_EACH_S)
            is_due = self._context.clock.monotonic_s() >= next_s
            for control in list(self._controls.values()):
                if is_due or control.owner.devices.has_unknown:
                    await control.reconcile()
                if is_due and control.owner.is_ready:
                    await self._late.look(control.site.facility_id)
            if is_due:
                next_s = self._context.clock.monotonic_s() + RECONCILE_S
