"""How good quantile forecasts were: pinball loss, coverage, absolute error beside the baselines', by how far ahead.

A table comes from `power_forecast`, with `price_usd_per_mwh` as it came to. Nothing is forecast here.
"""

import numpy as np
import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.forecasting.baselines import HORIZONS_H, POINT_FORECASTS
from hcp_pipelines.forecasting.learnable.protocol import LEVELS
from hcp_pipelines.forecasting.power_forecast import LEVEL_COLUMNS, POINT_COLUMNS

ALL = "all"
PRICE = pl.col("price_usd_per_mwh")
MEDIAN = pl.col(LEVEL_COLUMNS[LEVELS.index(0.5)])
INTERVALS = {"coverage_80": (0.1, 0.9), "coverage_90": (0.05, 0.95)}
BASELINES = tuple(zip(POINT_FORECASTS, POINT_COLUMNS, strict=True))
PINBALL_COLUMNS = tuple(column.replace("usd_per_mwh", "pinball") for column in LEVEL_COLUMNS)


def pinball(level: float, quantile: pl.Expr, price: pl.Expr = PRICE) -> pl.Expr:
    """The pinball loss of a quantile, $/MWh: level · (price − q) above it, (1 − level) · (q − price) below.

    Source: Koenker and Bassett, Regression Quantiles, Econometrica 1978.
    """
    error = price - quantile
    return pl.max_horizontal(level * error, (level - 1) * error)


def scores(table: pl.DataFrame) -> pl.DataFrame:
    """A row a horizon, and one of all together.

    Returns:
        `horizon`, `forecasts`, `mae_usd_per_mwh` of the median; by baseline `rmae_…` (of the same rows, those where it is
        known) and `known_…` (the share of rows); `coverage_80`, `coverage_90`; `pinball_usd_per_mwh`, the mean over the
        levels, and a column a level. Null where a horizon or baseline has no rows.
    """
    settled = table.filter(PRICE.is_finite())
    measures = [
        pl.len().alias("forecasts"), (MEDIAN - PRICE).abs().mean().alias("mae_usd_per_mwh"),
        *(_beside(name, column) for name, column in BASELINES),
        *(pl.col(column).is_not_null().mean().alias(f"known_{name}") for name, column in BASELINES),
        *(PRICE.is_between(_of(low), _of(high)).mean().alias(name) for name, (low, high) in INTERVALS.items()),
        pl.mean_horizontal(*_losses()).mean().alias("pinball_usd_per_mwh"),
        *(loss.mean().alias(name) for name, loss in zip(PINBALL_COLUMNS, _losses(), strict=True)),
    ]  # fmt: skip
    by_horizon = settled.group_by(_horizon()).agg(measures).sort(pl.col("horizon").str.len_chars(), "horizon")
    return pl.concat([by_horizon, settled.select(pl.lit(ALL).alias("horizon"), *measures)]).with_columns(
        pl.col(pl.Float64).fill_nan(None)
    )


def empty_scores() -> pl.DataFrame:
    """No scores, with the columns that the lake's table has: a day and settlement point, the method, and what `scores` gives."""
    keys = {"day_start_at": INSTANT, "settlement_point": pl.String(), "method": pl.String(), "horizon": pl.String()}
    measures = [f"{kind}_{name}" for name in POINT_FORECASTS for kind in ("rmae", "known")]
    floats = ("mae_usd_per_mwh", *measures, *INTERVALS, "pinball_usd_per_mwh", *PINBALL_COLUMNS)
    return pl.DataFrame(schema=keys | {"forecasts": pl.UInt32()} | dict.fromkeys(floats, pl.Float64()))


def shares_below(table: pl.DataFrame) -> dict[float, float]:
    """The share of prices at or below the quantile of each level: the level itself, where calibrated. Empty without prices."""
    settled = table.filter(PRICE.is_finite())
    shares = settled.select((pl.col(column) >= PRICE).mean().alias(column) for column in LEVEL_COLUMNS)
    return dict(zip(LEVELS, shares.row(0), strict=True)) if len(settled) else {}


def skill(table: pl.DataFrame, baseline: str, days: int = 7, draws: int = 1000) -> tuple[float, float, float] | None:
    """Relative MAE to a baseline with a 90 % interval, from blocks of days drawn anew, over the rows where it is known.

    None where it is nowhere known, or never wrong.
    """
    column = f"{baseline}_usd_per_mwh"
    block = (pl.col("start_at").dt.epoch("d") // days).alias("block")
    errors = (
        table.filter(PRICE.is_finite() & pl.col(column).is_not_null())
        .group_by(block)
        .agg(own=(MEDIAN - PRICE).abs().sum(), other=(pl.col(column) - PRICE).abs().sum())
        .sort("block")
    )
    own, other = errors["own"].to_numpy(), errors["other"].to_numpy()
    if not other.all() or not len(other):
        return None
    chosen = np.random.default_rng(0).integers(0, len(own), (draws, len(own)))
    low, high = np.quantile(own[chosen].sum(axis=1) / other[chosen].sum(axis=1), (0.05, 0.95))
    return float(own.sum() / other.sum()), float(low), float(high)


def _beside(name: str, column: str) -> pl.Expr:
    """The mean absolute error over the baseline's."""
    is_known = pl.col(column).is_not_null()
    own, other = ((forecast - PRICE).abs().filter(is_known).mean() for forecast in (MEDIAN, pl.col(column)))
    return pl.when(other > 0).then(own / other).alias(f"rmae_{name}")


def _losses() -> list[pl.Expr]:
    return [pinball(level, pl.col(column)) for level, column in zip(LEVELS, LEVEL_COLUMNS, strict=True)]


def _of(level: float) -> pl.Expr:
    return pl.col(LEVEL_COLUMNS[LEVELS.index(level)])


def _horizon() -> pl.Expr:
    """The range of hours ahead, like 2–6."""
    firsts = (1, *(last + 1 for last in HORIZONS_H[:-1]))
    names = [str(first) if first == last else f"{first}–{last}" for first, last in zip(firsts, HORIZONS_H, strict=True)]
    parts = (
        pl.when(pl.col("ahead_h") <= last).then(pl.lit(name)) for name, last in zip(names, HORIZONS_H, strict=True)
    )
    return pl.coalesce(*parts).alias("horizon")
