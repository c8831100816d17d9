"""Keeps the lake's files and snapshots few: writes out inlined rows, merges small files, drops what is old.

One short step at a time between two rounds of copying, over the whole lake, and never at the copy's expense: a step that
fails is logged and comes again with the next turn. Which rows are kept for how long is not decided here.
"""

import time
from collections import deque

import duckdb
import structlog

from hcp_pipelines.collector import metrics
from hcp_pipelines.collector.tables import APPENDED, REPLACED
from hcp_pipelines.storage.lake import BATCHES, without_secrets

PERIOD_S = 600.0
FIRST_AFTER_S = 60.0
KEPT = "interval 30 minutes"  # of snapshots and replaced files: longer than any reader's statement may take
_OURS = ", ".join(f"'{t.target}'" for t in (*APPENDED, *REPLACED))

STEPS = {
    # the newest batch of a table says how far its copy has got and is kept for ever
    "forget_batches": f"""
        delete from lake.{BATCHES} b where "table" in ({_OURS}) and written_at < now() - interval 10 minutes
        and written_at < (select max(written_at) from lake.{BATCHES} n where n."table" = b."table")""",  # noqa: S608
    "flush_inlined": "call ducklake_flush_inlined_data('lake')",
    "merge_files": "call ducklake_merge_adjacent_files('lake')",
    "rewrite_files": "call ducklake_rewrite_data_files('lake')",
    "expire_snapshots": f"call ducklake_expire_snapshots('lake', older_than => now() - {KEPT})",
    "remove_files": f"call ducklake_cleanup_old_files('lake', older_than => now() - {KEPT})",
}


class Upkeep:
    """What is to be done next, and when."""

    def __init__(self, now_s: float) -> None:
        self._due_s = now_s + FIRST_AFTER_S
        self._steps: deque[str] = deque()

    def step(self, connection: duckdb.DuckDBPyConnection, now_s: float) -> None:
        """Do the next step if its time has come."""
        if now_s >= self._due_s:
            self._due_s = now_s + PERIOD_S
            self._steps = deque(STEPS)
        if not self._steps:
            return
        name = self._steps.popleft()
        started_s = time.monotonic()
        try:
            connection.execute(STEPS[name]).fetchall()
        except duckdb.Error as error:
            metrics.FAILURES.labels("upkeep").inc()
            structlog.get_logger("collector").warning("upkeep_failed", step=name, error=without_secrets(error))
        metrics.UPKEEP_SECONDS.labels(name).observe(time.monotonic() - started_s)
