"""One owned facility: from prices and directives to the next wave, and what comes back of it. No sockets and no SQL here.

The order is kept by the service: `plan` → journal → `send` → acks. What `plan` returns changes nothing until `take`.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from hcp_pipelines.allocator import metrics
from hcp_pipelines.allocator.approvals import Approved, Question, wave_question
from hcp_pipelines.allocator.decide import InForce, Limits, Wanted, assess, static_plan, want
from hcp_pipelines.allocator.devices import UNKNOWN, Devices
from hcp_pipelines.allocator.health import InputHealth, Phase
from hcp_pipelines.allocator.journal import HistoryRow
from hcp_pipelines.allocator.market import Latest, MarketBook
from hcp_pipelines.allocator.memory import Memory, guard_of, memory_of, shadow_of
from hcp_pipelines.allocator.obligations import ObligationBook
from hcp_pipelines.allocator.room import barred, fixed_mw, resting, under_limits
from hcp_pipelines.allocator.shadow import Shadow
from hcp_pipelines.allocator.site import Site
from hcp_pipelines.allocator.standing import NOTHING_STANDS, Standing
from hcp_pipelines.allocator.wave import Decision, Wave, history_of, make_wave
from hcp_pipelines.allocator.would_be import would_be
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.modes import ControlMode, DeviceState, DispatchRegime, ReasonCode
from hcp_pipelines.policy.arrays import Bools, Floats, Ints
from hcp_pipelines.policy.directed import DirectedPlan, nothing_directed, plan_directed
from hcp_pipelines.policy.directives import Directed, Directive, Kind, Load, direct
from hcp_pipelines.policy.evaluate import Evaluation, evaluate
from hcp_pipelines.policy.guard import GuardState
from hcp_pipelines.policy.ramps import Booking, Headroom, RampLedger
from hcp_pipelines.policy.waves import DwellLocks, Slots

CHECK_EACH_S = 0.5  # real: holds, expiries and dwell times are looked at so often without a tick
RESTING = "changed too lately, or started as often within the hour as the facility's dwell limits let them"
AFTER_RELEASE_S = 1e-3  # simulated: a booking has then left its window whatever the rounding


@dataclass
class _Progress:
    """Where the facility is with the newest tick."""

    tick_id: int = -1
    number: int = 0
    is_incomplete: bool = False
    planned_at_s: float = float("-inf")  # real monotonic
    room_at_s: float = float("inf")  # simulated: a ramp that bound has room again


class Owner:
    """State and decisions of one owned facility."""

    def __init__(self, site: Site, epoch: int, clock: Clock, limits: Limits) -> None:
        self.site, self.epoch = site, epoch
        self.devices = Devices(site, slack_s=5.0 * clock.speed)
        self.ledger = RampLedger(site.ramps)
        self.health = InputHealth()
        self.in_force: InForce | None = None
        self.is_ready = False  # the gateway follows us and has told us its state
        self._clock, self._limits = clock, limits
        self._guard: GuardState | None = None
        self._guarded_at_s: float | None = None
        self._inherited: Memory = {}
        self._inherited_basis = 0
        self._progress, self._shadow = _Progress(), Shadow()
        self._is_asked = True
        self._random = np.random.default_rng([zlib.crc32(site.facility_id.encode()), epoch])
        self.standing, self.locked = NOTHING_STANDS, np.zeros(site.shape.slots, dtype=bool)
        self.obligations = ObligationBook(site)
        self.approved = Approved()
        self._would_be: list[HistoryRow] = []
        self.question: Question | None = None  # what a facility in `approve` would do, and waits for somebody to agree
        self.resting = 0  # devices that may not change yet for the price alone, as of the last plan
        self.held = np.zeros(site.shape.slots, dtype=bool)  # a direct order at the gateway holds them down

    # -- what is known ------------------------------------------------------------------------------------------------

    def ask(self) -> None:
        """Something changed that a plan should look at."""
        self._is_asked = True

    def restore_ramps(self, bookings: Sequence[tuple[float, str, float]]) -> None:
        """Count what predecessors have used up of the windows."""
        self.ledger.restore(Booking(*b) for b in bookings)

    def follow(self, in_force: InForce) -> None:
        """Put an admitted policy in force."""
        self.in_force = in_force
        if self._guard is None:
            self._guard = guard_of(self._inherited, in_force.compiled)
        self._guard = self._guard.carried_to(in_force.compiled)
        self.ask()

    def inherit(self, memory: Memory, newest_basis: int = 0) -> None:
        """Go on from what a predecessor knew."""
        self._inherited, self._shadow = memory, shadow_of(memory, self.site.shape)
        self._inherited_basis = newest_basis

    @property
    def newest_basis(self) -> int:
        """The newest tick on which a policy rested that was in force here, this owner's or a predecessor's; 0 where none was."""
        own = self.in_force.policy.basis_tick_id if self.in_force else 0
        return max(own, self._inherited_basis)

    def memory(self) -> Memory:
        """What a successor should know; what was inherited, as long as there is nothing newer."""
        own = memory_of(self._guard, self._shadow, self.site.shape) | {"quarantined": self.devices.quarantined}
        return own if self._guard is not None else own | {"guard": self._inherited.get("guard", {})}

    def stand(self, standing: Standing) -> None:
        """What stands over the facility has changed."""
        self.standing, self.locked = standing, standing.locked(self.site.shape)
        self.ask()

    def preview(self, in_force: InForce, book: MarketBook, now: datetime) -> Evaluation | None:
        """What a policy would ask for at the present tick; None without a price."""
        rest = in_force.policy.rest_of_interval
        price = book.decision_price(self.site.settlement_point, rest.slope, rest.offset)
        if price is None:
            return None
        guard = GuardState.empty(in_force.compiled)
        return evaluate(in_force.compiled, self.present(), price, book.indices, now, guard)

    def present(self) -> Ints:
        """[g, s] devices that policies and directives decide about, by state: those that can be commanded and are not locked."""
        return self.site.shape.counts(self.devices.states, self._free(self._clock.monotonic_s()))

    def _free(self, monotonic_s: float) -> Bools:
        free: Bools = self.devices.eligible(monotonic_s) & ~self.locked
        return free

    # -- plan ---------------------------------------------------------------------------------------------------------

    def plan(self, book: MarketBook) -> Wave | None:
        """The next wave, or None: nothing to do, nothing that may be done, or nothing new to look at."""
        if not self.is_ready:
            return None
        tick = book.tick_for(self.site.settlement_point, self._index_names())
        is_new = tick is not None and tick.tick_id != self._progress.tick_id
        monotonic_s = self._clock.monotonic_s()
        is_due = monotonic_s - self._progress.planned_at_s >= CHECK_EACH_S
        if not (is_new or self._is_asked or is_due or self.has_room_in_s() <= 0):
            return None
        started_ns = self._clock.monotonic_ns()
        self._progress.planned_at_s, self._is_asked = monotonic_s, False
        if is_new and tick is not None:
            self._progress.tick_id, self._progress.number, self._progress.is_incomplete = tick.tick_id, -1, False
        self._progress.number += 1
        wave = self._plan(book, tick if is_new else None, monotonic_s, started_ns)
        metrics.PLAN_SECONDS.observe((self._clock.monotonic_ns() - started_ns) / 1e9)
        return wave

    def has_room_in_s(self) -> float:
        """Real seconds until a ramp that held devices back lets go of some; infinite when none does."""
        return (self._progress.room_at_s - self._clock.now().timestamp()) / self._clock.speed

    def _note_room(self, now_s: float) -> None:
        release_s = self.ledger.next_release_at(now_s)
        self._progress.room_at_s = float("inf") if release_s is None else release_s + AFTER_RELEASE_S

    def _plan(self, book: MarketBook, new_tick: Latest | None, monotonic_s: float, started_ns: int) -> Wave | None:
        now = self._clock.now()
        self._progress.room_at_s = float("inf")
        present = self.site.shape.counts(self.devices.states, self._free(monotonic_s))
        mix = self._shadow.over(present)  # as it would be without directives
        wanted = self._want(book, mix, now)
        base = mix if wanted is None else self._allowed(wanted, mix)
        revenue = self._revenue(book)
        if new_tick is not None and wanted is not None and base is mix:
            self._would_be += would_be(self.site, wanted, mix, revenue, now, new_tick.tick_id, self.in_force)
        directed = self._direct(base, present, revenue, wanted, now, monotonic_s)
        self._shadow.note(
            base, present, {*directed.by_group, *directed.exempt_by_group}, self._groups_of(self.devices.dark)
        )
        planned = self._carry_out(directed, present, wanted, now.timestamp(), monotonic_s)
        if planned is None:
            return None
        was_incomplete, self._progress.is_incomplete = self._progress.is_incomplete, not planned.plan.is_complete
        if not planned.plan.is_complete:
            self._note_room(now.timestamp())
        if not planned.plan.moves:
            return None
        decision = self._decision(wanted, directed, present, revenue, now, new_tick, started_ns, was_incomplete)
        return make_wave(self.site, self.epoch, decision, planned, self._clock.monotonic_ns())

    def _allowed(self, wanted: Wanted, present: Ints) -> Ints:
        """`auto` acts on what policy and fallback plan want, `approve` if somebody agrees, `observe` never."""
        self.question = None
        if self.site.control_mode is ControlMode.AUTO:
            return wanted.targets
        if self.site.control_mode is ControlMode.APPROVE:
            question = wave_question(self.site.shape, present, wanted.targets, self._limits.unasked_mw)
            if question is None or self.approved.covers(question):
                return wanted.targets
            self.question = question
        return present

    def _direct(
        self, base: Ints, present: Ints, revenue: Floats, wanted: Wanted | None, now: datetime, monotonic_s: float
    ) -> Directed:
        directives = [*self.standing.at(now), *self.obligations.directives(now.timestamp())]
        floor_mw = self.obligations.floor_mw()
        if not directives and not floor_mw:
            return nothing_directed(base, present)
        price = wanted.price if wanted is not None and wanted.price is not None else 0.0
        value = revenue - price * self.site.shape.power_mw
        fixed_mw = self._fixed_mw(directives, monotonic_s)
        load = Load(value, self.site.settle_s, fixed_mw, self.obligations.sheddable)
        return direct(self.site.shape, base, present, directives, load, floor_mw)

    def _fixed_mw(self, directives: Sequence[Directive], monotonic_s: float) -> dict[str, float]:
        if all(d.kind is Kind.OVERRIDE for d in directives):
            return {}
        return fixed_mw(self.site.shape, self.devices, self._free(monotonic_s))

    def _carry_out(
        self, directed: Directed, present: Ints, wanted: Wanted | None, now_s: float, monotonic_s: float
    ) -> DirectedPlan | None:
        """The plan; None where there is nothing to do."""
        is_same = np.array_equal(directed.targets, present) and not directed.exempt_by_group
        if is_same and not self.locked.any():
            self._note_resting(0)
            return None
        rests, bars = self._rests(directed, wanted, now_s), self._may_not_rise()
        planned = plan_directed(
            self.site.shape,
            self.devices.states,
            self.devices.eligible(monotonic_s),
            self.locked,
            directed,
            self._headroom(directed, present, now_s, monotonic_s),
            self._random,
            barred(rests, bars),
        )
        self._note_resting(planned.plan.locked_devices if rests is not None and not bars.any() else 0)
        return planned

    def _note_resting(self, devices: int) -> None:
        self.resting = devices
        metrics.RESTING.labels(self.site.facility_id).set(devices)

    def _headroom(self, directed: Directed, present: Ints, now_s: float, monotonic_s: float) -> Headroom:
        headroom = self.ledger.headroom(now_s)
        if not directed.limits:
            return headroom
        fixed = self._fixed_mw(directed.limits, monotonic_s)
        return under_limits(headroom, directed.limits, self.site.shape, self.devices, present, fixed, now_s)

    def _rests(self, directed: Directed, wanted: Wanted | None, now_s: float) -> DwellLocks | None:
        """Minimum up and down times, and the limit on starts: for the policy, not for the fallback plan."""
        if self.in_force is None or wanted is None or wanted.guard is None:
            return None
        return resting(self.devices, self.site.shape, self.in_force.policy.couplings, directed.by_group, now_s)

    def _may_not_rise(self) -> Bools:
        """Nothing rises that a direct order holds down, and nothing at all while a feeder that nobody locked has no power.

        What a relay has taken is not made up for elsewhere.
        """
        return self.held | bool((self.devices.dark & ~self.locked).any())

    def _resting_words(self) -> tuple[str, ...]:
        return (f"{self.resting} devices rest: {RESTING}",) if self.resting else ()

    def _revenue(self, book: MarketBook) -> Floats:
        if self.in_force is None:
            return np.zeros_like(self.site.shape.power_mw)
        return self.in_force.compiled.revenue_usd_per_hour(book.indices)

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
            binding=(*(wanted.binding if wanted else ()), *directed.unmet, *self._resting_words()),
            is_fallback=wanted is not None and wanted.guard is None,
            present=present,
            revenue=revenue,
            lock_words=self.standing.lock_words(),
            now=now,
            new_tick=new_tick,
            tick_id=self._progress.tick_id,
            number=self._progress.number,
            started_ns=started_ns,
            is_continuation=is_continuation,
        )

    def _want(self, book: MarketBook, present: Ints, now: datetime) -> Wanted | None:
        if self.site.dispatch_regime is DispatchRegime.BLOCK_DR:
            return static_plan(self.site, book, present)
        if self.in_force is None:
            return None
        now_s = now.timestamp()
        step = assess(self.site, self.in_force, book, self.health, now_s, self._limits)
        metrics.PHASE.labels(self.site.facility_id).set(int(step.phase))
        guard = self._guard or GuardState.empty(self.in_force.compiled)
        since_s = now_s if self._guarded_at_s is None else self._guarded_at_s
        elapsed_h = max(now_s - since_s, 0.0) / 3600
        wanted = want(self.site, self.in_force, book, present, now, guard, elapsed_h, step)
        if step.phase is Phase.NORMAL and wanted is not None and wanted.guard is not None:
            self._guard, self._guarded_at_s = wanted.guard, now_s
        else:
            self._guarded_at_s = now_s  # a hold is on nobody's account
        return wanted

    def _index_names(self) -> tuple[str, ...]:
        return self.in_force.compiled.index_names if self.in_force else ()

    # -- what leaves --------------------------------------------------------------------------------------------------

    def take_would_be(self) -> list[HistoryRow]:
        """What was not done since the last call, because the control mode forbids it, for `allocation_history`."""
        rows, self._would_be = self._would_be, []
        return rows

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
            self._note_room(now_s)
        for reason in {row.reason for row in wave.rows}:
            metrics.WAVES.labels(reason).inc()

    def take_local(self, slots: Slots, state: int, at_s: float, told_mw: float = 0.0) -> dict[int, float]:
        """The gateway did something by itself: it counts, and it is on the ramps' windows; signed MW by group.

        `told_mw` is what the gateway reckoned: where it had been done before it announced its state, that is all there is.
        """
        shape, was = self.site.shape, self.devices.states[slots]
        self.devices.set_local(slots, state, at_s)
        groups, found = shape.group_of_slot[slots], dict[int, float]()
        for g in np.unique(groups[groups >= 0]).tolist():
            own = was[(groups == g) & (was != UNKNOWN)]
            found[g] = float((shape.power_mw[g, state] - shape.power_mw[g, own]).sum())
        if not any(found.values()):
            found = self._shared_out(groups, state, told_mw)
        for g, mw in found.items():
            self.ledger.book(at_s, {shape.feeder_of_group[g]: mw})
        return found

    def _shared_out(self, groups: Ints, state: int, mw: float) -> dict[int, float]:
        """MW by group, in proportion to the most that its devices can have changed."""
        power, found = self.site.shape.power_mw, dict[int, float]()
        for g in np.unique(groups[groups >= 0]).tolist():
            found[g] = float(
                np.abs(power[g, list(self.site.shape.ladders[g])] - power[g, state]).max() * (groups == g).sum()
            )
        whole = sum(found.values())
        return {g: mw * most / whole if whole else 0.0 for g, most in found.items()}

    def lose_power(self, slots: Slots, at_s: float) -> None:
        """A relay or a breaker has taken the power of devices: no failure. What they did is remembered, and restored."""
        shape = self.site.shape
        counts = shape.counts(self.devices.states, self._free(self._clock.monotonic_s()))
        mask = np.zeros(shape.slots, dtype=bool)
        mask[slots] = True
        for g in self._groups_of(mask):
            self._shadow.kept.setdefault(g, counts[g].copy())
        lost = shape.counts(self.devices.states, mask & (self.devices.states != UNKNOWN))
        self.obligations.power.lose(at_s, float((lost * shape.power_mw).sum()))
        self.devices.dark |= mask

    def regain_power(self, slots: Slots, at_s: float) -> None:
        """Devices have power again, and are asleep: they are released in waves, under the ramps."""
        self.devices.dark[slots] = False
        if not self.devices.dark.any():
            self.obligations.power.regain(at_s)

    def sheddable_on_mw(self) -> float:
        """MW above the lowest states of the load that counts for the obligations' floor."""
        shape, present = self.site.shape, self.present()
        lows = shape.power_mw[np.arange(len(shape.ladders)), [ladder[0] for ladder in shape.ladders]]
        above = (present * (shape.power_mw - lows[:, None])).sum(axis=1)
        return float(above[self.obligations.sheddable].sum())

    def _groups_of(self, mask: Bools) -> list[int]:
        """The groups that have one of some slots."""
        groups: list[int] = np.unique(self.site.shape.group_of_slot[mask]).tolist()
        return groups

    def ramp_horizon(self, now: datetime) -> datetime:
        """Since when a successor must count load changes."""
        return now - timedelta(seconds=self.site.ramp_window_s)
