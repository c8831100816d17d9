"""What a server may ask for at all, whatever it means: text that can be kept, spans in order, not too long, too far or too often.

How much it may ask for is looked at where it is taken on (`event_taking`).
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.feed.enrolment import Programme
from hcp_pipelines.feed.event_rows import Connection, Kept
from hcp_pipelines.markets.openadr_events import GridEvent, Interval

DAY = timedelta(days=1)
STRANGERS_A_DAY = 100  # events of programmes that the enrolment has not, all together
_TOLD = """
    select count(*) from grid_signals
    where kind = 'event' and source = %s and received_at > %s and (payload ->> 'programme' = any(%s)) = %s"""


class CannotBeMetError(Exception):
    """Why an event is answered with out."""


def unwritable(event: GridEvent) -> str:
    """Why none of it can be kept; empty where it can."""
    for text in (event.event_id, event.programme, *event.resources):
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            return f"{text[:40]!a}: a name of letters that can't be kept"
    return ""


def simulated(event: GridEvent, clock: SystemClock) -> list[Interval]:
    """Its intervals on the platform's clock.

    Raises:
        CannotBeMetError: they are not in order, or beyond any calendar.
    """
    try:
        told = [_simulated(each, clock) for each in event.intervals]
    except OverflowError:
        raise CannotBeMetError("its instants are beyond any calendar") from None
    for number, each in enumerate(told):
        if each.end_at is not None and each.end_at <= each.start_at:
            raise CannotBeMetError(f"interval {number} ends before it begins")
        if number and (before := told[number - 1].end_at) is not None and before > each.start_at:
            raise CannotBeMetError(f"interval {number} begins before the one before it ends")
        if number and told[number - 1].end_at is None:
            raise CannotBeMetError(f"interval {number} comes after one without an end")
    return told


def bounded(intervals: Sequence[Interval], programme: Programme, now: datetime) -> list[Interval]:
    """The intervals as far as they are agreed on.

    Raises:
        CannotBeMetError: they begin too far ahead, or are a response's and too long.
    """
    start_at, end_at = intervals[0].start_at, intervals[-1].end_at
    ahead = start_at - now
    if ahead > timedelta(days=programme.most_days_ahead):
        raise CannotBeMetError(
            f"it begins in {ahead / DAY:.1f} days, {programme.most_days_ahead:g} are agreed on (most_days_ahead)"
        )
    if programme.means == "response":
        _no_longer(start_at, end_at, programme)
        return list(intervals)
    latest = max(start_at, now) + timedelta(hours=programme.most_hours)
    return [replace(each, end_at=min(each.end_at or latest, latest)) for each in intervals if each.start_at < latest]


def too_many(
    connection: Connection, source: str, event: GridEvent, programmes: Collection[str], most: int, now: datetime
) -> str:
    """Why it is one too many of its programme, or of those in none of ours, within a day; empty where it is not."""
    is_ours = event.programme in programmes
    names = [event.programme] if is_ours else list(programmes)
    row = connection.execute(_TOLD, (source, now - DAY, names, is_ours)).fetchone()
    if row is None or row[0] < most:
        return ""
    return f"{row[0]} events and changes within a day, {most} are agreed on (most_events_a_day)"


def is_newer(event: GridEvent, before: Kept) -> bool:
    """Whether it says more than what was answered last.

    Some servers cancel without counting; and what one reply left out, so that it went for cancelled, may be in the next.
    """
    if before.means == "cancelled" and not event.is_cancelled:
        return event.modification >= before.cancels
    is_cancelled_now = event.is_cancelled and before.means != "cancelled"
    return event.modification > before.modification or (event.modification == before.modification and is_cancelled_now)


def _no_longer(start_at: datetime, end_at: datetime | None, programme: Programme) -> None:
    if end_at is not None and end_at - start_at > timedelta(hours=programme.most_hours):
        hours = (end_at - start_at) / timedelta(hours=1)
        raise CannotBeMetError(f"it lasts {hours:.1f} h, {programme.most_hours:g} are agreed on (most_hours)")


def _simulated(interval: Interval, clock: SystemClock) -> Interval:
    end_at = None if interval.end_at is None else clock.to_simulated(interval.end_at)
    return replace(interval, start_at=clock.to_simulated(interval.start_at), end_at=end_at)
