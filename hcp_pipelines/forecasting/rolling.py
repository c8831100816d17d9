"""Forecasts as they would have been made: learnt anew at the beginning of each month from what was over by then."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.baselines import PowerForecast
from hcp_pipelines.forecasting.horizon_features import PowerSeries
from hcp_pipelines.forecasting.power_forecast import forecast_table

Learn = Callable[[list[PowerSeries], datetime], PowerForecast]
Progress = Callable[[str, int, int], None]


def rolling_forecasts(
    series: PowerSeries,
    window: tuple[datetime, datetime],
    learn: Learn,
    *,
    every_h: int = 1,
    progress: Progress = lambda *_: None,
) -> pl.DataFrame:  # fmt: skip
    """Forecasts of a window, asked every so many hours, with `price_usd_per_mwh` as it came to; as far as the series goes.

    Raises:
        ConfigError: the window is empty.
    """
    months = list(_months(*window))
    if not months:
        raise ConfigError(f"the window from {window[0]} to {window[1]} is empty: --from must be before --to")
    tables = []
    for n, (begin, end) in enumerate(months):
        progress("months", n, len(months))
        asked = np.arange(series.hours.row_at(begin), series.hours.row_at(end), every_h)
        tables.append(forecast_table(learn([series], begin), series, asked))
    progress("months", len(months), len(months))
    return with_prices(pl.concat(tables), series)


def with_prices(table: pl.DataFrame, series: PowerSeries) -> pl.DataFrame:
    """Forecasts with the price that each hour came to, null where there is none yet."""
    came_to = pl.DataFrame({"start_at": series.hours.starts_us, "price_usd_per_mwh": series.real_time})
    came_to = came_to.with_columns(pl.col("start_at").cast(INSTANT), pl.col("price_usd_per_mwh").fill_nan(None))
    return table.join(came_to, on="start_at", how="left", maintain_order="left")


def _months(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The parts of a window that lie in one UTC month each."""
    while start < end:
        following = (start.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=32)).replace(
            day=1
        )
        yield start, min(following, end)
        start = following
