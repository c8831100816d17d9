"""One owned facility: from prices and directives to the next wave. No sockets and no SQL here.

The order is kept by the service: `plan` → journal → `send` → acks. What `plan` returns changes nothing until `take`. What is
known of the facility's load is in `known`, the policy that it follows in `following`, when to look again in `pace`.
"""

import zlib
from collections.abc import Sequence
from datetime import datetime

import numpy as np

from hcp_pipelines.allocator import metrics
from hcp_pipelines.allocator.approvals import Approved, Question, wave_question
from hcp_pipelines.allocator.decide import NO_POLICY, InForce, LastPolicy, Limits, Wanted
from hcp_pipelines.allocator.following import Following
from hcp_pipelines.allocator.journal import HistoryRow
from hcp_pipelines.allocator.market import Latest, MarketBook
from hcp_pipelines.allocator.memory import Memory
from hcp_pipelines.allocator.on_paper import OnPaper, PaperRow
from hcp_pipelines.allocator.pace import Pace
from hcp_pipelines.allocator.room import barred, fixed_mw, resting, under_limits
from hcp_pipelines.allocator.site import Site
from hcp_pipelines.allocator.standing import Standing
from hcp_pipelines.allocator.wave import Decision, Wave, history_of, make_wave
from hcp_pipelines.allocator.working import Occasion, Working, with_targets
from hcp_pipelines.allocator.would_be import would_be
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.modes import ControlMode, DeviceState, ReasonCode
from hcp_pipelines.policy.arrays import Bools, Floats, Ints
from hcp_pipelines.policy.directed import DirectedPlan, nothing_directed, plan_directed
from hcp_pipelines.policy.directives import Directed, Directive, Kind, Load, direct
from hcp_pipelines.policy.dwell import DwellLocks
from hcp_pipelines.policy.evaluate import Evaluation, evaluate
from hcp_pipelines.policy.guard import GuardState
from hcp_pipelines.policy.ramps import Headroom
from hcp_pipelines.policy.waves import Plan, Pool

RESTING = "changed too lately, or started as often within the hour as the facility's dwell limits let them"


class Owner(Working):
    """Decisions of one owned facility."""

    def __init__(self, site: Site, epoch: int, clock: Clock, limits: Limits) -> None:
        super().__init__(site, epoch, clock)
        self.following, self.pace = Following(limits), Pace(clock)
        self.is_ready = False  # the gateway follows us and has told us its state
        self.approved = Approved()
        self.question: Question | None = None  # what a facility in `approve` would do, and waits for somebody to agree
        self.resting = 0  # devices that may not change yet for the price alone, as of the last plan
        self._random = np.random.default_rng([zlib.crc32(site.facility_id.encode()), epoch])
        self._would_be: list[HistoryRow] = []
        self._paper, self._paper_rows = OnPaper(), list[PaperRow]()
        self._has_inherited = False

    # -- what it goes by ----------------------------------------------------------------------------------------------

    @property
    def in_force(self) -> InForce | None:
        """The policy that the facility follows."""
        return self.following.in_force

    def ask(self) -> None:
        """Something changed that a plan should look at."""
        self.pace.ask()

    def follow(self, in_force: InForce) -> None:
        """Put an admitted policy in force."""
        self.following.follow(in_force)
        self.ask()

    def inherit(self, memory: Memory, last: LastPolicy = NO_POLICY) -> None:
        """Go on from what a predecessor knew; in later sessions of one's own it is older than what one has learnt since."""
        if not self._has_inherited:
            self._has_inherited = True
            self.following.inherit(memory, last)
            self._recall(memory)

    def memory(self) -> Memory:
        """What a successor should know; what was inherited, as long as there is nothing newer."""
        return self.following.with_guard(self._memory(self.following.guard))

    def stand(self, standing: Standing) -> None:
        """What stands over the facility has changed."""
        self._stand(standing)
        self.ask()

    def preview(self, in_force: InForce, book: MarketBook, now: datetime) -> Evaluation | None:
        """What a policy would ask for at the present tick; None without a price."""
        rest = in_force.policy.rest_of_interval
        price = book.decision_price(self.site.settlement_point, rest.slope, rest.offset)
        if price is None:
            return None
        guard = GuardState.empty(in_force.compiled)
        return evaluate(in_force.compiled, self.mix(), price, book.indices, now, guard)

    # -- plan ---------------------------------------------------------------------------------------------------------

    def plan(self, book: MarketBook) -> Wave | None:
        """The next wave, or None: nothing to do, nothing that may be done, or nothing new to look at."""
        if not self.is_ready:
            return None
        tick = self.following.newest_tick(self.site, book)
        new_tick = tick if self.pace.is_new(tick) else None
        if new_tick is None and not self.pace.is_due():
            return None
        started_ns = self._clock.monotonic_ns()
        self.pace.begin(new_tick)
        wave = self._plan(book, new_tick, started_ns)
        metrics.PLAN_SECONDS.observe((self._clock.monotonic_ns() - started_ns) / 1e9)
        return wave

    def _plan(self, book: MarketBook, new_tick: Latest | None, started_ns: int) -> Wave | None:
        now, pool, emptying = self._clock.now(), self.pool(), self.to_empty()
        present = pool.counts
        mix = self._mix(present)  # as it would be without directives and desired rows
        wanted = self.following.want(self.site, book, mix, now)
        is_told = (
            wanted is not None or self.in_force is not None
        )  # else nobody says that the mix of before is still good
        start = mix if is_told else present
        bound = start if wanted is None else wanted.targets
        served = self._serve(pool, start, bound)
        before, after = (start, bound) if served is None else (served.before, served.after)
        base = self._base(wanted, before, after)
        revenue = self.following.revenue(self.site, book)
        if new_tick is not None and wanted is not None and base is before:
            asked = with_targets(wanted, after)
            self._would_be += would_be(self.site, asked, before, revenue, now, new_tick.tick_id, self.in_force)
        if new_tick is not None and wanted is not None:
            self._go_on_paper(wanted, mix, book, now, new_tick.tick_id)
        directed = self._direct(base, pool, revenue, wanted, now, emptying)
        if served is not None:
            pool = self._assign(pool, served, directed, Occasion(self.pace.tick_id, wanted, base is after, is_told))
        self._note_shadow(base, present, directed, served if base is after else None, is_told=is_told)
        planned = self._carry_out(directed, pool, wanted, now.timestamp(), emptying)
        if planned is None:
            return None
        was_incomplete, self.pace.is_incomplete = self.pace.is_incomplete, not planned.plan.is_complete
        if not planned.plan.is_complete:
            self._wait_for_room(planned.plan, now.timestamp())
        if not planned.plan.moves:
            return None
        decision = self._decision(wanted, directed, present, revenue, now, new_tick, started_ns, was_incomplete)
        planned_ns, have_failed = self._clock.monotonic_ns(), self.devices.have_failed
        return make_wave(self.site, self.epoch, decision, planned, planned_ns, self.work.of, have_failed)

    def _wait_for_room(self, plan: Plan, now_s: float) -> None:
        goes_on = plan.has_left and plan.moves  # what one wave had no place for is next
        self.pace.wait_for_room(now_s if goes_on else self.ledger.next_release_at(now_s))

    def _base(self, wanted: Wanted | None, before: Ints, after: Ints) -> Ints:
        """`auto` acts on what policy, fallback plan and rows want, `approve` if somebody agrees, `observe` never."""
        if wanted is not None:
            self.question = None
        if self.site.control_mode is ControlMode.AUTO:
            return after
        if self.site.control_mode is ControlMode.APPROVE and wanted is not None:
            question = wave_question(self.site.shape, before, after, self.following.limits.unasked_mw)
            if question is None or self.approved.covers(question):
                return after
            self.question = question
        return before

    def _direct(
        self, base: Ints, pool: Pool, revenue: Floats, wanted: Wanted | None, now: datetime, emptying: Bools | None
    ) -> Directed:
        directives = [*self.standing.at(now), *self.obligations.directives(now.timestamp())]
        floor_mw = self.obligations.floor_mw()
        if not directives and not floor_mw:
            return nothing_directed(base, pool.counts)
        price = wanted.price if wanted is not None and wanted.price is not None else 0.0
        value = revenue - price * self.site.shape.power_mw
        shape, can_go = self.site.shape, pool.eligible if emptying is None else pool.eligible | emptying
        emptied = None if emptying is None else shape.counts(pool.states, emptying)
        load = Load(value, self.site.fall_s, self._fixed_mw(directives, can_go), self.obligations.sheddable, emptied)
        return direct(shape, base, pool.counts, directives, load, floor_mw)

    def _fixed_mw(self, directives: Sequence[Directive], can_go: Bools) -> dict[str, float]:
        if all(d.kind is Kind.OVERRIDE for d in directives):
            return {}
        return fixed_mw(self.site.shape, self.devices, can_go)

    def _carry_out(
        self, directed: Directed, pool: Pool, wanted: Wanted | None, now_s: float, emptying: Bools | None
    ) -> DirectedPlan | None:
        """The plan; None where there is nothing to do."""
        is_same = np.array_equal(directed.targets, pool.counts) and not directed.exempt_by_group
        is_same = is_same and self._is_assigned(pool)
        if is_same and not self.out.any():
            self._note_resting(0)
            return None
        rests, bars = self._rests(directed, wanted, now_s), self._may_not_rise()
        planned = plan_directed(
            pool,
            self.to_lock(),
            directed,
            self._headroom(directed, pool, now_s),
            self._random,
            barred(rests, bars),
            emptying,
        )
        self._note_resting(planned.plan.locked_devices if rests is not None and not bars.any() else 0)
        return planned

    def _note_resting(self, devices: int) -> None:
        self.resting = devices
        metrics.RESTING.labels(self.site.facility_id).set(devices)

    def _headroom(self, directed: Directed, pool: Pool, now_s: float) -> Headroom:
        headroom = self.ledger.headroom(now_s)
        if not directed.limits:
            return headroom
        fixed = self._fixed_mw(directed.limits, pool.eligible)
        return under_limits(headroom, directed.limits, self.site.shape, self.devices, pool.counts, fixed, now_s)

    def _rests(self, directed: Directed, wanted: Wanted | None, now_s: float) -> DwellLocks | None:
        """Minimum up and down times, and the limit on starts: for the policy, not for the fallback plan."""
        if self.in_force is None or wanted is None or wanted.guard is None:
            return None
        couplings, ordered = self.in_force.policy.couplings, directed.by_group
        return resting(self.devices, self.site.shape, couplings, ordered, self.work.groups, now_s)

    def _may_not_rise(self) -> Bools:
        """Nothing rises that a direct order holds down, and nothing at all while a feeder that nobody locked has no power.

        What a relay has taken is not made up for elsewhere.
        """
        return self.held | bool(self.devices.dark.any() and (self.devices.dark & ~self.out).any())

    def _resting_words(self) -> tuple[str, ...]:
        return (f"{self.resting} devices rest: {RESTING}",) if self.resting else ()

    def _decision(
        self,
        wanted: Wanted | None,
        directed: Directed,
        present: Ints,
        revenue: Floats,
        now: datetime,
        new_tick: Latest | None,
        started_ns: int,
        is_continuation: bool,
    ) -> Decision:
        return Decision(
            in_force=self.in_force,
            targets=directed.targets,
            reasons=wanted.reasons if wanted else (ReasonCode.RECONCILE,) * len(self.site.shape.group_ids),
            price=wanted.price if wanted else None,
            adder_usd_per_mwh=wanted.adder_usd_per_mwh if wanted else 0.0,
            binding=(*(wanted.binding if wanted else ()), *directed.unmet, *self._resting_words()),
            is_fallback=wanted is not None and wanted.guard is None,
            present=present,
            revenue=revenue,
            lock_words=self.standing.lock_words(),
            work_words=self.work_words,
            now=now,
            new_tick=new_tick,
            tick_id=self.pace.tick_id,
            number=self.pace.number,
            started_ns=started_ns,
            is_continuation=is_continuation,
        )

    # -- what leaves --------------------------------------------------------------------------------------------------

    def take_would_be(self) -> list[HistoryRow]:
        """What was not done since the last call, because the control mode forbids it, for `allocation_history`."""
        rows, self._would_be = self._would_be, []
        return rows

    def take_paper(self) -> list[PaperRow]:
        """What the policy earned on paper since the last call, where the control mode keeps it from acting."""
        rows, self._paper_rows = self._paper_rows, []
        return rows

    def _go_on_paper(self, wanted: Wanted, mix: Ints, book: MarketBook, now: datetime, tick_id: int) -> None:
        if (
            self.in_force is None
            or wanted.guard is None
            or wanted.price is None
            or self.site.control_mode is ControlMode.AUTO
        ):
            return
        row = self._paper.follow(self.site, self.in_force, mix, wanted.price, book.indices, now, tick_id)
        self._paper_rows.append(row)

    def history(self, wave: Wave) -> list[HistoryRow]:
        """What the groups that a wave touches should do and do, for `allocation_history`."""
        return history_of(self.site, wave)

    def take(self, wave: Wave) -> None:
        """The wave is journalled and leaves: from now on it counts."""
        now_s = self._clock.now().timestamp()
        for move in wave.plan.moves:
            self.devices.take(move, now_s)
            # each by itself: up and down are apart, as they are in the journal that a successor counts
            self.ledger.book(now_s, {self.site.shape.feeder_of_group[move.group_index]: move.mw_delta})
            metrics.SWITCHES.labels(DeviceState(move.to_state).label).inc(len(move.slots))
        if not wave.plan.is_complete:
            self._wait_for_room(wave.plan, now_s)
        for reason in {row.reason for row in wave.rows}:
            metrics.WAVES.labels(reason).inc()
