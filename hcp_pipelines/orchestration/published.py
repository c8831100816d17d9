"""The marts in one DuckDB file, for whoever has no way to the catalogue: written beside the old one and put in its place.

A reader who has the old file open goes on with it; the next one opens the new.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.orchestration.dbt_project import manifest_path
from hcp_pipelines.orchestration.lake_state import relations
from hcp_pipelines.settings import Settings

if TYPE_CHECKING:
    import duckdb

DAYS = 90  # of the marts that have a row a minute, tick or device; the others are whole
RECENT = {
    "fct_utilisation": "minute_at", "fct_profitability": "scored_at", "fct_device_hashrate": "hour_at",
    "fct_device_credits": "day",
}  # fmt: skip


@dataclass(frozen=True)
class PublishedFile:
    """Where it is, its bytes, the lake's snapshot that it shows, rows by mart."""

    path: Path
    size_bytes: int
    snapshot: int
    rows: dict[str, int]


def published_path(settings: Settings) -> Path:
    """`.hcp/published/hcp.duckdb`."""
    return settings.at("published", "hcp.duckdb")


def publish_marts(settings: Settings) -> PublishedFile:
    """Write all marts as they are in one snapshot of the lake, and put the file in the place of the last one.

    Raises:
        StorageError: there are no marts yet, or the lake or the disk refuses; the last file stays.
    """
    import duckdb

    from hcp_pipelines.storage import lake

    marts = sorted(name for name in relations(settings) if name.startswith("marts."))
    if not marts:
        raise StorageError("there are no marts in the lake to publish: run marts_job first")
    path = published_path(settings)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    try:
        with lake.attach(settings, read_only=True) as connection:
            snapshot, rows = _copy(connection, marts, fresh, settings)
    except duckdb.Error as error:
        fresh.unlink(missing_ok=True)
        raise StorageError(f"{path} stays as it was: {lake.without_secrets(error)}") from None
    _replace(fresh, path)
    return PublishedFile(path, path.stat().st_size, snapshot, rows)


def _copy(
    connection: "duckdb.DuckDBPyConnection", marts: list[str], fresh: Path, settings: Settings
) -> tuple[int, dict[str, int]]:
    connection.execute(f"attach '{str(fresh).replace(chr(39), chr(39) * 2)}' as published")
    connection.execute("create schema published.marts")
    connection.execute("begin")
    snapshot = _one(connection, "select max(snapshot_id) from ducklake_snapshots('lake')")
    for mart in marts:
        connection.execute(f"create table published.{mart} as from lake.{mart}{_recent(mart)}")
    connection.execute(
        """create table published.marts.about as
           select ?::bigint as snapshot, now() as published_at, ?::integer as days_of_long_marts""",
        [snapshot, DAYS],
    )
    for statement in _comments(settings, marts):
        connection.execute(statement)
    connection.execute("commit")
    rows = {mart.removeprefix("marts."): _one(connection, f"select count(*) from published.{mart}") for mart in marts}  # noqa: S608
    connection.execute("detach published")  # writes the log into the file
    return snapshot, rows


def _recent(mart: str) -> str:
    column = RECENT.get(mart.removeprefix("marts."))
    newest = f"(select max({column}) from lake.{mart})"  # noqa: S608 - our names
    return f" where {column} > {newest} - interval {DAYS} days" if column else ""


def _one(connection: "duckdb.DuckDBPyConnection", query: str) -> int:
    row: Any = connection.execute(query).fetchone()
    return int(row[0] or 0)


def _comments(settings: Settings, marts: list[str]) -> list[str]:
    """What dbt says of marts and columns, as comments, where the manifest is there."""
    path, names = manifest_path(settings), {mart.removeprefix("marts.") for mart in marts}
    nodes = json.loads(path.read_bytes())["nodes"].values() if path.exists() else ()
    found = []
    for node in nodes:
        if node["resource_type"] == "model" and node["name"] in names:
            table = f"published.marts.{node['name']}"
            found.append(f"comment on table {table} is {_quoted(node['description'])}")
            found += [
                f'comment on column {table}."{name}" is {_quoted(column["description"])}'
                for name, column in node["columns"].items()
            ]
    return found


def _quoted(text: str) -> str:
    return "'" + text.strip().replace("'", "''") + "'"


def _replace(fresh: Path, path: Path) -> None:
    """Durably: what is there after a power cut is the old file or the new one."""
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
