"""From targets to one wave: which slots change to which state now, under the ramp headroom. Pure, vectorised.

Reductions are planned before increases. What does not fit is left for the next call. Within a wave the slots are
drawn at random, so that no PDU or feeder takes it alone (no herd).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hcp_pipelines.policy.arrays import Bools, Floats, Ints
from hcp_pipelines.policy.evaluate import counts_of
from hcp_pipelines.policy.ramps import FACILITY, PORTFOLIO, Headroom

States = npt.NDArray[np.uint8]
Slots = npt.NDArray[np.uint32]
_FITS = 1e-9


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

    def counts(self, states: States, eligible: Bools) -> Ints:
        """[g, s] devices that can be commanded, by their state."""
        chosen = eligible & (self.group_of_slot >= 0)
        return counts_of(states[chosen], self.group_of_slot[chosen], len(self.group_ids))


@dataclass(frozen=True)
class Move:
    """Devices of one group that change from one state to another."""

    group_index: int
    from_state: int
    to_state: int
    slots: Slots
    mw_delta: float


@dataclass(frozen=True)
class Plan:
    """One wave, and what had to wait."""

    moves: tuple[Move, ...] = ()
    deferred_devices: int = 0
    deferred_mw_up: float = 0.0
    deferred_mw_down: float = 0.0
    mw_delta_by_feeder: dict[str, float] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether nothing had to wait."""
        return self.deferred_devices == 0


def plan_wave(
    shape: FacilityShape,
    states: States,
    eligible: Bools,
    targets: Ints,
    headroom: Headroom,
    rng: np.random.Generator,
    *,
    is_down_exempt: bool = False,
) -> Plan:
    """The wave that brings `states` towards `targets[g, s]`, as far as the headroom goes.

    `is_down_exempt`: reductions for safety, locks, grid and operator are booked by the caller but never delayed.
    """
    surplus = shape.counts(states, eligible) - targets
    if not surplus.any():
        return Plan()
    wave = _Wave(shape, states, eligible, headroom, rng, is_down_exempt)
    wanted = [w for g in range(len(shape.group_ids)) if surplus[g].any() for w in _pairs(shape, surplus, g)]
    for group, from_state, to_state, devices in sorted(wanted, key=lambda w: _delta(shape, w) > 0):
        wave.move(group, from_state, to_state, devices)
    return wave.plan()


Want = tuple[int, int, int, int]


def _delta(shape: FacilityShape, want: Want) -> float:
    group, from_state, to_state, _ = want
    return float(shape.power_mw[group, to_state] - shape.power_mw[group, from_state])


def _pairs(shape: FacilityShape, surplus: Ints, group: int) -> Iterator[Want]:
    """(group, from, to, devices): surplus matched to deficit along the ladder, so that the fewest MW are moved."""
    extra = surplus[group].copy()
    strays = [int(s) for s in np.flatnonzero(extra > 0) if int(s) not in shape.ladders[group]]
    givers = [s for s in (*strays, *shape.ladders[group]) if extra[s] > 0]
    takers = [s for s in shape.ladders[group] if extra[s] < 0]
    while givers and takers:
        giver, taker = givers[0], takers[0]
        devices = int(min(extra[giver], -extra[taker]))
        yield group, giver, taker, devices
        extra[giver] -= devices
        extra[taker] += devices
        if extra[giver] == 0:
            givers.pop(0)
        if extra[taker] == 0:
            takers.pop(0)


class _Wave:
    """Collects moves while the headroom lasts."""

    def __init__(
        self,
        shape: FacilityShape,
        states: States,
        eligible: Bools,
        headroom: Headroom,
        rng: np.random.Generator,
        is_down_exempt: bool,
    ) -> None:
        self._shape, self._states, self._eligible, self._rng = shape, states, eligible, rng
        self._up, self._down = dict(headroom.up_mw), dict(headroom.down_mw)
        self._is_down_exempt = is_down_exempt
        self._moves: list[Move] = []
        self._by_feeder: dict[str, float] = {}
        self._deferred, self._deferred_up, self._deferred_down = 0, 0.0, 0.0

    def move(self, group: int, from_state: int, to_state: int, devices: int) -> None:
        """Move as many of `devices` as fit."""
        each = float(self._shape.power_mw[group, to_state] - self._shape.power_mw[group, from_state])
        fitting = self._fitting(self._shape.feeder_of_group[group], each, devices)
        if fitting:
            mw = fitting * each
            self._use(self._shape.feeder_of_group[group], mw)
            self._moves.append(Move(group, from_state, to_state, self._draw(group, from_state, fitting), mw))
        waiting = devices - fitting
        self._deferred += waiting
        self._deferred_up += max(waiting * each, 0.0)
        self._deferred_down += max(-waiting * each, 0.0)

    def plan(self) -> Plan:
        """What was collected."""
        return Plan(tuple(self._moves), self._deferred, self._deferred_up, self._deferred_down, self._by_feeder)

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

    def _draw(self, group: int, from_state: int, devices: int) -> Slots:
        mine = (self._shape.group_of_slot == group) & (self._states == from_state) & self._eligible
        candidates = np.flatnonzero(mine).astype(np.uint32)
        if devices >= len(candidates):
            return candidates
        chosen: Slots = np.sort(self._rng.choice(candidates, devices, replace=False, shuffle=False))
        return chosen
