"""Spans along a tick's way: each is told by whoever did it, once it is over; nothing is told unless traces are exported.

A trace is a tick's. Its id and those of spans that others are part of follow from the platform's name, the tick's number and a
key, so that processes need tell one another nothing more. How spans leave is in `tracing.py`, which is loaded only where they do.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

TICK = "tick"  # the key of a tick's own span, from its source's reply to its row's commit
Fact = str | int | float


@dataclass(frozen=True, slots=True)
class Span:
    """What took so long, and ended so long ago: real seconds."""

    name: str
    tick_id: int
    key: str
    under: str
    took_s: float
    ago_s: float
    facts: Mapping[str, Fact]


@dataclass
class _Platform:
    """Ticks of each count from 1."""

    name: str = ""


Sink = Callable[[Span], None]
_sinks: list[Sink] = []
_platform = _Platform()


def name_platform(name: str) -> None:
    """Have traces of this process be of a platform: whoever numbers the ticks, or was told so by who does."""
    _platform.name = name


def platform_name() -> str:
    """The platform whose ticks this process knows; empty until it has been told."""
    return _platform.name


def send_to(sink: Sink) -> Callable[[], None]:
    """Have spans of this process taken by `sink`; what ends that."""
    _sinks.append(sink)
    return lambda: _sinks.remove(sink)


def are_wanted() -> bool:
    """Whether anybody takes spans."""
    return bool(_sinks)


def tell_span(
    name: str, tick_id: int, took_s: float, *, ago_s: float = 0.0, key: str = "", under: str = TICK, **facts: Fact
) -> None:
    """Tell what was done for a tick; `under`: the key of what it is part of. Without a tick (0 or less) there is no trace."""
    if not _sinks or tick_id <= 0:
        return
    span = Span(name, tick_id, key or name, under, max(took_s, 0.0), max(ago_s, 0.0), facts)
    for sink in _sinks:
        sink(span)


def trace_id_of(tick_id: int) -> int:
    """The trace of a tick of this platform, 128 bits.

    >>> trace_id_of(7) == trace_id_of(7) != trace_id_of(8)
    True
    """
    return int.from_bytes(hashlib.blake2b(f"hcp/{_platform.name}/{tick_id}".encode(), digest_size=16).digest())


def span_id_of(tick_id: int, key: str) -> int:
    """The span with a key in a tick's trace, 64 bits."""
    return int.from_bytes(hashlib.blake2b(f"hcp/{_platform.name}/{tick_id}/{key}".encode(), digest_size=8).digest())
