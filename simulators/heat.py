"""The air that enters devices, and how much power it lets them draw: hot halls and cooling loops that stand still.

Looked at every five simulated minutes, every ten seconds while a loop stands still; so a trajectory does not depend on who asks.
Where chips would come above their slowdown temperature the firmware takes power back until they just don't.
"""

from math import floor
from typing import Final

import numpy as np

from simulators import faults as f
from simulators.fault_state import Faults
from simulators.streams import FloatArray, IntArray
from simulators.tables import Tables

LOOK_S: Final = 300.0
WATCH_S: Final = 10.0
_STEP_C: Final = 0.25  # a change that is worth sending devices elsewhere for
GPU_HALL_C: Final = 18.0  # GPU halls are never colder (setting)
# A hall was seen to warm by 2 °C a minute without cooling (itprotoday.com, 2008); doors, ducts and walls end that (setting).
LOOP_RISE_C: Final = 30.0
LOOP_TAU_S: Final = 900.0


class Heat:
    """Inlet temperatures of one site's devices."""

    def __init__(self, tables: Tables, faults: Faults, ambient_c: float, at_s: float) -> None:
        self._tables = tables
        self._faults = faults
        self._ambient_c = ambient_c
        self._acted_on_c = ambient_c
        self._rises = False
        self._everyone = np.arange(len(tables.hot_c), dtype=np.int64)
        spare_c = tables.hot_c - tables.rise_per_w * tables.power_w.max(axis=0)
        self._harmless_c = float(spare_c[tables.known_slots > 0].min())
        self.next_s = _next(at_s, LOOK_S)

    def watch(self, at_s: float) -> None:
        """A loop has stopped or starts again: look closely from now on."""
        self.next_s = _next(at_s, WATCH_S)

    def step(self, ambient_c: float, at_s: float) -> IntArray:
        """Note the temperature; whom it may send to another power."""
        self._ambient_c = ambient_c
        rising = self._loop_rise_c(self._everyone)
        had_rises, self._rises = self._rises, rising is not None and bool((rising > 0.1).any())
        self.next_s = _next(at_s, WATCH_S if self._rises else LOOK_S)
        is_hot = max(ambient_c, self._acted_on_c) > self._harmless_c
        if is_hot and abs(ambient_c - self._acted_on_c) >= _STEP_C:
            self._acted_on_c = ambient_c
            return self._everyone
        if not is_hot:
            self._acted_on_c = ambient_c
        return self._everyone[rising > 0] if rising is not None and (self._rises or had_rises) else self._everyone[:0]

    def inlet_c(self, index: IntArray, ambient_c: float | None = None) -> FloatArray:
        """Temperature of the air that enters some devices, °C; the ambient air's is that of the last look unless given."""
        air_c = self._ambient_c if ambient_c is None else ambient_c
        inlet_c = np.where(self._tables.is_gpu[index], max(air_c, GPU_HALL_C), air_c)
        rise_c = self._loop_rise_c(index)
        return inlet_c if rise_c is None else inlet_c + rise_c

    def allowed_w(self, index: IntArray) -> FloatArray | float:
        """The most power that keeps some devices' chips below their slowdown temperature, watts."""
        if self._acted_on_c <= self._harmless_c and not self._rises:
            return np.inf
        rise_c = self._loop_rise_c(index)
        inlet_c = np.where(self._tables.is_gpu[index], max(self._acted_on_c, GPU_HALL_C), self._acted_on_c)
        inlet_c = inlet_c if rise_c is None else inlet_c + rise_c
        spare_c = np.maximum(self._tables.hot_c[index] - inlet_c, 0.0)
        return spare_c / np.maximum(self._tables.rise_per_w[index], 1e-9)

    def _loop_rise_c(self, index: IntArray) -> FloatArray | None:
        """What the standstill of a loop adds: it warms while it lasts, and cools after it."""
        ages = self._faults.ages_s(f.COOLING_LOST, index)
        if ages is None:
            return None
        age_s, lasted_s = ages
        warmed = LOOP_RISE_C * -np.expm1(-np.maximum(lasted_s, 0.0) / LOOP_TAU_S)
        return warmed * np.exp(-np.maximum(age_s - lasted_s, 0.0) / LOOP_TAU_S)


def _next(at_s: float, step_s: float) -> float:
    """The next instant on a grid of simulated time."""
    return (floor(at_s / step_s) + 1) * step_s
