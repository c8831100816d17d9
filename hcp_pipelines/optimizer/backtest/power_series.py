"""A settlement point's series from recorded files, as the price forecasts see them. What a folder lacks besides prices is NaN."""

from datetime import datetime

import numpy as np
import polars as pl

from hcp_pipelines.forecasting.horizon_features import PowerSeries
from hcp_pipelines.forecasting.hours import (
    FORECAST,
    GRID,
    HOUR_US,
    LOAD,
    MCPC,
    MICROSECONDS_PER_MINUTE,
    TEMPERATURE,
    WIND,
    Ints,
    hours_of,
)  # fmt: skip
from hcp_pipelines.optimizer.backtest import folder, series
from hcp_pipelines.optimizer.backtest.folder import Sources
from hcp_pipelines.optimizer.backtest.mixed.hours import hourly
from hcp_pipelines.optimizer.backtest.series import Floats, SeriesError


def load_power_series(sources: Sources, start: datetime, end: datetime) -> tuple[PowerSeries, list[str]]:
    """The series of a point until an instant, and the names of the columns that no file of the folder has.

    Raises:
        SeriesError: the prices don't cover [start, end), or their intervals don't divide the hour.
    """
    of_point = folder.load_prices(sources, start, end)
    prices, day_ahead = of_point.prices, of_point.day_ahead
    if 60 % prices.step_minutes:
        raise SeriesError(f"prices of {prices.step_minutes} minutes: intervals must divide the hour")
    steps = 60 // prices.step_minutes
    first = prices.starts_us[0] // HOUR_US * HOUR_US
    starts = np.arange(
        first, prices.starts_us[-1] + prices.step_minutes * MICROSECONDS_PER_MINUTE, HOUR_US, dtype=np.int64
    )
    found = grid_columns(sources, starts)
    hours = hours_of(starts, np.stack([found[name] for name in MCPC]), found[LOAD], found[FORECAST], found[TEMPERATURE])
    by_hour, real_time = hourly(prices, day_ahead, hours, steps)
    loaded = PowerSeries(prices.point, hours, real_time.mean(axis=1), real_time[:, -1], by_hour, found[WIND])
    missing = [name for name, values in {**found, series.DAY_AHEAD: by_hour}.items() if not np.isfinite(values).any()]
    return loaded, missing


def grid_columns(sources: Sources, starts: Ints) -> dict[str, Floats]:
    """The columns of `GRID` by hour, an hour from the first file that has it; NaN where nothing is recorded."""
    grid = pl.DataFrame({series.START: pl.Series(starts).cast(pl.Datetime("us", "UTC"))})
    return {name: _column(sources, name, grid) for name in GRID}


def _column(sources: Sources, name: str, grid: pl.DataFrame) -> Floats:
    """A column by hour of the grid; NaN where there is none."""
    files = folder.files_with(sources, (series.START, name))
    if not files:
        return np.full(len(grid), np.nan)
    joined = grid.join(folder.by_hour(files, (name,)), on=series.START, how="left", maintain_order="left")
    values: Floats = joined[name].fill_null(np.nan).to_numpy()
    return values
