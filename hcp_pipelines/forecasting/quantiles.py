"""Quantiles of the hourly real-time price of the next 48 hours, by boosted trees.

What is learnt is the distance to the day-ahead price, or where that is not published yet to the same hour's last price, on a
scale that is linear near 0 and logarithmic far away; a quantile of that is a quantile of the price. The last weeks are held back
from the trees: what they miss there moves the quantiles (`conformal`). Features are in `horizon_features`, what is done with less
than four weeks of prices in `baselines`, scores in `quantile_scores`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from hcp_pipelines.forecasting.baselines import (
    HORIZONS_H,
    anchor,
    horizon_of,
    known_hours,
    pairs,
    refuse_pairs,
)  # fmt: skip
from hcp_pipelines.forecasting.conformal import conformal_shifts
from hcp_pipelines.forecasting.horizon_features import WEEK_H, PowerSeries, horizon_columns
from hcp_pipelines.forecasting.hours import Floats, Ints
from hcp_pipelines.forecasting.learnable.protocol import LEVELS, TooShortError

Matrix = npt.NDArray[np.float32]

SCALE_USD_PER_MWH = 10.0
ASKED_EVERY_H = 5  # learnt from one hour asked in five: no divisor of 24, so that every hour of the day is among them
LEAST_HOURS = 28 * 24
HELD_BACK_H = 28 * 24  # the last hours, at most a quarter of what is known; eight weeks made the trees too old
MOST_ROWS = 150_000  # of all points together, a minute of learning; beyond it a sample
TREES: dict[str, Any] = {
    "max_iter": 150, "learning_rate": 0.06, "max_leaf_nodes": 16, "min_samples_leaf": 150, "max_features": 0.4,
    "l2_regularization": 2.0, "max_bins": 127, "early_stopping": False,
}  # fmt: skip


class Regressor(Protocol):
    """What predicts; scikit-learn's own."""

    def predict(self, rows: Matrix) -> Floats:
        """A value a row."""
        ...


@dataclass(frozen=True)
class QuantileModel:
    """A regressor a level. `trained_until`: nothing that was known later is in it. `columns`: the features it looks at.

    `shifts`: what is added to what the trees say, [horizon, level], on the scale that is learnt.
    """

    trees: tuple[Regressor, ...]
    columns: tuple[str, ...]
    trained_until: datetime
    method: str = "boosted_trees"
    shifts: Floats = field(default_factory=lambda: np.zeros((len(HORIZONS_H), len(LEVELS))))

    def predict(self, series: PowerSeries, asked: Ints, wanted: Ints) -> Floats:
        """$/MWh, [pair, level of `LEVELS`], rising along the levels.

        Raises:
            TrainedTooLateError: an hour asked begins before the model's training ended.
        """
        refuse_pairs(self, series, asked)
        columns = horizon_columns(series, asked, wanted)
        found = _quantiles(self.trees, _matrix(columns, self.columns)) + self.shifts[horizon_of(wanted - asked + 1)]
        prices = anchor(series, asked, wanted)[:, None] + np.sinh(found) * SCALE_USD_PER_MWH
        return np.sort(prices, axis=1)


@dataclass(frozen=True)
class Lessons:
    """A row a pair that was over by an instant, of all points, and what each came to on the scale that is learnt.

    `is_held`: the trees must not see it; `horizon`: an index into `HORIZONS_H`.
    """

    columns: tuple[str, ...]
    rows: Matrix
    came_to: Floats
    horizon: Ints
    is_held: npt.NDArray[np.bool_]


def learn(lessons: Sequence[PowerSeries], until: datetime, seed: int = 0) -> QuantileModel:
    """A model from all that was over by an instant, of all points together; the same lessons and seed give the same model.

    Raises:
        TooShortError: no point has four weeks of prices.
    """
    found = training_rows(lessons, until, seed)
    trees, held = _trees(found, seed), found.is_held
    quantiles = _quantiles(trees, found.rows[held])
    missed = conformal_shifts(quantiles, found.came_to[held], found.horizon[held], LEVELS, len(HORIZONS_H))
    return QuantileModel(trees, found.columns, until, shifts=missed)


def _trees(lessons: Lessons, seed: int) -> tuple[Regressor, ...]:
    """A regressor a level, from what is not held back."""
    from sklearn.ensemble import HistGradientBoostingRegressor  # takes a second to import

    rows, came_to = lessons.rows[~lessons.is_held], lessons.came_to[~lessons.is_held]
    with threadpool_limits(1):  # two threads on busy cores wait for each other most of the time
        return tuple(
            HistGradientBoostingRegressor(loss="quantile", quantile=level, random_state=seed, **TREES).fit(
                rows, came_to
            )
            for level in LEVELS
        )


def _quantiles(trees: Sequence[Regressor], rows: Matrix) -> Floats:
    """[row, level], rising along the levels."""
    with threadpool_limits(1):
        return np.sort(np.column_stack([each.predict(rows) for each in trees]), axis=1)


def training_rows(lessons: Sequence[PowerSeries], until: datetime, seed: int = 0) -> Lessons:
    """What was over by an instant; at most about `MOST_ROWS`.

    Raises:
        TooShortError: no point has four weeks of prices.
    """
    parts = [part for part in (_lesson(series, until) for series in lessons) if part is not None]
    if not parts:
        most = max((known_hours(series, until) for series in lessons), default=0)
        raise TooShortError(
            f"{most} hours of real-time prices before {until:%Y-%m-%dT%H:%MZ}: at least {LEAST_HOURS} are needed to learn from"
        )
    random, share = np.random.default_rng(seed), MOST_ROWS / sum(len(part.came_to) for part in parts)
    if share < 1:
        parts = [part.taken(random.random(len(part.came_to)) < share) for part in parts]
    columns = tuple(name for name in parts[0].columns if any(np.isfinite(part.columns[name]).any() for part in parts))
    return Lessons(
        columns,
        np.concatenate([_matrix(part.columns, columns) for part in parts]),
        np.concatenate([part.came_to for part in parts]),
        np.concatenate([part.horizon for part in parts]),
        np.concatenate([part.is_held for part in parts]),
    )


@dataclass(frozen=True)
class _Lesson:
    """As `Lessons`, of one point, with its columns by name."""

    columns: dict[str, Floats]
    came_to: Floats
    horizon: Ints
    is_held: npt.NDArray[np.bool_]

    def taken(self, is_taken: npt.NDArray[np.bool_]) -> Self:
        """Some of its rows."""
        columns = {name: column[is_taken] for name, column in self.columns.items()}
        return type(self)(columns, self.came_to[is_taken], self.horizon[is_taken], self.is_held[is_taken])


def _lesson(series: PowerSeries, until: datetime) -> _Lesson | None:
    """Columns, and what each hour came to; nothing where four weeks of prices are not there."""
    known = known_hours(series, until)
    if known < LEAST_HOURS:
        return None
    end = series.hours.row_at(until)
    first = int(np.flatnonzero(np.isfinite(series.real_time[:end]))[0])
    asked, wanted = pairs(np.arange(first + WEEK_H, end, ASKED_EVERY_H), end)
    came_to = np.arcsinh((series.real_time[wanted] - anchor(series, asked, wanted)) / SCALE_USD_PER_MWH)
    there = np.isfinite(came_to)
    asked, wanted = asked[there], wanted[there]
    columns = _recorded_to_the_end(horizon_columns(series, asked, wanted), asked)
    is_held = wanted >= end - min(HELD_BACK_H, known // 4)
    return _Lesson(columns, came_to[there], horizon_of(wanted - asked + 1), is_held)


def _recorded_to_the_end(columns: dict[str, Floats], asked: Ints) -> dict[str, Floats]:
    """Columns without what is no longer recorded: a tree that leans on it would be asked without it."""
    recent = asked >= asked.max() - WEEK_H
    return {
        name: column if np.isfinite(column[recent]).any() else np.full(len(column), np.nan)
        for name, column in columns.items()
    }


def _matrix(columns: dict[str, Floats], names: Sequence[str]) -> Matrix:
    return np.column_stack([columns[name] for name in names]).astype(np.float32)
