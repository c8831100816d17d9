"""The thread of roll-ups and retention: one thing after the other, behind the writer, and never at its expense.

A failure closes the connection; the next step begins with what the lake says.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime

import duckdb
import psycopg
import structlog

from hcp_pipelines.collector import metrics
from hcp_pipelines.collector.telemetry.retention import KEPT, Kept, beyond_size, cut, too_old
from hcp_pipelines.collector.telemetry.rollup_sql import HOURS, MINUTES
from hcp_pipelines.collector.telemetry.rollups import Rollups
from hcp_pipelines.collector.telemetry.rows import BATCHES
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.lake import without_secrets

LOOK_EACH_S = 15.0
CUT_EACH_S = 60.0
AGAIN_AFTER_S = 5.0
NOTES_MAX = 10_000
BATCHES_KEPT = 100  # of the newest, whatever is rolled up


class Roller:
    """`run` in a thread of its own until `stop`."""

    def __init__(self, settings: Settings, clock: SystemClock) -> None:
        self._settings, self._clock = settings, clock
        self._rollups: Rollups | None = None
        self._notes: deque[tuple[Mapping[int, int], int]] = deque(maxlen=NOTES_MAX)
        self._stopped = threading.Event()
        self._cut_at_s = clock.monotonic_s() + CUT_EACH_S
        self._log = structlog.get_logger("collector")
        self.problem = ""

    def note(self, rows: Mapping[int, int], number: int) -> None:
        """A batch brought so many rows of these minutes; from any thread."""
        self._notes.append((rows, number))

    def run(self) -> None:
        """Roll up what is due, let go of what is old, until told to stop."""
        while not self._stopped.wait(0.0 if self._step() else AGAIN_AFTER_S if self.problem else LOOK_EACH_S):
            pass
        self._close()

    def stop(self) -> None:
        """End, also in the middle of a statement: it is made again; from any thread."""
        self._stopped.set()
        rollups = self._rollups
        if rollups is not None:
            with contextlib.suppress(duckdb.Error):
                rollups.connection.interrupt()

    def _step(self) -> bool:
        """Do what is due first; whether there was something."""
        try:
            rollups = self._rollups = self._rollups or Rollups(self._settings, self._clock)
            while self._notes:
                rollups.note(*self._notes.popleft())
            did = self._timed("rollup", rollups.step)
            if self._clock.monotonic_s() >= self._cut_at_s:
                self._cut_at_s = self._clock.monotonic_s() + CUT_EACH_S
                self._timed("retention", lambda: self._cut(rollups))
        except (StorageError, psycopg.Error, duckdb.Error, OSError) as error:
            self._failed(without_secrets(error).strip())
            return False
        except Exception as defect:  # noqa: BLE001 - told by /healthz and tried again: a thread must not end unnoticed
            self._log.error("telemetry_roller_defect", exc_info=defect)
            self._failed(f"defect: {defect!r}")
            return False
        self.problem = ""
        return did

    def _timed(self, part: str, work: Callable[[], bool]) -> bool:
        began_s = self._clock.monotonic_s()
        did = work()
        if did:
            metrics.TELEMETRY_UPKEEP_SECONDS.labels(part).observe(self._clock.monotonic_s() - began_s)
        return did

    def _cut(self, rollups: Rollups) -> bool:
        """Let go of what is old or too much; whether there was something."""
        now = self._clock.now()
        cuts = {kept: too_old(kept, now) for kept in KEPT}
        beyond = beyond_size(rollups.connection, self._settings.lake_raw_max_gb)
        if beyond is not None:
            cuts[KEPT[0]] = max(cuts[KEPT[0]], beyond)
        rollups.finish(cuts[KEPT[0]], cuts[KEPT[1]])
        gone = sum(self._cut_one(rollups, kept, before) for kept, before in cuts.items())
        self._forget_batches(rollups)
        return gone > 0

    def _cut_one(self, rollups: Rollups, kept: Kept, before: datetime) -> int:
        rows = cut(rollups.connection, self._settings, kept, before)
        if rows:
            metrics.TELEMETRY_CUT_ROWS.labels(kept.table).inc(rows)
            self._log.info("telemetry_let_go", table=kept.table, rows=rows, before=before.isoformat())
        return rows

    def _forget_batches(self, rollups: Rollups) -> None:
        """Batches that are rolled up, but for the newest, and for those that say how far a facility is."""
        rolled = min(rollups.rolled_up_to(MINUTES), rollups.rolled_up_to(HOURS))
        rollups.connection.execute(
            f"""delete from lake.{BATCHES} b where number <= ? and number < (select max(number) - ? from lake.{BATCHES})
                and last_seq < (select max(last_seq) from lake.{BATCHES} n where n.facility_id = b.facility_id)""",  # noqa: S608
            [rolled, BATCHES_KEPT],
        )

    def _failed(self, text: str) -> None:
        if self._stopped.is_set():
            return
        metrics.FAILURES.labels("rollup").inc()
        if text != self.problem:
            self._log.warning("telemetry_not_rolled_up", error=text)
        self.problem = text
        self._close()

    def _close(self) -> None:
        rollups, self._rollups = self._rollups, None
        if rollups is not None:
            with contextlib.suppress(duckdb.Error):
                rollups.close()
