"""From targets to one wave: which slots change to which state now, under the ramp headroom. Pure, vectorised.

Reductions are planned before increases. What does not fit, or changed too lately, is left for the next call. Within a
wave the slots are drawn at random, so that no PDU or feeder takes it alone (no herd).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hcp_pipelines.domain.modes import STATE_COUNT
from hcp_pipelines.policy.arrays import Bools, Floats, Ints
from hcp_pipelines.policy.assigned import MORE, Assigned, Told, Want, changes
from hcp_pipelines.policy.assigned import Slots as Slots
from hcp_pipelines.policy.assigned import States as States
from hcp_pipelines.policy.dwell import DwellLocks
from hcp_pipelines.policy.ramps import FACILITY, PORTFOLIO, Headroom

_FITS = 1e-9
WORKS_AT_ONCE = (
    256  # of a wave: each is an assignment and a row of the journal, and a gateway takes some thousands under way
)
NO_SLOTS: Slots = np.zeros(0, dtype=np.uint32)
_NOT_FREE = 255  # a state code that no device has: not eligible, or taken by this wave already


@dataclass(frozen=True)
class FacilityShape:
    """The slots of a facility's inventory generation, and what each state draws."""

    facility_id: str
    generation: int
    group_ids: tuple[str, ...]
    feeder_of_group: tuple[str, ...]
    ladders: tuple[tuple[int, ...], ...]  # state codes in rising power
    group_of_slot: Ints  # [n]; -1 where a slot is empty
    power_mw: Floats  # [g, s] all-in MW of one device

    @property
    def slots(self) -> int:
        """Number of slots."""
        return len(self.group_of_slot)

    @cached_property
    def members(self) -> tuple["slice | Ints", ...]:
        """Per group, its slots: a slice where they are one run, which numpy reads without copying."""
        return tuple(_as_slice(np.flatnonzero(self.group_of_slot == g)) for g in range(len(self.group_ids)))

    def counts(self, states: States, eligible: Bools) -> Ints:
        """[g, s] devices that can be commanded, by their state."""
        return _counts(self, _free(states, eligible))


def _as_slice(slots: Ints) -> "slice | Ints":
    if len(slots) and slots[-1] - slots[0] + 1 == len(slots):
        return slice(int(slots[0]), int(slots[-1]) + 1)
    return slots


def _free(states: States, eligible: Bools) -> States:
    return states.copy() if eligible.all() else np.where(eligible, states, np.uint8(_NOT_FREE))


def _counts(shape: FacilityShape, free: States) -> Ints:
    counts = np.zeros((len(shape.group_ids), STATE_COUNT), dtype=np.int64)
    for g, mine in enumerate(shape.members):
        own, ladder = free[mine], shape.ladders[g]
        on_it = [np.count_nonzero(own == state) for state in ladder]
        if sum(on_it) == len(own):  # as a rule: then no wide copy of the states is needed
            counts[g, ladder] = on_it
        else:
            counts[g] = np.bincount(own, minlength=256)[:STATE_COUNT]
    return counts


@dataclass(frozen=True)
class Move:
    """Devices of one group that change from one state to another."""

    group_index: int
    from_state: int
    to_state: int
    slots: Slots
    mw_delta: float
    is_work: bool = False  # the scheduler's word, not the policy's
    work: int = 0  # the key of what they are to run; 0: nobody's in particular


@dataclass(frozen=True)
class Plan:
    """One wave, and what had to wait."""

    moves: tuple[Move, ...] = ()
    deferred_devices: int = 0
    deferred_mw_up: float = 0.0
    deferred_mw_down: float = 0.0
    locked_devices: int = 0  # of those deferred, the ones that the ramps would have let go
    mw_delta_by_feeder: dict[str, float] = field(default_factory=dict)
    has_left: bool = False  # some work, which nothing but the size of the wave held back

    @property
    def is_complete(self) -> bool:
        """Whether nothing had to wait."""
        return self.deferred_devices == 0


@dataclass(frozen=True)
class Pool:
    """The slots of a facility that can be commanded now (`eligible`), and the state that each was told last.

    In groups where work is scheduled `assigned` says which slots do what, and `works` whose work each was told last; of so
    many workloads at most the work is begun in a wave.
    """

    shape: FacilityShape
    states: States
    eligible: Bools
    assigned: Assigned | None = None
    works: Ints | None = None
    works_at_once: int = WORKS_AT_ONCE

    @property
    def told(self) -> Told:
        """What each was told last; whose work: nobody's, where nobody said."""
        works = np.zeros(self.shape.slots, dtype=np.int64) if self.works is None else self.works
        return Told(self.states, works, self.eligible)

    @cached_property
    def counts(self) -> Ints:
        """[g, s] those that can be commanded, by their state; counted once."""
        return self.shape.counts(self.states, self.eligible)

    def with_assigned(self, assigned: Assigned) -> "Pool":
        """The same devices, counted as before."""
        pool = Pool(self.shape, self.states, self.eligible, assigned, self.works, self.works_at_once)
        pool.__dict__["counts"] = self.counts
        return pool


def plan_wave(
    pool: Pool,
    targets: Ints,
    headroom: Headroom,
    rng: np.random.Generator,
    *,
    is_down_exempt: bool = False,
    locked: DwellLocks | None = None,
) -> Plan:
    """The wave that brings a pool towards `targets[g, s]`, as far as headroom and locks go.

    `is_down_exempt`: reductions for safety, locks, grid and operator are booked by the caller but never delayed, neither
    by headroom nor by a minimum up time. A slot that is `locked` counts in its state but is not drawn in that direction.
    """
    surplus, shape = pool.counts - targets, pool.shape
    told = [] if pool.assigned is None else _told(pool, pool.assigned, surplus)
    if not surplus.any() and not told:
        return Plan()
    free, works = _free(pool.states, pool.eligible), pool.works_at_once
    wave = _Wave(shape, free, headroom, rng, is_down_exempt, locked, works)
    wanted = [w for g in range(len(shape.group_ids)) if surplus[g].any() for w in _pairs(shape, surplus, g)]
    for want in sorted([*wanted, *told], key=lambda w: _delta(shape, w) > 0):
        wave.move(want)
    return wave.plan()


def _told(pool: Pool, assigned: Assigned, surplus: Ints) -> list[Want]:
    """What is wanted of groups where work is scheduled: numbers mean nothing there, and are struck off `surplus`."""
    surplus[list(assigned.groups)] = 0
    return list(changes(assigned, pool.shape.members, pool.shape.power_mw, pool.told, pool.works_at_once))


def _delta(shape: FacilityShape, want: Want) -> float:
    return float(shape.power_mw[want.group_index, want.to_state] - shape.power_mw[want.group_index, want.from_state])


def _pairs(shape: FacilityShape, surplus: Ints, group: int) -> Iterator[Want]:
    """(group, from, to, devices): surplus matched to deficit along the ladder, so that the fewest MW are moved."""
    extra = surplus[group].copy()
    strays = [int(s) for s in np.flatnonzero(extra > 0) if int(s) not in shape.ladders[group]]
    givers = [s for s in (*strays, *shape.ladders[group]) if extra[s] > 0]
    takers = [s for s in shape.ladders[group] if extra[s] < 0]
    while givers and takers:
        giver, taker = givers[0], takers[0]
        devices = int(min(extra[giver], -extra[taker]))
        yield Want(group, giver, taker, devices)
        extra[giver] -= devices
        extra[taker] += devices
        if extra[giver] == 0:
            givers.pop(0)
        if extra[taker] == 0:
            takers.pop(0)


class _Wave:
    """Collects moves while the headroom lasts; `free` is consumed."""

    def __init__(
        self,
        shape: FacilityShape,
        free: States,
        headroom: Headroom,
        rng: np.random.Generator,
        is_down_exempt: bool,
        locked: DwellLocks | None,
        works_at_once: int,
    ) -> None:
        self._shape, self._free, self._rng, self._locked = shape, free, rng, locked
        self._up, self._down = dict(headroom.up_mw), dict(headroom.down_mw)
        self._is_down_exempt = is_down_exempt
        self._moves: list[Move] = []
        self._by_feeder: dict[str, float] = {}
        self._deferred, self._deferred_up, self._deferred_down = 0, 0.0, 0.0
        self._locked_devices = 0
        self._works_left, self._has_left = works_at_once, False

    def move(self, want: Want) -> None:
        """Move as many devices as fit and are not locked; work that is one too many for this wave is left for the next."""
        each, group, slots = _delta(self._shape, want), want.group_index, NO_SLOTS
        feeder_id = self._shape.feeder_of_group[group]
        if not want.work or (want.work != MORE and self._works_left > 0):
            fitting = self._fitting(feeder_id, each, want.devices)
            slots = self._slots(want, each, fitting)
            self._locked_devices += fitting - len(slots)
        else:
            self._has_left = True
        if len(slots):
            mw = len(slots) * each
            self._use(feeder_id, mw)
            self._moves.append(Move(group, want.from_state, want.to_state, slots, mw, want.is_work, want.work))
            self._works_left -= bool(want.work)
        waiting = want.devices - len(slots)
        self._deferred += waiting
        self._deferred_up += max(waiting * each, 0.0)
        self._deferred_down += max(-waiting * each, 0.0)

    def plan(self) -> Plan:
        """What was collected."""
        waits = self._deferred, self._deferred_up, self._deferred_down, self._locked_devices
        return Plan(tuple(self._moves), *waits, self._by_feeder, self._has_left)

    def _slots(self, want: Want, each_mw: float, devices: int) -> Slots:
        if want.slots is None:
            return self._draw(want.group_index, want.from_state, each_mw, devices)
        return self._first(want.slots, each_mw, devices)

    def _fitting(self, feeder_id: str, each_mw: float, devices: int) -> int:
        if each_mw == 0 or (each_mw < 0 and self._is_down_exempt):
            return devices
        budget = Headroom(self._up, self._down).of(feeder_id, up=each_mw > 0)
        if math.isinf(budget):
            return devices
        return max(min(devices, math.floor(budget / abs(each_mw) + _FITS)), 0)

    def _use(self, feeder_id: str, mw: float) -> None:
        self._by_feeder[feeder_id] = self._by_feeder.get(feeder_id, 0.0) + mw
        budget = self._up if mw > 0 else self._down
        for scope in (feeder_id, FACILITY, PORTFOLIO):
            if scope in budget:
                budget[scope] = max(budget[scope] - abs(mw), 0.0)

    def _draw(self, group: int, from_state: int, each_mw: float, devices: int) -> Slots:
        """So many slots at random, rising; fewer where locks leave fewer."""
        if devices == 0:
            return NO_SLOTS
        mine = self._shape.members[group]
        is_candidate = self._free[mine] == from_state
        lock = self._lock(each_mw)
        if lock is not None:
            is_candidate &= ~lock[mine]
        found = np.flatnonzero(is_candidate)
        if devices < len(found):
            found = found[_some_of(len(found), devices, self._rng)]
        slots = (found + mine.start if isinstance(mine, slice) else mine[found]).astype(np.uint32)
        self._free[slots] = _NOT_FREE
        return slots

    def _first(self, slots: Slots, each_mw: float, devices: int) -> Slots:
        """So many of some slots, in their order, but rising in the wave; fewer where locks leave fewer."""
        lock = self._lock(each_mw)
        taken = np.sort((slots if lock is None else slots[~lock[slots]])[:devices])
        self._free[taken] = _NOT_FREE
        return taken

    def _lock(self, each_mw: float) -> Bools | None:
        if self._locked is None or each_mw == 0 or (each_mw < 0 and self._is_down_exempt):
            return None
        return self._locked.may_not_rise if each_mw > 0 else self._locked.may_not_fall


def _some_of(total: int, wanted: int, rng: np.random.Generator) -> Bools:
    """[total] a random subset of so many: those with the lowest of random numbers."""
    chosen = np.zeros(total, dtype=bool)
    chosen[np.argpartition(rng.random(total, dtype=np.float32), wanted)[:wanted]] = True
    return chosen
