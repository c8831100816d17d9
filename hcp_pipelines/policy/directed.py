"""One wave that carries out directed targets: what nothing may delay at once, the rest under the ramps. Pure, vectorised.

Locked slots are no part of targets: they go to their group's lowest state and stay there. So do those that are emptied for
maintenance, under the ramps, and before anything else that these hold back; but what nothing may delay takes of them, too,
and of them first.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from hcp_pipelines.policy.arrays import Bools, Ints
from hcp_pipelines.policy.desired import at_once
from hcp_pipelines.policy.directives import Directed, Directive
from hcp_pipelines.policy.dwell import DwellLocks
from hcp_pipelines.policy.floors import held_above
from hcp_pipelines.policy.ramps import FACILITY, PORTFOLIO, UNLIMITED, Headroom
from hcp_pipelines.policy.waves import FacilityShape, Move, Plan, Pool, States, plan_wave


@dataclass(frozen=True)
class DirectedPlan:
    """A wave, and for each of its moves whose word it is: a directive's, a lock's, the scheduler's, or (None) the policy's."""

    plan: Plan
    words: tuple["Directive | str | None", ...]


LOCK, WORK = "lock", "work"


def plan_directed(
    pool: Pool,
    locked_out: Bools,
    directed: Directed,
    headroom: Headroom,
    rng: np.random.Generator,
    dwell: DwellLocks | None = None,
    emptying: Bools | None = None,
) -> DirectedPlan:
    """The wave towards `directed`; besides the pool's devices there are those that are `locked_out` and can be commanded.

    `emptying`: devices that can be commanded, and have to be asleep when their maintenance begins.
    """
    shape, once = pool.shape, Plan()
    locks = tuple(_lock_moves(shape, pool.states, locked_out)) if locked_out.any() else ()
    if directed.exempt_by_group:
        once = plan_wave(_leaving(pool, directed.at_once), directed.at_once, UNLIMITED, rng, is_down_exempt=True)
    hurried, emptying = _hurried(pool, emptying, directed, rng)
    targets, left = directed.targets, headroom
    if once.moves:
        targets = targets.copy()
        for move in once.moves:
            targets[move.group_index, move.to_state] -= len(move.slots)
        pool = _without(pool, once.moves)
    if locks or once.moves or hurried.moves:
        left = _less(headroom, shape, (*locks, *once.moves, *hurried.moves))
    emptied = Plan() if emptying is None else plan_wave(*_emptied(pool, emptying), left, rng)
    if emptied.moves:
        left = _less(left, shape, emptied.moves)
    targets = np.maximum(targets, 0)
    if directed.floor_mw:
        targets = held_above(shape, pool.counts, targets, directed.sheddable, directed.floor_mw)
    rest = plan_wave(pool, targets, left, rng, locked=dwell)
    words = (
        *(LOCK for _ in locks),
        *(directed.exempt_by_group.get(move.group_index) for move in once.moves),
        *(directed.emptied_by_group.get(move.group_index) for move in hurried.moves),
        *(LOCK for _ in emptied.moves),
        *(directed.by_group.get(move.group_index, WORK if move.is_work else None) for move in rest.moves),
    )
    moves = (*locks, *once.moves, *hurried.moves, *emptied.moves, *rest.moves)
    return DirectedPlan(_joined(shape, moves, emptied, rest), words)


def _lock_moves(shape: FacilityShape, states: States, locked: Bools) -> list[Move]:
    """Every locked slot that is not in its group's lowest state goes there."""
    moves = []
    for g, mine in enumerate(shape.members):
        low, own = shape.ladders[g][0], np.zeros(len(states), dtype=bool)
        own[mine] = locked[mine] & (states[mine] != low)
        for state in np.unique(states[own]).tolist():
            slots = np.flatnonzero(own & (states == state)).astype(np.uint32)
            each = float(shape.power_mw[g, low] - shape.power_mw[g, state])
            moves.append(Move(g, int(state), low, slots, len(slots) * each))
    return moves


def _without(pool: Pool, moves: Iterable[Move]) -> Pool:
    """The pool without the devices that move already."""
    free = pool.eligible.copy()
    for move in moves:
        free[move.slots] = False
    return replace(pool, eligible=free)


def _leaving(pool: Pool, counts: Ints) -> Pool:
    """The pool with the slots of scheduled groups that leave at once."""
    return pool if pool.assigned is None else pool.with_assigned(at_once(pool.assigned, pool, counts))


def _less(headroom: Headroom, shape: FacilityShape, moves: Iterable[Move]) -> Headroom:
    """What is left of the ramps once some moves have used them, whether they had to ask or not."""
    up, down = dict(headroom.up_mw), dict(headroom.down_mw)
    for move in moves:
        budget = up if move.mw_delta > 0 else down
        for scope in (shape.feeder_of_group[move.group_index], FACILITY, PORTFOLIO):
            if scope in budget:
                budget[scope] = max(budget[scope] - abs(move.mw_delta), 0.0)
    return Headroom(up, down)


def _hurried(
    pool: Pool, emptying: Bools | None, directed: Directed, rng: np.random.Generator
) -> tuple[Plan, Bools | None]:
    """What nothing delays of the devices to be emptied, and those that are left to go under the ramps."""
    if emptying is None or directed.emptied_at_once is None:
        return Plan(), emptying
    own = Pool(pool.shape, pool.states, emptying)
    plan = plan_wave(own, directed.emptied_at_once, UNLIMITED, rng, is_down_exempt=True)
    return plan, _without(own, plan.moves).eligible


def _emptied(pool: Pool, emptying: Bools) -> tuple[Pool, Ints]:
    """The devices to be emptied, and all of them asleep."""
    own = Pool(pool.shape, pool.states, emptying)
    targets = np.zeros_like(own.counts)
    targets[np.arange(len(targets)), [ladder[0] for ladder in pool.shape.ladders]] = own.counts.sum(axis=1)
    return own, targets


def _joined(shape: FacilityShape, moves: tuple[Move, ...], emptied: Plan, rest: Plan) -> Plan:
    by_feeder: dict[str, float] = {}
    for move in moves:
        feeder_id = shape.feeder_of_group[move.group_index]
        by_feeder[feeder_id] = by_feeder.get(feeder_id, 0.0) + move.mw_delta
    return replace(
        rest,
        moves=moves,
        mw_delta_by_feeder=by_feeder,
        deferred_devices=rest.deferred_devices + emptied.deferred_devices,
        deferred_mw_down=rest.deferred_mw_down + emptied.deferred_mw_down,
    )


def nothing_directed(targets: Ints, present: Ints) -> Directed:
    """Targets that nobody but policy or fallback plan has a word in."""
    return Directed(targets, present, {}, {})
