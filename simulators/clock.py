"""The world's clock: simulated time from the anchor file (docs/clock-anchor.md), and real seconds.

The only module of the simulators that reads the machine's clocks. Shares no code with the platform's clock.
"""

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from simulators.settings import WorldConfigError


class Clock(Protocol):
    """What the world's parts are given; instants are Unix seconds."""

    @property
    def speed(self) -> float:
        """Simulated seconds per real second."""
        ...

    def now_s(self) -> float:
        """The simulated instant, Unix seconds."""
        ...

    def real_s(self) -> float:
        """The wall clock, Unix seconds; for log stamps only."""
        ...


@dataclass(frozen=True, slots=True)
class AnchorClock:
    """Simulated time through the anchor; never later than the wall clock."""

    real_at_s: float
    simulated_at_s: float
    anchor_speed: float

    @classmethod
    def load(cls, path: Path) -> "AnchorClock":
        """Read the anchor file.

        Raises:
            WorldConfigError: the file is missing or not an anchor.
        """
        try:
            raw = json.loads(path.read_text())
            real_at = datetime.fromisoformat(raw["real_at"])
            simulated_at = datetime.fromisoformat(raw["simulated_at"])
            speed = float(raw["speed"])
        except OSError as error:
            message = f"clock anchor {path}: {error.strerror}; `hcp up` writes it (docs/clock-anchor.md)"
            raise WorldConfigError(message) from error
        except (ValueError, KeyError, TypeError) as error:
            message = f"clock anchor {path} is not an anchor ({error}); see docs/clock-anchor.md"
            raise WorldConfigError(message) from error
        if real_at.tzinfo is None or simulated_at.tzinfo is None or not 0 < speed <= 100_000:
            message = f"clock anchor {path}: both instants need an offset and speed must be in (0, 100000], is {speed}"
            raise WorldConfigError(message)
        return cls(real_at.timestamp(), simulated_at.timestamp(), speed)

    @property
    def speed(self) -> float:
        """Simulated seconds per real second."""
        return self.anchor_speed

    def real_s(self) -> float:
        """The wall clock, Unix seconds."""
        return time.time()

    def now_s(self) -> float:
        """The simulated instant, Unix seconds; never later than the wall clock."""
        real_s = self.real_s()
        return min(self.simulated_at_s + (real_s - self.real_at_s) * self.anchor_speed, real_s)


class ManualClock:
    """A clock that moves only when told, for tests and lock-step runs."""

    def __init__(self, at_s: float, speed: float = 1.0) -> None:
        self.at_s = at_s
        self._speed = speed

    @property
    def speed(self) -> float:
        """Nominal speed; nothing moves by itself."""
        return self._speed

    def now_s(self) -> float:
        """The instant last set, Unix seconds."""
        return self.at_s

    def real_s(self) -> float:
        """The same instant: a manual world has no wall clock."""
        return self.at_s


def iso(at_s: float) -> str:
    """The instant as ISO 8601 with offset, microseconds where there are any.

    >>> iso(1735689600)
    '2025-01-01T00:00:00+00:00'
    """
    return datetime.fromtimestamp(at_s, UTC).isoformat()


def epoch_s(text: str) -> float:
    """Unix seconds of an ISO instant (UTC where it has no offset)."""
    instant = datetime.fromisoformat(text)
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()
