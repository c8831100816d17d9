"""The edge between the world's clock and the clock on the wall, which OpenADR speaks of. Instants are Unix seconds.

An event of a world at speed 60 lasts a sixtieth of its time on the wall; durations are whole seconds there, at least one.
"""

import re
from datetime import UTC, datetime

from simulators.clock import Clock

_DURATION = re.compile(r"P(?:(\d{1,5})W)?(?:(\d{1,5})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,7})M)?(?:(\d{1,9})S)?)?")
_SECONDS = (604_800, 86_400, 3600, 60, 1)


class Wall:
    """Simulated instants on the wall, and back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now_s(self) -> float:
        """Now, on the wall."""
        return self._clock.real_s()

    def of(self, simulated_s: float) -> float:
        """When a simulated instant is on the wall; to the millisecond."""
        real_s, now_s = self._clock.real_s(), self._clock.now_s()
        return round(real_s + (simulated_s - now_s) / self._clock.speed, 3)

    def simulated(self, wall_s: float) -> float:
        """What the world's clock shows at an instant on the wall."""
        real_s, now_s = self._clock.real_s(), self._clock.now_s()
        return now_s + (wall_s - real_s) * self._clock.speed

    def length_s(self, simulated_s: float) -> int:
        """How long a simulated time takes on the wall."""
        return max(round(simulated_s / self._clock.speed), 1 if simulated_s > 0 else 0)


def stamp(wall_s: float) -> str:
    """An instant as OpenADR writes it.

    >>> stamp(1735689600.25)
    '2025-01-01T00:00:00.250000Z'
    """
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_stamp(text: str) -> float:
    """The instant of a stamp with an offset.

    Raises:
        ValueError: it is none.
    """
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        message = f"{text[:40]!r} has no offset"
        raise ValueError(message)
    return instant.timestamp()


def period(seconds: int) -> str:
    """A duration as OpenADR writes it.

    >>> period(3661), period(0)
    ('PT1H1M1S', 'PT0S')
    """
    hours, rest = divmod(seconds, 3600)
    minutes, last = divmod(rest, 60)
    parts = "".join(f"{value}{unit}" for value, unit in ((hours, "H"), (minutes, "M"), (last, "S")) if value)
    return f"PT{parts or '0S'}"


def from_period(text: str) -> int:
    """Seconds of a duration.

    >>> from_period("P1DT10S"), from_period("PT2M")
    (86410, 120)

    Raises:
        ValueError: it is none.
    """
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()):
        message = f"{text[:40]!r} is no duration"
        raise ValueError(message)
    return sum(int(value or 0) * seconds for value, seconds in zip(found.groups(), _SECONDS, strict=True))
