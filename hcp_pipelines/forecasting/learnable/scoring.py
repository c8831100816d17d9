"""How good forecasts were: pinball loss, coverage, absolute and relative errors, by horizon and entity."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.hours import Floats
from hcp_pipelines.forecasting.learnable.lessons import HORIZONS_H, horizon_of
from hcp_pipelines.forecasting.learnable.protocol import Examples

ALL = "all"
INTERVALS: Mapping[str, tuple[float, float]] = {"coverage_80": (0.1, 0.9), "coverage_90": (0.05, 0.95)}


@dataclass(frozen=True)
class Forecasts:
    """What a model said of examples: `quantiles` is `[n, level]` in the target's unit."""

    model: str
    examples: Examples
    quantiles: Floats
    levels: tuple[float, ...]

    @property
    def median(self) -> Floats:
        """`[n]` in the target's unit.

        Raises:
            ConfigError: the model has no median.
        """
        if 0.5 not in self.levels:
            raise ConfigError(f"{self.model} has no median: its levels are {self.levels}")
        found: Floats = self.quantiles[:, self.levels.index(0.5)]
        return found

    def settled(self) -> "Forecasts":
        """Those that said something and whose outcome is known."""
        there = np.isfinite(self.examples.target) & np.isfinite(self.quantiles).all(axis=1)
        return Forecasts(self.model, self.examples.only(there), self.quantiles[there], self.levels)


def pinball(forecasts: Forecasts) -> Floats:
    """`[n, level]` the pinball loss: level · (target − q) where the target is above, (1 − level) · (q − target) below.

    Source: Koenker and Bassett, Regression Quantiles, Econometrica 1978.
    """
    error, level = forecasts.examples.target[:, None] - forecasts.quantiles, np.array(forecasts.levels)
    return np.maximum(level * error, (level - 1) * error)


def scores(forecasts: Forecasts, lessons: Examples | None = None) -> pl.DataFrame:
    """A row an entity and horizon, an entity, a horizon, and one of all together.

    Args:
        forecasts: those without an outcome or without an answer count in `asked` alone.
        lessons: what the naive forecast's usual error is taken from, for MASE; usually what was known before the first was asked.

    Returns:
        `entity`, `horizon`, `asked`, `forecasts`; `pinball`, the mean over the levels, and `pinball_05` …; `coverage_80`,
        `coverage_90`; of the median `mae`, `bias` (median − target), `rmae_naive` (over the naive forecast's error on the same
        rows, those where it is known), `mase` (over its error in the lessons, entity by entity), `smape` and `mape` as fractions
        (`mape` where the target is not 0). Null where nothing can be said.
    """
    table = _table(forecasts, lessons)
    parts = [_aggregated(table, keys) for keys in (("entity", "horizon"), ("entity",), ("horizon",), ())]
    return pl.concat(parts).with_columns(pl.col(pl.Float64).fill_nan(None)).sort("entity", "_order").drop("_order")


def naive_error(lessons: Examples) -> Floats:
    """`[entity]` the naive forecast's mean absolute error, NaN where it has none or is never wrong."""
    error = np.abs(lessons.naive - lessons.target)
    there, kinds = np.isfinite(error), len(lessons.entities)
    entity = lessons.entity[there]
    count = np.bincount(entity, minlength=kinds)
    total = np.bincount(entity, weights=error[there], minlength=kinds)
    return np.where((count > 0) & (total > 0), total / np.maximum(count, 1), np.nan)


def _table(forecasts: Forecasts, lessons: Examples | None) -> pl.DataFrame:
    """A row a question: its keys and its errors."""
    examples, losses = forecasts.examples, pinball(forecasts)
    level = {each: n for n, each in enumerate(forecasts.levels)}
    target, quantiles = examples.target, forecasts.quantiles
    usual = naive_error(lessons) if lessons is not None else np.full(len(examples.entities), np.nan)
    is_settled = np.isfinite(target) & np.isfinite(quantiles).all(axis=1)
    columns: dict[str, Floats] = {"pinball": losses.mean(axis=1)}
    columns |= {f"pinball_{round(each * 100):02}": losses[:, n] for each, n in level.items()}
    for name, (low, high) in INTERVALS.items():
        if low in level and high in level:
            inside = (quantiles[:, level[low]] <= target) & (target <= quantiles[:, level[high]])
            columns[name] = inside.astype(np.float64)
    columns |= dict(_errors(forecasts.median, examples, usual))
    frame = pl.DataFrame({name: np.where(is_settled, column, np.nan) for name, column in columns.items()}).fill_nan(
        None
    )
    return frame.with_columns(
        entity=pl.Series(examples.entities, dtype=pl.String).gather(examples.entity),
        _order=pl.Series(horizon_of(examples)),
        forecasts=pl.Series(is_settled),
    )


def _errors(median: Floats, examples: Examples, usual: Floats) -> Iterator[tuple[str, Floats]]:
    """Of the median, a value a question; `_own` and `_other` are the errors where the naive forecast is known."""
    target, error = examples.target, median - examples.target
    size = np.abs(error)
    yield "mae", size
    yield "bias", error
    yield "_own", np.where(np.isfinite(examples.naive), size, np.nan)
    yield "_other", np.abs(examples.naive - target)
    yield "mase", size / usual[examples.entity]
    both = np.abs(median) + np.abs(target)
    yield "smape", np.where(both > 0, 2 * size / np.where(both > 0, both, 1.0), 0.0)
    yield "mape", np.where(target != 0, size / np.where(target != 0, np.abs(target), 1.0), np.nan)


def _aggregated(table: pl.DataFrame, keys: tuple[str, ...]) -> pl.DataFrame:
    means = [name for name in table.columns if name not in ("entity", "_order", "forecasts", "_own", "_other")]
    measures = [
        pl.len().alias("asked"), pl.col("forecasts").sum(), *(pl.col(name).mean() for name in means),
        (pl.when(pl.col("_other").sum() > 0).then(pl.col("_own").sum() / pl.col("_other").sum())).alias("rmae_naive"),
    ]  # fmt: skip
    names = horizon_names()
    by = ["_order" if key == "horizon" else key for key in keys]
    found = table.group_by(by).agg(measures) if by else table.select(measures)
    is_by_horizon = "horizon" in keys
    return found.with_columns(
        pl.col("entity") if "entity" in keys else pl.lit(ALL).alias("entity"),
        pl.col("_order").cast(pl.Int64) if is_by_horizon else pl.lit(len(names), pl.Int64).alias("_order"),
    ).select(
        "entity",
        pl.col("_order").replace_strict([*range(len(names) + 1)], [*names, ALL], return_dtype=pl.String).alias("horizon"),
        "asked", "forecasts", *means, "rmae_naive", "_order",
    )  # fmt: skip


def horizon_names() -> tuple[str, ...]:
    """Of `HORIZONS_H`: `1`, `2–6` …; the last one has no end."""
    firsts = (1, *(last + 1 for last in HORIZONS_H[:-1]))
    names = [str(first) if first == last else f"{first}–{last}" for first, last in zip(firsts, HORIZONS_H, strict=True)]
    return (*names[:-1], f"{firsts[-1]}–")
