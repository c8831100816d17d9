"""What is to happen at a site at an instant of simulated time: the ends of boots and of operations.

The site stops at each instant on its way, so that what happens then doesn't depend on who looks, how often, or how fast the
clock runs.
"""

import heapq
from collections.abc import Callable
from math import inf

Call = Callable[[float], None]


class Calls:
    """What is still to come, in the order of time; at one instant in the order it was asked for."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Call]] = []
        self._number = 0

    @property
    def next_s(self) -> float:
        """The next instant; infinite where nothing is to come."""
        return self._due[0][0] if self._due else inf

    def add(self, at_s: float, call: Call) -> None:
        """Have something called with the instant it happens at."""
        self._number += 1
        heapq.heappush(self._due, (at_s, self._number, call))

    def run(self, at_s: float) -> None:
        """Carry out what is due by an instant."""
        while self._due and self._due[0][0] <= at_s:
            heapq.heappop(self._due)[2](at_s)
