"""The recent prices of settlement points as they are known at an instant, from Postgres, on a grid of 15 minutes.

A settlement price where one has come, else the mean of its interval's LMPs; the running interval's is the decision price.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from hcp_pipelines.domain.ticks import Stream
from hcp_pipelines.economics.power import INTERVAL_MINUTES, interval_start
from hcp_pipelines.forecasting.hours import HOUR_US, MICROSECONDS_PER_MINUTE, Floats, Ints, microseconds
from hcp_pipelines.forecasting.power_features import DAY_AHEAD_H
from hcp_pipelines.forecasting.price_paths import PAST_DAYS

STEP_US = INTERVAL_MINUTES * MICROSECONDS_PER_MINUTE
BACK = timedelta(days=PAST_DAYS)
AHEAD = timedelta(hours=DAY_AHEAD_H)
UNSETTLED = timedelta(hours=3)  # settlement prices come a quarter of an hour after their interval
LONGEST_HELD = 8  # intervals over which the last price is carried, as in the back-test
STREAMS = (Stream.POWER_RT_SPP, Stream.POWER_RT_LMP, Stream.POWER_DA_SPP)
LEAST_KNOWN = timedelta(days=2)  # with 28 days a model closes 0.01 more of the gap (docs/decisions.md)

_SERIES_SQL = """
    select w.stream, w.series, t.packed
    from (select stream, since, until, series
          from unnest(%(streams)s::text[], %(since)s::timestamptz[], %(until)s::timestamptz[]) as u(stream, since, until)
          cross join unnest(%(points)s::text[]) as v(series)) as w
    cross join lateral (
        select string_agg(int8send((extract(epoch from "timestamp") * 1000000)::bigint) || float8send(value), ''::bytea
                          order by "timestamp", revision) as packed
        from price_data p
        where p.stream = w.stream and p.series = w.series and p.quality in ('good', 'unusual')
          and p."timestamp" >= w.since and p."timestamp" <= w.until
          and (%(max_id)s::bigint is null or p.id <= %(max_id)s)) t"""
_PACKED = np.dtype([("at", ">i8"), ("value", ">f8")])


@dataclass(frozen=True)
class PriceRecord:
    """One point on a grid: `known` up to `row`, the interval that is decided on, NaN after it; `day_ahead` until its end."""

    starts_us: Ints
    known: Floats
    day_ahead: Floats
    row: int

    @property
    def known_h(self) -> float:
        """Hours of the last two days whose price is known."""
        steps = int(LEAST_KNOWN.total_seconds() * 1e6) // STEP_US
        last = self.known[max(0, self.row + 1 - steps) : self.row + 1]
        return float(np.isfinite(last).sum()) * INTERVAL_MINUTES / 60


def price_records(
    connection: "psycopg.Connection[Any]",
    decided: Mapping[str, tuple[datetime, float]],
    now: datetime,
    max_tick_id: int | None = None,
) -> dict[str, PriceRecord]:
    """By point its record. `decided`: the instant of the newest LMP of each and the decision price that follows from it."""
    found = _series(connection, list(decided), now, max_tick_id)
    records = {}
    for point, (at, price) in decided.items():
        settled, lmps, day_ahead = (found[stream.value, point] for stream in STREAMS)
        records[point] = record_of(settled, lmps, day_ahead, at, price)
    return records


def _series(
    connection: "psycopg.Connection[Any]", points: Sequence[str], now: datetime, max_tick_id: int | None
) -> dict[tuple[str, str], np.ndarray]:
    """Instants and values by stream and point, packed by the server: a row each would take longer to read than to think about."""
    windows = {
        "streams": [stream.value for stream in STREAMS],
        "since": [now - BACK, now - UNSETTLED, now - BACK],
        "until": [now, now, now + AHEAD],
    }
    cursor = connection.cursor(binary=True)  # as text it takes twice as long
    rows = cursor.execute(_SERIES_SQL, {**windows, "points": list(points), "max_id": max_tick_id}).fetchall()
    return {(stream, point): np.frombuffer(packed or b"", dtype=_PACKED) for stream, point, packed in rows}


def record_of(
    settled: np.ndarray, lmps: np.ndarray, day_ahead: np.ndarray, decided_at: datetime, price_usd_per_mwh: float
) -> PriceRecord:
    """The record of one point from (instant, value) of its settlement prices, LMPs and hourly day-ahead prices. Pure."""
    last_us = microseconds(interval_start(decided_at))
    row = int(BACK.total_seconds() * 1e6) // STEP_US
    ahead = int(AHEAD.total_seconds() * 1e6) // STEP_US
    starts = last_us + STEP_US * np.arange(-row, ahead + 1, dtype=np.int64)
    known = _means(starts, lmps)
    own = _on_grid(starts, settled)
    known = np.where(np.isfinite(own), own, known)
    known[row], known[row + 1 :] = price_usd_per_mwh, np.nan
    hours = _by_hour(starts, day_ahead)
    return PriceRecord(starts, _held(known, row), hours, row)


def _on_grid(starts: Ints, values: np.ndarray) -> Floats:
    """Values of intervals by row, the last of several; NaN where there is none."""
    rows = (values["at"].astype(np.int64) - starts[0]) // STEP_US
    inside, on_grid = (rows >= 0) & (rows < len(starts)), np.full(len(starts), np.nan)
    on_grid[rows[inside]] = values["value"][inside]
    return on_grid


def _means(starts: Ints, values: np.ndarray) -> Floats:
    """The mean by row of what began in each interval."""
    rows = (values["at"].astype(np.int64) - starts[0]) // STEP_US
    inside = (rows >= 0) & (rows < len(starts))
    count = np.bincount(rows[inside], minlength=len(starts))
    total = np.bincount(rows[inside], weights=values["value"][inside].astype(np.float64), minlength=len(starts))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _by_hour(starts: Ints, hourly: np.ndarray) -> Floats:
    """The value of each row's hour, the last of several; NaN where there is none."""
    hours, own = starts // HOUR_US, hourly["at"].astype(np.int64) // HOUR_US
    first = hours[0]
    inside, by_hour = (own >= first) & (own <= hours[-1]), np.full(int(hours[-1] - first) + 1, np.nan)
    by_hour[(own - first)[inside]] = hourly["value"][inside]
    found: Floats = by_hour[hours - first]
    return found


def _held(known: Floats, row: int) -> Floats:
    """With the last price carried over gaps of at most two hours, up to a row."""
    at = np.arange(len(known))
    last = np.maximum.accumulate(np.where(np.isfinite(known), at, -1))
    carried = (last >= 0) & (at - last <= LONGEST_HELD) & (at <= row)
    return np.where(carried, known[np.maximum(last, 0)], known)
