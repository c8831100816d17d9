"""Power-price quantiles as a table: the best forecast that the history allows, asked at some hours, beside its baselines."""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.forecasting.baselines import (
    POINT_FORECASTS,
    PowerForecast,
    learn_baseline,
    pairs,
    point_forecast,
)
from hcp_pipelines.forecasting.horizon_features import PowerSeries
from hcp_pipelines.forecasting.hours import Ints
from hcp_pipelines.forecasting.learnable.protocol import LEVELS, TooShortError
from hcp_pipelines.forecasting.quantiles import learn

LEVEL_COLUMNS = tuple(f"p{round(level * 100):02}_usd_per_mwh" for level in LEVELS)
POINT_COLUMNS = tuple(f"{name}_usd_per_mwh" for name in POINT_FORECASTS)
COLUMNS = (
    "settlement_point", "issued_at", "start_at", "ahead_h", *LEVEL_COLUMNS, *POINT_COLUMNS, "method", "trained_until",
)  # fmt: skip


def empty_table() -> pl.DataFrame:
    """No forecast at all, with the columns of one."""
    kinds: dict[str, pl.DataType] = dict.fromkeys((*LEVEL_COLUMNS, *POINT_COLUMNS), pl.Float64())
    kinds |= dict.fromkeys(("settlement_point", "method"), pl.String())
    kinds |= dict.fromkeys(("issued_at", "start_at", "trained_until"), INSTANT) | {"ahead_h": pl.Int64()}
    return pl.DataFrame(schema={name: kinds[name] for name in COLUMNS})


def best_forecast(lessons: Sequence[PowerSeries], until: datetime, seed: int = 0) -> tuple[PowerForecast, str]:
    """Boosted trees from what was over by an instant, or the baseline; and why, where it is the baseline."""
    try:
        return learn(lessons, until, seed), ""
    except TooShortError as error:
        return learn_baseline(lessons, until), str(error)


def forecast_table(forecast: PowerForecast, series: PowerSeries, asked: Ints) -> pl.DataFrame:
    """A row for each hour asked and each of the 48 from it on, as far as the grid goes; what can't be said has no row.

    Returns:
        `COLUMNS`; `ahead_h` is 1 for the hour that begins at `issued_at`. Prices are $/MWh; baselines are null where unknown.

    Raises:
        TrainedTooLateError: an hour asked begins before the forecast's training ended.
    """
    asked, wanted = pairs(asked, len(series.hours))
    starts = series.hours.starts_us
    columns = dict(zip(LEVEL_COLUMNS, forecast.predict(series, asked, wanted).T, strict=True))
    columns |= {
        column: point_forecast(name, series, asked, wanted)
        for name, column in zip(POINT_FORECASTS, POINT_COLUMNS, strict=True)
    }
    table = pl.DataFrame(
        {"issued_at": starts[asked], "start_at": starts[wanted], "ahead_h": wanted - asked + 1} | columns
    )
    told = table.filter(pl.col(LEVEL_COLUMNS[0]).is_finite()).with_columns(
        pl.col("issued_at", "start_at").cast(INSTANT), pl.col(POINT_COLUMNS).fill_nan(None),
        settlement_point=pl.lit(series.point), method=pl.lit(forecast.method),
        trained_until=pl.lit(forecast.trained_until).cast(INSTANT),
    )  # fmt: skip
    return told.select(COLUMNS)
