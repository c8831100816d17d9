"""Hourly series of the grid on one grid of hours: capacity prices, demand, its forecast, temperature; and when each is known.

Demand of an hour is known after it. Day-ahead prices, capacity prices and forecasts of a local day are known from 13:30 of the
day before; at that instant the last hour whose demand is known is the one that ends at 13:00. Reads nothing, learns nothing.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from hcp_pipelines.markets.central import CENTRAL, operating_day

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LOAD, FORECAST, TEMPERATURE, WIND = "ercot_load_mw", "da_demand_forecast_mw", "temperature_c", "wind_gen_mw"
MCPC = tuple(f"{product}_mcpc_usd_per_mw_h" for product in ("rrs", "ecrs", "nspin"))
GRID = (LOAD, FORECAST, TEMPERATURE, WIND, *MCPC)  # columns of recorded series

MICROSECONDS_PER_MINUTE = 60_000_000
HOUR_US = 60 * MICROSECONDS_PER_MINUTE
LAST_KNOWN = time(13)
PUBLISHED = time(13, 30)  # local time of the day before: when a day's day-ahead figures are known


def microseconds(at: datetime) -> int:
    """Microseconds since 1970 of an aware instant."""
    return round(at.timestamp() * 1e6)


def instant(us: int) -> datetime:
    """The instant of microseconds since 1970."""
    return datetime.fromtimestamp(us / 1e6, UTC)


@dataclass(frozen=True)
class Hours:
    """A row an hour, NaN where nothing is recorded; `mcpc` is [product, hour], $/MW. Days and months are local."""

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
        return int(np.searchsorted(self.starts_us, microseconds(at)))


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


def published_at(at: datetime) -> datetime:
    """When the day-ahead figures of an instant's local day are known, UTC.

    >>> published_at(datetime(2024, 7, 1, 5, tzinfo=UTC)).isoformat()
    '2024-06-30T18:30:00+00:00'
    """
    before = operating_day(at) - timedelta(days=1)
    return datetime.combine(before, PUBLISHED, tzinfo=CENTRAL).astimezone(UTC)


def _known_us(day: int) -> int:
    """13:00 local of the day before: hours that start before it, all of them over by the publication at 13:30."""
    before = date(1970, 1, 1) + timedelta(days=day - 1)
    return microseconds(datetime.combine(before, LAST_KNOWN, tzinfo=CENTRAL).astimezone(UTC))
