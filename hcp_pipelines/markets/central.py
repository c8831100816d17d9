"""ERCOT's local time: Central prevailing stamps with a repeated-hour flag, to UTC and back, and operating days.

The one module of the feed that knows local market time. No prices and no HTTP.
"""

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    import polars as pl  # not at run time: 25 MB for the daemons

CENTRAL = ZoneInfo("America/Chicago")
LOCAL_FORMAT = "%Y-%m-%dT%H:%M:%S"


def from_local(local: datetime, is_repeated_hour: bool = False) -> datetime:
    """The UTC instant of a Central wall-clock time; the flag means the second pass of the autumn hour.

    >>> from_local(datetime(2024, 11, 3, 1, 30), is_repeated_hour=True).isoformat()
    '2024-11-03T07:30:00+00:00'
    """
    return local.replace(tzinfo=CENTRAL, fold=int(is_repeated_hour)).astimezone(UTC)


def to_local(instant: datetime) -> datetime:
    """The Central wall-clock time (naive) of an aware instant."""
    return instant.astimezone(CENTRAL).replace(tzinfo=None)


def hour_ending(operating_day: date, hour: int, is_repeated_hour: bool = False) -> datetime:
    """The UTC start of an hour named by its end: 1 is midnight to one o'clock.

    >>> hour_ending(date(2024, 7, 1), 1).isoformat()
    '2024-07-01T05:00:00+00:00'
    """
    return from_local(
        datetime(operating_day.year, operating_day.month, operating_day.day) + timedelta(hours=hour - 1),  # noqa: DTZ001
        is_repeated_hour,
    )


def operating_day(instant: datetime) -> date:
    """The Central calendar day an instant belongs to: what settlement groups by."""
    return instant.astimezone(CENTRAL).date()


def operating_days(instants: "pl.Expr") -> "pl.Expr":
    """`operating_day` of a column of instants."""
    return instants.dt.convert_time_zone(CENTRAL.key).dt.date()


def local_window(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """Local times that enclose a UTC window; an hour wider each side where the window crosses a clock change.

    Local times can't say which pass of the repeated hour they mean, so callers filter by UTC afterwards.
    """
    local_start, local_end = to_local(start), to_local(end)
    if local_end - local_start != end - start or _is_ambiguous(start) or _is_ambiguous(end):
        hour = timedelta(hours=1)
        return min(local_start, local_end) - hour, max(local_start, local_end) + hour
    return local_start, local_end


def _is_ambiguous(instant: datetime) -> bool:
    """Whether the local reading of an instant occurs twice."""
    local = to_local(instant)
    return from_local(local) != from_local(local, is_repeated_hour=True)
