"""Commands that are journalled and never left, found out late: their commit got no answer, and came about all the same.

Whoever wrote them, this process or a predecessor, has closed what it saw by then. So the journal is looked at once more, when a
commit that was under way can be under way no longer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import psycopg
import structlog

from hcp_pipelines.allocator.writer import JournalWriter
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import StorageError

UNDER_WAY = timedelta(seconds=30)  # real: longer than a commit takes, and than a command waits for its ack
CLOSE_WITHIN_S = 5.0

Close = Callable[[str, datetime, timedelta], Awaitable[int]]


class LateCommits:
    """Facilities in whose journal something may turn up yet."""

    def __init__(self, clock: SystemClock, writer: JournalWriter, close: Close) -> None:
        self._clock, self._writer, self._close = clock, writer, close
        self._since_s: dict[str, float] = {}
        self._log = structlog.get_logger("allocator.journal")

    def expect(self, facility_id: str) -> None:
        """A commit may be under way from now on of which nobody will hear."""
        self._since_s[facility_id] = self._clock.monotonic_s()

    async def look(self, facility_id: str) -> None:
        """Close what has turned up; for an owner whose gateway follows, so that all it has taken on is acknowledged."""
        since_s = self._since_s.get(facility_id)
        if since_s is None or self._clock.monotonic_s() - since_s < 2 * UNDER_WAY.total_seconds():
            return
        try:
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await self._writer.drained()
                closed = await self._close(facility_id, self._clock.now(), UNDER_WAY)
        except (psycopg.Error, StorageError, OSError, TimeoutError) as error:
            self._log.warning("late commands not closed", facility_id=facility_id, error=str(error).strip())
            return
        if self._since_s.get(facility_id) == since_s:
            del self._since_s[facility_id]
        if closed:
            self._log.warning("commits came about after all", facility_id=facility_id, assignments=closed)
