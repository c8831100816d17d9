"""A planned wave as it leaves: the journal's rows, the gateway's command, who should do what. No decisions here."""

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from hcp_pipelines.allocator.decide import InForce
from hcp_pipelines.allocator.desired_table import RowWork
from hcp_pipelines.allocator.journal import CommandRow, HistoryRow
from hcp_pipelines.allocator.market import Latest
from hcp_pipelines.allocator.site import Site
from hcp_pipelines.domain.modes import DeviceState, ReasonCode
from hcp_pipelines.policy.arrays import Floats, Ints
from hcp_pipelines.policy.directed import LOCK, WORK, DirectedPlan
from hcp_pipelines.policy.directives import Directive
from hcp_pipelines.policy.waves import Move, Plan, Slots
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import encode_slots

ACK_DEADLINE_MS = 5_000
COMMIT_WITHIN_S = 5.0  # real: a wave that took longer to journal is of the past
FALLBACK_ACTOR = "facility file"  # whose static plan it is
SCHEDULER = "scheduler"


@dataclass(frozen=True)
class Decision:
    """Everything that a plan was made of; `new_tick` is None where no new tick led to it, `in_force` where there is no policy."""

    in_force: InForce | None
    targets: Ints  # [g, s]
    reasons: tuple[ReasonCode, ...]  # [g] of what is nobody's directive
    price: float | None
    adder_usd_per_mwh: float  # on top of it
    binding: tuple[str, ...]
    is_fallback: bool
    present: Ints
    revenue: Floats  # [g, s] $/h of one device
    lock_words: tuple[str, str]  # actor and detail of the locks
    work_words: str  # how many desired rows run
    now: datetime
    new_tick: Latest | None
    tick_id: int
    number: int
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


def make_wave(
    site: Site,
    epoch: int,
    decision: Decision,
    planned: DirectedPlan,
    planned_ns: int,
    work_of: Callable[[int], RowWork],
    have_failed: Callable[[Slots], bool],
) -> Wave:
    """The wave of a plan that may leave; the plan was made at `planned_ns`, monotonic. `work_of` key: what is to run.

    `have_failed`: whether devices are told again, since they have not obeyed.
    """
    command_id, tick = uuid.uuid4(), decision.new_tick
    origin_ns = tick.origin_ns if tick is not None and tick.origin_ns else None
    steps = _steps(origin_ns, read=decision.started_ns, plan=planned_ns)
    moves = planned.plan.moves
    works = [work_of(move.work) if move.work else None for move in moves]
    words = [_attribution(decision, have_failed, *one) for one in zip(moves, planned.words, works, strict=True)]
    rows = tuple(_row(site, epoch, decision, command_id, n, m, words[n], steps) for n, m in enumerate(moves))
    command = pb.Command(
        command_id=str(command_id),
        facility_id=site.facility_id,
        epoch=epoch,
        generation=site.generation,
        deadline_ms=ACK_DEADLINE_MS,
        tick_id=decision.tick_id,
        policy_id=decision.in_force.policy_id if decision.in_force else 0,
        reason=rows[0].reason,
        wave=decision.number,
        assignments=[_assignment(row, work) for row, work in zip(rows, works, strict=True)],
    )
    return Wave(site.facility_id, command_id, decision, planned.plan, command, rows, origin_ns, steps)


def history_of(site: Site, wave: Wave) -> list[HistoryRow]:
    """For each group that a wave touches: what it should do, what most of it does after the wave, expected $/h."""
    decision, after = wave.decision, wave.decision.present.copy()
    for move in wave.plan.moves:
        after[move.group_index, move.from_state] -= len(move.slots)
        after[move.group_index, move.to_state] += len(move.slots)
    groups = sorted({move.group_index for move in wave.plan.moves})
    cost_usd_per_mwh = (decision.price or 0.0) + decision.adder_usd_per_mwh
    value = decision.revenue - cost_usd_per_mwh * site.shape.power_mw
    tick_id, policy_id = wave.rows[0].tick_id, wave.rows[0].policy_id
    return mix_rows(site, decision.now, decision.targets, after, groups, value, tick_id, policy_id)


def mix_rows(
    site: Site,
    now: datetime,
    targets: Ints,
    actual: Ints,
    groups: Iterable[int],
    value: Floats,
    tick_id: int | None,
    policy_id: int | None,
) -> list[HistoryRow]:
    """One row a group and state that it should be in, with what most of the group does; `value[g, s]` is $/h of one device."""
    return [
        HistoryRow(
            simulated_at=now,
            facility_id=site.facility_id,
            resource_id=f"{site.facility_id}/{site.shape.group_ids[g]}",
            resource_type=site.group_types[g],
            recommended_workload=DeviceState(state).mode.value,
            actual_workload=DeviceState(int(actual[g].argmax())).mode.value,
            devices=int(targets[g, state]),
            expected_profit=float(targets[g, state] * value[g, state]),
            tick_id=tick_id,
            policy_id=policy_id,
        )
        for g in groups
        for state in np.flatnonzero(targets[g]).tolist()
    ]


def _row(
    site: Site,
    epoch: int,
    decision: Decision,
    command_id: uuid.UUID,
    number: int,
    move: Move,
    words: tuple[ReasonCode, str, str],
    steps: dict[str, float],
) -> CommandRow:
    reason, detail, actor = words
    return CommandRow(
        facility_id=site.facility_id,
        epoch=epoch,
        command_id=command_id,
        assignment=number,
        generation=site.generation,
        group_id=site.shape.group_ids[move.group_index],
        feeder_id=site.shape.feeder_of_group[move.group_index],
        wave=decision.number,
        from_state=move.from_state,
        to_state=move.to_state,
        devices=len(move.slots),
        slots=encode_slots(move.slots),
        mw_delta=move.mw_delta,
        tick_id=decision.tick_id if decision.tick_id > 0 else None,
        policy_id=decision.in_force.policy_id if decision.in_force else None,
        price=decision.price,
        usd_per_hour=_gain_usd_per_hour(decision, move),
        reason=reason.value,
        reason_detail=detail,
        actor=actor,
        steps_ms=steps or None,
        simulated_at=decision.now,
    )


def _assignment(row: CommandRow, work: RowWork | None) -> pb.Assignment:
    told = None if work is None else pb.Work(**work._asdict())
    return pb.Assignment(index=row.assignment, state=row.to_state, slots=row.slots, work=told)


_BY_PRICE = frozenset({ReasonCode.ECONOMICS, ReasonCode.GUARD, ReasonCode.RAMP_CONTINUATION})


def _attribution(
    decision: Decision,
    have_failed: Callable[[Slots], bool],
    move: Move,
    word: Directive | str | None,
    work: RowWork | None,
) -> tuple[ReasonCode, str, str]:
    """Why a move is made, in detail, and by whom."""
    if word == LOCK:
        actor, detail = decision.lock_words
        return ReasonCode.LOCKOUT, detail, actor
    if word == WORK:
        begun = "" if work is None else f"workload {work.workload_id}; "
        return ReasonCode.WORKLOAD, f"{begun}{decision.work_words}", SCHEDULER
    if isinstance(word, Directive):
        return word.kind.reason, f"{word.directive_id}: {word.detail}"[:500], word.actor
    reason = ReasonCode.RAMP_CONTINUATION if decision.is_continuation else decision.reasons[move.group_index]
    if reason in _BY_PRICE and have_failed(move.slots):
        reason = ReasonCode.RE_DRIVE
    return reason, ", ".join(decision.binding), FALLBACK_ACTOR if decision.is_fallback else "policy"


def _steps(origin_ns: int | None, **instants_ns: int) -> dict[str, float]:
    """Milliseconds since the tick row's commit, by step; nothing for waves that no tick started."""
    if origin_ns is None:
        return {}
    return {name: round((at_ns - origin_ns) / 1e6, 3) for name, at_ns in instants_ns.items()}


def _gain_usd_per_hour(decision: Decision, move: Move) -> float | None:
    """$/h against staying: revenue gained less power bought, at the decision price and its adder; None without a price."""
    if decision.price is None:
        return None
    revenue = decision.revenue[move.group_index]
    gained = len(move.slots) * (revenue[move.to_state] - revenue[move.from_state])
    return float(gained - (decision.price + decision.adder_usd_per_mwh) * move.mw_delta)
