"""Power-price quantiles as a table: a forecast asked at some hours, beside its baselines."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.forecasting.baselines import (
    POINT_FORECASTS,
    PowerForecast,
    pairs,
    point_forecast,
)
from hcp_pipelines.forecasting.horizon_features import PowerSeries
from hcp_pipelines.forecasting.hours import Floats, Ints
from hcp_pipelines.forecasting.learnable.protocol import LEVELS, Fitted
from hcp_pipelines.forecasting.learnable.targets.price import ASKED_EVERY_H, PRICE, asked_of, joined

LEVEL_COLUMNS = tuple(f"p{round(level * 100):02}_usd_per_mwh" for level in LEVELS)
POINT_COLUMNS = tuple(f"{name}_usd_per_mwh" for name in POINT_FORECASTS)
PLAIN = "_errors$"  # how the methods end that are no models (`baselines.Baseline.method`); a regular expression
COLUMNS = (
    "settlement_point", "issued_at", "start_at", "ahead_h", *LEVEL_COLUMNS, *POINT_COLUMNS, "method", "trained_until",
)  # fmt: skip


def empty_table() -> pl.DataFrame:
    """No forecast at all, with the columns of one."""
    kinds: dict[str, pl.DataType] = dict.fromkeys((*LEVEL_COLUMNS, *POINT_COLUMNS), pl.Float64())
    kinds |= dict.fromkeys(("settlement_point", "method"), pl.String())
    kinds |= dict.fromkeys(("issued_at", "start_at", "trained_until"), INSTANT) | {"ahead_h": pl.Int64()}
    return pl.DataFrame(schema={name: kinds[name] for name in COLUMNS})


@dataclass(frozen=True)
class Learnt:
    """What a model of the price target has learnt, asked about rows of a series."""

    fitted: Fitted

    @property
    def method(self) -> str:
        """The model's name."""
        return self.fitted.name

    @property
    def trained_until(self) -> datetime:
        """As `PowerForecast`."""
        return self.fitted.trained_until

    def predict(self, series: PowerSeries, asked: Ints, wanted: Ints) -> Floats:
        """As `PowerForecast`."""
        return self.fitted.predict(asked_of(series, asked, wanted))


def learn(lessons: Sequence[PowerSeries], until: datetime, seed: int = 0) -> Learnt:
    """The model that ships, from what was over by an instant, of all points together.

    Raises:
        TooShortError: there are too few prices.
    """
    asked = [(series, np.arange(1, series.hours.row_at(until), ASKED_EVERY_H)) for series in lessons]
    examples = joined([asked_of(series, *pairs(rows, len(series.hours))) for series, rows in asked])
    return Learnt(PRICE.models[-1].fit(examples, until, seed))


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
