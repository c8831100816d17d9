"""Central prevailing time, as ERCOT stamps it: no offset, a repeated hour in autumn, a missing one in spring.

The only module of the simulators that knows a local time.
"""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from simulators.streams import IntArray

CENTRAL = ZoneInfo("America/Chicago")
HOUR_S = 3600


class LocalHour(NamedTuple):
    """What a UTC hour is called in Texas."""

    offset_s: int
    is_repeated: bool
    day: date
    hour: int


@lru_cache(maxsize=65_536)
def local_hour(utc_hour: int) -> LocalHour:
    """The local name of a UTC hour (given as Unix seconds // 3600)."""
    local = datetime.fromtimestamp(utc_hour * HOUR_S, UTC).astimezone(CENTRAL)
    offset = local.utcoffset() or timedelta()
    return LocalHour(int(offset.total_seconds()), local.fold == 1, local.date(), local.hour)


def local_seconds(utc_s: IntArray) -> IntArray:
    """Local wall-clock readings of UTC instants, as seconds since 1970 without an offset."""
    hours, index = np.unique(utc_s // HOUR_S, return_inverse=True)
    offsets = np.array([local_hour(int(hour)).offset_s for hour in hours], dtype=np.int64)
    return utc_s + offsets[index]


def to_utc_s(naive: datetime, *, late: bool = False) -> int:
    """Unix seconds of a wall-clock reading; of a repeated one the first (or, `late`, the second) occurrence."""
    return int(naive.replace(tzinfo=CENTRAL, fold=1 if late else 0).timestamp())


def day_start_s(day: date) -> int:
    """Unix seconds at which a local day begins."""
    return to_utc_s(datetime(day.year, day.month, day.day))  # noqa: DTZ001 (a wall-clock reading)


def stamp(utc_s: int) -> str:
    """A local stamp as ERCOT writes it.

    >>> stamp(1735689613)
    '2024-12-31T18:00:13'
    """
    local_s = utc_s + local_hour(utc_s // HOUR_S).offset_s
    return datetime.fromtimestamp(local_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def zone_offset_s(name: str, utc_s: int) -> tuple[int, str]:
    """How far the clocks of a zone are ahead at an instant, and what they call that.

    Raises:
        ValueError: there is no such zone.
    """
    try:
        local = datetime.fromtimestamp(utc_s, UTC).astimezone(ZoneInfo(name))
    except (KeyError, OSError, ValueError) as error:
        message = f"no time zone {name[:40]!r}"
        raise ValueError(message) from error
    return int((local.utcoffset() or timedelta()).total_seconds()), local.tzname() or name
