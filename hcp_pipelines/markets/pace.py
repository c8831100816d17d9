"""How fast a service may be asked: so many requests in a window, counted before they go, and what it says in its headers.

Windows and pauses are the service's own seconds: real ones, or simulated ones in a world faster than the clock on the wall.
One `Pace` is shared by all clients of one account or address. Source: RFC 9110 (Retry-After), the draft RateLimit fields, the
`X-RateLimit-…` habit, Binance's `X-MBX-USED-WEIGHT-1M`.
"""

import math
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from hcp_pipelines.domain.clock import Clock

GUARD_S = 0.25  # real: a request may be so much longer under way than the one that it must not come too close to
REFUSED_STATUS = frozenset({418, 429})  # too many requests; 418: and banned for it
UNSAID_S = 1.0  # how long to rest where a service says "too many" and not for how long; then twice as long, …
MOST_DOUBLINGS = 6
LONGEST_S = 3600.0  # a longer pause is no pause: somebody has to look
MINUTE_S = 60.0
NEARLY = 0.9  # of the weight that a service says is used


class Limit(NamedTuple):
    """At most so many requests in any window of seconds; `weight_a_minute`: what the used weight that it tells may reach."""

    requests: int
    window_s: float
    weight_a_minute: int = 0


class Pace:
    """When the next request may go."""

    def __init__(self, clock: Clock, limit: Limit | None = None) -> None:
        self.clock = clock
        self._limit = limit
        self._sent_s: deque[float] = deque()
        self._rest_until_s = -math.inf
        self._refusals = 0  # in a row, without a word on how long

    def now_s(self) -> float:
        """The service's seconds since some instant; a world that is slower than real time counts as real."""
        return self.clock.monotonic_s() * self._speed

    def keep(self, limit: Limit) -> None:
        """Keep to another limit from now on."""
        self._limit = limit

    def wait_s(self) -> float:
        """Real seconds until a request may go; 0: now."""
        now_s = self.now_s()
        free_s = self._rest_until_s
        if self._limit is not None:
            while self._sent_s and self._sent_s[0] <= now_s - self._window_s:
                self._sent_s.popleft()
            if len(self._sent_s) >= self._limit.requests:
                free_s = max(free_s, self._sent_s[-self._limit.requests] + self._window_s)
        return max(0.0, free_s - now_s) / self._speed

    def sent(self) -> None:
        """Count a request that goes now."""
        if self._limit is not None:
            self._sent_s.append(self.now_s())

    def heed(self, status: int, headers: Mapping[str, str]) -> None:
        """Take what a reply says of how fast it may be asked: rest as long as it wants."""
        is_refused = status in REFUSED_STATUS
        self._refusals = self._refusals + 1 if is_refused else 0
        pause_s = self._asked_pause_s(status, headers)
        if is_refused:
            pause_s = max(pause_s, UNSAID_S)
        if pause_s > 0:
            self._rest_until_s = max(self._rest_until_s, self.now_s() + min(pause_s, LONGEST_S))

    def _asked_pause_s(self, status: int, headers: Mapping[str, str]) -> float:
        if status in REFUSED_STATUS or status == 503:
            told_s = retry_after_s(headers.get("retry-after", ""), self.clock.now())
            if told_s is not None:
                return told_s
        if status in REFUSED_STATUS:
            return UNSAID_S * float(2 ** min(self._refusals - 1, MOST_DOUBLINGS))
        if self._limit is not None and (used := _number(headers.get("x-mbx-used-weight-1m"))) is not None:
            is_near = used >= NEARLY * (self._limit.weight_a_minute or math.inf)
            return MINUTE_S - self.clock.now().timestamp() % MINUTE_S if is_near else 0.0
        return _until_reset_s(headers)

    @property
    def _speed(self) -> float:
        return max(1.0, self.clock.speed)

    @property
    def _window_s(self) -> float:
        return (self._limit.window_s if self._limit else 0.0) + GUARD_S * self._speed


def retry_after_s(text: str, now: datetime) -> float | None:
    """The pause that a Retry-After asks for, seconds or a date; None where it says neither.

    >>> retry_after_s("17", datetime.fromisoformat("2025-01-01T00:00:00+00:00"))
    17.0
    >>> retry_after_s("Wed, 01 Jan 2025 00:00:30 GMT", datetime.fromisoformat("2025-01-01T00:00:00+00:00"))
    30.0
    """
    if (seconds := _number(text)) is not None:
        return max(0.0, seconds)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at - now).total_seconds()) if at.tzinfo else None


def _until_reset_s(headers: Mapping[str, str]) -> float:
    """Seconds until the window begins anew where nothing remains of it; 0 where something does, or nothing is said."""
    for remaining, reset in (
        ("ratelimit-remaining", "ratelimit-reset"),
        ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ):
        if (left := _number(headers.get(remaining))) is not None and left < 1:
            wait_s = _number(headers.get(reset))
            return wait_s if wait_s is not None and 0 <= wait_s <= LONGEST_S else UNSAID_S
    return 0.0


def _number(text: str | None) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text) if text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
