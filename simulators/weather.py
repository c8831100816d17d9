"""Outdoor temperature by place: the season, the hour, fronts that last some days, and what a scenario adds. °C.

Hour by hour and linear between. Generated as a function of (seed, scenario, place, instant) alone, unless the hour is recorded.
What a hall or a chip makes of it is in `heat` and `thermal`.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from simulators.central import local_seconds
from simulators.replay import Series
from simulators.script import Script
from simulators.streams import DAY_S, FloatArray, IntArray, smooth_noise

HOUR_S = 3600
_HOURS = DAY_S // HOUR_S
_YEAR_DAYS = 365.25
_COLDEST_DAY = 16.0  # of the year
_HOTTEST_HOUR, _COLDEST_HOUR = 15.5, 7.0  # local
_FRONT_TAU_H = 62.0  # daily means correlate 0.73 from one day to the next


class Climate(NamedTuple):
    """Yearly mean, half the seasonal swing, half the daily swing, and how far fronts push in winter and in summer (°C)."""

    mean_c: float
    season_c: float
    daily_c: float
    winter_sd_c: float
    summer_sd_c: float


# Houston and the ERCOT mean: fitted to the hourly record of 2022–2025 and 2024–2025 (docs/world.md has the comparison).
# The others: their 1991–2020 normals are drier and swing more, the further from the coast.
_CLIMATES = {
    "HOUSTON": Climate(21.3, 8.8, 3.4, 5.6, 1.9),
    "NORTH": Climate(19.4, 10.8, 4.9, 5.6, 2.0),
    "WEST": Climate(18.6, 10.9, 6.8, 5.4, 2.2),
    "SOUTH": Climate(22.9, 8.2, 4.6, 5.0, 1.8),
}
_ELSEWHERE = Climate(20.9, 10.3, 4.4, 5.0, 1.6)


def climate_of(point: str) -> Climate:
    """The climate at a settlement point, by the region its name holds; the ERCOT mean where it holds none."""
    return next((climate for region, climate in _CLIMATES.items() if region in point), _ELSEWHERE)


class Weather:
    """Outdoor temperature near any settlement point, at any instant."""

    def __init__(self, seed: int, script: Script | None = None, recorded: Sequence[Series] = ()) -> None:
        """`recorded`: hourly series, of places that they don't name; each point takes the one nearest its own climate."""
        self._seed = seed
        self._script = script
        self._recorded = tuple(recorded)
        self.hourly = lru_cache(maxsize=512)(self._hourly)
        self.recorded_for = lru_cache(maxsize=256)(self._nearest)

    def temperature_c(self, point: str, at_s: float) -> float:
        """Outdoor temperature at an instant, °C."""
        hour, offset_s = divmod(at_s, HOUR_S)
        share = offset_s / HOUR_S
        first, last = self.at_hour(point, int(hour)), self.at_hour(point, int(hour) + 1)
        return first + (last - first) * share

    def at_hour(self, point: str, hour: int) -> float:
        """Temperature at the start of a UTC hour (Unix seconds // 3600), °C."""
        if (recorded := self._recorded_at(point, hour)) is not None:
            return recorded
        day, offset = divmod(hour, _HOURS)
        return float(self.hourly(point, day)[offset])

    def is_recorded(self, point: str, at_s: float) -> bool:
        """Whether the temperature at an instant is a recorded one, as it was whatever the scenario."""
        return self._recorded_at(point, int(at_s // HOUR_S)) is not None

    def _recorded_at(self, point: str, hour: int) -> float | None:
        series = self.recorded_for(point)
        if series is None:
            return None
        index = int(np.searchsorted(series.starts_s, hour * HOUR_S))
        is_there = index < len(series.starts_s) and int(series.starts_s[index]) == hour * HOUR_S
        return float(series.values[index]) if is_there else None

    def _nearest(self, point: str) -> Series | None:
        """The recorded series that is nearest to a point's climate on average."""
        climate = climate_of(point)
        return min(
            self._recorded, key=lambda one: abs(np.mean(one.values - _normal_c(climate, one.starts_s))), default=None
        )

    def _hourly(self, point: str, day: int) -> FloatArray:
        """24 values, one at the start of each hour of a UTC day."""
        climate = climate_of(point)
        starts_s = np.arange(_HOURS, dtype=np.int64) * HOUR_S + day * DAY_S
        season = _season(starts_s)
        spread = climate.summer_sd_c + (climate.winter_sd_c - climate.summer_sd_c) * 0.5 * (1.0 + season)
        region = smooth_noise(self._seed, "weather.front", day, _HOURS, _FRONT_TAU_H)
        local = smooth_noise(self._seed, f"weather.{point}", day, _HOURS, _FRONT_TAU_H / 4)
        front = 0.95 * region + 0.31 * local
        values = _normal_c(climate, starts_s) + spread * front
        return values if self._script is None else values + self._script.temperature_c(starts_s.astype(np.float64))


def _season(starts_s: IntArray) -> FloatArray:
    """1 on the coldest day of the year, −1 half a year later."""
    return np.asarray(np.cos(2 * np.pi * ((starts_s / DAY_S) % _YEAR_DAYS - _COLDEST_DAY) / _YEAR_DAYS))


def _normal_c(climate: Climate, starts_s: IntArray) -> FloatArray:
    """What is usual at these instants, °C."""
    hours = (local_seconds(starts_s) % DAY_S) / 3600.0
    return climate.mean_c - climate.season_c * _season(starts_s) + climate.daily_c * _daily(hours)


def _daily(hours: FloatArray) -> FloatArray:
    """The day's course between −1 (shortly after sunrise) and 1 (mid-afternoon): a fast rise, a slow fall."""
    since = (hours - _COLDEST_HOUR) % 24.0
    rise_h = _HOTTEST_HOUR - _COLDEST_HOUR
    rising = -np.cos(np.pi * since / rise_h)
    falling = np.cos(np.pi * (since - rise_h) / (24.0 - rise_h))
    return np.asarray(np.where(since < rise_h, rising, falling), dtype=np.float64)
