"""The one writer of ticks: judges what the sources offer, records it in batches and announces it.

Sources never wait for Postgres: the buffer is bounded and keeps the newest. A batch whose reply was lost is sent again;
the statement makes that harmless (storage/sql/store_price_data.sql).
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
import structlog
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.ticks import Stream, Tick
from hcp_pipelines.feed import metrics
from hcp_pipelines.feed.quality import Memory, Rules, judge
from hcp_pipelines.runtime.spans import TICK, are_wanted, tell_span
from hcp_pipelines.storage.prices import MAX_BATCH_ROWS, StoredTick, split_revisions, store_price_data

BUFFER_TICKS = 5_000
STORE_TIMEOUT_S = 5.0
RETRY_FIRST_S = 0.05
RETRY_LONGEST_S = 2.0

Pool = AsyncConnectionPool[psycopg.AsyncConnection[tuple[Any, ...]]]


@dataclass(frozen=True, slots=True)
class Offered:
    """A tick as a source gave it, and when its reply had come (monotonic real seconds)."""

    tick: Tick
    replied_s: float


@dataclass
class Recorder:
    """Takes ticks from all sources and writes them one batch after the other."""

    pool: Pool
    clock: Clock
    memory: Memory
    rules: Rules
    health: dict[str, str] = field(default_factory=dict)
    buffer_ticks: int = BUFFER_TICKS

    def __post_init__(self) -> None:
        self._buffer: deque[Offered] = deque()
        self._has_work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._log = structlog.get_logger("feed.recorder")

    def offer(self, ticks: Iterable[Tick]) -> None:
        """Queue ticks for recording; beyond the buffer's limit the oldest are dropped and counted."""
        replied_s = self.clock.monotonic_s()
        for tick in ticks:
            if len(self._buffer) >= self.buffer_ticks:
                dropped = self._buffer.popleft()
                metrics.TICKS.labels(dropped.tick.stream.value, "dropped").inc()
            self._buffer.append(Offered(tick, replied_s))
        if self._buffer:
            self._idle.clear()
            self._has_work.set()
        metrics.BUFFERED_TICKS.set(len(self._buffer))

    async def drained(self) -> None:
        """Wait until everything offered so far is recorded."""
        await self._idle.wait()

    async def run(self) -> None:
        """Record what is offered, for ever."""
        while True:
            await self._has_work.wait()
            await self.record_pending()

    async def record_pending(self) -> None:
        """Judge and record everything in the buffer."""
        while self._buffer:
            taken = [self._buffer.popleft() for _ in range(min(len(self._buffer), MAX_BATCH_ROWS))]
            metrics.BUFFERED_TICKS.set(len(self._buffer))
            await self._record(taken)
        self._has_work.clear()
        self._idle.set()

    async def _record(self, taken: Sequence[Offered]) -> None:
        now = self.clock.now()
        fresh: list[Tick] = []
        for offered in taken:
            verdict = judge(offered.tick, self.memory, self.rules, now)
            if verdict.tick is None:
                metrics.TICKS.labels(offered.tick.stream.value, "duplicate").inc()
            else:
                fresh.append(verdict.tick)
        for batch in split_revisions(fresh):
            stored = await self._store(batch)
            self._count(batch, stored)
            self._trace(taken, stored)
        self._note_latency(taken)

    async def _store(self, batch: Sequence[Tick]) -> list[StoredTick]:
        """Record a batch, trying until Postgres answers; a batch that it refuses is recorded row by row."""
        wait_s = RETRY_FIRST_S
        while True:
            try:
                stored = await self._store_once(batch)
            except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, TimeoutError) as error:
                self.health["postgres"] = f"ticks can't be recorded: {error}".strip()
                self._log.warning(
                    "postgres_unreachable", error=str(error), batch=len(batch), buffered=len(self._buffer)
                )
                await asyncio.sleep(wait_s)
                wait_s = min(RETRY_LONGEST_S, 2 * wait_s)
            except psycopg.Error as error:
                if len(batch) > 1:
                    return [row for tick in batch for row in await self._store([tick])]
                self._log.error("tick_refused", stream=batch[0].stream, series=batch[0].series, error=str(error))
                metrics.TICKS.labels(batch[0].stream.value, "refused").inc()
                return []
            else:
                self.health["postgres"] = ""
                return stored

    async def _store_once(self, batch: Sequence[Tick]) -> list[StoredTick]:
        started_s = self.clock.monotonic_s()
        async with asyncio.timeout(STORE_TIMEOUT_S), self.pool.connection(timeout=STORE_TIMEOUT_S) as connection:
            stored = await store_price_data(connection, batch)
        metrics.COMMIT_SECONDS.observe(self.clock.monotonic_s() - started_s)
        return stored

    def _count(self, batch: Sequence[Tick], stored: Sequence[StoredTick]) -> None:
        """Metrics and one log line a batch; what Postgres left out was there already."""
        for row in stored:
            metrics.TICKS.labels(row.stream.value, row.quality.value).inc()
        known = {(row.stream, row.series, row.source_at) for row in stored}
        for tick in batch:
            if (tick.stream, tick.series, tick.source_at) not in known:
                metrics.TICKS.labels(tick.stream.value, "duplicate").inc()
        if stored:
            streams = sorted({row.stream.value for row in stored})
            self._log.info("ticks_recorded", tick_id=stored[-1].id, rows=len(stored), streams=streams)

    def _trace(self, taken: Sequence[Offered], stored: Sequence[StoredTick]) -> None:
        """The beginning of each tick's trace: from its source's reply to its commit."""
        if not are_wanted():
            return
        now_s = self.clock.monotonic_s()
        replied = {(o.tick.stream, o.tick.series, o.tick.source_at): o.replied_s for o in taken}
        for row in stored:
            took_s = now_s - replied.get((row.stream, row.series, row.source_at), now_s)
            tell_span(TICK, row.id, took_s, stream=row.stream.value, series=row.series, quality=row.quality.value)

    def _note_latency(self, taken: Sequence[Offered]) -> None:
        now_s = self.clock.monotonic_s()
        replied: dict[Stream, float] = {offered.tick.stream: offered.replied_s for offered in taken}
        for stream, replied_s in replied.items():
            metrics.SOURCE_TO_COMMIT_SECONDS.labels(stream.value).observe(now_s - replied_s)
