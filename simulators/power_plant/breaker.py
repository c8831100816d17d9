"""A breaker that trips on overload after a time that shrinks with the overload. Pure: power and seconds in, states out.

Characteristic, with M = power ÷ limit (voltage and power factor are constant here, so power stands for current):
    M ≤ 1.05   never: the conventional non-tripping current of IEC 60947-2 (se.com, FAQ FA369327)
    above      k · 80 s ÷ (M² − 1): "extremely inverse" of IEC 60255-151 (curve C: K = 80, E = 2; GE M60 manual, table 5-28);
               k is the time multiplier, a setting
    M ≥ 10     within one step: the instantaneous element, a setting
An overload that ends before the trip is forgotten along the same curve's reset, k · 58.2 s ÷ (1 − M²) from full to none.
"""

import math
from dataclasses import dataclass
from enum import IntEnum

NEVER_BELOW = 1.05
INSTANTANEOUS = 10.0
_CURVE_S, _RESET_S = 80.0, 58.2


class BreakerState(IntEnum):
    """Why current flows or not; the value is what the register shows."""

    OPEN = 0  # by command
    CLOSED = 1
    TRIPPED = 2  # overload: reset, then close
    SHED_BY_RELAY = 3  # under-frequency relay: closed again by the recall
    TRIPPED_HOT = 4  # the cooling plant's interlock: reset, then close


def trip_after_s(overload: float, multiplier: float = 1.0) -> float:
    """Seconds until a constant overload (power ÷ limit) trips; infinite if never.

    >>> [round(trip_after_s(m)) for m in (1.1, 1.25, 1.5, 2.0, 10.0)]
    [381, 142, 64, 27, 0]
    >>> trip_after_s(1.05)
    inf
    """
    if overload <= NEVER_BELOW:
        return math.inf
    return 0.0 if overload >= INSTANTANEOUS else multiplier * _CURVE_S / (overload * overload - 1.0)


@dataclass(slots=True)
class Breaker:
    """State and thermal memory of one breaker. `heat` is the part of the way to the trip that is done, 0 … 1."""

    limit_w: float
    multiplier: float = 1.0
    state: BreakerState = BreakerState.CLOSED
    heat: float = 0.0
    trips: int = 0

    @property
    def is_closed(self) -> bool:
        """Whether what is behind it has power."""
        return self.state == BreakerState.CLOSED

    def carry(self, power_w: float, seconds: float) -> bool:
        """Carry a power for some seconds; whether it has tripped in them."""
        overload = power_w / self.limit_w
        after_s = trip_after_s(overload, self.multiplier)
        if after_s == 0.0:
            self.heat = 1.0
        elif after_s < math.inf:
            self.heat = min(1.0, self.heat + seconds / after_s)
        elif overload < 1.0:
            self.heat = max(0.0, self.heat - seconds * (1.0 - overload * overload) / (self.multiplier * _RESET_S))
        if self.heat < 1.0 - 1e-9 or not self.is_closed:
            return False
        self.state = BreakerState.TRIPPED
        self.trips += 1
        self.heat = 0.9  # hot: closed at once onto the same load it trips again soon
        return True
