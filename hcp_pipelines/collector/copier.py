"""One round of copying, all of it blocking: the daemon around it, its thread and its waits are in service.

A round on closed connections opens them and asks the lake how far the copy has got; every other round copies at most one
batch of each table. Any failure closes both connections, so that after it nothing is believed but what the lake says.
"""

import contextlib
from collections.abc import Sequence

import duckdb
import psycopg

from hcp_pipelines.collector import metrics
from hcp_pipelines.collector.horizon import Horizon
from hcp_pipelines.collector.sink import Sink
from hcp_pipelines.collector.source import Source
from hcp_pipelines.collector.tables import APPENDED, REPLACED, Table
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.lake import without_secrets

POLL_S = 2.0
HELD_BACK_S = 0.2
LAG_MAX_S = 30.0


class Copier:
    """What is copied and how far; `round` belongs to one thread, the rest may be read from others."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._complete_s = dict.fromkeys([t.target for t in (*APPENDED, *REPLACED)], clock.monotonic_s())
        self._ahead: dict[str, str] = {}
        self._source: Source | None = None
        self._sink: Sink | None = None
        self._cursors: dict[str, int] = {}
        self._digests: dict[str, str] = {}
        self._horizons: dict[str, Horizon] = {}
        self.last_error = ""

    @property
    def is_open(self) -> bool:
        """Whether the last round ended well: connected, with all tables in the lake."""
        return self._source is not None and self._sink is not None

    def round(self) -> float:
        """Open or copy once; the seconds until the next round is due, 0 if there is more at once.

        Raises:
            StorageError: Postgres or the lake is away or refuses; the next round begins anew.
        """
        try:
            wait_s = self._copy(self._source, self._sink) if self._source and self._sink else self._open()
        except (StorageError, psycopg.Error, duckdb.Error) as error:
            self.close()
            self.last_error = without_secrets(error).strip()
            raise StorageError(self.last_error) from None
        self.last_error = ""
        return wait_s

    def close(self) -> None:
        """Close what is open and forget what was known of the lake."""
        with contextlib.suppress(psycopg.Error, duckdb.Error):
            if self._source:
                self._source.close()
        with contextlib.suppress(duckdb.Error):
            if self._sink:
                self._sink.close()
        self._source = self._sink = None

    def cancel(self) -> None:
        """End whatever statement is under way, from another thread."""
        source, sink = self._source, self._sink
        with contextlib.suppress(psycopg.Error, duckdb.Error):
            if sink:
                sink.cancel()
            if source:
                source.cancel()

    def lag_s(self, target: str) -> float:
        """Seconds since the whole table was last known to be in the lake."""
        return self._clock.monotonic_s() - self._complete_s[target]

    def complete_s(self) -> float:
        """The instant (real monotonic seconds) up to which every table is known to be in the lake."""
        return min(self._complete_s.values())

    def problems(self) -> dict[str, str]:
        """What is wrong, for /healthz; empty texts where nothing is."""
        late = [f"{t} by {self.lag_s(t):.0f} s{self._reason(t)}" for t in self._complete_s if self.lag_s(t) > LAG_MAX_S]
        return {
            "copy": self.last_error,
            "lag": f"the lake is behind: {'; '.join(late)}" if late else "",
            "ahead": "; ".join(filter(None, self._ahead.values())),
        }

    def _reason(self, target: str) -> str:
        held_by = self._horizons[target].waits_for if target in self._horizons else ()
        return f" (open since then: transaction {', '.join(sorted(held_by))})" if held_by else ""

    def _open(self) -> float:
        self._source = Source(self._settings)
        self._sink = Sink(self._settings)
        self._cursors = {t.target: self._sink.cursor(t) for t in APPENDED}
        self._digests = {t.target: self._sink.digest(t) for t in REPLACED}
        self._horizons = {t.target: Horizon(t.source) for t in APPENDED}
        return 0.0

    def _copy(self, source: Source, sink: Sink) -> float:
        for table in REPLACED:
            self._replace(source, sink, table)
        return min(self._append(source, sink, table) for table in APPENDED)

    def _append(self, source: Source, sink: Sink, table: Table) -> float:
        """Copy one batch; the seconds until the next is due."""
        mark = self._horizons[table.target].complete(source, self._clock.monotonic_s())
        if mark is None:
            return HELD_BACK_S
        after = self._cursors[table.target]
        self._note_ahead(table, after, mark.id)
        if mark.id > after:
            self._copy_batch(source, sink, table, after, mark.id)
        if self._cursors[table.target] < mark.id:
            return 0.0
        self._complete_s[table.target] = mark.read_s
        return POLL_S

    def _copy_batch(self, source: Source, sink: Sink, table: Table, after: int, upto: int) -> None:
        started_s = self._clock.monotonic_s()
        age_s = source.age_s(table, after)
        batch = source.batch(table, after, upto)
        last_id = batch["id"][-1].as_py() if len(batch) else upto
        if len(batch):
            sink.append(table, batch, last_id)
        self._cursors[table.target] = last_id
        metrics.ROWS.labels(table.target).inc(len(batch))
        metrics.ROW_AGE_SECONDS.labels(table.target).observe(age_s + self._clock.monotonic_s() - started_s)

    def _replace(self, source: Source, sink: Sink, table: Table) -> None:
        now_s = self._clock.monotonic_s()
        digest = source.digest(table)
        if digest != self._digests[table.target]:
            # rows that change in between are newer than the digest, which then differs again in the next round
            rows = source.whole(table)
            sink.replace(table, rows, digest)
            self._digests[table.target] = digest
            metrics.ROWS.labels(table.target).inc(len(rows))
        self._complete_s[table.target] = now_s

    def _note_ahead(self, table: Table, copied: int, newest: int) -> None:
        """A lake that outlived its Postgres would silently copy nothing more: say it."""
        text = f"{table.target} has id {copied}, {table.source} ends at {newest}: they are not of one platform"
        self._ahead[table.target] = text if newest < copied else ""


def tables() -> Sequence[str]:
    """The names of all copies in the lake."""
    return [t.target for t in (*APPENDED, *REPLACED)]
