"""What falls due of answered events, read from their rows so that it needs no memory.

Deployments a little ahead, base points anew every five minutes, and their end: a recall, a base point without a limit.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hcp_pipelines.feed.event_rows import (
    UNUSABLE,
    Connection,
    Kept,
    current_events,
    is_called_elsewhere,
    lasted,
    pass_on,
)

AHEAD_S = 5.0  # real: so long before it takes effect a deployment is written, for owners look as soon as it does
POINT_EVERY_S = 300.0  # simulated: a base point is good for fifteen minutes
PATIENCE = timedelta(days=1)  # simulated: what is older is not looked at any more
NO_LIMIT = "Infinity"  # as Postgres and Python read it; JSON has no number for it

_OBLIGATIONS = "select id, facility_id, status, lower(during) from grid_obligations where id = any(%s)"
_SAID = "select source_event_id from grid_signals where source = %s and source_event_id = any(%s)"
_NEWEST_POINT = """
    select source, effective_at from grid_signals where kind = 'base_point' and facility_id = %s
    order by effective_at desc, id desc limit 1"""


@dataclass(frozen=True)
class Due:
    """A signal for a facility's owner; a `release` is told only where our own base point is the newest."""

    kind: str
    facility_id: str
    name: str
    at: datetime
    payload: Mapping[str, Any]
    is_release: bool = False


@dataclass(frozen=True)
class _Sold:
    facility_id: str
    status: str
    since: datetime


@dataclass(frozen=True)
class _Present:
    """What an event's dues are judged by: the others by obligation and by facility, and what was sold."""

    calling: Mapping[int, Sequence[Kept]]
    limiting: Mapping[str, Sequence[Kept]]
    sold: Mapping[int, _Sold]
    now: datetime
    ahead: datetime


def pass_due(connection: Connection, source: str, now: datetime, speed: float) -> None:
    """Pass on what is due of the events that stand; what was passed on is not passed on again.

    Raises:
        UNUSABLE: of the first event whose row can't be used, after all others.
    """
    events, wrong = current_events(connection, source, now - PATIENCE)
    present, dues = _present(connection, events, now, now + timedelta(seconds=AHEAD_S * speed)), list[Due]()
    for event in events:
        try:
            dues += _dues(event, present)
        except UNUSABLE as error:
            wrong = wrong or error
    rows = connection.execute(_SAID, (source, [due.name for due in dues])).fetchall() if dues else []
    said = {name for (name,) in rows}
    for due in dues:
        try:
            if due.name not in said:
                _tell(connection, source, due, now)
        except UNUSABLE as error:
            wrong = wrong or error
    if wrong is not None:
        raise wrong


def release(connection: Connection, source: str, facility_id: str, name: str, at: datetime, now: datetime) -> None:
    """End a facility's base point, where the newest is of this source: without a limit there is none."""
    newest = connection.execute(_NEWEST_POINT, (facility_id,)).fetchone()
    if newest and newest[0] == source and newest[1] <= at:
        pass_on(connection, source, "base_point", facility_id, name, at, {"mw": NO_LIMIT}, now)


def _tell(connection: Connection, source: str, due: Due, now: datetime) -> None:
    if due.is_release:
        release(connection, source, due.facility_id, due.name, due.at, now)
    else:
        pass_on(connection, source, due.kind, due.facility_id, due.name, due.at, dict(due.payload), now)


def _present(connection: Connection, events: Sequence[Kept], now: datetime, ahead: datetime) -> _Present:
    calling: dict[int, list[Kept]] = defaultdict(list)
    limiting: dict[str, list[Kept]] = defaultdict(list)
    for event in events:
        with contextlib.suppress(*UNUSABLE):  # what can't be used of it is told where it falls due
            for number in event.obligations:
                calling[int(number)].append(event)
            for facility_id in {point[0] for point in event.points}:
                limiting[facility_id].append(event)
    rows = connection.execute(_OBLIGATIONS, (list(calling),)).fetchall() if calling else []
    sold = {number: _Sold(facility_id, status, since) for number, facility_id, status, since in rows}
    return _Present(calling, limiting, sold, now, ahead)


def _dues(event: Kept, present: _Present) -> list[Due]:
    return [*_calls(event, present), *_points(event, present.now), *_releases(event, present)]


def _calls(event: Kept, present: _Present) -> Iterator[Due]:
    """Deployments a little ahead; recalls when the event is over, of what no other event has called."""
    if event.deploy_at is None:
        return
    is_over = event.end_at is not None and event.end_at <= present.now
    for number in event.obligations:
        sold = present.sold.get(number)
        if sold is None or (at := max(event.deploy_at, sold.since)) > present.ahead:
            continue
        payload = {"obligation_id": number}
        if sold.status != "deployed":
            yield Due("deploy", sold.facility_id, f"{event.row_name}/deploy/{number}", at, payload)
        if is_over and event.end_at is not None:
            ends_at = max(event.end_at, at)
            if not is_called_elsewhere(present.calling[number], event.event_id, number, ends_at):
                yield Due("recall", sold.facility_id, f"{event.row_name}/recall/{number}", ends_at, payload)


def _points(event: Kept, now: datetime) -> Iterator[Due]:
    """The base points that hold now, each with the instant that it is told of: every five minutes the same one anew."""
    for facility_id, start, end, mw in event.points:
        start_at, end_at = lasted(start, end)
        if start_at <= now and (end_at is None or now < end_at):
            told = int((now - start_at).total_seconds() // POINT_EVERY_S)
            at = start_at + timedelta(seconds=told * POINT_EVERY_S)
            name = f"{event.row_name}/point/{facility_id}/{at:%Y%m%dT%H%M%S}"
            yield Due("base_point", facility_id, name, at, {"mw": mw})


def _releases(event: Kept, present: _Present) -> Iterator[Due]:
    """The end of base points that no other one follows."""
    for facility_id, _, end, _ in event.points:
        end_at = lasted(end, None)[0] if end else None
        if end_at is None or not present.now - PATIENCE < end_at <= present.now:
            continue
        if not any(each.limits(facility_id, end_at) for each in present.limiting[facility_id]):
            name = f"{event.row_name}/release/{facility_id}/{end_at:%Y%m%dT%H%M%S}"
            yield Due("base_point", facility_id, name, end_at, {}, is_release=True)
