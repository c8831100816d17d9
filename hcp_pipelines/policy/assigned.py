"""Slots that were told apart: which state each slot of a scheduled group is to be in, and in which order they change. Pure.

Elsewhere slots are drawn at random; here a workload runs on these and no others. Who gets what is worked out in `desired.py`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hcp_pipelines.policy.arrays import Bools, Floats, Ints

States = npt.NDArray[np.uint8]
Slots = npt.NDArray[np.uint32]
MORE = -1  # in place of a workload's key: those of more work than a wave takes
NOBODY = np.iinfo(np.int64).max  # the row of a slot that no row in force wants: the first to go, the last to come


@dataclass(frozen=True)
class Assigned:
    """What slots are to do, in groups where work is scheduled; elsewhere the arrays mean nothing."""

    groups: tuple[int, ...]
    goal: States  # [n]
    row: Ints  # [n] the place in line of the row that wants the slot, the first one 0; NOBODY
    is_granted: Bools  # [n] whether that row may run
    work: Ints  # [n] the key of the workload that is to run there; 0: nobody's, or whatever runs

    @property
    def rank(self) -> Ints:
        """[n] who keeps what he has the longest: the low numbers. Rows that may not run are nobody's."""
        return np.where(self.is_granted, self.row, NOBODY)


class Want(NamedTuple):
    """Devices of one group that are to change; `slots`, in their order, where it is not left to chance which.

    `is_work`: by the scheduler's word, since a row came, went or changed; else the policy's, which may have turned a row down.
    `work` is the key of what they are to run, or MORE; the same state twice is other work in the place of what runs.
    """

    group_index: int
    from_state: int
    to_state: int
    devices: int
    slots: Slots | None = None
    is_work: bool = False
    work: int = 0


class Told(NamedTuple):
    """[n] what each device was told last: its state, and the key of the work that it was told to run (0: nobody's)."""

    states: States
    works: Ints
    eligible: Bools


def is_done(assigned: Assigned, members: Sequence["slice | Ints"], told: Told) -> bool:
    """Whether every device that can be commanded is as it is to be."""
    return not any(_differs(assigned, members[g], told).any() for g in assigned.groups)


def _differs(assigned: Assigned, mine: "slice | Ints", told: Told) -> Bools:
    """Of a group's devices those to be told something: another state, or other work."""
    work = assigned.work[mine]
    other = (told.states[mine] != assigned.goal[mine]) | ((work != 0) & (told.works[mine] != work))
    found: Bools = other & told.eligible[mine]
    return found


def changes(
    assigned: Assigned, members: Sequence["slice | Ints"], power_mw: Floats, told: Told, works_at_once: int
) -> Iterator[Want]:
    """What differs from the goals, of the devices that can be commanded: rows served first rise first and fall last.

    Each row's work is a change of its own, what goes to rest is one; what is more than so many of a group's rows is one as well.
    """
    for g in assigned.groups:
        mine = members[g]
        found = np.flatnonzero(_differs(assigned, mine, told))
        slots = found + mine.start if isinstance(mine, slice) else mine[found]
        for own, is_work in _alike(assigned, told, slots, works_at_once):
            from_state, to_state, work = (int(x[own[0]]) for x in (told.states, assigned.goal, assigned.work))
            if is_work is None:
                yield Want(g, from_state, to_state, len(own), is_work=True, work=MORE)
                continue
            order = np.argsort(assigned.row[own], kind="stable")
            if power_mw[g, to_state] < power_mw[g, from_state]:
                order = order[::-1]
            yield Want(g, from_state, to_state, len(own), own[order].astype(np.uint32), is_work, work)


def _alike(assigned: Assigned, told: Told, slots: Ints, works_at_once: int) -> Iterator[tuple[Ints, bool | None]]:
    """Slots that change alike, and whether by the scheduler's word; what runs for somebody in the order of the rows.

    None: those of rows beyond so many, which are not told apart.
    """
    if not len(slots):
        return
    is_work = assigned.is_granted[slots] | (assigned.row[slots] == NOBODY)
    kinds = told.states[slots].astype(np.int64) * 512 + assigned.goal[slots].astype(np.int64) * 2 + is_work
    place = np.where(assigned.work[slots] != 0, assigned.row[slots], -1)
    order = np.lexsort((slots, kinds, place))
    kinds, place = kinds[order], place[order]
    begins = np.flatnonzero(np.diff(kinds, prepend=-1) | np.diff(place, prepend=-2))
    most = int((place[begins] < 0).sum()) + works_at_once
    ends = np.append(begins[1:], len(order))
    for first, end in zip(begins[:most].tolist(), ends[:most].tolist(), strict=True):
        yield slots[order[first:end]], bool(is_work[order[first]])
    if len(begins) > most:
        yield slots[order[begins[most] :]], None
