"""Lets go of telemetry that is old, in simulated time, or too much. Groups' minutes stay.

What goes is whole minutes: one that is kept has all its samples or none, so that no roll-up is ever made of a part.
Files are removed by the lake's upkeep, once no reader can need them.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np

from hcp_pipelines.collector.telemetry.rollup_sql import HOURS, MINUTES
from hcp_pipelines.collector.telemetry.rows import TABLE
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import lake

GIGABYTE = 1e9
DOWN_TO = 0.9  # of the bound: not a few files with each look

_FILES = """
    select f.file_size_bytes, s.max_value
    from __ducklake_metadata_lake.ducklake_data_file f
    join __ducklake_metadata_lake.ducklake_table t on t.table_id = f.table_id and t.end_snapshot is null
    join __ducklake_metadata_lake.ducklake_schema n on n.schema_id = t.schema_id and n.end_snapshot is null
    join __ducklake_metadata_lake.ducklake_column c
        on c.table_id = t.table_id and c.column_name = 'simulated_at' and c.end_snapshot is null
    join __ducklake_metadata_lake.ducklake_file_column_stats s on s.data_file_id = f.data_file_id and s.column_id = c.column_id
    where f.end_snapshot is null and n.schema_name = 'raw' and t.table_name = 'telemetry'
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """How long a table's rows are kept, by the column that says when they are of."""

    table: str
    column: str
    for_: timedelta


KEPT = (
    Kept(TABLE, "simulated_at", timedelta(hours=48)),
    Kept(MINUTES, "minute_at", timedelta(days=30)),
    Kept(HOURS, "hour_at", timedelta(days=365)),
)


def cut(connection: duckdb.DuckDBPyConnection, settings: Settings, kept: Kept, before: datetime) -> int:
    """Delete a table's rows before an instant; how many they were.

    Raises:
        duckdb.Error, StorageError: the lake refuses.
    """
    with lake.table_lock(settings, kept.table):
        row = connection.execute(f"delete from lake.{kept.table} where {kept.column} < ?", [before]).fetchone()  # noqa: S608
    return int(row[0]) if row else 0


def too_old(kept: Kept, now: datetime) -> datetime:
    """Before it rows are too old: the beginning of an hour."""
    return _hour(now - kept.for_)


def beyond_size(connection: duckdb.DuckDBPyConnection, max_gb: float) -> datetime | None:
    """Samples before it have to go, for the table's files to be within the bound; None if they are.

    Raises:
        duckdb.Error: the catalogue can't be read.
    """
    rows = connection.execute(_FILES).fetchall()
    files = sorted((datetime.fromisoformat(str(newest)), int(size)) for size, newest in rows if newest is not None)
    excess = sum(size for _, size in files) - max_gb * GIGABYTE
    if excess <= 0:
        return None
    excess += (1 - DOWN_TO) * max_gb * GIGABYTE
    sizes = np.cumsum([size for _, size in files])
    last = min(int(np.searchsorted(sizes, excess)), len(files) - 1)
    return _minute_after(files[last][0])


def _hour(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _minute_after(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
