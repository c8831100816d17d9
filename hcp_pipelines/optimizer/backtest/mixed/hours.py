"""Hourly series of a mixed facility on one grid: capacity prices, demand, its forecast, temperature; and when each is known.

Demand of an hour is known after it. Day-ahead prices, capacity prices and forecasts of a local day are known from 13:30 of the
day before; at that instant the last hour whose demand is known is the one that ends at 13:00.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from hcp_pipelines.markets.central import CENTRAL
from hcp_pipelines.optimizer.backtest import folder, series
from hcp_pipelines.optimizer.backtest.folder import Sources
from hcp_pipelines.optimizer.backtest.mixed.site import PRODUCTS
from hcp_pipelines.optimizer.backtest.series import Floats, Ints

HOUR_US = 60 * series.MICROSECONDS_PER_MINUTE
LAST_KNOWN = time(13)
LOAD, FORECAST, TEMPERATURE = "ercot_load_mw", "da_demand_forecast_mw", "temperature_c"


@dataclass(frozen=True)
class Hours:
    """A row an hour, NaN where nothing is recorded; `mcpc` by product of `PRODUCTS`. Days and months are local."""

    starts_us: Ints
    mcpc: Floats
    load_mw: Floats
    forecast_mw: Floats
    temperature_c: Floats
    local_hour: Ints
    day: Ints
    month: Ints  # year · 12 + month − 1
    ahead_rows: Ints  # rows whose demand is known when the hour's day-ahead figures are published

    def __len__(self) -> int:
        """Hours."""
        return len(self.starts_us)

    @property
    def month_of_year(self) -> Ints:
        """1 to 12."""
        return self.month % 12 + 1

    def row_at(self, at: datetime) -> int:
        """The first hour that starts at or after an instant."""
        return int(np.searchsorted(self.starts_us, series.microseconds(at)))


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


def hours_of(starts_us: Ints, mcpc: Floats, load_mw: Floats, forecast_mw: Floats, temperature_c: Floats) -> Hours:
    """The grid of series that start at whole hours, one after the other."""
    local = pl.Series(starts_us).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(CENTRAL.key)
    days = local.dt.date()
    day = days.cast(pl.Int32).to_numpy().astype(np.int64)
    month = (local.dt.year().cast(pl.Int64) * 12 + local.dt.month().cast(pl.Int64) - 1).to_numpy()
    known_us = {int(d): _known_us(int(d)) for d in np.unique(day)}
    ahead = np.searchsorted(starts_us, [known_us[int(d)] for d in day])
    hour = local.dt.hour().to_numpy().astype(np.int64)
    return Hours(starts_us, mcpc, load_mw, forecast_mw, temperature_c, hour, day, month, ahead)


def _known_us(day: int) -> int:
    """13:00 local of the day before: hours that start before it, all of them over by the publication at 13:30."""
    before = date(1970, 1, 1) + timedelta(days=day - 1)
    return series.microseconds(datetime.combine(before, LAST_KNOWN, tzinfo=CENTRAL).astimezone(UTC))


def _frame(sources: Sources, option: str, columns: tuple[str, ...]) -> pl.DataFrame:
    file = folder.first(sources, f"a folder with {option}: --prices DIR", (series.START, *columns))
    frame = series.read_columns(file, (series.START, *columns))
    return frame.drop_nulls(series.START).unique(series.START, keep="last").sort(series.START)


def as_intervals(hourly: npt.NDArray[np.float64], steps: int) -> Floats:
    """Hourly values, each repeated for its intervals; the last axis is time."""
    repeated: Floats = np.repeat(hourly, steps, axis=-1)
    return repeated
