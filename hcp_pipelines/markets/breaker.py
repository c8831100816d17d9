"""Leaving a failing service alone: growing pauses for who polls it, and a circuit that lets a single request try after each.

Pauses are real seconds, and jittered, so that many clients don't come back at once. No HTTP.
"""

import random
from dataclasses import dataclass, field

from hcp_pipelines.domain.clock import Clock


def pause_s(failures: int, threshold: int, first_s: float, longest_s: float) -> float:
    """How long to wait after so many failures in a row: doubling from the threshold on, with jitter, real seconds."""
    doublings = min(max(0, failures - threshold), 10)
    return min(longest_s, first_s * float(2**doublings)) * random.uniform(0.75, 1.25)  # noqa: S311


@dataclass(slots=True)
class Breaker:
    """How long to leave a failing source alone: a little after its first failures, then doubling pauses, real seconds."""

    threshold: int = 3
    first_pause_s: float = 0.25
    longest_pause_s: float = 10.0
    failures: int = field(default=0, init=False)

    @property
    def is_open(self) -> bool:
        """Whether the source has failed often enough in a row to be left alone for a while."""
        return self.failures >= self.threshold

    def succeeded(self) -> None:
        """Close it: the source answered."""
        self.failures = 0

    def failed(self) -> float:
        """Count a failure; the real seconds to wait before the next try, with jitter."""
        self.failures += 1
        return pause_s(self.failures, self.threshold, self.first_pause_s, self.longest_pause_s)


@dataclass(slots=True)
class Circuit:
    """Closed while a service answers; open for a growing pause once `threshold` requests in a row have failed.

    After the pause it is half open: one request goes, the others stay away until it is known what became of it.
    """

    clock: Clock
    threshold: int = 5
    first_pause_s: float = 0.5
    longest_pause_s: float = 5.0
    failures: int = field(default=0, init=False)
    _open_until_s: float = field(default=0.0, init=False)
    _is_tried: bool = field(default=False, init=False)

    def stay_away_s(self) -> float:
        """Real seconds until a request may go; 0: it may now, and the caller tells what became of it."""
        if self.failures < self.threshold:
            return 0.0
        left_s = self._open_until_s - self.clock.monotonic_s()
        if left_s > 0 or self._is_tried:
            return max(left_s, self.first_pause_s)
        self._is_tried = True
        return 0.0

    def succeeded(self) -> None:
        """The service answered, whatever it said: close."""
        self.failures, self._is_tried = 0, False

    def failed(self) -> None:
        """No usable answer came."""
        self.failures += 1
        self._is_tried = False
        if self.failures >= self.threshold:
            wait_s = pause_s(self.failures, self.threshold, self.first_pause_s, self.longest_pause_s)
            self._open_until_s = self.clock.monotonic_s() + wait_s
