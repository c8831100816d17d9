"""What the scheduler wants of single slots, and how much of it the policy lets be: rows, priorities, gangs. Pure, vectorised.

A row is one workload's devices of one group: it runs whole or not at all. Of a group where work is scheduled the policy says how
many devices may work, no longer which: the rows say that, those of the highest priority first; slots that nobody wants rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.policy.arrays import Bools, Ints
from hcp_pipelines.policy.assigned import NOBODY, Assigned, Slots
from hcp_pipelines.policy.waves import FacilityShape, Pool

_AT_REST = (int(DeviceState.CURTAILED), int(DeviceState.IDLE))


@dataclass(frozen=True)
class DesiredRows:
    """`[r]` rows of one facility in the order in which they are served, and `[k]` their slots, one row after the other."""

    ids: Ints
    groups: Ints
    states: Ints
    sizes: Ints
    slots: Slots
    works: Ints  # the key of whose work it is

    @cached_property
    def row_of(self) -> Ints:
        """[k] whose each slot is."""
        return np.repeat(np.arange(len(self.ids)), self.sizes)

    def with_any(self, mask: Bools) -> Bools:
        """[r] rows of which some slot is in `mask[n]`."""
        found = np.zeros(len(self.ids), dtype=bool)
        found[self.row_of[mask[self.slots]]] = True
        return found

    def only(self, kept: Bools) -> "DesiredRows":
        """Some of them."""
        ids, groups, states, sizes = (column[kept] for column in (self.ids, self.groups, self.states, self.sizes))
        return DesiredRows(ids, groups, states, sizes, self.slots[kept[self.row_of]], self.works[kept])


_NONE = np.zeros(0, dtype=np.int64)
NO_ROWS = DesiredRows(_NONE, _NONE, _NONE, _NONE, np.zeros(0, dtype=np.uint32), _NONE)


def resting_state(ladder: Sequence[int]) -> int:
    """What a slot does that nobody wants: warm where the group can, else its lowest state.

    >>> resting_state((0, 1, 5)), resting_state((0, 3))
    (1, 0)
    """
    return int(DeviceState.IDLE) if DeviceState.IDLE in ladder else ladder[0]


def can_work(ladder: Sequence[int], state: int) -> bool:
    """Whether the devices of a group can do a workload's work in a state."""
    return state in ladder and state not in _AT_REST


def granted(shape: FacilityShape, rows: DesiredRows, bound: Ints, may_run: Bools) -> Bools:
    """[r] the rows that run under a policy's `bound[g, s]`; of those that `may_run`, as far as their devices go.

    A row runs if there is room beside all that are before it in line. Work that draws less may take a place that the policy
    keeps for work that draws more, so that room is counted along the ladder: devices at a step or above it.
    """
    found = np.zeros(len(rows.ids), dtype=bool)
    for g in np.unique(rows.groups).tolist():
        ladder = list(shape.ladders[g])
        room = np.cumsum(bound[g, ladder][::-1])[::-1]
        own = np.flatnonzero((rows.groups == g) & may_run)
        steps = np.array([ladder.index(s) for s in rows.states[own].tolist()], dtype=np.int64)
        found[own[_fitting(rows.sizes[own], steps, room)]] = True
    return found


def _fitting(sizes: Ints, steps: Ints, room: Ints) -> Ints:
    """Which rows fit, one after the other, into `room[k]` devices at a step or above; one that doesn't is passed over."""
    rest, taken = np.arange(len(sizes)), [np.zeros(0, dtype=np.int64)]
    above = steps[:, None] >= np.arange(len(room))  # [r, k] the steps that a row counts on
    while True:
        rest = rest[sizes[rest] <= np.minimum.accumulate(room)[steps[rest]]]
        if not len(rest):
            return np.concatenate(taken)
        used = np.cumsum(sizes[rest, None] * above[rest], axis=0)
        fits = (used <= room).all(axis=1)
        first = len(rest) if fits.all() else int(fits.argmin())
        taken.append(rest[:first])
        room = room - used[first - 1]
        rest = rest[first:]


def assigned_to(shape: FacilityShape, groups: Sequence[int], rows: DesiredRows, may: Bools) -> Assigned:
    """Every slot of some groups with what it is to do if only the rows that `may` run do, and all others rest."""
    goal = np.zeros(shape.slots, dtype=np.uint8)
    row = np.full(shape.slots, NOBODY)
    is_granted = np.zeros(shape.slots, dtype=bool)
    for g in groups:
        goal[shape.members[g]] = resting_state(shape.ladders[g])
    row[rows.slots] = rows.row_of
    running = may[rows.row_of]
    slots = rows.slots[running]
    goal[slots], is_granted[slots] = rows.states[rows.row_of[running]], True
    return Assigned(tuple(groups), goal, row, is_granted, np.zeros(shape.slots, dtype=np.int64))


def running(assigned: Assigned, rows: DesiredRows) -> Bools:
    """[r] the rows of which every slot is to be in the row's state."""
    found = np.ones(len(rows.ids), dtype=bool)
    found[rows.row_of[assigned.goal[rows.slots] != rows.states[rows.row_of]]] = False
    return found


def with_work(assigned: Assigned, rows: DesiredRows) -> Assigned:
    """The same with whose work each slot is to run: that of the rows that run whole, whoever had a word in it."""
    work, runs = np.zeros(len(assigned.goal), dtype=np.int64), running(assigned, rows)[rows.row_of]
    work[rows.slots[runs]] = rows.works[rows.row_of[runs]]
    return replace(assigned, work=work)


def counts_of(assigned: Assigned, pool: Pool, bound: Ints) -> Ints:
    """[g, s] targets: the policy's, but for the groups where work is scheduled what comes of the rows.

    Of the slots that rest there, as many are put to sleep as the policy wants asleep.
    """
    shape, counts = pool.shape, bound.copy()
    for g in assigned.groups:
        ladder, mine = list(shape.ladders[g]), shape.members[g]
        own = np.bincount(assigned.goal[mine][pool.eligible[mine]], minlength=bound.shape[1])[: bound.shape[1]]
        rest = resting_state(ladder)
        for low in ladder[: ladder.index(rest)]:
            asleep = min(int(bound[g, low]), int(own[rest]))
            own[low] += asleep
            own[rest] -= asleep
        counts[g] = own
    return counts


def bent(assigned: Assigned, pool: Pool, counts: Ints) -> Assigned:
    """The same slots with `counts[g, s]`, which somebody may have changed since: an order, a curtailment, the grid.

    Down goes first whoever is nobody's, or last in line, up whoever is first; among equals those that are there already.
    """
    goal = assigned.goal
    for g in assigned.groups:
        ladder, mine = pool.shape.ladders[g], pool.shape.members[g]
        free = pool.eligible[mine]
        have = np.bincount(goal[mine][free], minlength=counts.shape[1])[: counts.shape[1]]
        if np.array_equal(have, counts[g]):
            continue
        goal = goal.copy() if goal is assigned.goal else goal
        own = goal[mine].copy()
        for giver, taker, devices in _exchanges(ladder, have - counts[g]):
            able = np.flatnonzero(free & (own == giver))
            is_elsewhere = pool.states[mine][able] != taker
            is_rise = pool.shape.power_mw[g, taker] > pool.shape.power_mw[g, giver]
            place = assigned.row[mine][able] if is_rise else -assigned.rank[mine][able]
            order = np.lexsort((able, is_elsewhere, place))
            own[able[order[:devices]]] = taker
        goal[mine] = own
    if goal is assigned.goal:
        return assigned
    return replace(assigned, goal=goal, work=np.where(goal == assigned.goal, assigned.work, 0))


def _exchanges(ladder: Sequence[int], surplus: Ints) -> list[tuple[int, int, int]]:
    """(from, to, devices) along a ladder, lowest first, until nobody has more than he should or nobody less."""
    extra, found = surplus.tolist(), []
    states = [*(s for s in range(len(extra)) if s not in ladder), *ladder]
    for giver in states:
        for taker in states:
            devices = min(extra[giver], -extra[taker])
            if devices > 0:
                found.append((giver, taker, devices))
                extra[giver] -= devices
                extra[taker] += devices
    return found


def at_once(assigned: Assigned, pool: Pool, counts: Ints) -> Assigned:
    """What leaves without delay: from what the slots do now to `counts[g, s]`; first those that are to go in any case."""
    stays, power_mw = assigned.is_granted.copy(), pool.shape.power_mw
    for g in assigned.groups:
        mine = pool.shape.members[g]
        own = np.minimum(pool.states[mine], power_mw.shape[1] - 1)  # of what is not known nothing can be commanded
        stays[mine] &= power_mw[g, assigned.goal[mine]] >= power_mw[g, own]
    stands = Assigned(assigned.groups, pool.states, assigned.row, stays, np.zeros_like(assigned.work))
    return bent(stands, pool, counts)
