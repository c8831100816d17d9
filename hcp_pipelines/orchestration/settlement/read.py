"""What a settlement reads: the market as it stands now, a facility's journal and devices, what it owed the grid.

Prices come from the tables of one series (`core.power__settled_prices`, …), which have the newest word of their sources. Slots
are an inventory generation's: each interval is settled with the devices of the last one that had a switch by its end, and a day
before the first switch of all is not settled, since where devices were is not known.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from typing import Any

import polars as pl
import psycopg

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.ticks import ACTIONABLE, Stream
from hcp_pipelines.economics.mining import HASHPRICE
from hcp_pipelines.economics.settlement import INTERVAL_H
from hcp_pipelines.fleet.inventory import FacilityInventory, load_inventory_of
from hcp_pipelines.optimizer.backtest.replay.history import index_of
from hcp_pipelines.optimizer.settlement.inputs import Market
from hcp_pipelines.optimizer.settlement.obligations import OBLIGATION
from hcp_pipelines.orchestration.history.reading import Reader

Window = tuple[datetime, datetime]
Connection = psycopg.Connection[Any]
DAY, MONTH, INTERVAL = timedelta(days=1), timedelta(days=32), timedelta(hours=INTERVAL_H)
PRICES, NETWORK, RATES = "core.power__settled_prices", "core.bitcoin__network", "core.gpu__rental_rates"
CAPACITY, LOADS, TICKS, JOURNAL = (
    "raw.ercot__da_capacity",
    "raw.ercot__zone_load",
    "raw.price_ticks",
    "raw.switch_journal",
)
_F, _S = pl.Float64, pl.String
_TABLES: dict[str, tuple[str, str, dict[str, Any], timedelta, timedelta]] = {
    "prices": (PRICES, "", {"settlement_point": _S, "price_usd_per_mwh": _F}, timedelta(), timedelta()),
    "hashprices": (
        NETWORK, "and hashprice_usd_per_ph_day is not null", {"hashprice_usd_per_ph_day": _F}, timedelta(), timedelta()
    ),
    "rates": (RATES, "", {"gpu_type": _S, "rate_usd_per_gpu_hour": _F}, DAY, timedelta()),
    "capacity": (CAPACITY, "", {"product": _S, "price_usd_per_mw_h": _F}, timedelta(hours=1), timedelta()),
    "loads": (LOADS, "and zone = 'total'", {"load_mw": _F}, MONTH, MONTH),
}  # fmt: skip
_TICKS = f"""
select stream, series, "timestamp", revision, value from lake.{TICKS}
where stream in ('{Stream.BTC_USD.value}', '{Stream.BTC_NETWORK.value}') and "timestamp" >= ? and "timestamp" < ?
  and quality in ({", ".join(f"'{q}'" for q in ACTIONABLE)})"""  # noqa: S608 - our constants
_TICK = {"stream": _S, "series": _S, "timestamp": INSTANT, "revision": pl.Int32, "value": _F}
_JOURNAL = f"""
select event, command_id, assignment, from_state, to_state, devices, deferred, failed, slots, mw_delta, reason, simulated_at,
       group_id, decision_price_usd_per_mwh, usd_per_hour
from lake.{JOURNAL} where facility_id = ? and generation = ? and simulated_at < ? order by id"""  # noqa: S608
_GENERATIONS = f"""
select generation, min(simulated_at) from lake.{JOURNAL} where facility_id = ? group by 1 order by 1"""  # noqa: S608
_OWED = """
select id, programme, status, mw, lower(during), upper(during), notice_s, duration_s, penalty_usd_per_mwh, deployed_at,
       recalled_at, baseline_mw, delivered_fraction
from grid_obligations where facility_id = %s and during && tstzrange(%s, %s) order by id"""


@dataclass(frozen=True)
class Recorded:
    """A facility's devices and its journal: all rows of their generation up to an instant."""

    inventory: FacilityInventory
    journal: pl.DataFrame


def read_market(reader: Reader, window: Window) -> Market:
    """The market of a window; what was never recorded is empty."""
    frames = {}
    for name, (table, condition, columns, before, after) in _TABLES.items():
        sql = f"from lake.{table} where start_at >= ? and start_at < ? {condition} order by start_at"
        span = window[0] - before, window[1] + after
        frames[name] = reader.table(table, sql, span, {"start_at": INSTANT} | columns)
    market = Market(**frames)
    return replace(market, hashprices=_with_ticks(reader, market.hashprices, window))


def _with_ticks(reader: Reader, days: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Hashprice by day; of days whose blocks or closes were not fetched, the mean of what the feed recorded."""
    ticks = reader.table(TICKS, _TICKS, (window[0] - DAY, window[1]), _TICK)
    if ticks.is_empty():
        return days
    newest = ticks.sort("timestamp", "revision").unique(["stream", "series", "timestamp"], keep="last")
    told = index_of(newest, HASHPRICE).filter(pl.col("start") >= window[0])
    means = told.group_by(start_at=pl.col("start").dt.truncate("1d")).agg(
        pl.col(HASHPRICE).mean().alias("hashprice_usd_per_ph_day")
    )
    missing = means.join(days, on="start_at", how="anti").with_columns(pl.col("start_at").cast(INSTANT))
    return pl.concat([days, missing.select(days.columns)]).sort("start_at")


def generations(reader: Reader, facility_id: str, days: Sequence[Window]) -> Iterator[tuple[int, list[Window]]]:
    """The days that can be settled, those of one inventory generation together."""
    first = dict(reader.rows(_GENERATIONS, (facility_id,)).iter_rows()) if reader.has(JOURNAL) else {}
    for generation, of_it in groupby(by_generation(first, days), key=lambda each: each[0]):
        yield generation, [span for _, span in of_it]


def by_generation(first: Mapping[int, datetime], days: Sequence[Window]) -> Iterator[tuple[int, Window]]:
    """Days, those in which the inventory became another in parts: from the settlement interval of the new one's first switch on.

    Args:
        first: by generation, its first switch.
        days: [start, end) each; what ends before the first switch of all is left out.
    """
    for start, end in days:
        begun = sorted(generation for generation, at in first.items() if at < end)
        if begun:
            earlier = [generation for generation in begun if first[generation] <= start]
            parts = {start: max(earlier, default=begun[0])}
            later = ((start + (first[g] - start) // INTERVAL * INTERVAL, g) for g in begun if g > parts[start])
            parts |= {at: g for at, g in later if at < end}  # of two within an interval, the last
            for since, until in pairwise([*sorted(parts), end]):
                yield parts[since], (since, until)


def read_recorded(
    reader: Reader, connection: Connection, facility_id: str, generation: int, until: datetime
) -> Recorded:
    """A facility's devices of a generation, and their journal up to an instant."""
    inventory = load_inventory_of(connection, facility_id, generation)
    return Recorded(inventory, reader.rows(_JOURNAL, (facility_id, generation, until)))


def read_owed(connection: Connection, facility_id: str, window: Window) -> pl.DataFrame:
    """The facility's obligations that touch a window, as they stand now."""
    rows = connection.execute(_OWED, (facility_id, *window)).fetchall()
    told = pl.DataFrame(rows, schema=OBLIGATION, orient="row")
    return told.with_columns(pl.col("baseline_mw", "delivered_fraction").fill_nan(None))
