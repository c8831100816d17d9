"""How many requests an account, or an address, may make: a bucket each, that fills with time. In memory, of one process."""

import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache

MOST_BUCKETS = 50_000
MOST_ADDRESSES = 4_096  # whose reading is remembered: each is read three times a request
IPV6_PREFIX = 64  # whoever has one address of a /64 has all of them


@dataclass(frozen=True, slots=True)
class Limit:
    """A tier's row of `request_limits`."""

    per_minute: int
    burst: int


@dataclass(frozen=True, slots=True)
class Taken:
    """Whether a request may go on, and what its headers tell."""

    is_allowed: bool
    limit: int
    remaining: int
    reset_s: int  # until the bucket is full again
    retry_after_s: int

    def headers(self) -> dict[str, str]:
        """`RateLimit-…`, and `Retry-After` where it was refused."""
        told = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_s),
        }
        return told if self.is_allowed else told | {"Retry-After": str(self.retry_after_s)}


class Buckets:
    """Buckets by name; those not used for longest are forgotten first, and a forgotten one is full."""

    def __init__(self, most: int = MOST_BUCKETS) -> None:
        self._most = most
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, limit: Limit, now_s: float, tokens: int = 1) -> Taken:
        """Take tokens if there are as many; 0 only looks whether there is one."""
        held = self._level(name, limit, now_s)
        is_allowed = held >= max(1, tokens)
        if is_allowed and tokens:
            held -= tokens
            self._held[name] = (held, now_s)
            self._held.move_to_end(name)
            while len(self._held) > self._most:
                self._held.popitem(last=False)
        per_s = limit.per_minute / 60
        missing = max(0.0, max(1, tokens) - held)
        return Taken(
            is_allowed,
            limit.burst,
            math.floor(held),
            math.ceil((limit.burst - held) / per_s),
            max(1, math.ceil(missing / per_s)),
        )

    def _level(self, name: str, limit: Limit, now_s: float) -> float:
        level, at_s = self._held.get(name, (float(limit.burst), now_s))
        return min(float(limit.burst), level + max(0.0, now_s - at_s) * limit.per_minute / 60)


@lru_cache(MOST_ADDRESSES)
def address_of(host: str | None) -> str:
    """The address that is counted.

    >>> address_of("2001:db8:1:2:3::4"), address_of("192.0.2.7"), address_of(None)
    ('2001:db8:1:2::/64', '192.0.2.7', 'unknown')
    """
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return "unknown"
    if address.version == 6:
        return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
    return str(address)
