"""What commands, limits, faults and heat make of devices: the state each acts in, and the power and hashrate that it goes to.

`commanded` is what a device says its mode is; `acting` what it does, which differs while it is stuck. Arrays by slot; time and
energy are in `site`, the way to a target in `ramps`.
"""

from typing import Final

import numpy as np

from simulators import faults as f
from simulators.fault_state import Faults
from simulators.ramps import PowerArray
from simulators.streams import BoolArray, FloatArray, IntArray
from simulators.tables import CURTAILED, IDLE, ByteArray, Tables

BOOT_S: Final = {"ASIC": 60.0, "GPU": 300.0}  # settings; a miner's port is closed for 30 to 90 s of a reboot
THROTTLED_SHARE: Final = 0.6  # of the power above idle that a throttled GPU keeps (setting)
DEAF: Final = (f.HUNG, f.UNREACHABLE, f.NODE_LOST, f.FALLEN_OFF_BUS)
_RESTING: Final = (CURTAILED, IDLE)
STOPPED: Final = (f.FAN_FAILURE, f.NODE_LOST, f.FALLEN_OFF_BUS)


class Devices:
    """The condition of one site's devices."""

    def __init__(self, tables: Tables, faults: Faults, at_s: float) -> None:
        size = len(tables.first_state)
        self._tables = tables
        self._faults = faults
        self._everyone = np.arange(size, dtype=np.int64)
        self.commanded: ByteArray = tables.first_state.copy()
        self.acting: ByteArray = tables.first_state.copy()
        self.limit_w: PowerArray = np.full(size, np.inf, dtype=np.float32)
        self.has_no_pool: BoolArray = np.zeros(size, dtype=np.bool_)
        self.has_no_work: BoolArray = np.zeros(size, dtype=np.bool_)  # of a GPU: its application has died
        self.is_dark: BoolArray = np.zeros(size, dtype=np.bool_)  # no power at the socket
        self.boots_until_s: FloatArray = np.full(size, at_s)

    def answers(self, index: IntArray, at_s: float) -> BoolArray:
        """Which of some devices can be spoken to."""
        is_up = ~self.is_dark[index] & (self.boots_until_s[index] <= at_s)
        return is_up & ~self._faults.any_of(DEAF, index)

    def command(self, state: int, index: IntArray) -> tuple[IntArray, dict[int, IntArray]]:
        """Put reachable devices into a state; which have changed into it, and which into another one, by that.

        A GPU whose application has died begins anew when it is told to do what it says it does.
        """
        index = index[(self.commanded[index] != state) | self.has_no_work[index]]
        if (deceitful := self._faults.has(f.FALSE_ACK, index)) is not None:
            index = index[~deceitful]
        others = self._astray(state, index)
        strays = np.concatenate(list(others.values())) if others else index[:0]
        changed = np.setdiff1d(index, strays, assume_unique=True) if len(strays) else index
        for into, whom in ((state, changed), *others.items()):
            self.put(into, whom)
        return changed, {into: whom for into, whom in others.items() if len(whom)}

    def put(self, state: int, index: IntArray) -> None:
        """Set what devices say and, unless they are stuck, do."""
        if (without := self._faults.has(f.NO_POOL, index)) is not None:
            is_waking = (self.acting[index] == CURTAILED) & (state != CURTAILED)
            self.has_no_pool[index[is_waking & without]] = True
        self.commanded[index] = state
        self.has_no_work[index] = False
        if (stuck := self._faults.has(f.STUCK, index)) is not None:
            index = index[~stuck]
        self.acting[index] = state

    def lose_work(self, index: IntArray) -> IntArray:
        """Some GPUs' applications die; of those that ran any."""
        is_at_work = self._tables.is_gpu[index] & ~np.isin(self.acting[index], _RESTING) & ~self.has_no_work[index]
        self.has_no_work[index[is_at_work]] = True
        return index[is_at_work]

    def after(self, kind: str, index: IntArray, at_s: float) -> dict[int, IntArray]:
        """What the end of a fault lets devices do; whose state a restart has changed, by their state now."""
        ended = index[~self._faults.any_of((kind,), index)]
        if kind == f.STUCK:
            self.acting[ended] = self.commanded[ended]
        elif kind == f.NO_POOL:
            self.has_no_pool[ended] = False
        elif kind == f.NODE_LOST:
            return self.boot(ended, at_s)
        return {}

    def boot(self, index: IntArray, at_s: float) -> dict[int, IntArray]:
        """Devices that got their power back begin to boot; whose state has changed by that, by their state now.

        A miner goes to the state it was commanded into, which its configuration keeps, but a sleeping WhatsMiner mines; a GPU has
        lost its work and its board's limit and is in its lowest state.
        """
        is_gpu = self._tables.is_gpu[index]
        self.boots_until_s[index] = at_s + np.where(is_gpu, BOOT_S["GPU"], BOOT_S["ASIC"])
        before, starts = self.commanded[index], self._tables.self_start[index]
        woken = np.where((before == CURTAILED) & (starts > 0), starts, before)
        after = np.where(is_gpu, self._tables.first_state[index], woken).astype(np.uint8)
        moved = index[before != after]
        self.commanded[index], self.acting[index] = after, after
        self.has_no_work[index] = False
        self.limit_w[index[is_gpu]] = np.inf
        return {int(state): moved[self.commanded[moved] == state] for state in np.unique(self.commanded[moved])}

    def targets(self, index: IntArray, heat_w: FloatArray | float) -> tuple[PowerArray, PowerArray]:
        """Power and hashrate that devices go to. `heat_w`: what their temperature allows."""
        tables, state = self._tables, self.acting[index]
        asleep_w = tables.asleep_w[index].astype(np.float64)
        nominal_w = tables.power_w[state, index].astype(np.float64)
        power_w = np.minimum(
            nominal_w, np.maximum(np.minimum(self.limit_w[index], heat_w), np.minimum(asleep_w, nominal_w))
        )
        hashrate = self._limited(index, state, power_w, nominal_w)
        kept = self._kept(index)
        base_w = np.minimum(np.where(tables.is_gpu[index], tables.idle_w[index], asleep_w), power_w)
        power_w, hashrate = np.where(kept < 1, base_w + (power_w - base_w) * kept, power_w), hashrate * kept
        stopped = self._faults.any_of(STOPPED, index) | (self.has_no_pool[index] & (state != CURTAILED))
        stopped |= self.has_no_work[index]
        power_w = np.where(stopped, np.minimum(power_w, tables.idle_w[index]), power_w)
        dark = self.is_dark[index]
        hashrate = np.where(stopped | dark, 0.0, hashrate)
        return np.where(dark, 0.0, power_w).astype(np.float32), hashrate.astype(np.float32)

    def _kept(self, index: IntArray) -> FloatArray:
        """Share of a miner's power above sleep and of its hashrate, or of a GPU's power above idle, that is left to it."""
        kept = np.ones(len(index))
        if (broken := self._faults.has(f.BOARD_DROPOUT, index)) is not None:
            kept[broken] *= 1.0 - 1.0 / self._tables.boards[index[broken]]
        if (slow := self._faults.has(f.THROTTLED, index)) is not None:
            kept[slow] *= THROTTLED_SHARE
        return kept

    def _limited(self, index: IntArray, state: ByteArray, power_w: FloatArray, nominal_w: FloatArray) -> FloatArray:
        """Hashrate at a power: on the straight lines between sleep, the lowest and the highest mining state."""
        tables = self._tables
        full = tables.hash_th_per_s[state, index].astype(np.float64)
        limited = np.flatnonzero((power_w < nominal_w) & (full > 0))
        if not len(limited):
            return full
        slots, watts = index[limited], power_w[limited]
        low_w, low_th = tables.low_w[slots].astype(np.float64), tables.low_th[slots].astype(np.float64)
        high_w, high_th = nominal_w[limited], full[limited]
        above = low_th + (high_th - low_th) * (watts - low_w) / np.maximum(high_w - low_w, 1e-6)
        asleep_w = tables.asleep_w[slots].astype(np.float64)
        below = low_th * (watts - asleep_w) / np.maximum(low_w - asleep_w, 1e-6)
        full[limited] = np.where(watts >= low_w, above, np.maximum(below, 0.0))
        return full

    def _astray(self, state: int, index: IntArray) -> dict[int, IntArray]:
        """Devices that wake into another mining state than the one asked for."""
        wrong = self._faults.has(f.WRONG_WAKE, index) if state != CURTAILED else None
        if wrong is None or not wrong.any():
            return {}
        waking = index[wrong & (self.acting[index] == CURTAILED)]
        others = self._tables.other_state[state, waking]
        return {int(other): waking[others == other] for other in np.unique(others) if other != state}
