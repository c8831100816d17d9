"""Tables of the lake and their columns, made before anything is written to them; one that is older gets what it lacks."""

import contextlib
from collections.abc import Mapping

import duckdb
import pyarrow as pa

from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.lake import retried, table_lock


def ensure(connection: duckdb.DuckDBPyConnection, settings: Settings, schemas: Mapping[str, pa.Schema]) -> None:
    """All of these tables with all columns of their schemas, in one commit (which takes longer than a table), under their locks.

    Raises:
        StorageError: the commit failed every time.
    """
    tables = min(schemas) + (f" and {len(schemas) - 1} more" if len(schemas) > 1 else "")
    with table_lock(settings, *schemas):
        retried(lambda: _ensure_once(connection, schemas), f"making {tables}")


def _ensure_once(connection: duckdb.DuckDBPyConnection, schemas: Mapping[str, pa.Schema]) -> None:
    try:
        connection.execute("begin")
        for table, schema in schemas.items():
            make(connection, table, schema)
        connection.execute("commit")
    except duckdb.Error:
        with contextlib.suppress(duckdb.Error):
            connection.execute("rollback")
        raise


def make(connection: duckdb.DuckDBPyConnection, table: str, schema: pa.Schema) -> None:
    """The table with all columns of a schema, also those that came after it was made; without its lock two may collide."""
    connection.register("wanted", schema.empty_table())
    connection.execute(f"create table if not exists lake.{table} as from wanted")
    there = {row[0] for row in connection.execute(f"describe lake.{table}").fetchall()}
    for name, kind, *_ in connection.execute("describe wanted").fetchall():
        if name not in there:
            connection.execute(f'alter table lake.{table} add column "{name}" {kind}')
    connection.unregister("wanted")
