"""What the model's asset does: prices and hashprice from the lake as they are known, the lesson, the promotion; when it is due.

Learning and scoring are in `optimizer.backtest.learning`; how a model is asked live in `optimizer.learnt`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import psycopg

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.errors import ConfigError, ModelError
from hcp_pipelines.domain.ticks import BITCOIN, Stream
from hcp_pipelines.economics.mining import HASHPRICE
from hcp_pipelines.forecasting.known_prices import as_of
from hcp_pipelines.forecasting.model_file import digest_of
from hcp_pipelines.optimizer.backtest.learning import HELD_OUT, LEAST_LEARNT_DAYS, Learnt, learn_and_score, market_of
from hcp_pipelines.optimizer.backtest.replay.history import NETWORK, index_of
from hcp_pipelines.optimizer.learnt import WAITING, champion
from hcp_pipelines.orchestration.alerts import ACTOR
from hcp_pipelines.orchestration.forecasting import HISTORY, LESSONS, TICKS, read_prices
from hcp_pipelines.orchestration.lake_state import has_tables
from hcp_pipelines.orchestration.watching import Judged
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import models

EVERY = timedelta(days=7)
_HASHPRICE_SQL = f"""
select stream, series, max("timestamp") as "timestamp", arg_max(value, "timestamp") as value
from lake.{TICKS} where "timestamp" >= ? and received_at <= ? and quality in ('good', 'unusual')
  and (stream = '{Stream.BTC_USD}' and series = '{BITCOIN}' or stream = '{Stream.BTC_NETWORK}' and series in {NETWORK!r})
group by stream, series, date_trunc('hour', "timestamp")"""  # noqa: S608 - our constants
_OLDEST_SQL = """select min("timestamp") from price_data where stream = %s"""

Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class Made:
    """What came of an attempt: the version that was kept, if any, whether it serves, and what a reader must know."""

    version: int | None
    is_champion: bool
    told: dict[str, Any]


def make_model(
    connection: Connection, settings: Settings, now: datetime, *, history: timedelta = LESSONS, may_promote: bool = True
) -> Made:
    """Learn from the lake, score, keep; promote what is no worse than the plain band. Too little history makes nothing."""
    window = (now - history, now + timedelta(days=2))
    market = market_of(as_of(read_prices(settings, window), now), _hashprice(settings, window[0], now))
    try:
        learnt = learn_and_score(market, now)
    except ConfigError as error:
        return Made(None, False, {"status": "none", "why": str(error)})
    is_champion = may_promote and learnt.score.is_no_worse
    why = _why(learnt) if may_promote else f"{_why(learnt)}; promotion was not asked for"
    version = models.keep(connection, _kept(learnt, now), "champion" if is_champion else "archived", ACTOR, why)
    told = dict(learnt.artefact.told)
    status = "champion" if is_champion else "archived"
    return Made(
        version, is_champion, {"status": status, "version": version, "why": why, **told["score"], **_flat(told)}
    )


def _flat(told: dict[str, Any]) -> dict[str, Any]:
    return {"points": ", ".join(told["points"]), "days": told["days"], "has_hashprice": told["has_hashprice"]}


def _kept(learnt: Learnt, now: datetime) -> models.Kept:
    artefact = learnt.artefact
    content = artefact.to_bytes()
    return models.Kept(WAITING, digest_of(content), content, artefact.trained_until, now, artefact.told)


def _why(learnt: Learnt) -> str:
    score = learnt.score
    word = "no worse" if score.is_no_worse else "worse"
    return (
        f"{word} than the plain band from {score.start:%Y-%m-%d} to {score.end:%Y-%m-%d}: gap closed {score.gap_closed} "
        f"against {score.band_gap_closed}, {score.usd_per_mw_year_over_band:+.0f} $ per MW and year"
    )


def _hashprice(settings: Settings, start: datetime, now: datetime) -> pl.DataFrame:
    """Hashprice by hour as it was known, from the ticks of bitcoin and its network; empty where there are none."""
    from hcp_pipelines.storage import lake  # duckdb's import starts threads

    if not has_tables(settings, [TICKS]):
        return pl.DataFrame(schema={"start": INSTANT, HASHPRICE: pl.Float64()})
    with lake.attach(settings, read_only=True) as connection:
        ticks = connection.execute(_HASHPRICE_SQL, [start, now]).pl()
    return index_of(ticks, HASHPRICE)


def due(connection: Connection, settings: Settings, now: datetime) -> str:
    """Why a model is to be made now: none has been yet and there may be enough to learn from, or the newest is a week old."""
    newest = models.newest_at(connection, WAITING)
    if newest is not None:
        return "a week has passed" if now - newest >= EVERY else ""
    needed = HELD_OUT + timedelta(days=LEAST_LEARNT_DAYS)
    row = connection.execute(_OLDEST_SQL, (Stream.POWER_RT_SPP.value,)).fetchone()
    is_old = row is not None and row[0] is not None and now - row[0] >= needed
    fetched = next(table for table, stream in HISTORY.items() if stream is Stream.POWER_RT_SPP)
    return "none has been made yet" if is_old or has_tables(settings, [fetched]) else ""


def judge_model(connection: Connection, now: datetime) -> Judged:
    """Whether the newest version serves, and what serves can be used."""
    versions = [row for row in models.listed(connection) if row["name"] == WAITING]
    if not versions:
        return Judged(True, "none has been made yet: the plain band stands")
    try:
        champion(connection, now)
    except ModelError as error:
        return Judged(False, f"the plain band stands: {error}")
    newest = versions[0]
    is_serving = newest["status"] == "champion"
    return Judged(is_serving, f"version {newest['version']} is {newest['status']}: {newest['reason']}")
