"""The lake as telemetry is written to it: tables with their settings, numbered batches, and up to where each facility is stored.

A batch's number is its id. It is committed in one transaction with its rows and with each facility's last sample in it, so that
a kill at any point neither loses nor doubles. Two writers can't have one number: the later one fails and reads anew.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import duckdb

from hcp_pipelines.collector.sink import await_commits
from hcp_pipelines.collector.telemetry.intake import without_known
from hcp_pipelines.collector.telemetry.rows import (
    BATCHES,
    BATCHES_SCHEMA,
    METER_SCHEMA,
    METERS,
    SCHEMA,
    TABLE,
    batches_of,
    meters_of,
    rows_of,
)
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.lake_tables import make
from hcp_pipelines.wire.telemetry import Sample

MEMORY = "512MB"
OPTIONS = {
    "data_inlining_row_limit": "0",
    "parquet_row_group_size": "122880",
    "parquet_compression": "zstd",
    "target_file_size": "16MB",  # bigger ones are not merged: at the fleet's rate a batch is one already
}


@dataclass(frozen=True, slots=True)
class Stored:
    """What a write made of some samples: those that are new in the lake, and the number of their batch."""

    samples: Sequence[Sample]
    number: int


class TelemetryStore:
    """An attached connection, and what is stored. Belongs to one thread."""

    def __init__(self, settings: Settings, clock: SystemClock) -> None:
        self._settings, self._clock = settings, clock
        await_commits(settings)
        self._open = ExitStack()
        self._connection = self._open.enter_context(lake.attach(settings, memory=MEMORY, threads=1))
        try:
            prepare(self._connection)
            self.number = self._last_number()
            self.stored = dict(self._last_seqs())
        except duckdb.Error as error:
            self.close()
            raise StorageError(f"the telemetry tables can't be made: {lake.without_secrets(error)}") from None

    def close(self) -> None:
        """Close the connection."""
        self._open.close()

    def cancel(self) -> None:
        """End the statement under way; may be called from another thread."""
        self._connection.interrupt()

    def write(self, samples: Sequence[Sample]) -> Stored:
        """Store those that are not stored yet, in one commit.

        Raises:
            StorageError: nothing is known of what is stored until a new store has been opened.
        """
        fresh = without_known(samples, self.stored)
        if not fresh:
            return Stored([], self.number)
        if (last := self._last_number()) != self.number:  # the batch of the next number may be forgotten already
            raise StorageError(f"batch {last} of {TABLE} came after {self.number}: another collector writes telemetry")
        number, now_us = self.number + 1, round(self._clock.real_now().timestamp() * 1e6)
        beside = {BATCHES: batches_of(fresh, number, now_us)}
        if meters := meters_of(fresh):
            beside[METERS] = meters
        done = lake.write(self._connection, TABLE, rows_of(fresh), str(number), settings=self._settings, beside=beside)
        if done.was_known:
            raise StorageError(f"batch {number} of {TABLE} is there already: another collector writes telemetry")
        self.number = number
        self.stored |= {sample.facility_id: sample.seq for sample in fresh}
        return Stored(fresh, number)

    def _last_number(self) -> int:
        query = f'select max(try_cast(batch_id as bigint)) from lake.{lake.BATCHES} where "table" = ?'  # noqa: S608
        row = self._connection.execute(query, [TABLE]).fetchone()
        return int(row[0]) if row and row[0] is not None else 0

    def _last_seqs(self) -> list[tuple[str, int]]:
        query = f"select facility_id, max(last_seq) from lake.{BATCHES} group by facility_id"  # noqa: S608
        return [(str(facility), int(seq)) for facility, seq in self._connection.execute(query).fetchall()]


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the raw tables, with the settings of their files."""
    connection.execute("set preserve_insertion_order = false")
    for table, schema in ((TABLE, SCHEMA), (BATCHES, BATCHES_SCHEMA), (METERS, METER_SCHEMA)):
        make(connection, table, schema)
    set_options(connection, TABLE, OPTIONS)


def set_options(connection: duckdb.DuckDBPyConnection, table: str, options: Mapping[str, str]) -> None:
    """How a table's files are written, where it is not said yet: two that say it at once are in each other's way."""
    schema, _, name = table.partition(".")
    query = "select option_name from lake.options() where scope_entry = ? and value = ?"
    for option, value in options.items():
        kept_as = value.replace("MB", "000000")
        if (option,) not in connection.execute(query, [table, kept_as]).fetchall():
            connection.execute(
                f"call lake.set_option('{option}', '{value}', schema => '{schema}', table_name => '{name}')"
            )
