"""What an event that was changed, cancelled or refused had set going, taken back as far as its new terms don't keep it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from hcp_pipelines.feed.event_passing import PATIENCE, release
from hcp_pipelines.feed.event_rows import (
    Connection,
    Judged,
    Kept,
    Point,
    current_events,
    holds,
    is_called_elsewhere,
    lasted,
    pass_on,
)
from hcp_pipelines.operators.accounts import Operator
from hcp_pipelines.operators.grid import withdraw

_STATUSES = "select id, facility_id, status from grid_obligations where id = any(%s) order by id"
_CALLED = """
    select max(effective_at) from grid_signals where kind = 'deploy' and (payload ->> 'obligation_id')::bigint = %s"""
_SAME = timedelta(seconds=1)  # a server that tells the same anew may round it otherwise


@dataclass(frozen=True)
class Undoing:
    """Takes back what `before` had set going; `source` acts."""

    connection: Connection
    actor: Operator
    before: Kept
    now: datetime

    def take_back(self, anew: Judged, reason: str) -> None:
        """All that is not in `anew`; what is armed stays so, and is not called."""
        source, others = self.actor.name, self._others()
        for number, facility_id, status in self._obligations():
            if self.before.means == "response" and status in ("offered", "awarded"):
                if number not in anew.obligations:
                    withdraw(self.connection, self.actor, number, reason)
                continue
            called_at = self._called_at(number) if status in ("awarded", "armed", "deployed") else None
            if called_at is None or self._goes_on(number, called_at, anew):
                continue
            at = max(self.now, called_at)
            if not is_called_elsewhere(others, self.before.event_id, number, at):
                name, payload = f"{self.before.row_name}/recall/{number}", {"obligation_id": number}
                pass_on(self.connection, source, "recall", facility_id, name, at, payload, self.now)
        for facility_id in sorted(set(_held(self.before.points, self.now))):
            if holds(anew.points, facility_id, self.now) or any(o.limits(facility_id, self.now) for o in others):
                continue
            name = f"{self.before.row_name}/release/{facility_id}/{self.now:%Y%m%dT%H%M%S}"
            release(self.connection, source, facility_id, name, self.now, self.now)

    def _others(self) -> Sequence[Kept]:
        events, _ = current_events(self.connection, self.actor.name, self.now - PATIENCE)
        return [each for each in events if each.event_id != self.before.event_id]

    def _obligations(self) -> Sequence[tuple[int, str, str]]:
        return self.connection.execute(_STATUSES, (list(self.before.obligations),)).fetchall()

    def _called_at(self, number: int) -> datetime | None:
        row = self.connection.execute(_CALLED, (number,)).fetchone()
        return row[0] if row else None

    def _goes_on(self, number: int, called_at: datetime, anew: Judged) -> bool:
        """Whether the new terms call it, too, and not later than it is called already."""
        is_called = number in anew.obligations and anew.deploy_at is not None
        return is_called and anew.deploy_at is not None and anew.deploy_at <= max(self.now, called_at) + _SAME


def _held(points: Sequence[Point], now: datetime) -> Iterator[str]:
    """Facilities that have had a base point of these by now, and have one still."""
    for facility_id, start, end, _ in points:
        start_at, end_at = lasted(start, end)
        if start_at <= now and (end_at is None or now < end_at):
            yield facility_id
