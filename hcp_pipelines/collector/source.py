"""Postgres as the collector reads it: bounded batches as Arrow tables. What is safe to read is the horizon's to say."""

from collections.abc import Sequence
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql

from hcp_pipelines.collector.tables import Table
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

BATCH_ROWS = 20_000
BATCH_BYTES = 8_000_000  # a journal row's bitmap of slots may be 37 kB
CHUNK_ROWS = 500
STATEMENT_TIMEOUT_S = 30
_ONLY_COLLECTOR = 0x4843_5063_6F6C  # the advisory lock's key: "HCPcol"

_WRITERS = """
select virtualtransaction from pg_locks
where locktype = 'relation' and mode = 'RowExclusiveLock' and granted and relation = %s::regclass
    and database = (select oid from pg_database where datname = current_database())
"""


def writers_of(connection: psycopg.Connection[Any], table: str) -> frozenset[str]:
    """The transactions that hold the lock of writers on a table of the connection's database."""
    return frozenset(row[0] for row in connection.execute(_WRITERS, (table,)).fetchall())


class Source:
    """One connection to `hcp`; there is one collector, whose session holds a lock to say so."""

    def __init__(self, settings: Settings) -> None:
        self._connection = connect(settings, Role.COLLECTOR)
        self._connection.execute(f"set statement_timeout = '{STATEMENT_TIMEOUT_S}s'")
        self._connection.execute("set timezone = 'UTC'")  # the digest is of text
        row = self._connection.execute("select pg_try_advisory_lock(%s)", (_ONLY_COLLECTOR,)).fetchone()
        if not row or not row[0]:
            self.close()
            raise StorageError("another collector is copying: two would double rows")

    def close(self) -> None:
        """Close the connection, which frees the lock."""
        self._connection.close()

    def cancel(self) -> None:
        """End the statement under way; may be called from another thread."""
        self._connection.cancel_safe(timeout=1.0)

    def newest_id(self, table: str) -> int:
        """The highest visible id; 0 without rows."""
        query = sql.SQL("select coalesce(max(id), 0) from {}").format(sql.Identifier(table))
        row = self._connection.execute(query).fetchone()
        return int(row[0]) if row else 0

    def writers(self, table: str) -> frozenset[str]:
        """The transactions that may be inserting into the table at this moment."""
        return writers_of(self._connection, table)

    def age_s(self, table: Table, after: int) -> float:
        """Age of the first row after an id, by the server's clock; 0 if there is none."""
        query = sql.SQL("select extract(epoch from clock_timestamp() - {}) from {} where id > %s order by id limit 1")
        done = self._connection.execute(
            query.format(sql.Identifier(table.written_at), sql.Identifier(table.source)), (after,)
        )
        row = done.fetchone()
        return max(0.0, float(row[0])) if row else 0.0

    def batch(self, table: Table, after: int, upto: int) -> Any:
        """Rows with `after` < id ≤ `upto` by rising id, as many as a batch may have."""
        query = _select(table) + sql.SQL(" where id > %s and id <= %s order by id")
        chunks, size, count = [], 0, 0
        with self._connection.transaction(), self._connection.cursor(name="batch", binary=True) as cursor:
            cursor.execute(query, (after, upto))
            while size < BATCH_BYTES and count < BATCH_ROWS and (rows := cursor.fetchmany(CHUNK_ROWS)):
                chunks.append(_record_batch(table, rows))
                size, count = size + chunks[-1].nbytes, count + len(rows)
        return pa.Table.from_batches(chunks, schema=table.schema)

    def digest(self, table: Table) -> str:
        """A digest of all rows, whatever their order."""
        query = sql.SQL("select md5(coalesce(string_agg(t::text, '' order by t::text), '')) from ({}) t")
        row = self._connection.execute(query.format(_select(table))).fetchone()
        return str(row[0]) if row else ""

    def whole(self, table: Table) -> Any:
        """All rows."""
        rows = self._connection.execute(_select(table) + sql.SQL(" order by 1, 2, 3"), binary=True).fetchall()
        return pa.Table.from_batches([_record_batch(table, rows)], schema=table.schema)


def _select(table: Table) -> sql.Composed:
    casts = {"text": "{0}::text as {0}", "numeric": "{0}::float8 as {0}"}
    columns = [
        sql.SQL(casts.get("text" if c.is_text else c.type, "{0}")).format(sql.Identifier(c.name)) for c in table.columns
    ]
    return sql.SQL("select {} from {}").format(sql.SQL(", ").join(columns), sql.Identifier(table.source))


def _record_batch(table: Table, rows: Sequence[tuple[Any, ...]]) -> Any:
    columns = zip(*rows, strict=True) if rows else ((),) * len(table.columns)
    return pa.record_batch([pa.array(c, t) for c, t in zip(columns, table.schema.types, strict=True)], table.schema)
