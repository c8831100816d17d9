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
NOBODY = np.iinfo(np.int64).max  # the row of a slot that no row in force wants: the first to go, the last to come


@dataclass(frozen=True)
class Assigned:
    """What slots are to do, in groups where work is scheduled; elsewhere the arrays mean nothing."""

    groups: tuple[int, ...]
    goal: States  # [n]
    row: Ints  # [n] the place in line of the row that wants the slot, the first one 0; NOBODY
    is_granted: Bools  # [n] whether that row may run

    @property
    def rank(self) -> Ints:
        """[n] who keeps what he has the longest: the low numbers. Rows that may not run are nobody's."""
        return np.where(self.is_granted, self.row, NOBODY)


class Want(NamedTuple):
    """Devices of one group that are to change; `slots`, in their order, where it is not left to chance which.

    `is_work`: by the scheduler's word, since a row came, went or changed; else the policy's, which may have turned a row down.
    """

    group_index: int
    from_state: int
    to_state: int
    devices: int
    slots: Slots | None = None
    is_work: bool = False


def is_done(assigned: Assigned, members: Sequence["slice | Ints"], states: States, eligible: Bools) -> bool:
    """Whether every device that can be commanded is as it is to be."""
    return not any(((states[m] != assigned.goal[m]) & eligible[m]).any() for m in (members[g] for g in assigned.groups))


def changes(
    assigned: Assigned, members: Sequence["slice | Ints"], power_mw: Floats, states: States, eligible: Bools
) -> Iterator[Want]:
    """What differs from the goals, of the devices that can be commanded: rows served first rise first and fall last."""
    differs = eligible & (states != assigned.goal)
    for g in assigned.groups:
        mine = members[g]
        found = np.flatnonzero(differs[mine])
        slots = found + mine.start if isinstance(mine, slice) else mine[found]
        is_work = assigned.is_granted[slots] | (assigned.row[slots] == NOBODY)
        kinds = states[slots].astype(np.int64) * 512 + assigned.goal[slots].astype(np.int64) * 2 + is_work
        for kind in np.unique(kinds).tolist():
            own = slots[kinds == kind]
            from_state, to_state = divmod(kind // 2, 256)
            order = np.argsort(assigned.row[own], kind="stable")
            if power_mw[g, to_state] < power_mw[g, from_state]:
                order = order[::-1]
            yield Want(g, from_state, to_state, len(own), own[order].astype(np.uint32), bool(kind % 2))
