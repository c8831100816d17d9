"""Demand and its forecast as days by hours, in logarithms; and forecasts for the days before any was recorded.

A forecast that is made up errs as recorded ones did, whole weeks of their errors repeated; and as with a good forecast its
error says nothing about itself: what can be told from the demand of a day and of a week before is told.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hcp_pipelines.forecasting.hours import Floats, Hours, Ints

HOURS = 24
WEEK_H = 168
LEAST_FORECAST_H = 8 * WEEK_H  # of recorded errors, before any are made up of them
HIGH_HOURS = slice(12, 22)  # local: no peak of a summer month is outside


@dataclass(frozen=True)
class Days:
    """A row a local day, one after the other, columns by local hour; NaN where nothing is recorded."""

    number: Ints  # days since 1970
    load: Floats  # [d, 24] log MW
    forecast: Floats  # [d, 24]
    row: Ints  # [d, 24] of the hours; −1: none
    published_row: Ints  # rows of demand that are known as a day's forecasts come
    high: Floats  # [d] of the load; NaN unless all hours in which it comes in summer are there
    forecast_high: Floats

    def __len__(self) -> int:
        """Days."""
        return len(self.number)

    @property
    def month(self) -> Ints:
        """Months since 1970."""
        months: Ints = self.dates.astype("datetime64[M]").astype(np.int64)
        return months

    @property
    def dates(self) -> npt.NDArray[np.datetime64]:
        """By day."""
        return self.number.astype("datetime64[D]")


def days_of(hours: Hours, forecast_mw: Floats) -> Days:
    """The hours of a grid by day."""
    number, at = np.unique(hours.day, return_inverse=True)
    load, forecast = (np.full((len(number), HOURS), np.nan) for _ in range(2))
    row = np.full((len(number), HOURS), -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        load[at, hours.local_hour], forecast[at, hours.local_hour] = np.log(hours.load_mw), np.log(forecast_mw)
    row[at, hours.local_hour] = np.arange(len(hours))
    _, first = np.unique(hours.day, return_index=True)
    highs = (_highest(each) for each in (load, forecast))
    return Days(number, load, forecast, row, hours.ahead_rows[first], *highs)


def is_weekend(number: Ints) -> npt.NDArray[np.bool_]:
    """By day since 1970."""
    weekend: npt.NDArray[np.bool_] = (number + 3) % 7 >= 5
    return weekend


def day_of_year(number: Ints) -> Ints:
    """0 for the first of January."""
    dates = number.astype("datetime64[D]")
    days: Ints = (dates - dates.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64)
    return days


def with_made_up(hours: Hours) -> Floats | None:
    """Forecasts, MW, made up for the hours before the first that is recorded; None where too few are, to learn how they err."""
    errors = np.log(hours.forecast_mw) - np.log(hours.load_mw)
    there = np.flatnonzero(np.isfinite(errors))
    if len(there) < LEAST_FORECAST_H:
        return None
    first, weeks_h = int(there[0]), len(there) // WEEK_H * WEEK_H
    before = np.arange(first)
    made_up = np.log(hours.load_mw)
    made_up[:first] += errors[first + (before - first) % weeks_h]
    forecast: Floats = np.r_[np.exp(_foretold(hours, made_up, first)), hours.forecast_mw[first:]]
    return forecast


def regressed(columns: Floats, wanted: Floats) -> Floats:
    """Least squares over the rows that are there."""
    there = np.isfinite(columns).all(axis=1) & np.isfinite(wanted)
    found, *_ = np.linalg.lstsq(columns[there], wanted[there], rcond=None)
    return np.asarray(found, dtype=np.float64)


def _foretold(hours: Hours, noisy: Floats, end: int) -> Floats:
    """Log demand of the hours before `end` from what errs, from the day and the week before; by hour and time of year."""
    load = np.log(hours.load_mw[:end])
    columns = np.column_stack([noisy[:end], _before(load, HOURS), _before(load, WEEK_H), np.ones(end)])
    foretold = noisy[:end].copy()
    for month in range(1, 13):
        about = (hours.month_of_year[:end] - month + 1) % 12 <= 2  # the months beside it too
        for hour in range(HOURS):
            of_hour = hours.local_hour[:end] == hour
            wanted = of_hour & (hours.month_of_year[:end] == month) & np.isfinite(columns).all(axis=1)
            if wanted.any():
                foretold[wanted] = columns[wanted] @ regressed(columns[of_hour & about], load[of_hour & about])
    return foretold


def _before(values: Floats, hours: int) -> Floats:
    earlier: Floats = np.r_[np.full(hours, np.nan), values][: len(values)]
    return earlier


def _highest(values: Floats) -> Floats:
    whole = np.isfinite(values[:, HIGH_HOURS]).all(axis=1)
    highest: Floats = np.where(whole, np.nan_to_num(values, nan=-np.inf).max(axis=1), np.nan)
    return highest
