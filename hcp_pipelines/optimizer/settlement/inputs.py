"""What a facility's day settles at, put together from frames of the market, the meter and obligations. Reads nothing itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.economics.settlement import INTERVAL_H
from hcp_pipelines.markets.central import operating_days
from hcp_pipelines.optimizer.backtest.replay.fleet import Fleet
from hcp_pipelines.optimizer.settlement import obligations
from hcp_pipelines.optimizer.settlement.day import HASHED, METERED, RATES, Day, Terms

INTERVAL = timedelta(hours=INTERVAL_H)
RATE_HOLDS = timedelta(days=1)  # a rental rate is taken for so long where no newer one was recorded
PEAK_MONTHS = (6, 7, 8, 9)  # of 4CP, local


@dataclass(frozen=True)
class Market:
    """Prices as they stand now, corrections included; all `start_at`.

    `prices`: 15 minutes and `settlement_point`, `price_usd_per_mwh`. `hashprices`: UTC day, `hashprice_usd_per_ph_day`. `rates`:
    `gpu_type`, `rate_usd_per_gpu_hour`, each from when on it was recorded. `capacity`: hour and `product`, `price_usd_per_mw_h`.
    `loads`: hour, `load_mw` of the system, of all months that the window touches.
    """

    prices: pl.DataFrame
    hashprices: pl.DataFrame
    rates: pl.DataFrame
    capacity: pl.DataFrame
    loads: pl.DataFrame


@dataclass(frozen=True)
class Facility:
    """What a facility brings: its devices in money, its contract, and what programmes pay for energy not drawn."""

    fleet: Fleet
    terms: Terms
    response_usd_per_mwh: Mapping[str, float]


@dataclass(frozen=True)
class Told:
    """What was measured in a window: energy by settlement interval (METERED), hashes by interval and group (HASHED)."""

    meter: pl.DataFrame
    hashed: pl.DataFrame


def day_of(
    facility: Facility, market: Market, owed: pl.DataFrame, told: Told, window: tuple[datetime, datetime]
) -> Day:
    """The day of a window of whole settlement intervals.

    Args:
        facility: whose day.
        market: of the window at least.
        owed: its obligations (columns `obligations.OBLIGATION`).
        told: by the meter and by the miners, as far as they were read.
        window: [start, end).
    """
    site = facility.fleet.site
    starts = pl.DataFrame({"start_at": list(_each(window))}, schema={"start_at": INSTANT})
    prices = market.prices.filter(pl.col("settlement_point") == site.settlement_point)
    intervals = (
        starts.join(prices.select("start_at", "price_usd_per_mwh"), on="start_at", how="left", maintain_order="left")
        .with_columns(day=pl.col("start_at").dt.truncate("1d"))
        .join(market.hashprices.rename({"start_at": "day"}), on="day", how="left", maintain_order="left")
        .drop("day")
    )
    intervals = intervals.with_columns(is_peak=is_peak(market.loads))
    return Day(
        facility.fleet,
        facility.terms,
        intervals,
        rates_of(starts, market.rates),
        told.meter.select(*METERED),
        obligations.promises(owed, starts, market.capacity),
        obligations.events(owed, starts, facility.response_usd_per_mwh),
        obligations.missed(owed, starts),
        told.hashed.select(*HASHED),
    )


def booked(lines: pl.DataFrame, facility_id: str) -> pl.DataFrame:
    """The lines as a facility's, with `operating_day`: the Central day that they settle in, of 23, 24 or 25 hours."""
    day, facility = operating_days(pl.col("start_at")).alias("operating_day"), pl.lit(facility_id).alias("facility_id")
    return lines.select("start_at", day, facility, pl.exclude("start_at"))


def peak_hours(loads: pl.DataFrame, months: Sequence[int]) -> list[datetime]:
    """The hour of the highest load of each local month so far, of those months that count; the first of equals."""
    day = operating_days(pl.col("start_at"))
    local = loads.drop_nulls().with_columns(month=day.dt.month(), year=day.dt.year())
    counted = local.filter(pl.col("month").is_in(months)).sort("load_mw", "start_at", descending=[True, False])
    return counted.unique(["year", "month"], keep="first", maintain_order=True)["start_at"].sort().to_list()


def is_peak(loads: pl.DataFrame) -> pl.Expr:
    """Whether an interval is of a peak hour: null where it could be, and its demand is not known."""
    hour, month = pl.col("start_at").dt.truncate("1h"), operating_days(pl.col("start_at")).dt.month()
    is_known = ~month.is_in(PEAK_MONTHS) | hour.is_in(loads.drop_nulls()["start_at"].to_list())
    return pl.when(is_known).then(hour.is_in(peak_hours(loads, PEAK_MONTHS)))


def rates_of(starts: pl.DataFrame, rates: pl.DataFrame) -> pl.DataFrame:
    """A row an interval and GPU type: the newest rate as the interval began, for a day at most."""
    types = rates.select("gpu_type").unique().sort("gpu_type")
    asked = starts.join(types, how="cross").sort("start_at")
    newest = rates.select(*RATES).sort("start_at")
    found = asked.join_asof(newest, on="start_at", by="gpu_type", tolerance=RATE_HOLDS, check_sortedness=False)
    return found.drop_nulls().select(*RATES)


def _each(window: tuple[datetime, datetime]) -> Sequence[datetime]:
    start, end = window
    return [start + n * INTERVAL for n in range((end - start) // INTERVAL)]
