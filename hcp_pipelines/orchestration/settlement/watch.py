"""Whether days are settled whole, and which have to be settled (again): read from the lake."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import polars as pl

from hcp_pipelines.optimizer.settlement.inputs import PEAK_MONTHS, peak_hours
from hcp_pipelines.orchestration.history.plan import midnight
from hcp_pipelines.orchestration.history.publish import PUBLISHED
from hcp_pipelines.orchestration.history.reading import Reader, reading
from hcp_pipelines.orchestration.history.tables import (
    BLOCKS,
    DA_CAPACITY,
    EXCHANGES,
    POOL_CREDITS,
    RT_SPP,
    ZONE_LOAD,
)
from hcp_pipelines.orchestration.settlement.publish import DAYS, LINES, REGRETS
from hcp_pipelines.orchestration.settlement.read import JOURNAL, LOADS, Window
from hcp_pipelines.orchestration.settlement.regret import REGRET
from hcp_pipelines.orchestration.watching import Judged
from hcp_pipelines.settings import Settings

MOST_DAYS = 7  # asked for at once
LOOKS_BACK = timedelta(days=60)  # corrections of older days are settled by whoever asks for them
SETTLED_BY = tuple(table.name for table in (RT_SPP, DA_CAPACITY, ZONE_LOAD, *EXCHANGES, BLOCKS, POOL_CREDITS))
_UNKNOWN = f"""
select facility_id, kind, count(*) as lines, min(start_at) as first_at from lake.{LINES}
where start_at >= ? and start_at < ? and usd is null group by all order by all"""  # noqa: S608 - our constants
_SETTLED = f"select count(*) from lake.{LINES} where start_at >= ? and start_at < ?"  # noqa: S608
_UNSETTLED = f"""
select facility_id, min(day_at) as day_at from (
    select * from lake.{DAYS} where day_at >= ? and day_at < ?
    qualify row_number() over (partition by facility_id, day_at order by settled_at desc) = 1)
where lines = 0 and unknown > 0 group by 1 order by 1"""  # noqa: S608
_NEWEST = f"""
select day_at, min(until_at), max(settled_at), sum(unknown)::bigint from lake.{DAYS}
group by day_at, run_id qualify row_number() over (partition by day_at order by max(settled_at) desc) = 1"""  # noqa: S608
_TOLD = f"""
select day_at, max(published_at), greatest(
    max(published_at) filter (revised + withdrawn > 0), min(published_at) filter ("table" = '{POOL_CREDITS.name}'))
from lake.{PUBLISHED}
where "table" in ({", ".join(f"'{name}'" for name in SETTLED_BY)}) group by 1"""  # noqa: S608
_CHARGED = f"""
select distinct date_trunc('hour', start_at) from lake.{LINES}
where kind = 'peak_charge' and usd is not null and start_at >= ?"""  # noqa: S608
_LOADS = f"select start_at, load_mw from lake.{LOADS} where zone = 'total' and start_at >= ? and start_at < ?"  # noqa: S608
_FIRST = f"select min(simulated_at) from lake.{JOURNAL}"  # noqa: S608


def is_whole(settings: Settings, window: Window) -> Judged:
    """Whether every line of a window has dollars."""
    with reading(settings) as reader:
        if not reader.has(LINES, DAYS):
            return Judged(True, "nothing is settled yet", {"lines": 0})
        unknown, lines = reader.rows(_UNKNOWN, window), reader.rows(_SETTLED, window).item()
        unsettled = reader.rows(_UNSETTLED, window)
    if len(unsettled):
        which = ", ".join(f"{name} (from {day:%Y-%m-%d})" for name, day in unsettled.iter_rows())
        why = (
            f"could not be settled: {which}; alert.settlement_failed has the reason: mend it, then settle the day again"
        )
        return Judged(False, why, {"lines": lines, "facilities": len(unsettled)})
    told = {"lines": lines, "unknown": int(unknown["lines"].sum())}
    if unknown.is_empty():
        return Judged(True, f"{lines} lines have their prices", told)
    facility, kind, _, first = unknown.row(0)
    why = (
        f"{told['unknown']} of {lines} lines have no price, first {kind} of {facility} at {first:%Y-%m-%d %H:%M}Z: materialize "
        "the prices of that day, then settle it again"
    )
    return Judged(False, why, told)


def read_regrets(settings: Settings) -> pl.DataFrame:
    """All days' regrets."""
    with reading(settings) as reader:
        return reader.table(REGRETS, f"from lake.{REGRETS}", (), REGRET)


def days_to_settle(settings: Settings, now: datetime) -> list[datetime]:
    """The first of the days that are `due`, as many as are asked for at once."""
    with reading(settings) as reader:
        return list(due(reader, now))[:MOST_DAYS]


def due(reader: Reader, now: datetime) -> Iterator[datetime]:
    """Days that are over and not settled to their end, or settled otherwise than what is known by now; oldest first.

    That is: a price of theirs was corrected since, or came where there was none, another hour is their month's peak, or the
    pool's credits have come, which it tells once a day is over.
    """
    first = reader.rows(_FIRST).item() if reader.has(JOURNAL) else None
    if first is None:
        return
    day = midnight(max(first, now - LOOKS_BACK))
    settled = {row[0]: row[1:] for row in reader.rows(_NEWEST).iter_rows()} if reader.has(DAYS) else {}
    told = {row[0]: row[1:] for row in reader.rows(_TOLD).iter_rows()} if reader.has(PUBLISHED) else {}
    peaks = _other_peaks(reader, day, now) if settled else frozenset()
    while day + timedelta(days=1) <= now:
        until, at, unknown = settled.get(day, (day, day, 0))
        newest, revised = told.get(day, (at, None))
        is_late = (revised or at) > at or (unknown > 0 and newest > at)
        if until < day + timedelta(days=1) or is_late or day in peaks:
            yield day
        day += timedelta(days=1)


def _other_peaks(reader: Reader, since: datetime, now: datetime) -> frozenset[datetime]:
    """Days whose peak charge is of an hour that is no peak by what is known now, or that have one now and are not charged."""
    if not reader.has(LINES, LOADS):
        return frozenset()
    month = since.replace(day=1)
    charged = set(reader.rows(_CHARGED, (month,)).to_series().to_list())
    peaks = set(peak_hours(reader.rows(_LOADS, (month, now)), PEAK_MONTHS)) if charged else set()
    return frozenset(midnight(hour) for hour in charged ^ peaks if hour >= since)
