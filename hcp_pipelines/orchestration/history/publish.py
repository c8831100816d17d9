"""Write, audit, publish: readers see the good rows of what a source told; bad ones are kept beside them with the reason.

`raw.NAME` is the newest word on each key, and what a re-run replaces. `raw.NAME_revisions` keeps every word: a row for the first
one and one for each that differs, with the instant since which it is known; `raw.NAME_known` is the same with the instant until
which. All of it is one transaction.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import duckdb
import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.orchestration.history.audit import WHY, Audited, audit, rows_as_json
from hcp_pipelines.orchestration.history.tables import START, HistoryTable
from hcp_pipelines.orchestration.lake_state import has_tables
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import lake

REJECTED = "raw.rejected_rows"
PUBLISHED = "raw.published_days"
DAY = timedelta(days=1)
_REJECTED: dict[str, Any] = {
    "table": pl.String, "day_at": INSTANT, "row": pl.String, "reason": pl.String, "run_id": pl.String, "rejected_at": INSTANT,
}  # fmt: skip
_PUBLISHED: dict[str, Any] = {
    "table": pl.String, "day_at": INSTANT, "rows": pl.Int64, "rejected": pl.Int64, "revised": pl.Int64, "withdrawn": pl.Int64,
    "run_id": pl.String, "published_at": INSTANT,
}  # fmt: skip
Window = tuple[datetime, datetime]
_REVISION: dict[str, Any] = {"revision": pl.Int32, "known_at": INSTANT, "is_withdrawn": pl.Boolean, "run_id": pl.String}


@dataclass(frozen=True)
class Run:
    """Who publishes, and the platform's instant at which the source was asked."""

    run_id: str
    known_at: datetime


@dataclass(frozen=True)
class Published:
    """What came of it: rows that readers see, rows kept from them, known keys told otherwise, known keys told no more."""

    rows: int
    rejected: int
    revised: int
    withdrawn: int
    rejected_rows: pl.DataFrame


def publish(settings: Settings, table: HistoryTable, told: pl.DataFrame, window: Window, run: Run) -> Published:
    """Put what a source told of the days [start, end) in the place of what it had told of them.

    A key whose new row is bad keeps its last good one.

    Raises:
        StorageError: the columns are not the table's, or the lake refuses.
        MarketError: the source tells nothing of a day of which rows are known.
    """
    audited = _in_window(audit(table.model, told), window)
    good, bad = audited.good, audited.bad
    with lake.attach(settings) as connection:
        if not has_tables(settings, [table.name, table.revisions, table.known, REJECTED, PUBLISHED]):
            _ensure(connection, table)
        before = _newest(connection, table, window)
        standing = before.filter(~pl.col("is_withdrawn"))
        _refuse_nothing(table, told, standing)
        kept = standing.join(bad, on=list(table.key), how="semi").join(good, on=list(table.key), how="anti")
        latest = pl.concat([good, kept.select(good.columns)]).sort(table.key)
        news = _news(table, latest, before, run)
        beside = {
            table.revisions: news,
            REJECTED: _unseen(connection, table, bad, window, run),
            PUBLISHED: _days(table, (latest, bad, news), window, run),
        }
        batch, span = f"{run.run_id}/{window[0]:%Y-%m-%d}", lake.Window(START, *window)
        filled = {name: rows for name, rows in beside.items() if len(rows)}
        lake.write(connection, table.name, latest, batch, "replace", span, settings, filled)
    withdrawn = int(news["is_withdrawn"].sum())
    revised = len(news.filter(pl.col("revision") > 0)) - withdrawn
    return Published(len(latest), len(bad), revised, withdrawn, bad)


def _ensure(connection: duckdb.DuckDBPyConnection, table: HistoryTable) -> None:
    """The tables with all their columns, and the view over the revisions."""
    empty = pl.DataFrame(schema=dict(table.model.columns))
    revisions = empty.with_columns(pl.lit(None, kind).alias(name) for name, kind in _REVISION.items())
    frames = {table.name: empty, table.revisions: revisions, REJECTED: pl.DataFrame(schema=_REJECTED),
              PUBLISHED: pl.DataFrame(schema=_PUBLISHED)}  # fmt: skip
    for name, frame in frames.items():
        connection.register("wanted", frame.to_arrow())
        connection.execute(f"create table if not exists lake.{name} as from wanted")
        connection.unregister("wanted")
    key = ", ".join(table.key)
    connection.execute(f"""
        create view if not exists lake.{table.known} as
        select * exclude (is_withdrawn) from (
            select *, lead(known_at) over (partition by {key} order by revision, known_at) as known_until
            from lake.{table.revisions})
        where not is_withdrawn""")  # noqa: S608 - our tables


def _newest(connection: duckdb.DuckDBPyConnection, table: HistoryTable, window: Window) -> pl.DataFrame:
    """The last word on each key of a window, whether it stands or was withdrawn."""
    query = f"""
        from lake.{table.revisions} where {START} >= ? and {START} < ?
        qualify row_number() over (partition by {", ".join(table.key)} order by revision desc, known_at desc) = 1"""
    return connection.execute(query, list(window)).pl()


def _news(table: HistoryTable, latest: pl.DataFrame, before: pl.DataFrame, run: Run) -> pl.DataFrame:
    """Rows of the revisions: keys never heard of, keys told otherwise, and keys that are told no more."""
    standing = before.filter(~pl.col("is_withdrawn"))
    key = list(table.key)
    numbers = before.select(*key, last="revision")
    is_new = latest.join(standing, on=latest.columns, how="anti", nulls_equal=True).with_columns(is_withdrawn=False)
    is_gone = standing.join(latest, on=key, how="anti").select(latest.columns).with_columns(is_withdrawn=True)
    news = pl.concat([is_new, is_gone]).join(numbers, on=key, how="left", maintain_order="left")
    revision = (pl.col("last").fill_null(-1) + 1).cast(pl.Int32)
    stamped = news.with_columns(revision=revision, known_at=pl.lit(run.known_at, INSTANT), run_id=pl.lit(run.run_id))
    return stamped.select(*latest.columns, *_REVISION)


def _unseen(
    connection: duckdb.DuckDBPyConnection, table: HistoryTable, bad: pl.DataFrame, window: Window, run: Run
) -> pl.DataFrame:
    """Bad rows that are not in the side table for the same reason already."""
    rows = rows_as_json(bad.drop(WHY))
    told = bad.select(
        pl.lit(table.name).alias("table"), day_at=_day(window), row=pl.Series(rows, dtype=pl.String), reason=WHY,
        run_id=pl.lit(run.run_id), rejected_at=pl.lit(run.known_at, INSTANT),
    )  # fmt: skip
    query = f'select "row", reason from lake.{REJECTED} where "table" = ? and day_at >= ? and day_at < ?'  # noqa: S608
    seen = connection.execute(query, [table.name, *window]).pl()
    return told.join(seen, on=["row", "reason"], how="anti")


def _days(
    table: HistoryTable, frames: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame], window: Window, run: Run
) -> pl.DataFrame:
    """One row a day: how many rows were published, rejected, revised and withdrawn."""
    latest, bad, news = frames
    days = pl.DataFrame({"day_at": list(each_day(window))}, schema={"day_at": INSTANT})
    revised = news.filter((pl.col("revision") > 0) & ~pl.col("is_withdrawn"))
    counted = {"rows": latest, "rejected": bad, "revised": revised, "withdrawn": news.filter(pl.col("is_withdrawn"))}
    for name, frame in counted.items():
        counts = frame.group_by(day_at=_day(window)).agg(pl.len().cast(pl.Int64).alias(name))
        days = days.join(counts, on="day_at", how="left").with_columns(pl.col(name).fill_null(0))
    stamped = days.with_columns(
        pl.lit(table.name).alias("table"), run_id=pl.lit(run.run_id), published_at=pl.lit(run.known_at, INSTANT)
    )
    return stamped.select(*_PUBLISHED)


def _day(window: Window) -> pl.Expr:
    """The day of a row; the first one where it has none in the window."""
    is_ours = (pl.col(START) >= window[0]) & (pl.col(START) < window[1])
    return pl.when(is_ours).then(pl.col(START).dt.truncate("1d")).otherwise(pl.lit(window[0], INSTANT))


def each_day(window: Window) -> Iterator[datetime]:
    """The beginnings of a window's UTC days."""
    at = window[0]
    while at < window[1]:
        yield at
        at += DAY


def _in_window(audited: Audited, window: Window) -> Audited:
    """Rows of other days are bad ones."""
    is_ours = (pl.col(START) >= window[0]) & (pl.col(START) < window[1])
    strays = audited.good.filter(~is_ours).with_columns(
        pl.lit(f"{START}: not of the days that were asked for").alias(WHY)
    )
    return Audited(audited.good.filter(is_ours), pl.concat([audited.bad, strays]))


def _refuse_nothing(table: HistoryTable, told: pl.DataFrame, standing: pl.DataFrame) -> None:
    """A source that has forgotten, or is broken, must not empty what is known."""
    day = pl.col(START).dt.truncate("1d")
    silent = standing.group_by(day).len().join(told.select(day).unique(), on=START, how="anti").sort(START)
    if len(silent):
        raise MarketError(
            f"{table.source} tells nothing of {len(silent)} days of which rows are known in {table.name}, the first is "
            f"{silent[START][0]:%Y-%m-%d}: nothing was replaced. Is it out of order, or has it forgotten?"
        )
