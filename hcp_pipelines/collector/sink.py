"""The lake as the collector writes it, and what it says has been copied. Files and snapshots are upkeep's matter.

The lake's own batches are the only truth about how far the copy has got: a batch's id is the last row id in it (or the
content's digest), committed in one transaction with its rows. A kill at any point therefore neither loses nor doubles.
"""

import time
from contextlib import ExitStack

import duckdb
import pyarrow as pa

from hcp_pipelines.collector.source import writers_of
from hcp_pipelines.collector.tables import APPENDED, REPLACED, Table
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import lake, lake_tables
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Database, Role

MEMORY = "128MB"
ROW_GROUP = 5000  # rows; a row group is held in memory, and a journal row may have kilobytes of slots
SETTLE_POLLS = 500
SETTLE_POLL_S = 0.02


class Sink:
    """An attached connection, kept over batches: attaching takes longer than writing."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        await_commits(settings)
        self._open = ExitStack()
        self.connection = self._open.enter_context(lake.attach(settings, memory=MEMORY, threads=1))
        try:
            self._prepare()
        except duckdb.Error as error:
            self.close()
            raise StorageError(f"the raw tables can't be made: {lake.without_secrets(error)}") from None

    def close(self) -> None:
        """Close the connection."""
        self._open.close()

    def cancel(self) -> None:
        """End the statement under way; may be called from another thread."""
        self.connection.interrupt()

    def cursor(self, table: Table) -> int:
        """The last row id that is in the lake; 0 before the first."""
        row = self.connection.execute(
            f'select max(try_cast(batch_id as bigint)) from lake.{lake.BATCHES} where "table" = ?',  # noqa: S608
            [table.target],
        ).fetchone()
        return int(row[0]) if row and row[0] is not None else 0

    def digest(self, table: Table) -> str:
        """The digest of the content that is in the lake; empty before the first copy."""
        row = self.connection.execute(
            f'select batch_id from lake.{lake.BATCHES} where "table" = ? order by written_at desc limit 1',  # noqa: S608
            [table.target],
        ).fetchone()
        return str(row[0]) if row else ""

    def append(self, table: Table, frame: pa.Table, last_id: int) -> None:
        """Add rows up to and with `last_id`."""
        lake.write(self.connection, table.target, frame, str(last_id), settings=self._settings)

    def replace(self, table: Table, frame: pa.Table, digest: str) -> None:
        """Put a table's rows in the place of all that it had."""
        lake.write(self.connection, table.target, frame, digest, mode="replace", settings=self._settings)

    def _prepare(self) -> None:
        spill = str(self._settings.at("run", "collector-spill")).replace("'", "''")
        self.connection.execute(f"set temp_directory = '{spill}'")
        self.connection.execute("set preserve_insertion_order = false")
        self.connection.execute(f"call lake.set_option('parquet_row_group_size', '{ROW_GROUP}', schema => 'raw')")
        self.connection.execute("begin")  # a commit takes longer than a table
        for table in (*APPENDED, *REPLACED):
            lake_tables.make(self.connection, table.target, table.schema)
        self.connection.execute("commit")


def await_commits(settings: Settings) -> None:
    """Wait for the commits that are under way: one may be that of a collector just killed, with rows of ours.

    Raises:
        StorageError: they take too long.
    """
    with connect(settings, Role.LAKE_WRITER, Database.LAKE) as connection:
        under_way = writers_of(connection, "ducklake_snapshot")
        for _ in range(SETTLE_POLLS):
            under_way &= writers_of(connection, "ducklake_snapshot")
            if not under_way:
                return
            time.sleep(SETTLE_POLL_S)
    raise StorageError(f"commits to the lake take longer than {SETTLE_POLLS * SETTLE_POLL_S:.0f} s")
