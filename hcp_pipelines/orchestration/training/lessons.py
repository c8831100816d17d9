"""What a target learns from: its tables as they were in the lake at one snapshot, and the examples that it makes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.learnable.protocol import Examples, Target
from hcp_pipelines.orchestration.known_tables import YEAR_BACK, as_known_now
from hcp_pipelines.orchestration.lake_state import relations
from hcp_pipelines.settings import Settings

if TYPE_CHECKING:
    import duckdb

LOOKED_BACK = timedelta(days=60)  # before a window: lags of weeks, and what the naive forecast repeats
LOOKED_FAR_BACK: Mapping[str, timedelta] = {"price": YEAR_BACK}
_SNAPSHOT = "select max(snapshot_id) from ducklake_snapshots('lake')"


@dataclass(frozen=True)
class Tables:
    """Tables by name, the lake's snapshot, and until when those that the lake keeps know anything."""

    by_name: dict[str, pl.DataFrame]
    snapshot_id: int
    known_until: datetime


@dataclass(frozen=True)
class Lessons:
    """Examples, the lake's snapshot that they were made of, and until when their tables know anything."""

    examples: Examples
    snapshot_id: int
    known_until: datetime


def looked_back(name: str) -> timedelta:
    """How much of the past a target's questions want, by its name."""
    return LOOKED_FAR_BACK.get(name, LOOKED_BACK)


def read_lessons(
    settings: Settings,
    target: Target,
    window: tuple[datetime, datetime],
    groups: Sequence[str] = (),
    *,
    anew: bool = False,
) -> Lessons:
    """The examples of a window, of nothing that was known later than its end.

    `anew`: tables that trainings alone make are made of what the lake has now, and written nowhere.

    Raises:
        ConfigError: a table is missing or has other columns than the target reads, or it has no rows of the window.
    """
    tables = read_tables(settings, target, (window[0] - looked_back(target.name), window[1]), anew=anew)
    return Lessons(examples_of(target, tables.by_name, window, groups), tables.snapshot_id, tables.known_until)


def read_tables(settings: Settings, target: Target, window: tuple[datetime, datetime], *, anew: bool = False) -> Tables:
    """What a target's tables have that became known in a window; as `read_lessons`.

    Raises:
        ConfigError: a table is missing, or does not say since when its rows are known.
    """
    from hcp_pipelines.storage import lake  # duckdb's import starts threads

    there, (since, until) = relations(settings), window
    tables = _made(settings, target, since, until) if anew else {}
    if missing := [name for name in target.tables if name not in there and name not in tables]:
        raise ConfigError(
            f"{target.name} is learnt from {', '.join(missing)}, which the lake does not have yet: materialize it"
        )
    newest = [until]
    with lake.attach(settings, read_only=True) as connection:
        row = connection.execute(_SNAPSHOT).fetchone()
        assert row is not None
        snapshot = int(row[0])
        for name in [name for name in target.tables if name not in tables]:
            tables[name] = _known(connection, name, snapshot, since, until)
            newest += tables[name].select(pl.col("known_at").max()).drop_nulls().to_series().to_list()
    return Tables(tables, snapshot, min(newest))


def examples_of(
    target: Target, tables: Mapping[str, pl.DataFrame], window: tuple[datetime, datetime], groups: Sequence[str] = ()
) -> Examples:
    """A target's examples of its tables.

    Raises:
        ConfigError: a table has other columns than the target reads, or no rows of the window.
    """
    try:
        return target.examples(tables, window, groups)
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"{target.name}: {', '.join(target.tables)} are not as it reads them: {error}") from error


def _known(
    connection: "duckdb.DuckDBPyConnection", name: str, snapshot: int, since: datetime, until: datetime
) -> pl.DataFrame:
    """The rows of a table that became known between two instants, as they were at a snapshot."""
    table = f"lake.{name} at (version => {snapshot})"
    if "known_at" not in (columns := connection.execute(f"select * from {table} limit 0").pl().columns):  # noqa: S608
        raise ConfigError(
            f"{name} has no column known_at, only {', '.join(columns)}: since when its rows are known nobody knows"
        )
    query = f"select * from {table} where known_at > ? and known_at <= ? order by all"  # noqa: S608 - our own tables
    return connection.execute(query, [since, until]).pl()


def _made(settings: Settings, target: Target, since: datetime, now: datetime) -> dict[str, pl.DataFrame]:
    """Of a target's tables those that trainings make, with what is known now."""
    made = {name: as_known_now(settings, name, since, now) for name in target.tables}
    return {
        name: table.filter((pl.col("known_at") > since) & (pl.col("known_at") <= now)).sort(table.columns)
        for name, table in made.items()
        if table is not None
    }
