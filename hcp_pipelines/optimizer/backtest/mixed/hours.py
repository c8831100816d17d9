"""Hourly series of a mixed facility from recorded files; `forecasting.hours` says when each is known."""

from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from hcp_pipelines.forecasting.hours import FORECAST, HOUR_US, LOAD, MCPC, TEMPERATURE, Hours, hours_of
from hcp_pipelines.optimizer.backtest import folder, series
from hcp_pipelines.optimizer.backtest.covering import told
from hcp_pipelines.optimizer.backtest.folder import Sources
from hcp_pipelines.optimizer.backtest.series import Floats, Prices, SeriesError

DEW_POINT = "dew_point_c"
WEATHER = (TEMPERATURE, DEW_POINT)
LIMITS = (
    dict.fromkeys((LOAD, FORECAST), (0.0, 1e6))
    | dict.fromkeys(WEATHER, (-90.0, 70.0))
    | dict.fromkeys(MCPC, (-1000.0, 18_000.0))
)  # beyond them a value is absurd
SERIES = {
    "load": ("--load", (LOAD,)), "forecast": ("--load", (FORECAST,)), "reserves": ("--reserves", MCPC),
    "weather": ("--weather", WEATHER),
}  # fmt: skip


def load_hours(sources: Sources, end: datetime) -> Hours:
    """All that is recorded in the folder until an instant.

    Raises:
        SeriesError: a file is missing, or a value is absurd.
    """
    load = _frame(sources, *SERIES["load"])
    first = load[series.START].min()
    assert isinstance(first, datetime)
    grid = pl.DataFrame({series.START: pl.datetime_range(first, end, "1h", closed="left", eager=True, time_unit="us")})
    for option, names in SERIES.values():
        grid = grid.join(_frame(sources, option, names), on=series.START, how="left", maintain_order="left")
    values = {n: grid[n].fill_null(np.nan).to_numpy() for n in grid.columns[1:]}
    return hours_of(
        grid[series.START].dt.timestamp("us").to_numpy(), np.stack([values[c] for c in MCPC]),
        values[LOAD], values[FORECAST], values[TEMPERATURE],
    )  # fmt: skip


def hour_files(sources: Sources) -> dict[str, str]:
    """The files that these series are from, by kind.

    Raises:
        SeriesError: a file is missing.
    """
    return {kind: told([f.name for f in _files(sources, *wanted)]) for kind, wanted in SERIES.items()}


def _files(sources: Sources, option: str, columns: tuple[str, ...]) -> list[Path]:
    return folder.needed(sources, f"{option} FILE, or a folder that has it: --prices DIR", (series.START, *columns))


def _frame(sources: Sources, option: str, columns: tuple[str, ...]) -> pl.DataFrame:
    files = _files(sources, option, columns)
    hours = folder.by_hour(files, columns)
    for name in columns:
        lowest, highest = LIMITS[name]
        absurd = hours.filter(pl.col(name).is_not_nan() & ~pl.col(name).is_between(lowest, highest))
        if len(absurd):
            hour, value = absurd.select(series.START, name).row(0)
            raise SeriesError(
                f"{told([file.name for file in files])}: {name}={value:g} in the hour of {hour:%Y-%m-%dT%H:%MZ}: must be "
                f"from {lowest:g} to {highest:g}. Mend or remove it ({len(absurd)} hours are like that)."
            )
    return hours


def hourly(prices: Prices, day_ahead: Floats, hours: Hours, steps: int) -> tuple[Floats, Floats]:
    """Day-ahead price [h] and real-time prices [h, step] on the grid of the hours, NaN where there are none."""
    starts = prices.starts_us
    at = np.searchsorted(hours.starts_us, starts, side="right") - 1
    step = (starts - hours.starts_us[at]) // (HOUR_US // steps)
    real_time = np.full((len(hours), steps), np.nan)
    inside = (at >= 0) & (step < steps)
    real_time[at[inside], step[inside]] = prices.usd_per_mwh[inside]
    by_hour = np.full(len(hours), np.nan)
    by_hour[at[inside]] = day_ahead[inside]
    return by_hour, real_time
