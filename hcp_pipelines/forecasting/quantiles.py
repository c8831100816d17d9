"""Quantiles of the hourly real-time price of the next 48 hours, by boosted trees.

What is learnt is the distance to the day-ahead price, or where that is not published yet to the same hour's last price, on a
scale that is linear near 0 and logarithmic far away; a quantile of that is a quantile of the price. Features are in
`horizon_features`, what is done with less than four weeks of prices in `baselines`, scores in `quantile_scores`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from hcp_pipelines.forecasting.baselines import LEVELS, TooShortError, anchor, known_hours, pairs, refuse_pairs
from hcp_pipelines.forecasting.horizon_features import WEEK_H, PowerSeries, horizon_columns
from hcp_pipelines.forecasting.hours import Floats, Ints

Matrix = npt.NDArray[np.float32]

SCALE_USD_PER_MWH = 10.0
ASKED_EVERY_H = 5  # learnt from one hour asked in five: no divisor of 24, so that every hour of the day is among them
LEAST_HOURS = 28 * 24
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
    """A regressor a level. `trained_until`: nothing that was known later is in it. `columns`: the features it looks at."""

    trees: tuple[Regressor, ...]
    columns: tuple[str, ...]
    trained_until: datetime
    method: str = "boosted_trees"

    def predict(self, series: PowerSeries, asked: Ints, wanted: Ints) -> Floats:
        """$/MWh, [pair, level of `LEVELS`], rising along the levels.

        Raises:
            TrainedTooLateError: an hour asked begins before the model's training ended.
        """
        refuse_pairs(self, series, asked)
        columns = horizon_columns(series, asked, wanted)
        rows = _matrix(columns, self.columns)
        with threadpool_limits(1):
            found = np.column_stack([each.predict(rows) for each in self.trees])
        prices = anchor(series, asked, wanted)[:, None] + np.sinh(found) * SCALE_USD_PER_MWH
        return np.sort(prices, axis=1)


def learn(lessons: Sequence[PowerSeries], until: datetime, seed: int = 0) -> QuantileModel:
    """A model from all that was over by an instant, of all points together; the same lessons and seed give the same model.

    Raises:
        TooShortError: no point has four weeks of prices.
    """
    columns, rows, came_to = training_rows(lessons, until, seed)
    from sklearn.ensemble import HistGradientBoostingRegressor  # takes a second to import

    with threadpool_limits(1):  # two threads on busy cores wait for each other most of the time
        trees = tuple(
            HistGradientBoostingRegressor(loss="quantile", quantile=level, random_state=seed, **TREES).fit(
                rows, came_to
            )
            for level in LEVELS
        )
    return QuantileModel(trees, columns, until)


def training_rows(
    lessons: Sequence[PowerSeries], until: datetime, seed: int = 0
) -> tuple[tuple[str, ...], Matrix, Floats]:
    """Names of columns, a row a pair that was over by an instant, and what each came to, scaled; at most about `MOST_ROWS`.

    Raises:
        TooShortError: no point has four weeks of prices.
    """
    parts = [part for part in (_lesson(series, until) for series in lessons) if part is not None]
    if not parts:
        most = max((known_hours(series, until) for series in lessons), default=0)
        raise TooShortError(
            f"{most} hours of real-time prices before {until:%Y-%m-%dT%H:%MZ}: at least {LEAST_HOURS} are needed to learn from"
        )
    random, share = np.random.default_rng(seed), MOST_ROWS / sum(len(came_to) for _, came_to in parts)
    if share < 1:
        parts = [_sample(part, random.random(len(part[1])) < share) for part in parts]
    columns = tuple(name for name in parts[0][0] if any(np.isfinite(part[name]).any() for part, _ in parts))
    rows = np.concatenate([_matrix(part, columns) for part, _ in parts])
    return columns, rows, np.concatenate([target for _, target in parts])


def _lesson(series: PowerSeries, until: datetime) -> tuple[dict[str, Floats], Floats] | None:
    """Columns, and what each hour came to; nothing where four weeks of prices are not there."""
    if known_hours(series, until) < LEAST_HOURS:
        return None
    end = series.hours.row_at(until)
    first = int(np.flatnonzero(np.isfinite(series.real_time[:end]))[0])
    asked, wanted = pairs(np.arange(first + WEEK_H, end, ASKED_EVERY_H), end)
    came_to = np.arcsinh((series.real_time[wanted] - anchor(series, asked, wanted)) / SCALE_USD_PER_MWH)
    there = np.isfinite(came_to)
    columns = horizon_columns(series, asked[there], wanted[there])
    return _recorded_to_the_end(columns, asked[there]), came_to[there]


def _sample(part: tuple[dict[str, Floats], Floats], is_taken: np.ndarray) -> tuple[dict[str, Floats], Floats]:
    columns, came_to = part
    return {name: column[is_taken] for name, column in columns.items()}, came_to[is_taken]


def _recorded_to_the_end(columns: dict[str, Floats], asked: Ints) -> dict[str, Floats]:
    """Columns without what is no longer recorded: a tree that leans on it would be asked without it."""
    recent = asked >= asked.max() - WEEK_H
    return {
        name: column if np.isfinite(column[recent]).any() else np.full(len(column), np.nan)
        for name, column in columns.items()
    }


def _matrix(columns: dict[str, Floats], names: Sequence[str]) -> Matrix:
    return np.column_stack([columns[name] for name in names]).astype(np.float32)
