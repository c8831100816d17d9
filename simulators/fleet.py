"""The physics of simulated devices: commanded states, power that ramps in simulated time, revenue meters.

Vectorised and lazy: a device costs nothing while it is settled; energy is integrated exactly, not sampled. Nothing here
knows of sockets or files.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from simulators.roaring import from_slots, slots
from simulators.settings import GroupConfig, SiteConfig
from simulators.streams import FloatArray, IntArray, stream

CURTAILED = 0
STATE_CODES = 7
ASLEEP_W = {"ASIC": 25.0, "GPU": 15.0}
_SPREAD_SD = 0.015

ByteArray = npt.NDArray[np.uint8]
PowerArray = npt.NDArray[np.float32]


class SetResult(NamedTuple):
    """What a SET did."""

    accepted: BitMap
    refused: BitMap
    changed: BitMap


class SiteState(NamedTuple):
    """Everything of a site that outlives the process."""

    digest: str
    at_s: float
    energy_wh: float
    commanded: ByteArray
    power_from_w: PowerArray
    power_to_w: PowerArray
    ramp_from_s: FloatArray
    ramp_s: PowerArray


class Site:
    """One facility's devices and its revenue meter."""

    def __init__(self, config: SiteConfig, seed: int, at_s: float) -> None:
        self.config = config
        self.devices = config.slots
        self.digest = _digest(config, seed)
        self._tables = _Tables(config, seed)
        self.at_s = at_s
        self.energy_wh = 0.0
        self.commanded = self._tables.first_state.copy()
        self._to_w = self._tables.power_w[self.commanded, np.arange(self.devices)]
        self._from_w = self._to_w.copy()
        self._ramp_from_s = np.full(self.devices, at_s)
        self._ramp_s = np.zeros(self.devices, dtype=np.float32)
        self._moving: IntArray = np.zeros(0, dtype=np.int64)
        self._settled_w = float(self._to_w.sum(dtype=np.float64))

    @property
    def reachable(self) -> ByteArray:
        """1 where a device answers; 0 for slots that no group owns."""
        return self._tables.known_slots

    def set_state(self, state: int, wanted: BitMap, at_s: float) -> SetResult:
        """Command devices into a state; those already there, or on their way, accept and do nothing."""
        self.advance(at_s)
        able = self._tables.able[state] if state < STATE_CODES else BitMap()
        accepted = wanted & able
        index = slots(accepted)
        changed = index[self.commanded[index] != state]
        if len(changed):
            self._start_ramps(changed, state)
        return SetResult(accepted, wanted - able, from_slots(changed))

    def advance(self, at_s: float) -> None:
        """Integrate the meter to an instant; going back does nothing."""
        if at_s <= self.at_s:
            return
        seconds = at_s - self.at_s
        joules = self._settled_w * seconds
        if len(self._moving):
            joules += self._moving_joules(self.at_s, at_s)
        self.energy_wh += joules * self.config.pue / 3600.0
        self.at_s = at_s
        self._settle()

    def power_w(self, at_s: float) -> PowerArray:
        """IT power of every slot, watts."""
        self.advance(at_s)
        power = self._to_w.copy()
        if len(self._moving):
            power[self._moving] = self._moving_power(self.at_s)
        return power

    def site_power_w(self, at_s: float) -> float:
        """All-in power at the revenue meter, watts."""
        self.advance(at_s)
        moving = float(self._moving_power(self.at_s).sum(dtype=np.float64)) if len(self._moving) else 0.0
        return (self._settled_w + moving) * self.config.pue

    def save(self) -> SiteState:
        """A copy of the state, for the state file."""
        return SiteState(
            self.digest,
            self.at_s,
            self.energy_wh,
            self.commanded.copy(),
            self._from_w.copy(),
            self._to_w.copy(),
            self._ramp_from_s.copy(),
            self._ramp_s.copy(),
        )

    def restore(self, state: SiteState) -> None:
        """Take a saved state over."""
        self.at_s, self.energy_wh = state.at_s, state.energy_wh
        self.commanded, self._from_w, self._to_w = state.commanded, state.power_from_w, state.power_to_w
        self._ramp_from_s, self._ramp_s = state.ramp_from_s, state.ramp_s
        self._moving = np.arange(self.devices, dtype=np.int64)
        self._settled_w = 0.0
        self._settle()

    def _start_ramps(self, changed: IntArray, state: int) -> None:
        now_w = self._to_w[changed]
        is_moving = np.isin(changed, self._moving, assume_unique=True)
        if is_moving.any():
            index = changed[is_moving]
            now_w[is_moving] = self._power_at(index, self.at_s)
        target_w = self._tables.power_w[state, changed]
        self.commanded[changed] = state
        self._from_w[changed], self._to_w[changed] = now_w, target_w
        self._ramp_from_s[changed] = self.at_s
        up, down = self._tables.ramp_up_s[state, changed], self._tables.ramp_down_s[state, changed]
        self._ramp_s[changed] = np.where(target_w > now_w, up, down)
        self._moving = np.union1d(self._moving, changed)
        self._recount()
        self._settle()

    def _power_at(self, index: IntArray, at_s: float) -> PowerArray:
        ramp_s = np.maximum(self._ramp_s[index], 1e-3)
        share = np.clip((at_s - self._ramp_from_s[index]) / ramp_s, 0.0, 1.0).astype(np.float32)
        return self._from_w[index] + (self._to_w[index] - self._from_w[index]) * share

    def _moving_power(self, at_s: float) -> PowerArray:
        return self._power_at(self._moving, at_s)

    def _moving_joules(self, first_s: float, last_s: float) -> float:
        """Energy of the moving devices between two instants: exact for linear ramps."""
        index = self._moving
        ramp_s = np.maximum(self._ramp_s[index].astype(np.float64), 1e-3)
        from_w, to_w = self._from_w[index].astype(np.float64), self._to_w[index].astype(np.float64)
        begin = (first_s - self._ramp_from_s[index]) / ramp_s
        end = (last_s - self._ramp_from_s[index]) / ramp_s
        risen = ramp_s * (_ramp_integral(end) - _ramp_integral(begin))
        return float((from_w * (last_s - first_s) + (to_w - from_w) * risen).sum())

    def _settle(self) -> None:
        """Drop devices whose ramp has ended from the moving ones."""
        if not len(self._moving):
            return
        ended = self._ramp_from_s[self._moving] + self._ramp_s[self._moving] <= self.at_s
        if ended.any():
            self._moving = self._moving[~ended]
            self._recount()

    def _recount(self) -> None:
        total = float(self._to_w.sum(dtype=np.float64))
        self._settled_w = total - float(self._to_w[self._moving].sum(dtype=np.float64))


class _Tables:
    """What each slot can do, as arrays by state and slot."""

    def __init__(self, config: SiteConfig, seed: int) -> None:
        size = config.slots
        self.power_w = np.zeros((STATE_CODES, size), dtype=np.float32)
        self.ramp_up_s = np.zeros((STATE_CODES, size), dtype=np.float32)
        self.ramp_down_s = np.zeros((STATE_CODES, size), dtype=np.float32)
        self.known_slots = np.zeros(size, dtype=np.uint8)
        self.first_state = np.zeros(size, dtype=np.uint8)
        self.able = [BitMap() for _ in range(STATE_CODES)]
        for group in config.groups:
            self._fill(config, group, seed)

    def _fill(self, config: SiteConfig, group: GroupConfig, seed: int) -> None:
        span = slice(group.first_slot, group.end_slot)
        draw = stream(seed, "fleet.efficiency", config.site, group.group).normal(1.0, _SPREAD_SD, group.devices)
        spread = np.clip(draw, 0.94, 1.06)
        self.known_slots[span] = 1
        listed = {state.state for state in group.states}
        self._allow(group, CURTAILED)
        self.power_w[CURTAILED, span] = ASLEEP_W[group.kind]
        self.ramp_down_s[CURTAILED, span] = 5.0
        for state in group.states:
            self._allow(group, state.state)
            factor = spread if state.state != CURTAILED else 1.0
            self.power_w[state.state, span] = state.power_w * factor
            self.ramp_up_s[state.state, span] = state.ramp_up_s
            self.ramp_down_s[state.state, span] = state.ramp_down_s
        is_asic = group.kind == "ASIC"
        self.first_state[span] = CURTAILED if is_asic else min(listed)

    def _allow(self, group: GroupConfig, state: int) -> None:
        self.able[state].add_range(group.first_slot, group.end_slot)


class Fleet:
    """All sites of the world."""

    def __init__(self, configs: Sequence[SiteConfig], seed: int, at_s: float) -> None:
        self.sites = {config.site: Site(config, seed, at_s) for config in configs}

    @property
    def devices(self) -> int:
        """Number of devices over all sites, gaps not counted."""
        return sum(int(site.reachable.sum()) for site in self.sites.values())


def _ramp_integral(progress: FloatArray) -> FloatArray:
    """Integral of clip(x, 0, 1) from 0 to `progress`."""
    inside = np.clip(progress, 0.0, 1.0)
    return 0.5 * inside * inside + np.maximum(progress - 1.0, 0.0)


def _digest(config: SiteConfig, seed: int) -> str:
    """Identifies the device layout: a saved state is only taken over by the same one."""
    text = f"{seed}/{config.site}/" + "/".join(
        f"{group.group}:{group.kind}:{group.first_slot}:{group.devices}" for group in config.groups
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]
