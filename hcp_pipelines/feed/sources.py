"""When to poll: interval sources aligned to the market's clock, periodic ones with a real-time floor, each supervised.

Cadence is simulated time (DESIGN §9), pauses have a floor in real time so that a fast world isn't hammered. One
source's failure never reaches another. What a reply contains is the clients' business.
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.domain.ticks import Stream, Tick
from hcp_pipelines.feed import metrics
from hcp_pipelines.feed.quality import Memory
from hcp_pipelines.feed.recorder import Recorder
from hcp_pipelines.markets.breaker import Breaker
from hcp_pipelines.markets.ercot import floor_to
from hcp_pipelines.markets.http import LeftAloneError

CATCH_UP = timedelta(hours=2)  # older intervals are a backfill's business
POLL_GAP_SIMULATED_S = 3.0
POLL_GAP_MIN_S = 0.05
POLL_GAP_MAX_S = 3.0  # ERCOT allows 30 requests a minute
PATIENT_GAP_MIN_S = 1.0
PATIENT_GAP_SIMULATED_S = 15.0
GAP_GROWTH = 1.2
EARLY_POLLS = 30  # after so many polls without the interval it is late, and the polls thin out
HEALTH_FAILURES = 5
NOTHING_TO_ASK_S = 0.5


class Source(Protocol):
    """A poll loop: one step polls if it is due and answers how many real seconds to wait before the next step."""

    @property
    def name(self) -> str:
        """Name in metrics, logs and health."""
        ...

    async def step(self) -> float:
        """Poll if due; real seconds until the next step is wanted."""
        ...


@dataclass
class PeriodicSource:
    """Polls every `period_s` simulated seconds, but not more often than every `floor_s` real ones.

    `fetch` answers None while there is nothing to ask for yet (no facility, so no settlement point).
    """

    name: str
    fetch: Callable[[], Awaitable[Sequence[Tick] | None]]
    recorder: Recorder
    clock: Clock
    period_s: float
    floor_s: float = 0.5

    async def step(self) -> float:
        """One poll; the real seconds to the next."""
        started_s = self.clock.monotonic_s()
        ticks = await self.fetch()
        if ticks is None:
            return NOTHING_TO_ASK_S
        metrics.POLLS.labels(self.name, "ok" if ticks else "empty").inc()
        self.recorder.offer(ticks)
        elapsed_s = self.clock.monotonic_s() - started_s
        metrics.POLL_SECONDS.labels(self.name).observe(elapsed_s)
        return max(self.floor_s, self.period_s / self.clock.speed) - elapsed_s


Fetch = Callable[[Sequence[str], datetime, datetime], Awaitable[Sequence[Tick]]]


@dataclass
class IntervalSource:
    """Polls around the start of each market interval until all its values are in, then sleeps to the next one.

    `lag` is how long after its start an interval's value is published: nothing for a SCED run, 15 minutes for a
    settlement price. Intervals missed (a restart, an outage) are asked for with the next poll, up to CATCH_UP back.
    Half way through an interval it is read once more, since a source may revise what it published.
    """

    name: str
    stream: Stream
    fetch: Fetch
    recorder: Recorder
    memory: Memory
    clock: Clock
    points: Callable[[], Sequence[str]]
    step_length: timedelta
    lag: timedelta = timedelta(0)
    ask_from: datetime | None = None
    _waiting_for: datetime | None = field(default=None, init=False)
    _polls: int = field(default=0, init=False)
    _rechecked: bool = field(default=False, init=False)
    _received: dict[str, datetime] = field(default_factory=dict, init=False)

    async def step(self) -> float:
        """Poll while the current interval lacks a point; the real seconds until the next look."""
        now = self.clock.now()
        points = list(self.points())
        if not points:
            return NOTHING_TO_ASK_S
        interval = floor_to(now - self.lag, self.step_length)
        if interval != self._waiting_for:
            self._waiting_for, self._polls, self._rechecked = interval, 0, False
        half_way = interval + self.lag + self.step_length / 2
        is_recheck = self._is_complete(points, interval)
        if is_recheck and (self._rechecked or now < half_way):
            return self._until(interval + self.lag + self.step_length if self._rechecked else half_way)
        await self._poll(points, interval)
        if not self._is_complete(points, interval):
            return self._gap_s()
        self._rechecked = is_recheck or now >= half_way
        return self._until(interval + self.lag + self.step_length if self._rechecked else half_way)

    def _is_complete(self, points: Sequence[str], interval: datetime) -> bool:
        return all((at := self._received.get(point)) is not None and at >= interval for point in points)

    async def _poll(self, points: Sequence[str], interval: datetime) -> None:
        started_s = self.clock.monotonic_s()
        self._polls += 1
        ticks = await self.fetch(points, self._start(points, interval), interval + self.step_length)
        metrics.POLL_SECONDS.labels(self.name).observe(self.clock.monotonic_s() - started_s)
        metrics.POLLS.labels(self.name, "ok" if ticks else "empty").inc()
        self.recorder.offer(ticks)
        for tick in (tick for tick in ticks if math.isfinite(tick.value)):  # what is no number may yet be corrected
            self._received[tick.series] = max(tick.source_at, self._received.get(tick.series, tick.source_at))
        if any(tick.source_at >= interval for tick in ticks):
            self.ask_from = interval

    def _start(self, points: Sequence[str], interval: datetime) -> datetime:
        """The first interval to ask for: the one after the last recorded, at most CATCH_UP back."""
        earliest = floor_to(interval - CATCH_UP, self.step_length)
        if self.ask_from is None:
            known = [self.memory.newest_at(self.stream, point) for point in points]
            newest = [at for at in known if at is not None]
            self.ask_from = min(newest) + self.step_length if len(newest) == len(points) else earliest
        return min(interval, max(self.ask_from, earliest))

    def _until(self, instant: datetime) -> float:
        """Real seconds to a simulated instant, a millisecond past it."""
        return max(0.001, (instant - self.clock.now()).total_seconds() / self.clock.speed + 0.001)

    def _gap_s(self) -> float:
        """Short while the value is expected at any moment, growing once it is late; with jitter, real seconds."""
        speed = self.clock.speed
        gap_s = min(POLL_GAP_MAX_S, max(POLL_GAP_MIN_S, POLL_GAP_SIMULATED_S / speed))
        patient_s = max(gap_s, PATIENT_GAP_MIN_S, PATIENT_GAP_SIMULATED_S / speed)
        late = min(max(0, self._polls - EARLY_POLLS), 50)
        return min(patient_s, gap_s * GAP_GROWTH**late) * random.uniform(1.0, 1.4)  # noqa: S311


async def supervise(source: Source, stop: asyncio.Event, health: dict[str, str]) -> None:
    """Run a source's steps until stopped; its failures make it wait, not end, and say so in its health."""
    log = structlog.get_logger("feed").bind(source=source.name)
    breaker = Breaker()
    while not stop.is_set():
        await _sleep_or_stop(await guarded_step(source, breaker, health, log), stop)


async def guarded_step(
    source: Source, breaker: Breaker, health: dict[str, str], log: structlog.stdlib.BoundLogger
) -> float:
    """One step of a source, whatever comes of it; the real seconds to the next."""
    try:
        wait_s = await source.step()
    except LeftAloneError as error:
        metrics.POLLS.labels(source.name, "failed").inc()
        return error.wait_s
    except MarketError as error:
        wait_s = breaker.failed()
        _note_failure(source.name, breaker, str(error), health)
        if breaker.failures in (1, HEALTH_FAILURES) or breaker.failures % 50 == 0:
            log.warning("poll_failed", error=str(error), failures=breaker.failures)
        return wait_s
    except Exception as error:  # a defect in one source must not silence the others
        wait_s = max(1.0, breaker.failed())
        _note_failure(source.name, breaker, repr(error), health)
        log.exception("source_defect", failures=breaker.failures)
        return wait_s
    if breaker.failures:
        log.info("poll_recovered", failures=breaker.failures)
    breaker.succeeded()
    metrics.BREAKER_OPEN.labels(source.name).set(0)
    health[source.name] = ""
    return wait_s


def _note_failure(name: str, breaker: Breaker, why: str, health: dict[str, str]) -> None:
    metrics.POLLS.labels(name, "failed").inc()
    metrics.BREAKER_OPEN.labels(name).set(int(breaker.is_open))
    if breaker.failures >= HEALTH_FAILURES:
        health[name] = f"{breaker.failures} failed polls in a row: {why}"


async def _sleep_or_stop(wait_s: float, stop: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(max(0.0, wait_s)):
            await stop.wait()
    except TimeoutError:
        return
