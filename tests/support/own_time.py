"""Time that passes only while the test's process runs: for sites whose world, gateway and allocator are all in its loop.

Where a machine stops the process for seconds (other work, a full disk, a paused container), simulated time would leap by
minutes: a meter is silent, a notice runs out, an event fails. Here the loop and both clocks miss the same seconds.
Not for tests in which other processes read the same anchor.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from hcp_pipelines.domain import clock as platform_clock
from simulators import clock as world_clock

TICK_S = 0.02  # how long the loop sleeps at most
MOST_S = 0.1  # what is longer between two looks is no time that this process had


class OwnClock:
    """Seconds of this process; begins with the machine's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ahead_s = time.time() - time.monotonic()
        self._looked_s = self._own_s = time.monotonic()

    def monotonic(self) -> float:
        with self._lock:
            now_s = time.monotonic()
            self._own_s += min(now_s - self._looked_s, MOST_S)
            self._looked_s = now_s
            return self._own_s

    def monotonic_ns(self) -> int:
        return round(self.monotonic() * 1e9)

    def time(self) -> float:
        return self.monotonic() + self._ahead_s

    def now(self, zone=UTC) -> datetime:
        return datetime.fromtimestamp(self.time(), zone)


@pytest.fixture
async def own_time(monkeypatch) -> AsyncIterator[OwnClock]:
    """The test's loop and both clocks on this process' time."""
    own, loop = OwnClock(), asyncio.get_running_loop()
    monkeypatch.setattr(loop, "time", own.monotonic)
    monkeypatch.setattr(world_clock, "time", own)
    monkeypatch.setattr(platform_clock, "time", own)
    instants = SimpleNamespace(now=own.now, fromisoformat=datetime.fromisoformat)
    monkeypatch.setattr(platform_clock, "datetime", instants)
    ticking = asyncio.create_task(_tick())
    yield own
    ticking.cancel()


async def _tick() -> None:
    """So that no sleep of the loop looks like a time in which the process did not run."""
    while True:
        await asyncio.sleep(TICK_S)
