"""Answered grid events in Postgres: one `grid_signals` row of kind `event` a modification, and the signals that follow from it.

What follows, and when, is in `event_passing`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from hcp_pipelines.markets.openadr_events import Answer, GridEvent

UNUSABLE = (psycopg.DataError, psycopg.IntegrityError, ValueError, KeyError, TypeError)  # one row, not the database
Connection = psycopg.Connection[Any]
Point = tuple[str, str, str | None, float]  # facility, from, until, MW

_KEPT = """
    select source_event_id, payload, effective_at, ends_at, id from grid_signals
    where kind = 'event' and source = %s and payload ->> 'event_id' = %s
    order by id desc limit 1"""
_CURRENT = """
    select source_event_id, payload, effective_at, ends_at, id from grid_signals e
    where kind = 'event' and source = %s and (ends_at is null or ends_at > %s) and payload ->> 'opt' is distinct from 'optOut'
      and e.id = (
        select n.id from grid_signals n
        where n.kind = 'event' and n.source = e.source and n.payload ->> 'event_id' = e.payload ->> 'event_id'
        order by n.id desc limit 1)
    order by id"""
_SIGNAL = """
    insert into grid_signals (kind, level, facility_id, payload, source, source_event_id, effective_at, ends_at, received_at)
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict (source, source_event_id) do nothing"""


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
    row_id: int
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
    cancels: int = 0  # the modification that a cancellation took back

    @property
    def stands(self) -> bool:
        """Whether we are in, and it was not cancelled."""
        return self.answer.is_in and self.means != "cancelled"

    def calls(self, number: int, at: datetime) -> bool:
        """Whether it has an obligation called at an instant."""
        is_called = self.stands and self.deploy_at is not None and self.deploy_at <= at and number in self.obligations
        return is_called and (self.end_at is None or at < self.end_at)

    def limits(self, facility_id: str, at: datetime) -> bool:
        """Whether it has a base point for a facility at an instant."""
        return self.stands and holds(self.points, facility_id, at)


def holds(points: Sequence[Point], facility_id: str, at: datetime) -> bool:
    """Whether one of these base points is for a facility and an instant."""
    return any(where == facility_id and _lasts(start, end, at) for where, start, end, _ in points)


def keep(
    connection: Connection, source: str, event: GridEvent, judged: Judged, before: Kept | None, now: datetime
) -> None:
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
    if event.is_cancelled and before is not None:
        payload["cancels"] = before.modification
    name = f"{event.event_id}/{event.modification}" + ("/cancelled" if event.is_cancelled else "")
    if before is not None:
        name += f"/after/{before.row_id}"  # a modification may come more than once: cancelled, told again, cancelled
    spans = (judged.start_at, judged.end_at, now)
    connection.execute(_SIGNAL, ("event", judged.level, None, Jsonb(payload), source, name, *spans))
    if judged.means == "alert":
        connection.execute(_SIGNAL, ("eea", judged.level, None, Jsonb({}), source, f"{name}/eea", *spans))


def kept_event(connection: Connection, source: str, event_id: str) -> Kept | None:
    """What was answered last to an event; None where it is new."""
    row = connection.execute(_KEPT, (source, event_id)).fetchone()
    return _kept(row) if row else None


def current_events(connection: Connection, source: str, since: datetime) -> tuple[list[Kept], Exception | None]:
    """Events that we are in and that were not over at an instant; and why the first row of them that can't be used can't be."""
    kept: list[Kept] = []
    wrong: Exception | None = None
    for row in connection.execute(_CURRENT, (source, since)).fetchall():
        try:
            kept.append(_kept(row))
        except UNUSABLE as error:
            wrong = wrong or error
    return [each for each in kept if each.stands], wrong


def is_called_elsewhere(events: Collection[Kept], event_id: str, number: int, at: datetime) -> bool:
    """Whether another event has an obligation called at an instant."""
    return any(each.event_id != event_id and each.calls(number, at) for each in events)


def pass_on(
    connection: Connection,
    source: str,
    kind: str,
    facility_id: str,
    name: str,
    at: datetime,
    payload: dict[str, Any],
    now: datetime,
) -> None:
    """Tell a facility's owner: that an obligation is deployed, or recalled, or a base point; once a name."""
    connection.execute(_SIGNAL, (kind, "", facility_id, Jsonb(payload), source, name, at, None, now))


def lasted(start: str, end: str | None) -> tuple[datetime, datetime | None]:
    """A base point's span."""
    return datetime.fromisoformat(start), datetime.fromisoformat(end) if end else None


def _lasts(start: str, end: str | None, at: datetime) -> bool:
    start_at, end_at = lasted(start, end)
    return start_at <= at and (end_at is None or at < end_at)


def _kept(row: Sequence[Any]) -> Kept:
    name, payload, start_at, end_at, row_id = row
    deploy_at = payload["deploy_at"]
    return Kept(
        row_name=name,
        row_id=row_id,
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
        cancels=int(payload.get("cancels", 0)),
    )
