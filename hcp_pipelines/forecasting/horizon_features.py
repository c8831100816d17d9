"""What a forecast of a later hour's price sees, asked at the beginning of an hour: a row per (hour asked, hour wanted). No model.

Point-in-time: real-time prices, demand, wind and temperature of an hour are known once it is over; day-ahead prices, capacity
prices and demand forecasts of a local day from 13:30 of the day before (`forecasting.hours`). What is not known yet is NaN.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hcp_pipelines.forecasting.hours import Floats, Hours, Ints
from hcp_pipelines.forecasting.power_features import power_features

LONGEST_AHEAD_H = 48
DAY_H, WEEK_H = 24, 168
ASKED = (
    "now",
    "ago_60",
    "ago_120",
    "max_180",
    "min_120",
    "max_day",
    "mean_day",
)  # of `power_features`, at the hour asked
SPREADS = ("error", "error_day")


@dataclass(frozen=True)
class PowerSeries:
    """One settlement point on the hours of the grid: hourly means in $/MWh and wind in MW, NaN where nothing is recorded."""

    point: str
    hours: Hours
    real_time: Floats
    last_interval: Floats  # the price of the hour's last settlement interval
    day_ahead: Floats
    wind_mw: Floats

    @cached_property
    def asked(self) -> dict[str, Floats]:
        """What is known when each hour begins, by name: recent prices, their distance from day-ahead ones, demand, weather."""
        known = _before(self.real_time)
        recent = power_features(known, self.day_ahead, self.hours.starts_us, 60, delay=1)
        hours, ratio = self.hours, self.load_ratio
        columns = {name: recent.levels[name] for name in ASKED} | {name: recent.spreads[name] for name in SPREADS}
        return columns | {
            "last_interval": _before(self.last_interval), "load_ratio": ratio, "load_now": _before(hours.load_mw),
            "wind_now": _before(self.wind_mw), "wind_day": _mean_of_day(self.wind_mw),
            "temperature_now": _before(hours.temperature_c), "hour_asked": hours.local_hour.astype(np.float64),
        }  # fmt: skip

    @cached_property
    def load_ratio(self) -> Floats:
        """How far demand has been above its forecast over the last 24 hours, 1 where that is not known."""
        ratio = _mean_of_day(self.hours.load_mw / self.hours.forecast_mw)
        return np.where(np.isfinite(ratio), ratio, 1.0)

    @cached_property
    def best_mcpc(self) -> Floats:
        """The highest capacity price of each hour, $/MW, NaN where none is recorded."""
        return best_of(self.hours.mcpc)

    def is_published(self, asked: Ints, wanted: Ints) -> npt.NDArray[np.bool_]:
        """Whether day-ahead figures of the hours wanted are known at the beginning of those asked."""
        published: npt.NDArray[np.bool_] = self.hours.ahead_rows[wanted] < asked
        return published

    def published(self, values: Floats, asked: Ints, wanted: Ints) -> Floats:
        """Day-ahead figures of the hours wanted, NaN where they are not published or lie outside the grid."""
        inside = np.clip(wanted, 0, len(values) - 1)
        there = (inside == wanted) & self.is_published(asked, inside)
        return np.where(there, values[inside], np.nan)


def best_of(mcpc: Floats) -> Floats:
    """The highest of the products' capacity prices by hour, of those that there are; NaN where none is recorded."""
    best: Floats = np.fmax.reduce(np.where(np.isfinite(mcpc), mcpc, np.nan), axis=0)
    return best


def horizon_columns(series: PowerSeries, asked: Ints, wanted: Ints) -> dict[str, Floats]:
    """Columns by name, a row per pair; `asked` and `wanted` are rows of the grid, `wanted` 0 to 47 after `asked`."""
    hours = series.hours
    columns = {name: column[asked] for name, column in series.asked.items()}
    columns["ahead_h"] = (wanted - asked + 1).astype(np.float64)
    columns["hour"] = hours.local_hour[wanted].astype(np.float64)
    columns["weekday"] = ((hours.day[wanted] + 3) % 7).astype(np.float64)  # 1970-01-01 was a Thursday
    return columns | _ahead_columns(series, asked, wanted) | _lag_columns(series, asked, wanted)


def _ahead_columns(series: PowerSeries, asked: Ints, wanted: Ints) -> dict[str, Floats]:
    """Day-ahead figures of the hour wanted, its neighbours and its day."""
    columns = {
        name: series.published(series.day_ahead, asked, wanted + step)
        for name, step in (("da", 0), ("da_before", -1), ("da_after", 1))
    }
    for name, function in (("da_day_max", np.fmax), ("da_day_min", np.fmin)):
        columns[name] = series.published(_by_day(series.hours, series.day_ahead, function), asked, wanted)
    columns["da_share"] = (columns["da"] - columns["da_day_min"]) / np.maximum(
        columns["da_day_max"] - columns["da_day_min"], 1.0
    )
    best, forecast = series.best_mcpc, series.hours.forecast_mw
    columns["mcpc"] = series.published(best, asked, wanted)
    columns["mcpc_day_max"] = series.published(_by_day(series.hours, best, np.fmax), asked, wanted)
    load = series.published(forecast, asked, wanted) * series.load_ratio[asked]
    columns["load"] = load
    columns["load_ramp"] = load - series.published(forecast, asked, wanted - 1) * series.load_ratio[asked]
    columns["load_day_max"] = series.published(_by_day(series.hours, forecast, np.fmax), asked, wanted)
    return columns


def _lag_columns(series: PowerSeries, asked: Ints, wanted: Ints) -> dict[str, Floats]:
    """The same hour of days that are over: the last one, the week, the last seven."""
    last = last_same_hour(asked, wanted)
    week = [_at(series.real_time, last - DAY_H * n) for n in range(7)]
    stacked = np.stack(week)
    there = np.isfinite(stacked)
    mean = np.where(there, stacked, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    return {
        "lag": week[0],
        "lag_error": week[0] - _at(series.day_ahead, last),
        "lag_week": _at(series.real_time, wanted - WEEK_H),
        "week_mean": np.where(there.any(axis=0), mean, np.nan),
        "week_max": np.fmax.reduce(stacked),
        "lag_load": _at(series.hours.load_mw, last),
        "lag_wind": _at(series.wind_mw, last),
        "lag_temperature": _at(series.hours.temperature_c, last),
    }


def last_same_hour(asked: Ints, wanted: Ints) -> Ints:
    """The row a whole number of days before the hour wanted that is the last to be over when an hour begins."""
    days = (wanted - asked) // DAY_H + 1
    row: Ints = wanted - DAY_H * days
    return row


def _at(values: Floats, rows: Ints) -> Floats:
    return np.where(rows >= 0, values[np.maximum(rows, 0)], np.nan)


def _before(values: Floats) -> Floats:
    """Of the hour before each."""
    shifted: Floats = np.r_[np.nan, values[:-1]]
    return shifted


def _mean_of_day(values: Floats) -> Floats:
    """The mean of what is there of the 24 hours before each, NaN where nothing is."""
    there = np.isfinite(values)
    total, count = (np.r_[0.0, np.cumsum(each)] for each in (np.where(there, values, 0.0), there.astype(np.float64)))
    end = np.arange(len(values))
    start = np.maximum(end - DAY_H, 0)
    number = count[end] - count[start]
    mean: Floats = np.where(number > 0, (total[end] - total[start]) / np.maximum(number, 1.0), np.nan)
    return mean


def _by_day(hours: Hours, values: Floats, function: np.ufunc) -> Floats:
    """A figure of each hour's local day; NaN where the whole day has none."""
    _, first, number = np.unique(hours.day, return_index=True, return_inverse=True)
    by_day: Floats = function.reduceat(values, first)[number]
    return by_day
