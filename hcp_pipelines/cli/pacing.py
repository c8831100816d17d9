"""What a screen shows each second, asked as often as that costs little. What it asks is not known here."""

import math
from collections.abc import Callable
from typing import Any

from hcp_pipelines.domain.clock import Clock

SHARE = 0.05  # of the time that goes into asking at most (setting)

Answer = dict[str, Any]


class Paced:
    """The answer to a question that takes longer the longer a platform has run: new when its time has come, else the last."""

    def __init__(self, ask: Callable[[], Answer], clock: Clock) -> None:
        """Nothing is asked before the first call."""
        self._ask, self._clock = ask, clock
        self._answer: Answer = {}
        self._due_s = -math.inf

    def __call__(self) -> Answer:
        """The answer, new if the last was asked long enough ago for what it took."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._due_s:
            self._answer = self._ask()
            self._due_s = now_s + (self._clock.monotonic_s() - now_s) / SHARE
        return self._answer
