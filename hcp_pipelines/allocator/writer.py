"""Writes outcomes and history to the journal behind the decision path: batched, retried, bounded.

What Postgres refuses for a row of it is taken apart (`refused.py`): that row alone is not stored.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import psycopg
import structlog

from hcp_pipelines.allocator import metrics
from hcp_pipelines.allocator.desired_table import DesiredOutcome
from hcp_pipelines.allocator.journal import Batch, HistoryRow
from hcp_pipelines.allocator.on_paper import PaperRow
from hcp_pipelines.allocator.refused import TEXT_MAX, UNFIT, Pieces
from hcp_pipelines.domain.errors import StorageError

GATHER_S = 0.1  # outcomes that come together are written together, and never beside a command's own commit
RETRY_FIRST_S = 0.1
RETRY_LAST_S = 2.0
WAITING_MAX = 200_000


class JournalWriter:
    """One batch at a time. Beyond the limit outcomes are dropped: the gateway's log has them still."""

    def __init__(self, write: Callable[[Batch], Awaitable[None]], name: str) -> None:
        self._write_batch, self._name = write, name
        self._pieces = Pieces()
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

    def note(
        self,
        history: Sequence[HistoryRow] = (),
        papers: Sequence[PaperRow] = (),
        desired: Sequence[DesiredOutcome] = (),
    ) -> None:
        """Rows for `allocation_history`, of what was earned on paper, and of what became of desired rows."""
        if history or papers or desired:
            self.batch.history += history
            self.batch.papers += papers
            self.batch.desired += desired
            self.wake()

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
            self._take()
            while not await self._write():
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, RETRY_LAST_S)
                self._shed()
            wait_s = RETRY_FIRST_S
            if not self._has_work.is_set():
                self._is_idle.set()

    async def flush(self) -> None:
        """Write once what waits; at the end of the process."""
        self._take()
        await self._write()

    def _take(self) -> None:
        taken, self.batch = self.batch, Batch()
        self._pieces.add(taken)

    async def _write(self) -> bool:
        """Write all that was taken; False where Postgres is away, or takes nothing of the kind: what is left waits."""
        while (piece := self._pieces.first) is not None:
            try:
                await self._write_batch(piece)
            except UNFIT as error:
                self._refuse(error)
            except (psycopg.Error, StorageError, OSError) as error:
                metrics.POSTGRES_ERRORS.labels("journal").inc()
                self.problem = f"outcomes wait for Postgres: {str(error).strip()}"
                return False
            else:
                self._pieces.stored()
                self.journalled |= {f: max(seq, self.journalled.get(f, 0)) for f, seq in piece.cursors.items()}
        self.problem = ""
        return True

    def _refuse(self, error: Exception) -> None:
        reason = str(error).strip() or repr(error)
        if (bad := self._pieces.refused(reason, self._name)) is not None:
            kind, row = bad
            metrics.ROWS_REFUSED.labels(kind).inc()
            self._log.error("a row was refused", kind=kind, row=repr(row)[:TEXT_MAX], error=reason[:TEXT_MAX])

    def _shed(self) -> None:
        if len(self.batch) > WAITING_MAX:
            self._log.error("too many outcomes wait: dropped, the gateways' logs have them", rows=len(self.batch))
            self.batch = Batch()
