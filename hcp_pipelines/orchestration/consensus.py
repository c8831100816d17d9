"""What the bitcoin asset does: a day's ticks of all venues from the lake, and their consensus every five minutes."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.ticks import ACTIONABLE, BITCOIN, Stream
from hcp_pipelines.markets.consensus import Consensus, NoConsensusError, Quote, bitcoin_consensus, quoted
from hcp_pipelines.orchestration.lake_state import has_tables
from hcp_pipelines.settings import Settings

EVERY = timedelta(minutes=5)
CONSENSUS: dict[str, Any] = {
    "start_at": INSTANT, "price_usd": pl.Float64, "traded_at": INSTANT, "venues": pl.String, "rejected": pl.String,
    "reason": pl.String,
}  # fmt: skip
TICKS = "raw.price_ticks"
TICKS_SQL = f"""
select series, "timestamp" as traded_at, value as usd, received_at from lake.{TICKS}
where stream = '{Stream.BTC_USD}' and series <> '{BITCOIN}' and received_at >= ? and received_at < ?
  and quality in ({", ".join(f"'{quality}'" for quality in ACTIONABLE)}) order by received_at, id"""  # noqa: S608 - our constants


def bitcoin_of_day(settings: Settings, day: tuple[datetime, datetime], now: datetime) -> pl.DataFrame:
    """The consensus every five minutes of a day up to now; a null price has its reason."""
    from hcp_pipelines.storage import lake

    ticks: list[tuple[str, datetime, float, datetime]] = []
    max_age = timedelta(seconds=settings.btc_staleness_s)
    if has_tables(settings, [TICKS]):
        with lake.attach(settings, read_only=True) as connection:
            ticks = connection.execute(TICKS_SQL, [day[0] - max_age, min(day[1], now)]).fetchall()
    return consensus_table(ticks, day, now, settings.btc_staleness_s)


def consensus_table(
    ticks: Sequence[tuple[str, datetime, float, datetime]],
    day: tuple[datetime, datetime],
    now: datetime,
    max_age_s: float,
) -> pl.DataFrame:
    """One row an instant from ticks (venue, traded at, USD, received at) in the order in which they came."""
    newest: dict[str, Quote] = {}
    evidence: Consensus | None = None
    rows, row, at = [], 0, day[0]
    while at < day[1] and at <= now:
        while row < len(ticks) and ticks[row][3] <= at:
            venue, traded_at, usd, _ = ticks[row]
            newest[venue] = quoted(venue, traded_at, usd, newest.get(venue))
            row += 1
        found = _agreed(newest.values(), at, evidence, max_age_s)
        if isinstance(found, Consensus) and not found.by_last:
            evidence = found
        rows.append(_row(at, found))
        at += EVERY
    return pl.DataFrame(rows, schema=CONSENSUS)


def _agreed(
    quotes: Iterable[Quote], at: datetime, evidence: Consensus | None, max_age_s: float
) -> Consensus | NoConsensusError:
    try:
        return bitcoin_consensus(quotes, at, last=evidence, max_age_s=max_age_s)
    except NoConsensusError as error:
        return error


def _row(at: datetime, found: Consensus | NoConsensusError) -> dict[str, Any]:
    row = dict.fromkeys(CONSENSUS) | {"start_at": at}
    if isinstance(found, NoConsensusError):
        return row | {"venues": "", "rejected": "{}", "reason": str(found)}
    rejected = json.dumps(found.rejected, sort_keys=True)
    return row | {
        "price_usd": found.usd,
        "traded_at": found.at,
        "venues": ", ".join(found.venues),
        "rejected": rejected,
    }
