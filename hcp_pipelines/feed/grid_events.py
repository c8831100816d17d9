"""The desk for grid events: each is judged once, answered in or out with a reason, and kept.

The way is the one that operators go (`operators.grid`): what can't be met is answered with the reason that an award is refused
with. Rows are the truth (`event_rows`): a restart goes on where it was. Instants in rows are simulated; the server's are of the
clock on the wall.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import ConfigError, HcpError
from hcp_pipelines.feed.enrolment import Enrolment, Programme
from hcp_pipelines.feed.event_limits import (
    STRANGERS_A_DAY,
    CannotBeMetError,
    bounded,
    is_newer,
    simulated,
    too_many,
    unwritable,
)
from hcp_pipelines.feed.event_passing import pass_due
from hcp_pipelines.feed.event_rows import UNUSABLE, Judged, Kept, current_events, keep, kept_event
from hcp_pipelines.feed.event_taking import TAKERS, Case, ThereIs, keep_response
from hcp_pipelines.feed.event_undoing import Undoing
from hcp_pipelines.fleet.inventory import load_inventories
from hcp_pipelines.markets.openadr_events import Answer, GridEvent, Interval
from hcp_pipelines.operators.accounts import Operator, OperatorRole
from hcp_pipelines.operators.audit import note
from hcp_pipelines.operators.availability import counted_on
from hcp_pipelines.operators.progress import gateway_addresses, meter_mw, read_gateway, read_gateways
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

SOURCE = "openadr"
TEST = "a test event: nothing is moved"
W_PER_MW = 1e6
_ACTOR = Operator(SOURCE, OperatorRole.OPERATOR)
Connection = psycopg.Connection[Any]


@dataclass
class EventDesk:
    """Answers events of one server; plain functions, to be called off the event loop, one at a time (`meter_w` apart)."""

    settings: Settings
    enrolment: Enrolment
    clock: SystemClock
    _kept: Connection | None = field(default=None, init=False)

    def close(self) -> None:
        """Let go of Postgres. Idempotent."""
        if self._kept is not None:
            self._kept.close()

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Connection]:
        """One connection, which is asked twice a second; a broken one is given up."""
        if self._kept is None or self._kept.closed:
            self._kept = connect(self.settings, Role.FEED)
        try:
            yield self._kept
        except psycopg.OperationalError:
            self._kept.close()
            raise

    def look(self, event: GridEvent) -> ThereIs:
        """What a new event will be judged by; gateways are asked, so this has a connection of its own and locks nothing.

        Raises:
            HcpError: Postgres is away.
        """
        programme = self.enrolment.programmes.get(event.programme)
        if programme is None or event.is_cancelled or unwritable(event):
            return ThereIs({}, {})
        with connect(self.settings, Role.FEED) as connection:
            before = kept_event(connection, SOURCE, event.event_id)
            if before is not None and not is_newer(event, before):
                return ThereIs({}, {})
            return self._there_is(connection, event, programme)

    def answer(self, event: GridEvent, there_is: ThereIs | None = None) -> Answer:
        """In or out; the same again for an event that was answered before, or has been changed since.

        Raises:
            HcpError: Postgres is away.
        """
        if reason := unwritable(event):
            return Answer(False, reason)
        there_is = there_is or self.look(event)
        with self._connected() as connection:
            before = kept_event(connection, SOURCE, event.event_id)
            if before is not None and not is_newer(event, before):
                return before.answer
            now, stands = self.clock.now(), before is not None and before.stands
            if (reason := self._too_many(connection, event, now)) and not stands:
                return Answer(False, reason)  # not even kept: that is what there is too much of
            with connection.transaction():
                judged = self._judged(connection, event, before, there_is, now, reason)
                keep(connection, SOURCE, event, judged, before, now)
                about = {"programme": event.programme, "modification": event.modification}
                action = "event.opted_in" if judged.answer.is_in else "event.opted_out"
                note(connection, SOURCE, action, f"event/{event.event_id}", reason=judged.answer.reason, **about)
            with contextlib.suppress(*UNUSABLE):  # another event's row, which `pass_due` tells of in a moment
                pass_due(connection, SOURCE, now, self.clock.speed)
        return judged.answer

    def pass_due(self) -> None:
        """Pass on what has fallen due of answered events.

        Raises:
            HcpError: Postgres is away.
        """
        with self._connected() as connection:
            pass_due(connection, SOURCE, self.clock.now(), self.clock.speed)

    def standing(self) -> list[GridEvent]:
        """Events that we are in and that are not over, as far as books know them: no signal, no resources.

        Raises:
            HcpError: Postgres is away.
        """
        with self._connected() as connection:
            kept, _ = current_events(connection, SOURCE, self.clock.now())
        return [
            GridEvent(
                each.event_id,
                each.modification,
                each.programme,
                "other",
                (Interval(self._on_the_wall(each.start_at), each.end_at and self._on_the_wall(each.end_at), 0.0),),
            )
            for each in kept
        ]

    def meter_w(self, facility_id: str) -> float:
        """What a facility's meter reads, W.

        Raises:
            HcpError: its gateway does not answer.
        """
        with connect(self.settings, Role.FEED) as connection:
            return meter_mw(read_gateway(self.settings, connection, facility_id)) * W_PER_MW

    def _too_many(self, connection: Connection, event: GridEvent, now: datetime) -> str:
        programmes = self.enrolment.programmes
        most = programmes[event.programme].most_events_a_day if event.programme in programmes else STRANGERS_A_DAY
        return too_many(connection, SOURCE, event, programmes, most, now)

    def _judged(
        self,
        connection: Connection,
        event: GridEvent,
        before: Kept | None,
        there_is: ThereIs,
        now: datetime,
        refusal: str,
    ) -> Judged:
        """What is made of it; what it had set going and this does not keep goes. `refusal`: of any but a cancellation."""
        undoing = Undoing(connection, _ACTOR, before, now) if before is not None and before.stands else None
        judged = Judged(Answer(True), now, now)
        try:
            if event.is_cancelled:
                judged = judged.but(means="cancelled")
            else:
                intervals = simulated(event, self.clock)
                judged = judged.but(start_at=intervals[0].start_at, end_at=intervals[-1].end_at)
                if refusal:
                    raise CannotBeMetError(refusal)
                if event.is_test:
                    judged = judged.but(answer=Answer(True, TEST), means="test")
                else:
                    case = self._case(connection, event, there_is, intervals, now)
                    judged = _taken(case, judged.but(end_at=case.intervals[-1].end_at), before, undoing)
        except (CannotBeMetError, ConfigError) as error:
            judged = judged.but(answer=Answer(False, str(error)), means="refused")
        if undoing is not None:
            undoing.take_back(judged, _why(event))
        if event.is_cancelled and before is not None:
            return judged.but(obligations=before.obligations)  # those that can't be given back serve if it is told anew
        return judged

    def _case(
        self,
        connection: Connection,
        event: GridEvent,
        there_is: ThereIs,
        intervals: Sequence[Interval],
        now: datetime,
    ) -> Case:
        programme = self._programme_of(event)
        return Case(
            connection,
            _ACTOR,
            event,
            programme,
            self._facilities_of(event, programme),
            there_is,
            bounded(intervals, programme, now),
            event.ramp_up * self.clock.speed,
            now,
        )

    def _programme_of(self, event: GridEvent) -> Programme:
        programme = self.enrolment.programmes.get(event.programme)
        if programme is None:
            raise CannotBeMetError(f"not enrolled in {event.programme}")
        return programme

    def _facilities_of(self, event: GridEvent, programme: Programme) -> list[str]:
        """Those of the programme that the event names; all of them where it names none."""
        named = sorted({self.enrolment.facility_of.get(resource, resource) for resource in event.resources})
        strangers = [facility_id for facility_id in named if facility_id not in programme.facilities]
        if strangers:
            raise CannotBeMetError(f"{', '.join(strangers)}: not enrolled in {event.programme}")
        return named or sorted(programme.facilities)

    def _there_is(self, connection: Connection, event: GridEvent, programme: Programme) -> ThereIs:
        """The facilities that it names; for a response their gateways are asked, side by side."""
        inventories = load_inventories(connection)
        portfolio_mw = sum(each.capacity_mw for each in inventories)
        named = {self.enrolment.facility_of.get(resource, resource) for resource in event.resources}
        asked = set(programme.facilities) & named if named else set(programme.facilities)
        wanted = {each.facility_id: each for each in inventories if each.facility_id in asked}
        if programme.means != "response":
            return ThereIs(wanted, {})
        told = read_gateways(self.settings, gateway_addresses(connection), list(wanted))
        states = {facility_id: None if isinstance(state, HcpError) else state for facility_id, state in told.items()}
        counted = {
            facility_id: counted_on(
                connection, each, states[facility_id], self.clock.now(), each.capacity_mw / portfolio_mw
            )
            for facility_id, each in wanted.items()
        }
        return ThereIs(wanted, counted, [facility_id for facility_id, state in states.items() if state is None])

    def _on_the_wall(self, simulated_at: datetime) -> datetime:
        return self.clock.real_now() + (simulated_at - self.clock.now()) / self.clock.speed


def _taken(case: Case, judged: Judged, before: Kept | None, undoing: Undoing | None) -> Judged:
    """The event taken on, by all facilities or none; a response's former one is kept where it fits, and given back first else."""
    means = case.programme.means
    judged = judged.but(means=means)
    if means == "response" and before is not None and before.means in ("response", "cancelled"):
        kept = keep_response(case, judged, before)
        if kept is not None:
            return kept
    if undoing is not None and means == "response":
        undoing.take_back(judged, _why(case.event))
    with case.connection.transaction():
        return TAKERS[means](case, judged)


def _why(event: GridEvent) -> str:
    return f"event {event.event_id} was {'cancelled' if event.is_cancelled else 'changed'}"
