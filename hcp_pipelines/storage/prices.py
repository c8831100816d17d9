"""Typed wrappers of `price_data` (EC-09): store a batch and announce it, latest prices, price history.

The SQL is in storage/sql. Whether a tick is good is judged before it gets here; nothing is acted on here.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import psycopg

from hcp_pipelines.domain.ticks import Quality, Stream, Tick
from hcp_pipelines.storage.statements import history_rows, sql

MAX_BATCH_ROWS = 5_000

PRICE_TYPE_OF_STREAM: Mapping[Stream, str] = {
    Stream.POWER_RT_LMP: "electricity",
    Stream.POWER_RT_SPP: "electricity",
    Stream.POWER_DA_SPP: "electricity",
    Stream.BTC_USD: "btc",
    Stream.BTC_NETWORK: "network",
    Stream.GPU_SPOT: "gpu_spot",
    Stream.GRID_SIGNAL: "grid_signal",
    Stream.WEATHER_TEMPERATURE: "weather",
}


@dataclass(frozen=True, slots=True)
class StoredTick:
    """What became of one recorded tick: its id, its revision and when its row was written (real time)."""

    id: int
    stream: Stream
    series: str
    source_at: datetime
    revision: int
    quality: Quality
    created_at: datetime


async def store_price_data(
    connection: psycopg.AsyncConnection[tuple[Any, ...]], ticks: Sequence[Tick]
) -> list[StoredTick]:
    """Record judged ticks and announce the actionable ones on `hcp_tick`; the rows that were new, ascending by id.

    One statement, so one transaction and one round trip on an autocommit connection. Duplicates are left out of the
    answer. Of ticks with equal (stream, series, source_at) in one call only the last is recorded: callers that need
    each revision store them one call after the other, as `split_revisions` does.
    """
    rows = _last_of_each_instant(ticks)
    if not rows:
        return []
    if len(rows) > MAX_BATCH_ROWS:
        raise ValueError(f"{len(rows)} ticks in one batch, the limit is {MAX_BATCH_ROWS}: store them in parts.")
    cursor = await connection.execute(sql("store_price_data"), _columns(rows), prepare=True)
    return [
        StoredTick(row[0], Stream(row[1]), row[2], row[3], row[4], Quality(row[5]), row[6])
        for row in await cursor.fetchall()
    ]


def split_revisions(ticks: Sequence[Tick]) -> list[list[Tick]]:
    """The ticks in their order as batches in which no (stream, series, source_at) occurs twice."""
    batches: list[list[Tick]] = []
    seen: set[tuple[Stream, str, datetime]] = set()
    for tick in ticks:
        key = (tick.stream, tick.series, tick.source_at)
        if not batches or key in seen or len(batches[-1]) >= MAX_BATCH_ROWS:
            batches.append([])
            seen = set()
        seen.add(key)
        batches[-1].append(tick)
    return batches


def get_latest_prices(connection: psycopg.Connection[tuple[Any, ...]], price_type: str | None = None) -> list[Tick]:
    """Newest actionable tick of each stream, series (settlement point, exchange, GPU type) and source."""
    return [_tick(row) for row in connection.execute(sql("latest_prices"), {"price_type": price_type}).fetchall()]


def get_price_history(
    connection: psycopg.Connection[tuple[Any, ...]], price_type: str, start: datetime, end: datetime
) -> list[Tick]:
    """Ticks of a price type that hold from within [start, end), ascending; the last revision, nothing absurd.

    Raises:
        ValueError: more rows than HISTORY_ROW_LIMIT: read a shorter window, or the lake.
    """
    return [_tick(row) for row in history_rows(connection, "price_history", {"price_type": price_type}, start, end)]


async def recent_ticks(connection: psycopg.AsyncConnection[tuple[Any, ...]], rows_per_series: int = 64) -> list[Tick]:
    """The last recorded ticks of every series, whatever their quality: what a restarted feed remembers."""
    cursor = await connection.execute(sql("recent_price_data"), {"rows_per_series": rows_per_series})
    return [_tick(row) for row in await cursor.fetchall()]


async def settlement_points(connection: psycopg.AsyncConnection[tuple[Any, ...]]) -> list[str]:
    """The settlement points of the facilities that are not retired, sorted."""
    cursor = await connection.execute(sql("settlement_points"))
    return [row[0] for row in await cursor.fetchall()]


async def market_rules(
    connection: psycopg.AsyncConnection[tuple[Any, ...]],
) -> list[tuple[str, str, datetime, datetime | None, float]]:
    """Scalar market rules as (market, rule, effective_from, effective_to, value)."""
    cursor = await connection.execute(sql("market_rules"))
    return [(row[0], row[1], row[2], row[3], row[4]) for row in await cursor.fetchall()]


def _last_of_each_instant(ticks: Sequence[Tick]) -> list[Tick]:
    return list({(tick.stream, tick.series, tick.source_at): tick for tick in ticks}.values())


def _columns(ticks: Sequence[Tick]) -> dict[str, list[Any]]:
    return {
        "stream": [tick.stream.value for tick in ticks],
        "series": [tick.series for tick in ticks],
        "holds_from": [tick.source_at for tick in ticks],
        "price_type": [PRICE_TYPE_OF_STREAM[tick.stream] for tick in ticks],
        "value": [tick.value for tick in ticks],
        "unit": [tick.unit for tick in ticks],
        "source": [tick.source for tick in ticks],
        "region": [tick.series if tick.stream.value.startswith("power.") else "" for tick in ticks],
        "quality": [tick.quality.value for tick in ticks],
        "quality_reason": [str(tick.metadata.get("quality_reason", "")) for tick in ticks],
        "metadata": [
            json.dumps({key: value for key, value in tick.metadata.items() if key != "quality_reason"})
            for tick in ticks
        ],
        "received_at": [tick.received_at or tick.source_at for tick in ticks],
    }


def _tick(row: tuple[Any, ...]) -> Tick:
    """A tick of a row with the columns of sql/latest_prices.sql; its reason stands in the metadata."""
    tick = Tick(
        stream=Stream(row[1]),
        series=row[2],
        source_at=row[3],
        value=row[5],
        unit=row[6],
        source=row[7],
        quality=Quality(row[9]),
        revision=row[11],
        metadata=row[12],
        id=row[0],
        received_at=row[13],
    )
    return replace(tick, metadata={**tick.metadata, "quality_reason": row[10]}) if row[10] else tick
