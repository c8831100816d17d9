"""Minutes and hours of telemetry, made of what is in the lake: each replaces its whole minutes, so that it may be repeated.

A late sample makes its minute dirty, and the minute is made anew from all its samples: for as long as these are kept. What is
rolled up is written down with the roll-up itself; a killed collector makes again only what is not.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime

import duckdb
import pyarrow as pa
import structlog

from hcp_pipelines.collector import metrics
from hcp_pipelines.collector.telemetry.dirty import Dirty, Due
from hcp_pipelines.collector.telemetry.rollup_sql import (
    GROUP_MINUTES,
    HOURS,
    MINUTES,
    OF_DEVICES,
    OF_MINUTES,
    OF_SAMPLES,
    SHRUNK,
    SHRUNK_HOURS,
    VIEWS,
)
from hcp_pipelines.collector.telemetry.rows import BATCHES
from hcp_pipelines.collector.telemetry.store import set_options
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.lake import Window

MINUTE_S, HOUR_S = 60, 3600
MEMORY = "768MB"
QUIET_S, OVER_S = (
    8.0,
    90.0,
)  # real: longer than a batch takes; a facility that stops has its last minute after the longer
HOUR_QUIET_S, HOUR_OVER_S = 30.0, 600.0
ROWS_MAX = 20_000_000  # of samples a roll-up reads: a minute of 300,000 devices is 18 million


_FILES = {"parquet_compression": "zstd", "target_file_size": "64MB"}
OPTIONS = {
    MINUTES: _FILES,
    HOURS: _FILES,
    GROUP_MINUTES: {"data_inlining_row_limit": "1000"},
}  # few rows: upkeep writes them out


class Rollups:
    """An attached connection, and what is dirty; belongs to one thread. The samples' table is there already."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self.minutes, self.hours = Dirty(QUIET_S, OVER_S), Dirty(HOUR_QUIET_S, HOUR_OVER_S)
        self._open = ExitStack()
        self.connection = self._open.enter_context(lake.attach(settings, memory=MEMORY, threads=1))
        self._log = structlog.get_logger("collector")
        try:
            prepare_rollups(self.connection)
            self._find_dirty()
        except duckdb.Error:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._open.close()

    def note(self, rows: Mapping[int, int], number: int) -> None:
        """A batch brought so many rows of these minutes."""
        now_s = self._clock.monotonic_s()
        self.minutes.note(rows, number, now_s)
        hours: dict[int, int] = {}
        for minute, count in rows.items():
            hours[minute // 60] = hours.get(minute // 60, 0) + count // 60
        self.hours.note(hours, number, now_s)

    def step(self) -> bool:
        """Make the newest minutes or hours that are due; whether there were any.

        Raises:
            StorageError, duckdb.Error: nothing is lost, it is due still.
        """
        now_s = self._clock.monotonic_s()
        due = self.minutes.due(now_s, ROWS_MAX)
        if due is not None:
            self._roll_minutes(due)
            return True
        due = self.hours.due(now_s, ROWS_MAX)
        if due is None or self.minutes.has_any(60 * due.first, 60 * due.last + 59):
            return False
        self._roll_hours(due)
        return True

    def finish(self, samples_before: datetime, minutes_before: datetime) -> None:
        """Make whatever is not made yet of samples and of minutes before an instant: they are about to go.

        Raises:
            StorageError, duckdb.Error: they must not go.
        """
        minute, hour = int(samples_before.timestamp() // MINUTE_S), int(minutes_before.timestamp() // HOUR_S)
        while (due := self.minutes.due(self._clock.monotonic_s(), ROWS_MAX, minute)) is not None:
            self._roll_minutes(due)
        while (due := self.hours.due(self._clock.monotonic_s(), ROWS_MAX, hour)) is not None:
            self._roll_hours(due)

    def _roll_minutes(self, due: Due) -> None:
        """Late samples of a minute whose others have gone would make less of it than is known: it stays as it is."""
        shrunk = self._shrunk(SHRUNK, due, MINUTE_S)
        for first, last in _without(due, shrunk):
            self._roll_run(first, last, f"{_instant(first * MINUTE_S).isoformat()}@{self.minutes.rolled_up_to(due)}")
        metrics.TELEMETRY_TOO_LATE.inc(len(shrunk))
        self.minutes.done(due)

    def _shrunk(self, query: str, due: Due, bucket_s: int) -> set[int]:
        """Buckets of whose source less is there than was rolled up."""
        start, end = _instant(due.first * bucket_s), _instant((due.last + 1) * bucket_s)
        return {int(row[0]) for row in self.connection.execute(query, [start, end, start, end]).fetchall()}

    def _roll_run(self, first: int, last: int, mark: str) -> None:
        start, end = _instant(first * MINUTE_S), _instant((last + 1) * MINUTE_S)
        minutes = self.connection.execute(OF_SAMPLES, [start, end]).to_arrow_table()
        self.connection.register("minutes", minutes)
        groups = self.connection.execute(OF_DEVICES).to_arrow_table()
        self.connection.unregister("minutes")
        for table, frame in ((GROUP_MINUTES, groups), (MINUTES, minutes)):  # the last one says that both are there
            self._replace(table, frame, mark, Window("minute_at", start, end))

    def _roll_hours(self, due: Due) -> None:
        """As minutes: an hour whose minutes have gone stays as it is."""
        for first, last in _without(due, self._shrunk(SHRUNK_HOURS, due, HOUR_S)):
            start, end = _instant(first * HOUR_S), _instant((last + 1) * HOUR_S)
            hours = self.connection.execute(OF_MINUTES, [start, end]).to_arrow_table()
            mark = f"{start.isoformat()}@{self.hours.rolled_up_to(due)}"
            self._replace(HOURS, hours, mark, Window("hour_at", start, end))
        self.hours.done(due)

    def _replace(self, table: str, frame: pa.Table, mark: str, window: Window) -> None:
        lake.write(self.connection, table, frame, mark, mode="replace", window=window, settings=self._settings)

    def _find_dirty(self) -> None:
        """What batches behind the last roll-ups brought; nothing has come for them since, so that what is over is due at once."""
        now_s = self._clock.monotonic_s()
        for dirty, table, size, quiet_s in ((self.minutes, MINUTES, 1, QUIET_S), (self.hours, HOURS, 60, HOUR_QUIET_S)):
            query = f"select number, minute, rows from lake.{BATCHES} where number > ? order by number"  # noqa: S608
            for number, minute, rows in self.connection.execute(query, [self.rolled_up_to(table)]).fetchall():
                dirty.note({minute // size: rows // size}, number, now_s - quiet_s)

    def rolled_up_to(self, table: str) -> int:
        """The number up to which every batch is in a roll-up, as the lake says."""
        query = f"""select max(try_cast(split_part(batch_id, '@', 2) as bigint)) from lake.{lake.BATCHES}
                    where "table" = ?"""  # noqa: S608
        row = self.connection.execute(query, [table]).fetchone()
        return int(row[0]) if row and row[0] is not None else 0


def prepare_rollups(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the tables and views, if they are not there; the samples' table is."""
    never = [_instant(0), _instant(0)]
    _make(connection, MINUTES, OF_SAMPLES, never)
    _make(connection, HOURS, OF_MINUTES, never)
    connection.register("minutes", connection.execute(f"from lake.{MINUTES} limit 0").to_arrow_table())
    _make(connection, GROUP_MINUTES, OF_DEVICES, [])
    connection.unregister("minutes")
    # of a lake from before the column: what is not known of its minutes stays so
    connection.execute(f"alter table lake.{GROUP_MINUTES} add column if not exists devices_with_hashrate integer")
    for table, options in OPTIONS.items():
        set_options(connection, table, options)
    for name, query in VIEWS.items():
        connection.execute(f"create or replace view lake.{name} as {query}")


def _make(connection: duckdb.DuckDBPyConnection, table: str, query: str, parameters: list[datetime]) -> None:
    connection.register("wanted", connection.execute(query, parameters).to_arrow_table())
    connection.execute(f"create table if not exists lake.{table} as from wanted limit 0")
    connection.unregister("wanted")


def _without(due: Due, numbers: set[int]) -> Iterator[tuple[int, int]]:
    """Runs (first, last) of a run without some of it."""
    first = due.first
    for number in [*sorted(numbers), due.last + 1]:
        if first < number:
            yield first, number - 1
        first = number + 1


def _instant(unix_s: float) -> datetime:
    return datetime.fromtimestamp(unix_s, tz=UTC)
