"""The thread that writes telemetry: a batch every few seconds, or sooner where much has come in. It is tried until it is stored.

While the lake can't be written nothing is acknowledged: the windows fill, and the gateways keep the samples on their disks.
"""

import contextlib
import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

import duckdb
import psycopg
import structlog

from hcp_pipelines.collector import metrics
from hcp_pipelines.collector.telemetry.intake import Intake
from hcp_pipelines.collector.telemetry.store import TelemetryStore
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.lake import without_secrets
from hcp_pipelines.wire.telemetry import Sample

BATCH_EVERY_S = 5.0
BATCH_ROWS = 2_000_000
AGAIN_FIRST_S, AGAIN_LAST_S = 0.5, 5.0


class Listener(Protocol):
    """Who is told, in the writer's thread, what is stored."""

    def opened(self, stored: Mapping[str, int], number: int) -> None:
        """The lake was opened: up to where each facility is in it, and the number of its last batch."""

    def written(self, samples: Sequence[Sample], number: int) -> None:
        """These are in the lake now, by the batch of this number."""


class Writer:
    """`run` in a thread of its own until `stop`."""

    def __init__(
        self,
        settings: Settings,
        clock: SystemClock,
        intake: Intake,
        listener: Listener,
        batch_every_s: float = BATCH_EVERY_S,
    ) -> None:
        self._settings, self._clock, self._intake, self._listener = settings, clock, intake, listener
        self._batch_every_s = batch_every_s
        self._store: TelemetryStore | None = None
        self._waiting: list[Sample] = []  # taken in, and not known to be stored
        self._stopped = threading.Event()
        self._again_s = AGAIN_FIRST_S
        self._log = structlog.get_logger("collector")
        self.problem = ""

    def run(self) -> None:
        """Write until told to stop, then once more what has come in."""
        while not self._stopped.is_set():
            if self._step():
                self._intake.wait(BATCH_ROWS, self._batch_every_s)
            else:
                self._stopped.wait(self._again_s)
                self._again_s = min(2 * self._again_s, AGAIN_LAST_S)
        self._step()
        self._close()

    def stop(self) -> None:
        """End after one more batch; from any thread."""
        self._stopped.set()
        self._intake.close()

    def cancel(self) -> None:
        """End the statement under way; from any thread."""
        store = self._store
        if store is not None:
            with contextlib.suppress(duckdb.Error):
                store.cancel()

    def _step(self) -> bool:
        """Write what is there; whether it went well."""
        try:
            store = self._opened()
            self._waiting += self._intake.take()
            if self._waiting:
                self._write(store)
        except (StorageError, psycopg.Error, duckdb.Error, OSError) as error:
            self._failed(without_secrets(error).strip())
            return False
        except Exception as defect:  # noqa: BLE001 - told by /healthz and tried again: a thread must not end unnoticed
            self._log.error("telemetry_writer_defect", exc_info=defect)
            self._failed(f"defect: {defect!r}")
            return False
        if self.problem:
            self._log.info("telemetry_written_again")
        self.problem, self._again_s = "", AGAIN_FIRST_S
        return True

    def _opened(self) -> TelemetryStore:
        if self._store is None:
            self._store = TelemetryStore(self._settings, self._clock)
            self._listener.opened(self._store.stored, self._store.number)
        return self._store

    def _write(self, store: TelemetryStore) -> None:
        began_s = self._clock.monotonic_s()
        done = store.write(self._waiting)
        self._waiting = []
        metrics.TELEMETRY_WRITE_SECONDS.observe(self._clock.monotonic_s() - began_s)
        self._listener.written(done.samples, done.number)

    def _failed(self, error: str) -> None:
        metrics.FAILURES.labels("telemetry").inc()
        if not self.problem:
            self._log.warning("telemetry_not_written", error=error)
        self.problem = error
        self._close()

    def _close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            with contextlib.suppress(duckdb.Error):
                store.close()
