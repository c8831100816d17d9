"""Ramp budgets: MW of load change per rolling window, up and down apart, at feeder, facility and portfolio (DESIGN §7.6)."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hcp_pipelines.policy.schema import RampLimit

FACILITY = "facility"
PORTFOLIO = "portfolio"


@dataclass(frozen=True)
class Headroom:
    """MW that may still change now, by scope (`facility`, `portfolio`, or a feeder id); a scope not named is unlimited."""

    up_mw: Mapping[str, float] = field(default_factory=dict)
    down_mw: Mapping[str, float] = field(default_factory=dict)

    def of(self, feeder_id: str, *, up: bool) -> float:
        """The least headroom of the scopes that a feeder's change uses."""
        mw = self.up_mw if up else self.down_mw
        return min(mw.get(scope, float("inf")) for scope in (feeder_id, FACILITY, PORTFOLIO))


UNLIMITED = Headroom()


@dataclass(frozen=True)
class Booking:
    """A change of load: signed MW on a feeder at a simulated Unix instant."""

    at_s: float
    feeder_id: str
    mw_delta: float


class RampLedger:
    """What a facility's load changes have used up of its rolling windows."""

    def __init__(self, limits: Iterable[RampLimit]) -> None:
        self._limits = tuple(limits)
        self._bookings: deque[Booking] = deque()
        self._longest_s = max((limit.window_s for limit in self._limits), default=0.0)

    def book(self, at_s: float, deltas_mw: Mapping[str, float]) -> None:
        """Book signed MW by feeder."""
        for feeder_id, mw in deltas_mw.items():
            if mw:
                self._bookings.append(Booking(at_s, feeder_id, mw))

    def restore(self, bookings: Iterable[Booking]) -> None:
        """Count a predecessor's window, in order of time."""
        self._bookings = deque(sorted((b for b in bookings if b.mw_delta), key=lambda b: b.at_s))

    def headroom(self, at_s: float) -> Headroom:
        """What may still change now."""
        self._forget(at_s)
        up, down = {}, {}
        for limit in self._limits:
            used_up, used_down = self._used(limit, at_s)
            up[limit.scope] = max(limit.up_mw - used_up, 0.0)
            down[limit.scope] = max(limit.down_mw - used_down, 0.0)
        return Headroom(up, down)

    def next_release_at(self, at_s: float) -> float | None:
        """The next instant at which a booking leaves its window, so that headroom returns."""
        self._forget(at_s)
        ends = [
            b.at_s + limit.window_s
            for limit in self._limits
            for b in self._bookings
            if _counts(limit, b) and b.at_s + limit.window_s > at_s
        ]
        return min(ends, default=None)

    def _used(self, limit: RampLimit, at_s: float) -> tuple[float, float]:
        inside = [b.mw_delta for b in self._bookings if _counts(limit, b) and b.at_s > at_s - limit.window_s]
        return sum(mw for mw in inside if mw > 0), -sum(mw for mw in inside if mw < 0)

    def _forget(self, at_s: float) -> None:
        while self._bookings and self._bookings[0].at_s <= at_s - self._longest_s:
            self._bookings.popleft()


def _counts(limit: RampLimit, booking: Booking) -> bool:
    return limit.scope in (FACILITY, PORTFOLIO, booking.feeder_id)
