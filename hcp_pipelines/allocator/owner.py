"""One owned facility: from prices to the next wave, and what comes back of it. No sockets and no SQL here.

The order is kept by the service: `plan` → journal → `send` → acks. What `plan` returns changes nothing until `take`.
"""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from hcp_pipelines.allocator import metrics
from hcp_pipelines.allocator.decide import InForce, Limits, Wanted, assess, want
from hcp_pipelines.allocator.devices import Devices
from hcp_pipelines.allocator.health import InputHealth, Phase
from hcp_pipelines.allocator.journal import CommandRow, HistoryRow
from hcp_pipelines.allocator.market import Latest, MarketBook
from hcp_pipelines.allocator.site import Site
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.modes import ControlMode, DeviceState, Mode, ReasonCode
from hcp_pipelines.policy.arrays import Floats, Ints
from hcp_pipelines.policy.evaluate import Evaluation, evaluate
from hcp_pipelines.policy.guard import GuardState
from hcp_pipelines.policy.ramps import Booking, RampLedger
from hcp_pipelines.policy.waves import Move, Plan, dwell_locks, plan_wave
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import encode_slots

ACK_DEADLINE_MS = 5_000
FALLBACK_ACTOR = "facility file"  # whose static plan it is
CHECK_EACH_S = 0.5  # real: holds, expiries and dwell times are looked at so often without a tick
AFTER_RELEASE_S = 1e-3  # simulated: a booking has then left its window whatever the rounding


@dataclass(frozen=True)
class Decision:
    """Everything that a plan was made of; `new_tick` is None where no new tick led to it."""

    in_force: InForce
    wanted: Wanted
    present: Ints
    revenue: Floats  # [g, s] $/h of one device
    now: datetime
    new_tick: Latest | None
    started_ns: int
    is_continuation: bool


@dataclass(frozen=True)
class Wave:
    """A planned wave: what is journalled, what is sent. `origin_ns` is the tick's commit, for first waves only."""

    facility_id: str
    command_id: uuid.UUID
    decision: Decision
    plan: Plan
    command: pb.Command
    rows: tuple[CommandRow, ...]
    origin_ns: int | None
    steps_ms: dict[str, float] = field(default_factory=dict)


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
        self._progress = _Progress()
        self._is_asked = True
        self._random = np.random.default_rng(abs(hash((site.facility_id, epoch))))

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
        carried = self._guard.carried_to(in_force.compiled) if self._guard else GuardState.empty(in_force.compiled)
        self._guard = carried
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
        """[g, s] devices that can be commanded, by state."""
        return self.site.shape.counts(self.devices.states, self.devices.eligible(self._clock.monotonic_s()))

    # -- plan ---------------------------------------------------------------------------------------------------------

    def plan(self, book: MarketBook) -> Wave | None:
        """The next wave, or None: nothing to do, nothing that may be done, or nothing new to look at."""
        if not self.is_ready or self.in_force is None:
            return None
        tick = book.tick_for(self.site.settlement_point, self._index_names())
        is_new = tick is not None and tick.tick_id != self._progress.tick_id
        monotonic_s = self._clock.monotonic_s()
        is_due = monotonic_s - self._progress.planned_at_s >= CHECK_EACH_S
        if not (is_new or self._is_asked or is_due or self.has_room_in_s() <= 0):
            return None
        started_ns = time.monotonic_ns()
        self._progress.planned_at_s, self._is_asked = monotonic_s, False
        if is_new and tick is not None:
            self._progress.tick_id, self._progress.number, self._progress.is_incomplete = tick.tick_id, -1, False
        self._progress.number += 1
        wave = self._plan(book, tick if is_new else None, monotonic_s, started_ns)
        metrics.PLAN_SECONDS.observe((time.monotonic_ns() - started_ns) / 1e9)
        return wave

    def has_room_in_s(self) -> float:
        """Real seconds until a ramp that held devices back lets go of some; infinite when none does."""
        return (self._progress.room_at_s - self._clock.now().timestamp()) / self._clock.speed

    def _note_room(self, now_s: float) -> None:
        release_s = self.ledger.next_release_at(now_s)
        self._progress.room_at_s = float("inf") if release_s is None else release_s + AFTER_RELEASE_S

    def _plan(self, book: MarketBook, new_tick: Latest | None, monotonic_s: float, started_ns: int) -> Wave | None:
        assert self.in_force is not None
        now = self._clock.now()
        self._progress.room_at_s = float("inf")
        eligible = self.devices.eligible(monotonic_s)
        present = self.site.shape.counts(self.devices.states, eligible)
        wanted = self._want(book, present, now)
        if wanted is None or np.array_equal(wanted.targets, present):
            return None
        now_s, couplings = now.timestamp(), self.in_force.policy.couplings
        locked = None
        if wanted.guard is not None:  # the fallback plan is not for dwell times to delay
            locked = dwell_locks(
                self.devices.changed_at_s, self.devices.rose, now_s, couplings.min_up_s, couplings.min_down_s
            )
        headroom = self.ledger.headroom(now_s)
        plan = plan_wave(
            self.site.shape, self.devices.states, eligible, wanted.targets, headroom, self._random, locked=locked
        )
        was_incomplete, self._progress.is_incomplete = self._progress.is_incomplete, not plan.is_complete
        if not plan.is_complete:
            self._note_room(now_s)
        if not plan.moves or not self._may_act(plan):
            return None
        revenue = self.in_force.compiled.revenue_usd_per_hour(book.indices)
        decision = Decision(self.in_force, wanted, present, revenue, now, new_tick, started_ns, was_incomplete)
        return self._wave(decision, plan)

    def _want(self, book: MarketBook, present: Ints, now: datetime) -> Wanted | None:
        assert self.in_force is not None
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

    def _may_act(self, plan: Plan) -> bool:
        """`auto` acts; the other modes count what they would have done (approvals come with the operators' commands)."""
        if self.site.control_mode is ControlMode.AUTO:
            return True
        metrics.WOULD_BE.labels(self.site.facility_id).inc(sum(len(m.slots) for m in plan.moves))
        return False

    def _index_names(self) -> tuple[str, ...]:
        return self.in_force.compiled.index_names if self.in_force else ()

    # -- what leaves --------------------------------------------------------------------------------------------------

    def _wave(self, decision: Decision, plan: Plan) -> Wave:
        command_id, tick = uuid.uuid4(), decision.new_tick
        origin_ns = tick.origin_ns if tick is not None and tick.origin_ns else None
        steps = _steps(origin_ns, read=decision.started_ns, plan=time.monotonic_ns())
        rows = tuple(self._row(decision, command_id, n, move, steps) for n, move in enumerate(plan.moves))
        command = pb.Command(
            command_id=str(command_id),
            facility_id=self.site.facility_id,
            epoch=self.epoch,
            generation=self.site.generation,
            deadline_ms=ACK_DEADLINE_MS,
            tick_id=self._progress.tick_id,
            policy_id=decision.in_force.policy_id,
            reason=rows[0].reason,
            wave=self._progress.number,
            assignments=[pb.Assignment(index=r.assignment, state=r.to_state, slots=r.slots) for r in rows],
        )
        return Wave(self.site.facility_id, command_id, decision, plan, command, rows, origin_ns, steps)

    def _row(
        self, decision: Decision, command_id: uuid.UUID, number: int, move: Move, steps: dict[str, float]
    ) -> CommandRow:
        shape, wanted, g = self.site.shape, decision.wanted, move.group_index
        reason = ReasonCode.RAMP_CONTINUATION if decision.is_continuation else wanted.reasons[g]
        return CommandRow(
            facility_id=self.site.facility_id,
            epoch=self.epoch,
            command_id=command_id,
            assignment=number,
            generation=self.site.generation,
            group_id=shape.group_ids[g],
            feeder_id=shape.feeder_of_group[g],
            wave=self._progress.number,
            from_state=move.from_state,
            to_state=move.to_state,
            devices=len(move.slots),
            slots=encode_slots(move.slots),
            mw_delta=move.mw_delta,
            tick_id=self._progress.tick_id,
            policy_id=decision.in_force.policy_id,
            price=wanted.price,
            usd_per_hour=_gain_usd_per_hour(decision, move),
            reason=reason.value,
            reason_detail=", ".join(wanted.binding),
            actor="policy" if wanted.guard is not None else FALLBACK_ACTOR,
            steps_ms=steps or None,
            simulated_at=decision.now,
        )

    def history(self, wave: Wave) -> list[HistoryRow]:
        """For each group that a wave touches: what it should do, what most of it does after the wave, expected $/h."""
        decision, after, rows = wave.decision, wave.decision.present.copy(), list[HistoryRow]()
        for move in wave.plan.moves:
            after[move.group_index, move.from_state] -= len(move.slots)
            after[move.group_index, move.to_state] += len(move.slots)
        for g in sorted({move.group_index for move in wave.plan.moves}):
            actual = DeviceState(int(after[g].argmax())).mode
            profit = decision.revenue[g] - (decision.wanted.price or 0.0) * self.site.shape.power_mw[g]
            for state in np.flatnonzero(decision.wanted.targets[g]).tolist():
                devices = int(decision.wanted.targets[g, state])
                rows.append(
                    self._history_row(wave, g, DeviceState(state), actual, devices, float(devices * profit[state]))
                )
        return rows

    def _history_row(
        self, wave: Wave, g: int, state: DeviceState, actual: Mode, devices: int, profit: float
    ) -> HistoryRow:
        return HistoryRow(
            simulated_at=wave.decision.now,
            facility_id=self.site.facility_id,
            resource_id=f"{self.site.facility_id}/{self.site.shape.group_ids[g]}",
            resource_type=self.site.group_types[g],
            recommended_workload=state.mode.value,
            actual_workload=actual.value,
            devices=devices,
            expected_profit=profit,
            tick_id=wave.rows[0].tick_id,
            policy_id=wave.rows[0].policy_id,
        )

    def take(self, wave: Wave) -> None:
        """The wave is journalled and leaves: from now on it counts."""
        now_s = self._clock.now().timestamp()
        for move in wave.plan.moves:
            self.devices.take(move, now_s)
            metrics.SWITCHES.labels(DeviceState(move.to_state).label).inc(len(move.slots))
        self.ledger.book(now_s, wave.plan.mw_delta_by_feeder)
        if not wave.plan.is_complete:
            self._note_room(now_s)
        for reason in {row.reason for row in wave.rows}:
            metrics.WAVES.labels(reason).inc()

    def ramp_horizon(self, now: datetime) -> datetime:
        """Since when a successor must count load changes."""
        return now - timedelta(seconds=self.site.ramp_window_s)


def _steps(origin_ns: int | None, **instants_ns: int) -> dict[str, float]:
    """Milliseconds since the tick row's commit, by step; nothing for waves that no tick started."""
    if origin_ns is None:
        return {}
    return {name: round((at_ns - origin_ns) / 1e6, 3) for name, at_ns in instants_ns.items()}


def _gain_usd_per_hour(decision: Decision, move: Move) -> float | None:
    """$/h against staying: revenue gained less power bought, at the decision price; None without a price."""
    if decision.wanted.price is None:
        return None
    revenue = decision.revenue[move.group_index]
    gained = len(move.slots) * (revenue[move.to_state] - revenue[move.from_state])
    return float(gained - decision.wanted.price * move.mw_delta)
