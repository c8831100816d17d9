"""When work arrives: gaps that are drawn in the time of a rate, which follows day and week, wanders, and takes a test's shape.

One process a family. The same seed and beginning give the same instants, however far they are asked for; memory is one chunk.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, takewhile
from typing import Final

import numpy as np

from simulators.streams import DAY_S, FloatArray, smooth_noise, stream
from simulators.workloads.fitted import Arrivals
from simulators.workloads.shapes import Shape

CHUNK: Final = 8192
HOUR_S: Final = 3600
LEAST: Final = 1e-6  # of the mean rate: an hour without any demand would be an instant in the rate's time
_WEEK_BEGINS: Final = 4  # the epoch was a Thursday: (day + 3) % 7 counts from Monday


@dataclass(frozen=True)
class Calendar:
    """How the rate follows the clock: multiples by UTC hour (mean 1), of Saturday and Sunday."""

    hours: tuple[float, ...] = (1.0,) * 24
    weekend: float = 1.0

    def at(self, at_s: FloatArray) -> FloatArray:
        """The multiples at Unix seconds; their mean over a week is 1."""
        by_hour = np.asarray(self.hours)[(at_s // HOUR_S % 24).astype(np.int64)]
        is_weekend = (at_s // DAY_S + _WEEK_BEGINS - 1) % 7 >= 5
        return np.asarray(by_hour * np.where(is_weekend, self.weekend, 1.0) * 7.0 / (5.0 + 2.0 * self.weekend))


@dataclass(frozen=True)
class Process:
    """The arrivals of one family at a mean rate."""

    seed: int
    name: str
    arrivals: Arrivals
    rate_per_s: float
    calendar: Calendar = field(default_factory=Calendar)
    shape: Shape = field(default_factory=Shape)

    def within(self, from_s: float, to_s: float) -> FloatArray:
        """Unix seconds of all arrivals in [from, to)."""
        parts = takewhile(lambda chunk: chunk[0] < to_s, self.times(from_s))
        times = np.concatenate([*parts, np.zeros(0)])
        return np.asarray(times[: np.searchsorted(times, to_s)])

    def times(self, from_s: float) -> Iterator[FloatArray]:
        """Unix seconds of arrivals, rising, in chunks without end: what is drawn for a chunk hangs on no one's end."""
        random = stream(self.seed, "arrivals", self.name, repr(from_s))
        ahead = np.zeros(0)
        last = 0.0
        for edges in self._days(from_s):
            mass = np.concatenate([[0.0], np.cumsum(self._rate(edges, from_s) * np.diff(edges))])
            while True:
                if not len(ahead):
                    ahead = last + np.cumsum(self.arrivals.gaps.draw(random, CHUNK))
                    last = float(ahead[-1])
                now = int(np.searchsorted(ahead, mass[-1], side="left"))
                if now:
                    yield np.interp(ahead[:now], mass, edges)
                ahead = ahead[now:]
                if len(ahead):
                    break
            ahead, last = ahead - mass[-1], last - float(mass[-1])

    def _days(self, from_s: float) -> Iterator[FloatArray]:
        """Instants between which the rate is level, a UTC day at a time."""
        for day in count(int(from_s // DAY_S)):
            windows = day * DAY_S + np.arange(0, DAY_S, min(self.arrivals.window_s, HOUR_S), dtype=float)
            inner = np.concatenate([windows, from_s + np.asarray(self.shape.starts_s)])
            begin, end = max(from_s, float(day * DAY_S)), float((day + 1) * DAY_S)
            inside = inner[(inner > begin) & (inner < end)]
            yield np.unique(np.concatenate([[begin], inside, [end]]))

    def _rate(self, edges: FloatArray, from_s: float) -> FloatArray:
        middle = (edges[:-1] + edges[1:]) / 2
        fitted = self.arrivals
        steps = DAY_S // fitted.window_s
        noise = smooth_noise(
            self.seed, f"rate/{self.name}", int(edges[0] // DAY_S), steps, fitted.wander_tau_s / fitted.window_s
        )
        wandering = np.exp(fitted.wander * noise - fitted.wander**2 / 2)[
            (middle % DAY_S // fitted.window_s).astype(np.int64)
        ]
        level = np.maximum(self.calendar.at(middle) * wandering, LEAST)
        return np.asarray(self.rate_per_s * self.shape.at(middle - from_s) * level)
