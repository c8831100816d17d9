"""How often a token may ask for statistics: so many requests a simulated minute, told in every reply's headers.

Source: the RateLimit header fields for HTTP (IETF draft); RFC 9110 (429, Retry-After).
"""

import math
from collections import OrderedDict
from typing import Final, NamedTuple

_MOST_TOKENS: Final = 1024
_WINDOW_S: Final = 60


class Allowance(NamedTuple):
    """What is left of a window."""

    is_allowed: bool
    limit: int
    remaining: int
    reset_s: int

    @property
    def headers(self) -> dict[str, str]:
        """As a reply tells it."""
        told = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_s),
        }
        return told if self.is_allowed else {**told, "Retry-After": str(self.reset_s)}


class Limiter:
    """Counts requests by who asks; what went beyond the limit is kept for whoever wants to know."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._asked: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self.refused = 0

    def take(self, who: str, now_s: float) -> Allowance:
        """Count a request."""
        window = int(now_s // _WINDOW_S)
        before, count = self._asked.pop(who, (window, 0))
        count = count + 1 if before == window else 1
        self._asked[who] = (window, count)
        while len(self._asked) > _MOST_TOKENS:
            self._asked.popitem(last=False)
        is_allowed = count <= self._per_minute
        self.refused += not is_allowed
        reset_s = max(1, math.ceil((window + 1) * _WINDOW_S - now_s))
        return Allowance(is_allowed, self._per_minute, max(0, self._per_minute - count), reset_s)
