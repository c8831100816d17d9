"""A linear autoregression of each hour of the day, learnt anew for each day asked: a feature of price models.

As LEAR (`lear.py`) without its LASSO: the hours share one ridge regression, whose penalty is chosen hour by hour by generalized
cross-validation, so that a day takes milliseconds. It also looks past the day: with older prices, and day-ahead figures as old as
what is published. Without scikit-learn; nothing of the day asked is in it but day-ahead figures.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from hcp_pipelines.forecasting.horizon_features import PowerSeries
from hcp_pipelines.forecasting.hours import Floats, Hours, Ints
from hcp_pipelines.forecasting.learnable.lear import DAY_H, LEAST_DAYS, days_ago, hourly_means, transformed

WEEK_DAYS = 7
LONGEST_DAYS = 365  # learnt from: who asks looks back so far
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # of scaled regressors, a row
MOST_FREEDOM = 0.9  # parameters a row: beyond, cross-validation says nothing
MOST_MISSING = 0.1  # of a regressor's days; beyond, it is left out, below, the days are
DAYS_OLD = (0, 1, 2)  # day-ahead figures: of the day wanted, or the newest published


@dataclass(frozen=True)
class _Ahead:
    """Regressors of days `ahead` days after the one asked, with day-ahead figures `old` days old."""

    ahead: int
    old: int

    def regressors(self, prices: Floats, figures: tuple[Floats, ...], first: int) -> Floats:
        """`[day, column]`: prices of days that were over, day-ahead figures, the weekday."""
        over = sorted({self.ahead + 1, self.ahead + 2, self.ahead + 3, WEEK_DAYS})
        published = sorted({self.old, self.old + 1, WEEK_DAYS})
        parts = [days_ago(prices, lag) for lag in over] + [days_ago(each, lag) for each in figures for lag in published]
        return np.hstack([*parts, np.eye(WEEK_DAYS)[(first + np.arange(len(prices)) + 3) % WEEK_DAYS]])


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
        days, number = np.unique(day[wanted[rows]], return_inverse=True)
        with threadpool_limits(1):  # two threads on busy cores wait for each other most of the time
            said = np.array([_said(regressors, prices, int(each), of.ahead) for each in days])
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


def _said(regressors: Floats, prices: Floats, day: int, ahead: int) -> Floats:
    """`[hour]` of a day, from the days that were over when the day `ahead` before it began."""
    lessons = slice(max(WEEK_DAYS, day - ahead - LONGEST_DAYS), max(WEEK_DAYS, day - ahead))
    rows, asked, targets = regressors[lessons], regressors[day], prices[lessons]
    share = np.isfinite(rows).mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
    rows, asked = (each[..., np.isfinite(asked) & (share >= 1 - MOST_MISSING)] for each in (rows, asked))
    there = np.isfinite(rows).all(axis=1) & np.isfinite(targets).all(axis=1)
    if there.sum() < LEAST_DAYS or rows.shape[1] <= WEEK_DAYS:
        return np.full(DAY_H, np.nan)
    rows, targets = rows[there], targets[there]
    numbers = transformed(np.vstack([rows, asked])[:, :-WEEK_DAYS], rows[:, :-WEEK_DAYS])[0]
    weekdays = np.vstack([rows, asked])[:, -WEEK_DAYS:]
    learnt, middle, spread = transformed(targets, targets)
    found = np.clip(_ridge(np.hstack([numbers, weekdays]), learnt), learnt.min(axis=0), learnt.max(axis=0))
    said: Floats = np.sinh(found) * spread + middle
    return said


def _ridge(rows: Floats, learnt: Floats) -> Floats:
    """What ridge regressions of `[day, hour]` say of the last row, each with the penalty that cross-validation prefers.

    Source: G. H. Golub, M. Heath, G. Wahba, Generalized Cross-Validation, Technometrics 1979.
    """
    middle, spread = rows[:-1].mean(axis=0), rows[:-1].std(axis=0)
    scaled, mean = (rows - middle) / np.where(spread > 0, spread, 1.0), learnt.mean(axis=0)
    left, sizes, right = np.linalg.svd(scaled[:-1], full_matrices=False)
    n, turned, asked = len(learnt), left.T @ (learnt - mean), right @ scaled[-1]
    best, found = np.full(learnt.shape[1], np.inf), mean.copy()
    for penalty in PENALTIES:
        shrunk = sizes**2 / (sizes**2 + penalty * n)
        freedom = float(shrunk.sum()) + 1
        if freedom > MOST_FREEDOM * n:
            continue
        errors = (learnt - mean - left @ (shrunk[:, None] * turned)) ** 2
        score = errors.mean(axis=0) / (1 - freedom / n) ** 2
        said = (asked * sizes / (sizes**2 + penalty * n)) @ turned + mean
        found, best = np.where(score < best, said, found), np.minimum(score, best)
    hours: Floats = found
    return hours


def _by_day(hours: Hours, values: Floats) -> Floats:
    """`[day, hour]` means; an hour that a day lacks is the one before, never one after: that may not be known yet."""
    mean = hourly_means(hours, values)
    lacks: npt.NDArray[np.bool_] = np.isnan(mean[1:])
    filled: Floats = np.r_[mean[0], np.where(lacks, mean[:-1], mean[1:])]
    return filled.reshape(-1, DAY_H)
