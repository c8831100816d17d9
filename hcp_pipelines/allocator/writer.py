"""Writes outcomes and history to the journal behind the decision path: batched, retried, bounded."""

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import structlog

from hcp_pipelines.allocator import metrics
from hcp_pipelines.allocator.journal import Batch
from hcp_pipelines.domain.errors import StorageError

GATHER_S = 0.1  # outcomes that come together are written together, and never beside a command's own commit
RETRY_FIRST_S = 0.1
RETRY_LAST_S = 2.0
WAITING_MAX = 200_000


class JournalWriter:
    """One batch at a time. Beyond the limit outcomes are dropped: the gateway's log has them still."""

    def __init__(self, write: Callable[[Batch], Awaitable[None]]) -> None:
        self._write_batch = write
        self.batch = Batch()
        self.problem = ""
        self.journalled: dict[str, int] = {}  # the gateways' log entries up to these are in the journal
        self._has_work = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._log = structlog.get_logger("allocator.journal")

    def wake(self) -> None:
        """There is something in the batch."""
        self._is_idle.clear()
        self._has_work.set()

    async def drained(self) -> None:
        """Wait until everything so far is in the journal."""
        await self._is_idle.wait()

    async def run(self) -> None:
        """Write what comes, for ever."""
        wait_s = RETRY_FIRST_S
        while True:
            await self._has_work.wait()
            await asyncio.sleep(GATHER_S)
            self._has_work.clear()
            taken, self.batch = self.batch, Batch()
            while not await self._write(taken):
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, RETRY_LAST_S)
                self._shed()
            wait_s = RETRY_FIRST_S
            if not self._has_work.is_set():
                self._is_idle.set()

    async def flush(self) -> None:
        """Write once what waits; at the end of the process."""
        taken, self.batch = self.batch, Batch()
        await self._write(taken)

    async def _write(self, batch: Batch) -> bool:
        if not len(batch) and not batch.cursors:
            return True
        try:
            await self._write_batch(batch)
        except (psycopg.OperationalError, StorageError, OSError) as error:
            metrics.POSTGRES_ERRORS.labels("journal").inc()
            self.problem = f"outcomes wait for Postgres: {str(error).strip()}"
            return False
        except psycopg.Error as error:  # a defect, not an outage: say so, and don't stop everything behind it
            metrics.POSTGRES_ERRORS.labels("journal").inc()
            self._log.error("outcomes were refused", rows=len(batch), error=str(error).strip())
        else:
            self.journalled |= {f: max(seq, self.journalled.get(f, 0)) for f, seq in batch.cursors.items()}
        self.problem = ""
        return True

    def _shed(self) -> None:
        if len(self.batch) > WAITING_MAX:
            self._log.error("too many outcomes wait: dropped, the gateways' logs have them", rows=len(self.batch))
            self.batch = Batch()
