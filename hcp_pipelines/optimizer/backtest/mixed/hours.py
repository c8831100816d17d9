"""Hourly series of a mixed facility from recorded files; `forecasting.hours` says when each is known."""

from datetime import datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from hcp_pipelines.forecasting.hours import Hours, hours_of
from hcp_pipelines.optimizer.backtest import folder, series
from hcp_pipelines.optimizer.backtest.folder import Sources
from hcp_pipelines.optimizer.backtest.mixed.site import PRODUCTS
from hcp_pipelines.optimizer.backtest.series import Floats

LOAD, FORECAST, TEMPERATURE = "ercot_load_mw", "da_demand_forecast_mw", "temperature_c"


def load_hours(sources: Sources, end: datetime) -> Hours:
    """All that is recorded in the folder until an instant.

    Raises:
        SeriesError: a file is missing.
    """
    load = _frame(sources, "ercot_load_mw", (LOAD,))
    first = load[series.START].min()
    assert isinstance(first, datetime)
    grid = pl.DataFrame({series.START: pl.datetime_range(first, end, "1h", closed="left", eager=True, time_unit="us")})
    columns = tuple(f"{p}_mcpc_usd_per_mw_h" for p in PRODUCTS)
    for names in ((LOAD,), (FORECAST,), columns, (TEMPERATURE, "dew_point_c")):
        grid = grid.join(_frame(sources, names[0], names), on=series.START, how="left", maintain_order="left")
    values = {n: grid[n].cast(pl.Float64).fill_null(np.nan).to_numpy() for n in grid.columns[1:]}
    return hours_of(
        grid[series.START].dt.timestamp("us").to_numpy(), np.stack([values[c] for c in columns]),
        values[LOAD], values[FORECAST], values[TEMPERATURE],
    )  # fmt: skip


def _frame(sources: Sources, option: str, columns: tuple[str, ...]) -> pl.DataFrame:
    file = folder.first(sources, f"a folder with {option}: --prices DIR", (series.START, *columns))
    frame = series.read_columns(file, (series.START, *columns))
    return frame.drop_nulls(series.START).unique(series.START, keep="last").sort(series.START)


def as_intervals(hourly: npt.NDArray[np.float64], steps: int) -> Floats:
    """Hourly values, each repeated for its intervals; the last axis is time."""
    repeated: Floats = np.repeat(hourly, steps, axis=-1)
    return repeated
