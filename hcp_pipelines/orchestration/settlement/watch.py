"""Whether days are settled whole, and which have to be settled (again): read from the lake."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import polars as pl

from hcp_pipelines.orchestration.history.publish import PUBLISHED
from hcp_pipelines.orchestration.history.reading import Reader, reading
from hcp_pipelines.orchestration.settlement.publish import DAYS, LINES, REGRETS
from hcp_pipelines.orchestration.settlement.read import JOURNAL, Window
from hcp_pipelines.orchestration.settlement.regret import REGRET
from hcp_pipelines.orchestration.watching import Judged
from hcp_pipelines.settings import Settings

MOST_DAYS = 7  # asked for at once
LOOKS_BACK = timedelta(days=60)  # corrections of older days are settled by whoever asks for them
_UNKNOWN = f"""
select facility_id, kind, count(*) as lines, min(start_at) as first_at from lake.{LINES}
where start_at >= ? and start_at < ? and usd is null group by all order by all"""  # noqa: S608 - our constants
_SETTLED = f"select count(*) from lake.{LINES} where start_at >= ? and start_at < ?"  # noqa: S608
_NEWEST = f"""
select day_at, until_at, settled_at from lake.{DAYS}
qualify row_number() over (partition by day_at order by settled_at desc, until_at) = 1"""  # noqa: S608
_REVISED = f"""
select day_at, max(published_at) from lake.{PUBLISHED}
where "table" in ('raw.ercot__rt_spp', 'raw.ercot__da_capacity', 'raw.ercot__zone_load', 'raw.mempool__blocks')
  and revised + withdrawn > 0 group by 1"""  # noqa: S608
_FIRST = f"select min(simulated_at) from lake.{JOURNAL}"  # noqa: S608


def is_whole(settings: Settings, window: Window) -> Judged:
    """Whether every line of a window has dollars."""
    with reading(settings) as reader:
        if not reader.has(LINES):
            return Judged(True, "nothing is settled yet", {"lines": 0})
        unknown, lines = reader.rows(_UNKNOWN, window), reader.rows(_SETTLED, window).item()
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
    """Days that are over and not settled to their end, or settled before a price of theirs was corrected; oldest first."""
    with reading(settings) as reader:
        return list(_due(reader, now))[:MOST_DAYS]


def _due(reader: Reader, now: datetime) -> Iterator[datetime]:
    first = reader.rows(_FIRST).item() if reader.has(JOURNAL) else None
    if first is None:
        return
    settled: dict[datetime, tuple[datetime, datetime]] = {}
    if reader.has(DAYS):
        settled = {day: (until, at) for day, until, at in reader.rows(_NEWEST).iter_rows()}
    revised = dict(reader.rows(_REVISED).iter_rows()) if reader.has(PUBLISHED) else {}
    day = max(first, now - LOOKS_BACK).replace(hour=0, minute=0, second=0, microsecond=0)
    while day + timedelta(days=1) <= now:
        until, at = settled.get(day, (day, day))
        if until < day + timedelta(days=1) or revised.get(day, at) > at:
            yield day
        day += timedelta(days=1)
