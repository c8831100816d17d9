"""Generated power prices, ERCOT-like: 5-minute LMPs by settlement point and hourly day-ahead prices, $/MWh.

Every value is a function of (seed, scenario, instant), made one UTC day at a time. Calibrated on 2024-01…2025-05 hub
prices (docs/world.md has the comparison). Recorded prices and market stamps are elsewhere (`series`, `ercot`).
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from simulators.central import day_start_s, local_seconds
from simulators.scenarios import Scenario
from simulators.script import Script
from simulators.streams import DAY_S, FloatArray, IntArray, smooth_noise, stream

STEP_S = 300
STEPS = DAY_S // STEP_S
OFFER_CAP_USD_PER_MWH = 5000.0
# Median price by local hour, HB_HUBAVG 2024-01…2025-05, without its peaks (they are drawn separately).
_BASE_USD_PER_MWH = np.array([
    20, 19, 18.3, 18.4, 18.8, 20, 20.5, 19.5, 17, 14.7, 15.2, 16.1,
    17.2, 18, 18.3, 19.3, 20.5, 21.5, 22.5, 23.5, 23.5, 23, 22, 21, 20,
], dtype=np.float64)  # fmt: skip
_HUBS = ("HB_HOUSTON", "HB_NORTH", "HB_SOUTH", "HB_WEST")


class _System(NamedTuple):
    """The components all points share, one value per 5-minute step of a UTC day."""

    energy: FloatArray
    wind_push: FloatArray
    spike: FloatArray


class _Profile(NamedTuple):
    """How a settlement point differs from the system."""

    wind_sensitivity: float
    basis_usd_per_mwh: float
    congestion_days: float


def _profile(point: str) -> _Profile:
    if "WEST" in point:
        return _Profile(1.3, -1.5, 0.10)
    if "HOUSTON" in point:
        return _Profile(0.75, 1.0, 0.06)
    if "NORTH" in point or "SOUTH" in point:
        return _Profile(0.85, 0.0, 0.05)
    spread = stream(0, "profile", point).random(2)
    return _Profile(0.7 + 0.7 * float(spread[0]), -2.0 + 4.0 * float(spread[1]), 0.08)


class PowerGenerator:
    """Prices of any settlement point at any instant."""

    def __init__(self, seed: int, scenario: Scenario, origin_s: float | None = None) -> None:
        """`origin_s`: where the scenario's script begins."""
        self._seed = seed
        self._scenario = scenario
        self._script = Script(scenario, origin_s)
        self.lmp_day = lru_cache(maxsize=4096)(self._lmp_day)
        self.da_day = lru_cache(maxsize=2048)(self._da_day)
        self._system = lru_cache(maxsize=1024)(self._make_system)

    def lmp(self, point: str, starts_s: IntArray) -> FloatArray:
        """LMPs of the 5-minute intervals that begin at these instants (multiples of 300 s)."""
        return _gather(starts_s, STEP_S, lambda day: self.lmp_day(point, day))

    def da(self, point: str, starts_s: IntArray) -> FloatArray:
        """Day-ahead prices of the hours that begin at these instants."""
        return _gather(starts_s, 3600, lambda day: self.da_day(point, day))

    def _noise(self, entity: str, day: int, tau_s: float) -> FloatArray:
        return smooth_noise(self._seed, f"power.{entity}", day, STEPS, tau_s / STEP_S)

    def _lmp_day(self, point: str, day: int) -> FloatArray:
        if point == "HB_HUBAVG":
            price = np.mean([self.lmp_day(hub, day) for hub in _HUBS], axis=0)
        else:
            profile = _profile(point)
            system = self._system(day)
            basis = profile.basis_usd_per_mwh + 1.1 * self._noise(f"basis.{point}", day, 7200.0)
            relative = np.exp(0.05 * self._noise(f"ratio.{point}", day, 14_400.0))
            price = (system.energy + system.spike) * relative + basis - profile.wind_sensitivity * system.wind_push
            price = price + self._congestion(point, profile, day)
        price = np.asarray(np.round(np.clip(price, -250.0, 1.08 * OFFER_CAP_USD_PER_MWH), 2), dtype=np.float64)
        price.setflags(write=False)
        return price

    def _congestion(self, point: str, profile: _Profile, day: int) -> FloatArray:
        """A line binds near this point for an hour or two on some days."""
        draw = stream(self._seed, "power.congestion", point, day)
        add = np.zeros(STEPS)
        if draw.random() < profile.congestion_days:
            first, length = int(draw.integers(0, STEPS - 30)), int(draw.integers(6, 30))
            add[first : first + length] = draw.normal(10.0, 35.0)
        return add

    def _make_system(self, day: int) -> _System:
        starts_s = np.arange(STEPS, dtype=np.int64) * STEP_S + day * DAY_S
        hours = (local_seconds(starts_s) % DAY_S) / 3600.0
        level = self._noise("level", day, 28_800.0)
        fast = self._noise("fast", day, 1500.0)
        season = 1.0 + 0.12 * np.cos(2 * np.pi * (day % 365.25 - 205) / 365.25)
        base = np.interp(hours, np.arange(25), _BASE_USD_PER_MWH) * season
        energy = base * np.exp(0.26 * level + 0.10 * fast - 0.04)
        energy = energy + self._peaks(day, starts_s) * np.exp(0.24 * level + 0.36 * fast - 0.09)
        factor, add = self._script.price(starts_s.astype(np.float64))
        energy = energy * factor + add
        night = 0.5 * (1.0 + np.cos(2 * np.pi * (hours - 3.0) / 24.0))
        wind = self._noise("wind", day, 64_800.0) + 0.7 * night + self._scenario.night_wind * night**2
        return _System(energy, 13.0 * np.maximum(0.0, wind - 1.15), self._spikes(day, starts_s))

    def _peaks(self, day: int, starts_s: IntArray) -> FloatArray:
        """Morning and evening peaks of the local days that touch this UTC day."""
        total = np.zeros(STEPS)
        for local in _local_days(day):
            draw = stream(self._seed, "power.peaks", local.toordinal())
            since_h = (starts_s - day_start_s(local)) / 3600.0
            for hour, median, sigma, width_h in ((6.8, 17.0, 0.55, 0.65), (19.2, 52.0, 0.52, 1.0)):
                centre = hour + 0.35 * draw.standard_normal()
                height = median * np.exp(sigma * draw.standard_normal())
                total += height * np.exp(-0.5 * np.square((since_h - centre) / width_h))
        return total

    def _spikes(self, day: int, starts_s: IntArray) -> FloatArray:
        """Short spikes and rare scarcity, as in the tail of the recorded prices."""
        total = np.zeros(STEPS)
        for local in _local_days(day):
            draw = stream(self._seed, "power.spikes", local.toordinal())
            since_h = (starts_s - day_start_s(local)) / 3600.0
            for _ in range(int(draw.poisson(0.42))):
                start = draw.choice([7.0, 14.0, 17.0, 18.5, 19.5, 20.5]) + 1.5 * draw.random()
                height = min(4800.0, 90.0 * draw.random() ** -0.68)
                length_h = 0.084 * (1 + draw.geometric(0.45))
                total += height * _pulse(since_h, start, length_h)
            if draw.random() < 0.010:
                start, length_h = 17.5 + 2.0 * draw.random(), 0.5 + 1.5 * draw.random()
                total += draw.uniform(900.0, 4700.0) * _pulse(since_h, start, length_h)
        return total

    def _da_day(self, point: str, day: int) -> FloatArray:
        system = self._system(day)
        smooth = self.lmp_day(point, day) - 0.85 * system.spike
        hourly = smooth.reshape(24, -1).mean(axis=1)
        error = smooth_noise(self._seed, "power.da", day, 24, 5.0)
        price = np.asarray(np.round(1.04 * hourly * np.exp(0.22 * error) + 0.9, 2), dtype=np.float64)
        price.setflags(write=False)
        return price


def _local_days(day: int) -> tuple[date, date]:
    today = datetime.fromtimestamp(day * DAY_S, UTC).date()
    return today - timedelta(days=1), today


def _pulse(since_h: FloatArray, start_h: float, length_h: float) -> FloatArray:
    """1 inside the pulse, falling to 0.6 towards its end, 0 outside."""
    progress = (since_h - start_h) / length_h
    return np.where((progress >= 0) & (progress < 1), 1.0 - 0.4 * progress, 0.0)


def _gather(starts_s: IntArray, step_s: int, of_day: Callable[[int], FloatArray]) -> FloatArray:
    """Values of a series held as one array a day, at the given starts."""
    days = starts_s // DAY_S
    values = np.empty(len(starts_s))
    for day in np.unique(days):
        mask = days == day
        values[mask] = of_day(int(day))[(starts_s[mask] - day * DAY_S) // step_s]
    return values
