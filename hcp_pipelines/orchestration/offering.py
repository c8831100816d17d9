"""What the asset of reserve offers does: what is known of the hours ahead, each facility's programme, rows for the lake.

Prices ahead are quantiles of the forecasts in the lake, capacity prices the market's where they are published and the same hours'
of the last week where not, day-ahead prices, peaks and obligations those of Postgres. The arithmetic is in `optimizer.offers`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import psycopg

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.errors import HcpError
from hcp_pipelines.domain.ticks import Stream
from hcp_pipelines.fleet.solve_sites import load_sites
from hcp_pipelines.forecasting.learnable.protocol import LEVELS
from hcp_pipelines.forecasting.power_forecast import LEVEL_COLUMNS
from hcp_pipelines.optimizer.ai_work import NO_WORK
from hcp_pipelines.optimizer.inputs import FacilityInputs, SiteInputs
from hcp_pipelines.optimizer.load import facility_inputs, load_markets, load_present
from hcp_pipelines.optimizer.offers import (
    LIKE_LAST_WEEK,
    PUBLISHED,
    UNKNOWN,
    HoursAhead,
    Offer,
    chances_of,
    offers_of,
    with_tail,
)
from hcp_pipelines.optimizer.peaks import adders
from hcp_pipelines.optimizer.programme.spec import Floats
from hcp_pipelines.optimizer.queue.live import queue_ahead
from hcp_pipelines.orchestration.history import fetch, tables
from hcp_pipelines.orchestration.lake_state import has_tables
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import peak_chances

OFFERS = "core.power__reserve_offers"
QUANTILES = "core.power__price_quantiles"
PRODUCTS = ("RRS", "ECRS", "NSPIN")
CAPACITY: dict[str, Any] = {"start_at": INSTANT, "product": pl.String, "price_usd_per_mw_h": pl.Float64}
HOUR, AHEAD, WEEK = timedelta(hours=1), timedelta(hours=48), timedelta(days=7)
OLDEST_FORECAST = timedelta(hours=6)
SCHEMA: dict[str, Any] = {
    "facility_id": pl.String, "proposed_at": INSTANT, "start_at": INSTANT, "product": pl.String, "mw": pl.Float64,
    "least_usd_per_mw_h": pl.Float64, "capacity_usd_per_mw_h": pl.Float64, "capacity_from": pl.String, "revenue_usd": pl.Float64,
    "cost_usd": pl.Float64, "net_usd": pl.Float64, "load_mw": pl.Float64, "sold_mw": pl.Float64,
    "peak_usd_per_mwh": pl.Float64, "forecast_issued_at": INSTANT, "reason": pl.String, "run_id": pl.String,
}  # fmt: skip
_QUANTILES_SQL = """
select settlement_point, issued_at, start_at, {} from lake.core.power__price_quantiles
where issued_at > ? and issued_at <= ? and start_at >= ? and start_at < ?
qualify issued_at = max(issued_at) over (partition by settlement_point) order by settlement_point, start_at"""
_CAPACITY_SQL = (
    "select start_at, product, price_usd_per_mw_h from lake.raw.ercot__da_capacity where start_at >= ? and start_at < ?"
)
_DAY_AHEAD_SQL = """
    select distinct on (series, "timestamp") series, "timestamp", value from price_data
    where stream = %(stream)s and quality in ('good', 'unusual') and "timestamp" >= %(start)s and "timestamp" < %(end)s
    order by series, "timestamp", revision desc"""
_SOLD_SQL = """
    select facility_id, greatest(lower(during), %(start)s), least(upper(during), %(end)s), mw from grid_obligations
    where status in ('awarded', 'armed', 'deployed', 'recovering') and during && tstzrange(%(start)s, %(end)s)"""


@dataclass(frozen=True)
class Proposed:
    """Rows of the table, by facility why there are none, what a reader must know of them all; by whose word work is to come."""

    table: pl.DataFrame
    without: Mapping[str, str]
    told: str
    expected: str


def propose(connection: "psycopg.Connection[Any]", settings: Settings, now: datetime, run_id: str) -> Proposed:
    """What to offer of every facility in the hours ahead. What one facility trips over costs the others nothing."""
    sites = load_sites(connection)
    start = now.replace(minute=0, second=0, microsecond=0) + HOUR
    quantiles, (capacity, told) = read_quantiles(settings, now, start), read_capacity(settings, start)
    inputs, without = _inputs(connection, sites, now)
    work, expected = queue_ahead(connection, inputs, now, settings.expected_work)
    chances = peak_chances.chances(connection, now, start + AHEAD)
    hours = {"start": start, "end": start + AHEAD}
    sold = connection.execute(_SOLD_SQL, hours).fetchall()
    cleared = connection.execute(_DAY_AHEAD_SQL, hours | {"stream": Stream.POWER_DA_SPP.value}).fetchall()
    rows: list[dict[str, object]] = []
    for each in inputs:
        name, point = each.site.facility_id, each.site.settlement_point
        prices = quantiles.filter(pl.col("settlement_point") == point)
        if prices.is_empty():
            without[name] = (
                f"no quantiles of {point}'s prices are known for the hours ahead: `forecasts_job` makes them"
            )
            continue
        peaks = {a.start: a.usd_per_mwh for a in adders(chances, each.site.peak_usd_per_kw_year)}
        day_ahead = {at: price for series, at, price in cleared if series == point}
        ahead = hours_ahead(
            prices, capacity, day_ahead, peaks, [(s, e, mw) for owner, s, e, mw in sold if owner == name]
        )
        try:
            offers = offers_of(each, ahead, work.get(name, NO_WORK))
        except HcpError as error:
            without[name] = str(error)
            continue
        if not offers:
            without[name] = _why_nothing(ahead)
        rows += [_row(name, now, offer, prices["issued_at"][0], run_id) for offer in offers]
    return Proposed(pl.DataFrame(rows, schema=SCHEMA, orient="row"), without, told, expected)


def hours_ahead(
    prices: pl.DataFrame,
    capacity: pl.DataFrame,
    day_ahead: Mapping[datetime, float],
    charge: Mapping[datetime, float],
    sold: Sequence[tuple[datetime, datetime, float]],
) -> HoursAhead:
    """The hours that have quantiles, one after the other from the first.

    Args:
        prices: of one settlement point: `start_at` and the quantiles, oldest first.
        capacity: `start_at`, `product`, `price_usd_per_mw_h` of the hours ahead and of the week before.
        day_ahead: $/MWh at the point, by hour, as far as they are published.
        charge: $/MWh that a coincident peak may add, by hour.
        sold: (start, end, MW) of what is sold already; an hour that it touches is sold whole.
    """
    starts = prices["start_at"].to_list()
    unbroken = next((n for n, at in enumerate(starts) if at != starts[0] + n * HOUR), len(starts))
    starts = starts[:unbroken]
    known = {(product, at): price for at, product, price in capacity.iter_rows()}
    found = {product: [_capacity(known, product, at) for at in starts] for product in PRODUCTS}
    quantiles = prices.select(LEVEL_COLUMNS).to_numpy()[:unbroken].T.astype(np.float64)
    return HoursAhead(
        tuple(starts),
        with_tail(LEVELS, quantiles, np.array([day_ahead.get(at, np.nan) for at in starts], dtype=float)),
        chances_of(LEVELS),
        {product: np.array([price for price, _ in each], dtype=float) for product, each in found.items()},
        {product: tuple(told for _, told in each) for product, each in found.items()},
        np.array([charge.get(at, 0.0) for at in starts]),
        _sold(starts, sold),
    )


def read_quantiles(settings: Settings, now: datetime, start: datetime) -> pl.DataFrame:
    """By settlement point the newest quantiles that were asked by now, of the hours ahead; none that are older than six hours."""
    from hcp_pipelines.storage import lake

    if not has_tables(settings, [QUANTILES]):
        return pl.DataFrame(schema={"settlement_point": pl.String})
    query = _QUANTILES_SQL.format(", ".join(LEVEL_COLUMNS))
    with lake.attach(settings, read_only=True) as connection:
        return connection.execute(query, [now - OLDEST_FORECAST, now, start, start + AHEAD]).pl()


def read_capacity(settings: Settings, start: datetime) -> tuple[pl.DataFrame, str]:
    """Capacity prices of the hours ahead as the market has published them, and the lake's of the week before.

    Where the market doesn't answer the lake alone has to do; the text says why.
    """
    from hcp_pipelines.storage import lake

    found, why = [pl.DataFrame(schema=CAPACITY)], ""
    try:
        found.append(fetch.da_capacity_prices(settings, (start, start + AHEAD)))
    except HcpError as error:
        why = f"the market told no capacity prices: {error}"
    if has_tables(settings, [tables.DA_CAPACITY.name]):
        with lake.attach(settings, read_only=True) as connection:
            found.append(connection.execute(_CAPACITY_SQL, [start - WEEK, start]).pl())
    return pl.concat(each.select(pl.col(n).cast(k) for n, k in CAPACITY.items()) for each in found).drop_nulls(), why


def _inputs(
    connection: "psycopg.Connection[Any]", sites: Sequence[SiteInputs], now: datetime
) -> tuple[list[FacilityInputs], dict[str, str]]:
    """What devices do and indices are; what is sold is told by hour, so no floor."""
    markets, present = load_markets(connection, sites, now), load_present(connection, sites)
    found, without = [], {}
    for site in sites:
        try:
            found.append(facility_inputs(site, markets, present.get(site.facility_id, {})))
        except HcpError as error:
            without[site.facility_id] = str(error)
    return found, without


def _capacity(known: Mapping[tuple[str, datetime], float], product: str, at: datetime) -> tuple[float, str]:
    """A product's price in an hour, and how it is known: as published, else the mean of that hour on the seven days before."""
    if (product, at) in known:
        return known[product, at], PUBLISHED
    days = [known[product, at - day] for n in range(1, 9) if (product, at - (day := timedelta(days=n))) in known]
    return (float(np.mean(days)), LIKE_LAST_WEEK) if days else (np.nan, UNKNOWN)


def _sold(starts: Sequence[datetime], sold: Sequence[tuple[datetime, datetime, float]]) -> Floats:
    return np.array(
        [sum(mw for begin, end, mw in sold if begin < at + HOUR and end > at) for at in starts], dtype=float
    )


def _why_nothing(ahead: HoursAhead) -> str:
    if all(told == UNKNOWN for each in ahead.capacity_from.values() for told in each):
        return "no capacity price is known for any hour ahead"
    return "no reserve pays more than what its load forgoes by staying on"


def _row(facility_id: str, now: datetime, offer: Offer, issued_at: datetime, run_id: str) -> dict[str, object]:
    return {
        "facility_id": facility_id, "proposed_at": now, "start_at": offer.start_at, "product": offer.product, "mw": offer.mw,
        "least_usd_per_mw_h": round(offer.least_usd_per_mw_h, 2), "capacity_usd_per_mw_h": offer.capacity_usd_per_mw_h,
        "capacity_from": offer.capacity_from, "revenue_usd": offer.revenue_usd, "cost_usd": offer.cost_usd,
        "net_usd": offer.net_usd, "load_mw": offer.load_mw, "sold_mw": offer.sold_mw,
        "peak_usd_per_mwh": offer.charge_usd_per_mwh, "forecast_issued_at": issued_at, "reason": offer.reason, "run_id": run_id,
    }  # fmt: skip
