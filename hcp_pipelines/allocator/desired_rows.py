"""Rows of `desired_state` as arrays over a facility's slots, once a change; and why some of them can't be. Pure.

A row that can't be is told so and left out; the others stand.
"""

from dataclasses import dataclass

import numpy as np

from hcp_pipelines.allocator.desired_table import StoredRows
from hcp_pipelines.allocator.site import Site
from hcp_pipelines.domain.modes import STATE_COUNT, DeviceState
from hcp_pipelines.policy.arrays import Bools, Ints
from hcp_pipelines.policy.desired import DesiredRows, can_work
from hcp_pipelines.policy.waves import Slots
from hcp_pipelines.wire.work import key_of


@dataclass(frozen=True)
class Compiled:
    """Rows that can be, their places among those stored, and of the others the reasons by id; `outdated`: an old generation."""

    rows: DesiredRows
    places: Ints
    refused: dict[int, str]
    outdated: frozenset[int] = frozenset()


def compile_rows(stored: StoredRows, site: Site) -> Compiled:
    """The rows of a facility; those of a generation that is newer than what is known here are nobody's yet."""
    sizes, generations = (np.array(x, dtype=np.int64) for x in (stored.sizes, stored.generations))
    groups = np.array([_group_index(site, name) for name in stored.group_ids], dtype=np.int64)
    row_of = np.repeat(np.arange(len(sizes)), sizes)
    local = np.frombuffer(stored.slots, dtype="<u4").astype(np.int64)
    why: dict[int, str] = {}
    for n in range(len(sizes)):
        if reason := _named_wrong(stored, n, site, int(groups[n])):
            why[n] = reason
    named = np.array([n not in why for n in range(len(sizes))], dtype=bool)
    devices = np.array([len(_members(site, g)) for g in range(len(site.shape.group_ids))], dtype=np.int64)
    outside = _rows_with(row_of, named[row_of] & (local >= devices[groups[row_of]]), len(sizes))
    unsorted = _rows_with(row_of[1:], (np.diff(local) <= 0) & (row_of[1:] == row_of[:-1]), len(sizes))
    for n in np.flatnonzero(named & (outside | unsorted)).tolist():
        of_group = f"{stored.group_ids[n]} has the slots 0 to {devices[groups[n]] - 1}"
        why[n] = f"slots outside the group: {of_group}" if outside[n] else "slots that are not ascending"
    is_good = np.array([n not in why for n in range(len(sizes))], dtype=bool) & (generations <= site.generation)
    slots = _facility_slots(site, groups, row_of, local, is_good)
    why |= _overlapping(stored, row_of, slots, is_good, site.shape.slots)
    is_good &= np.array([n not in why for n in range(len(sizes))], dtype=bool)
    ids, states, works = (
        np.array(column, dtype=np.int64)
        for column in (stored.ids, stored.states, [key_of(work.workload_id) for work in stored.works])
    )
    kept = DesiredRows(ids, groups, states, sizes, slots, works).only(is_good)
    refused = {int(stored.ids[n]): reason for n, reason in why.items()}
    outdated = frozenset(stored.ids[n] for n in why if generations[n] < site.generation and not stored.is_outdated[n])
    return Compiled(kept, np.flatnonzero(is_good), refused, outdated)


def _group_index(site: Site, group_id: str) -> int:
    return site.shape.group_ids.index(group_id) if group_id in site.shape.group_ids else -1


def _members(site: Site, g: int) -> Ints:
    mine = site.shape.members[g]
    return np.arange(mine.start, mine.stop) if isinstance(mine, slice) else mine


def _named_wrong(stored: StoredRows, n: int, site: Site, g: int) -> str:
    """What is wrong with what a row names; nothing where all of it is there."""
    if stored.is_outdated[n]:
        return "its workload has rows under a higher lease epoch"
    if (generation := stored.generations[n]) != site.generation:
        is_newer = generation > site.generation
        return "" if is_newer else f"inventory generation {generation}; {site.facility_id} has {site.generation}"
    return _never_works(site, g, stored.group_ids[n], stored.states[n])


def _never_works(site: Site, g: int, group_id: str, state: int) -> str:
    if g < 0:
        return f"group {group_id!r}; {site.facility_id} has {', '.join(site.shape.group_ids)}"
    if g not in site.scheduled:
        return f"group {group_id} is not scheduled: `groups[].scheduled` in the facility file"
    if state >= STATE_COUNT or not can_work(site.shape.ladders[g], state):
        able = ", ".join(DeviceState(s).label for s in site.shape.ladders[g] if can_work(site.shape.ladders[g], s))
        return f"state {state}; {group_id} works in {able}"
    return ""


def _rows_with(row_of: Ints, mask: Bools, rows: int) -> Bools:
    found = np.zeros(rows, dtype=bool)
    found[row_of[mask]] = True
    return found


def _facility_slots(site: Site, groups: Ints, row_of: Ints, local: Ints, is_good: Bools) -> Slots:
    """[k] the facility's numbers of the rows' slots; of rows that can't be they mean nothing."""
    slots, group_of = np.zeros(len(local), dtype=np.uint32), groups[row_of]
    for g in np.unique(groups[is_good]).tolist():
        own = is_good[row_of] & (group_of == g)
        slots[own] = _members(site, g)[local[own]]
    return slots


def _overlapping(stored: StoredRows, row_of: Ints, slots: Slots, is_good: Bools, count: int) -> dict[int, str]:
    """Rows that want what an older one has; a row that is refused has nothing."""
    own = is_good[row_of]
    if np.bincount(slots[own], minlength=1).max(initial=0) <= 1:
        return {}
    owner, found = np.full(count, -1), dict[int, str]()
    for n in sorted(np.flatnonzero(is_good).tolist(), key=lambda n: stored.ids[n]):
        mine = slots[row_of == n]
        others = owner[mine][owner[mine] >= 0]
        if len(others):
            found[n] = f"{len(others)} of its slots are those of row {others[0]}"
        else:
            owner[mine] = stored.ids[n]
    return found
