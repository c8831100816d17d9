"""The two clocks (DESIGN §9): simulated time for the world, monotonic real time for promises about latency.

The only module of the platform that reads the machine's clocks.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol, Self

FIRST_YEAR, LAST_YEAR = 2000, 2200  # beyond them a database's instants are none of Python's


def typed_instant(text: str) -> datetime:
    """The instant that a person typed, UTC; without an offset it is that.

    Raises:
        ValueError: it is none, or outside the years that a database can hold.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not an instant like 2024-08-20 or 2024-08-20T18:00Z") from None
    if not FIRST_YEAR <= found.year < LAST_YEAR:
        raise ValueError(f"{text[:40]!r} is not between the years {FIRST_YEAR} and {LAST_YEAR}")
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


class Clock(Protocol):
    """What everything that needs time is given."""

    @property
    def speed(self) -> float:
        """Simulated seconds per real second; 1 in the real world."""
        ...

    def now(self) -> datetime:
        """The simulated (or real) instant, aware UTC."""
        ...

    def monotonic_s(self) -> float:
        """Real monotonic seconds, for deadlines, leases and latency."""
        ...

    def monotonic_ns(self) -> int:
        """The same in nanoseconds, for latency figures."""
        ...

    async def sleep(self, simulated_s: float) -> None:
        """Sleep so many seconds of *simulated* time."""
        ...


@dataclass(frozen=True, slots=True)
class Anchor:
    """Ties real to simulated time; every process reads the same one (file format: docs/clock-anchor.md)."""

    real_at: datetime
    simulated_at: datetime
    speed: float

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read an anchor file."""
        raw = json.loads(path.read_text())
        return cls(
            real_at=datetime.fromisoformat(raw["real_at"]),
            simulated_at=datetime.fromisoformat(raw["simulated_at"]),
            speed=float(raw["speed"]),
        )

    def dump(self) -> str:
        """The file's text."""
        return json.dumps(
            {
                "real_at": self.real_at.isoformat(),
                "simulated_at": self.simulated_at.isoformat(),
                "speed": self.speed,
            }
        )


class SystemClock:
    """The clock of a running process: real time, or simulated time through an anchor.

    Simulated time never overtakes the wall clock, so that Dagster's partitions exist.
    """

    def __init__(self, anchor: Anchor | None = None) -> None:
        self._anchor = anchor

    @property
    def speed(self) -> float:
        """Simulated seconds per real second."""
        return self._anchor.speed if self._anchor else 1.0

    def now(self) -> datetime:
        """The simulated instant (the real one without an anchor)."""
        real = datetime.now(UTC)
        if self._anchor is None:
            return real
        return self.to_simulated(real)

    def to_simulated(self, real: datetime) -> datetime:
        """The simulated instant at a real one."""
        if self._anchor is None:
            return real
        elapsed_s = (real - self._anchor.real_at).total_seconds() * self._anchor.speed
        return min(self._anchor.simulated_at + timedelta(seconds=elapsed_s), real)

    def real_now(self) -> datetime:
        """The wall clock, for log lines and audit rows only."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Real monotonic seconds."""
        return time.monotonic()

    def monotonic_ns(self) -> int:
        """Real monotonic nanoseconds."""
        return time.monotonic_ns()

    async def sleep(self, simulated_s: float) -> None:
        """Sleep so many simulated seconds."""
        await asyncio.sleep(simulated_s / self.speed)


class ManualClock:
    """A clock that moves only when told: for benches, back-tests and unit tests."""

    def __init__(self, at: datetime, speed: float = 1.0) -> None:
        self._now = at
        self._monotonic_s = 0.0
        self._speed = speed

    @property
    def speed(self) -> float:
        """Nominal speed; nothing moves by itself."""
        return self._speed

    def now(self) -> datetime:
        """The instant last set."""
        return self._now

    def monotonic_s(self) -> float:
        """Real seconds that the advances stand for."""
        return self._monotonic_s

    def monotonic_ns(self) -> int:
        """The same in nanoseconds."""
        return round(self._monotonic_s * 1e9)

    def advance(self, simulated_s: float) -> None:
        """Move forward by so many simulated seconds."""
        self._now += timedelta(seconds=simulated_s)
        self._monotonic_s += simulated_s / self._speed

    async def sleep(self, simulated_s: float) -> None:
        """Advance at once, yielding to the loop."""
        self.advance(simulated_s)
        await asyncio.sleep(0)
