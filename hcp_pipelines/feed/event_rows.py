"""Answered grid events in Postgres: one `grid_signals` row of kind `event` a modification, and the signals that follow from it.

What falls due of an event is read from its row, so that it needs no memory: deployments a little ahead, recalls and base points
at their time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from hcp_pipelines.markets.openadr_events import Answer, GridEvent

AHEAD_S = 5.0  # real: so long before it takes effect a deployment is written, for owners look as soon as it does
POINT_EVERY_S = 300.0  # simulated: a base point is good for fifteen minutes
PATIENCE = timedelta(days=1)  # simulated: what is older is not looked at any more
UNUSABLE = (psycopg.DataError, psycopg.IntegrityError, ValueError, KeyError, TypeError)  # one row, not the database
Connection = psycopg.Connection[Any]
Point = tuple[str, str, str | None, float]  # facility, from, until, MW

_KEPT = """
    select source_event_id, payload, effective_at, ends_at from grid_signals
    where kind = 'event' and source = %s and payload ->> 'event_id' = %s
    order by id desc limit 1"""
_CURRENT = """
    select source_event_id, payload, effective_at, ends_at from grid_signals e
    where kind = 'event' and source = %s and (ends_at is null or ends_at > %s)
      and not exists (
        select from grid_signals n
        where n.kind = 'event' and n.source = e.source and n.payload ->> 'event_id' = e.payload ->> 'event_id' and n.id > e.id)
    order by id"""
_SIGNAL = """
    insert into grid_signals (kind, level, facility_id, payload, source, source_event_id, effective_at, ends_at, received_at)
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict (source, source_event_id) do nothing"""
_FACILITIES = "select id, facility_id from grid_obligations where id = any(%s) order by id"


@dataclass(frozen=True)
class Judged:
    """What is made of an event; instants are simulated, `deploy_at` when its obligations are called."""

    answer: Answer
    start_at: datetime
    end_at: datetime | None
    means: str = ""
    level: str = ""
    obligations: Sequence[int] = ()
    deploy_at: datetime | None = None
    points: Sequence[Point] = ()

    def but(self, **changes: Any) -> "Judged":
        """The same with some fields replaced."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Kept:
    """An event's newest row."""

    row_name: str
    event_id: str
    programme: str
    modification: int
    answer: Answer
    means: str
    start_at: datetime
    end_at: datetime | None
    obligations: Sequence[int] = ()
    deploy_at: datetime | None = None
    points: Sequence[Point] = field(default_factory=tuple)


def keep(connection: Connection, source: str, event: GridEvent, judged: Judged, now: datetime) -> None:
    """The event's row; that of an alert is also the grid's own word, of kind `eea`."""
    payload = {
        "event_id": event.event_id,
        "modification": event.modification,
        "programme": event.programme,
        "means": judged.means,
        "opt": "optIn" if judged.answer.is_in else "optOut",
        "reason": judged.answer.reason,
        "obligations": list(judged.obligations),
        "deploy_at": judged.deploy_at.isoformat() if judged.deploy_at else None,
        "points": list(judged.points),
    }
    name = f"{event.event_id}/{event.modification}" + ("/cancelled" if event.is_cancelled else "")
    spans = (judged.start_at, judged.end_at, now)
    connection.execute(_SIGNAL, ("event", judged.level, None, Jsonb(payload), source, name, *spans))
    if judged.means == "alert":
        connection.execute(_SIGNAL, ("eea", judged.level, None, Jsonb({}), source, f"{name}/eea", *spans))


def kept_event(connection: Connection, source: str, event_id: str) -> Kept | None:
    """What was answered last to an event; None where it is new."""
    row = connection.execute(_KEPT, (source, event_id)).fetchone()
    return _kept(row) if row else None


def standing_events(connection: Connection, source: str, now: datetime) -> list[Kept]:
    """Events that we are in, and that are neither cancelled nor over."""
    kept = [_kept(row) for row in connection.execute(_CURRENT, (source, now)).fetchall()]
    return [event for event in kept if event.answer.is_in and event.means != "cancelled"]


def pass_on(
    connection: Connection, source: str, kind: str, facility_id: str, name: str, at: datetime, number: int
) -> None:
    """Tell a facility's owner that an obligation is deployed, or recalled; once a name."""
    payload = Jsonb({"obligation_id": number})
    connection.execute(_SIGNAL, (kind, "", facility_id, payload, source, name, at, None, at))


def pass_due(connection: Connection, source: str, now: datetime, speed: float) -> None:
    """Pass on what is due of the events that stand; what was passed on is not passed on again.

    Raises:
        UNUSABLE: of the first event whose row can't be used, after all others.
    """
    ahead = now + timedelta(seconds=AHEAD_S * speed)
    wrong: Exception | None = None
    for row in connection.execute(_CURRENT, (source, now - PATIENCE)).fetchall():
        try:
            _pass_event(connection, source, _kept(row), now, ahead)
        except UNUSABLE as error:
            wrong = wrong or error
    if wrong is not None:
        raise wrong


def _pass_event(connection: Connection, source: str, kept: Kept, now: datetime, ahead: datetime) -> None:
    if not kept.answer.is_in:
        return
    if kept.deploy_at is not None and kept.obligations:
        _pass_calls(connection, source, kept, now, ahead)
    for facility_id, at, mw in _points_due(kept, now):
        name = f"{kept.row_name}/point/{facility_id}/{at:%Y%m%dT%H%M%S}"
        connection.execute(_SIGNAL, ("base_point", "", facility_id, Jsonb({"mw": mw}), source, name, at, None, now))


def _pass_calls(connection: Connection, source: str, kept: Kept, now: datetime, ahead: datetime) -> None:
    """Deployments a little ahead; recalls when the event is over."""
    is_over = kept.end_at is not None and kept.end_at <= now
    if kept.deploy_at is None or kept.deploy_at > ahead:
        return
    for number, facility_id in connection.execute(_FACILITIES, (list(kept.obligations),)).fetchall():
        pass_on(connection, source, "deploy", facility_id, f"{kept.row_name}/deploy/{number}", kept.deploy_at, number)
        if is_over and kept.end_at is not None:
            at = max(kept.end_at, kept.deploy_at)
            pass_on(connection, source, "recall", facility_id, f"{kept.row_name}/recall/{number}", at, number)


def _points_due(kept: Kept, now: datetime) -> Iterator[tuple[str, datetime, float]]:
    """The base points that hold now, each with the instant that it is told of: every five minutes the same one anew."""
    for facility_id, start, end, mw in kept.points:
        start_at, end_at = datetime.fromisoformat(start), datetime.fromisoformat(end) if end else None
        if start_at <= now and (end_at is None or now < end_at):
            told = int((now - start_at).total_seconds() // POINT_EVERY_S)
            yield facility_id, start_at + timedelta(seconds=told * POINT_EVERY_S), mw


def _kept(row: Sequence[Any]) -> Kept:
    name, payload, start_at, end_at = row
    deploy_at = payload["deploy_at"]
    return Kept(
        row_name=name,
        event_id=payload["event_id"],
        programme=payload["programme"],
        modification=int(payload["modification"]),
        answer=Answer(payload["opt"] == "optIn", payload["reason"]),
        means=payload["means"],
        start_at=start_at,
        end_at=end_at,
        obligations=payload["obligations"],
        deploy_at=datetime.fromisoformat(deploy_at).astimezone(UTC) if deploy_at else None,
        points=[(facility_id, start, end, float(mw)) for facility_id, start, end, mw in payload["points"]],
    )
