"""A linear autoregression of each hour of the day, learnt anew for each day asked: a feature of price models.

LEAR's idea (`lear.py`) with far fewer regressors: of the hour itself, of those beside it and of the day as a whole, not of all 24
hours; and learnt by absolute errors, as it is scored (`median_regression.py`), in milliseconds a day. It also looks past the day:
with older prices, and day-ahead figures as old as what is published. Nothing of the day asked is in it but day-ahead figures.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from hcp_pipelines.forecasting.horizon_features import PowerSeries
from hcp_pipelines.forecasting.hours import Floats, Hours, Ints
from hcp_pipelines.forecasting.learnable.lear import DAY_H, LEAST_DAYS, days_ago, hourly_means, transformed
from hcp_pipelines.forecasting.learnable.median_regression import foretold

WEEK_DAYS = 7
LONGEST_DAYS = 365  # learnt from: who asks looks back so far
MOST_MISSING = 0.1  # of a regressor's days; beyond, it is left out, below, the days are
DAYS_OLD = (0, 1, 2)  # day-ahead figures: of the day wanted, or the newest published
EVENING = (-2, -1)  # hours of the newest day that is over: nearest to what is asked


@dataclass(frozen=True)
class _Regressors:
    """By day: `own[day, column, hour]`, of which the columns `beside` count for the hours beside too, and `day[day, column]`."""

    own: Floats
    beside: tuple[int, ...]
    day: Floats

    @property
    def hourly(self) -> Ints:
        """`[hour, column]`: which columns of `flat` each hour looks at."""
        columns, hours = self.own.shape[1], np.arange(DAY_H)
        own = np.arange(columns) * DAY_H + hours[:, None]
        near = [n * DAY_H + np.clip(hours + to, 0, DAY_H - 1)[:, None] for n in self.beside for to in (-1, 1)]
        of_day = np.tile(columns * DAY_H + np.arange(self.day.shape[1]), (DAY_H, 1))
        return np.hstack([own, *near, of_day])

    @property
    def flat(self) -> Floats:
        """`[day, column]`: every one once."""
        return np.hstack([self.own.reshape(len(self.own), -1), self.day])


@dataclass(frozen=True)
class _Ahead:
    """Regressors of days `ahead` days after the one asked, with day-ahead figures `old` days old."""

    ahead: int
    old: int

    def regressors(self, prices: Floats, figures: tuple[Floats, ...], first: int) -> _Regressors:
        """Prices of days that were over, day-ahead figures, the levels of both, the last evening, the weekday."""
        over, published = (sorted({lag, lag + 1, WEEK_DAYS}) for lag in (self.ahead + 1, self.old))
        week = np.median([days_ago(prices, self.ahead + 1 + n) for n in range(WEEK_DAYS)], axis=0)
        of_prices = [days_ago(prices, lag) for lag in (*over, self.ahead + 3)] + [week]
        of_figures = [days_ago(each, lag) for each in figures for lag in published]
        newest = range(len(of_prices), len(of_prices) + len(of_figures), len(published))
        levels = [each.mean(axis=1) for each in (*of_prices[: len(over)], *of_figures)]
        ends = [
            end(each, axis=1) for each in (of_prices[0], *of_figures[:: len(published)]) for end in (np.max, np.min)
        ]
        evening = [of_prices[0][:, hour] for hour in EVENING]
        weekday = np.eye(WEEK_DAYS)[(first + np.arange(len(prices)) + 3) % WEEK_DAYS]
        day = np.column_stack([*levels, *ends, *evening, weekday])
        return _Regressors(np.stack([*of_prices, *of_figures], axis=1), tuple(newest), day)


def autoregression(series: PowerSeries, asked: Ints, wanted: Ints) -> Floats:
    """$/MWh by pair of hours asked and wanted, rows of the grid; NaN with fewer than seven weeks of prices before."""
    hours = series.hours
    first, day = int(hours.day[0]), hours.day - hours.day[0]
    prices, figures = _by_day(hours, series.real_time), (series.day_ahead, hours.forecast_mw)
    by_day = tuple(_by_day(hours, each) for each in figures)
    ahead, old = day[wanted] - day[asked], _days_old(series, asked, wanted)
    found = np.full(len(asked), np.nan)
    for of, rows in _kinds(ahead, old).items():
        regressors = of.regressors(prices, by_day, first)
        flat, hourly = regressors.flat, regressors.hourly
        days, number = np.unique(day[wanted[rows]], return_inverse=True)
        with threadpool_limits(1):  # two threads on busy cores wait for each other most of the time
            said = np.array([_said(flat, hourly, prices, int(each), of.ahead) for each in days])
        found[rows] = said[number, hours.local_hour[wanted[rows]]]
    return found


def _days_old(series: PowerSeries, asked: Ints, wanted: Ints) -> Ints:
    """How many days before the one wanted the newest published day-ahead figures are; days, since some have 23 hours."""
    old, day = np.full(len(asked), DAYS_OLD[-1]), series.hours.day
    for days in DAYS_OLD[-2::-1]:
        first_hour = np.searchsorted(day, day[wanted] - days)
        old = np.where(series.is_published(asked, first_hour), days, old)
    return old


def _kinds(ahead: Ints, old: Ints) -> Mapping[_Ahead, Ints]:
    """The rows of each kind of question."""
    kinds, number = np.unique(np.column_stack([ahead, old]), axis=0, return_inverse=True)
    return {_Ahead(int(a), int(o)): np.flatnonzero(number.ravel() == n) for n, (a, o) in enumerate(kinds)}


def _said(flat: Floats, hourly: Ints, prices: Floats, day: int, ahead: int) -> Floats:
    """`[hour]` of a day, from the days that were over when the day `ahead` before it began."""
    lessons = slice(max(WEEK_DAYS, day - ahead - LONGEST_DAYS), max(WEEK_DAYS, day - ahead))
    rows, asked, targets = flat[lessons], flat[day], prices[lessons]
    share = np.isfinite(rows).mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
    is_known = np.isfinite(asked) & (share >= 1 - MOST_MISSING)
    there = np.isfinite(rows[:, is_known]).all(axis=1) & np.isfinite(targets).all(axis=1)
    hourly = hourly[:, is_known[hourly].all(axis=0)]
    if there.sum() < LEAST_DAYS or hourly.shape[1] <= WEEK_DAYS:
        return np.full(DAY_H, np.nan)
    rows, targets = np.where(is_known, np.vstack([rows[there], asked]), 0.0), targets[there]
    numbers = transformed(rows[:, :-WEEK_DAYS], rows[:-1, :-WEEK_DAYS])[0]
    learnt, middle, spread = transformed(targets, targets)
    found = foretold(np.hstack([numbers, rows[:, -WEEK_DAYS:]]), hourly, learnt)
    said: Floats = np.sinh(np.clip(found, learnt.min(axis=0), learnt.max(axis=0))) * spread + middle
    return said


def _by_day(hours: Hours, values: Floats) -> Floats:
    """`[day, hour]` means; an hour that a day lacks is the one before, never one after: that may not be known yet."""
    mean = hourly_means(hours, values)
    lacks: npt.NDArray[np.bool_] = np.isnan(mean[1:])
    filled: Floats = np.r_[mean[0], np.where(lacks, mean[:-1], mean[1:])]
    return filled.reshape(-1, DAY_H)
