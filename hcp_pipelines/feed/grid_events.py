"""The desk for grid events: each is judged once, answered in or out with a reason, and kept.

The way is the one that operators go (`operators.grid`): what can't be met is answered with the reason that an award is refused
with. Rows are the truth (`event_rows`): a restart goes on where it was. Instants in rows are simulated; the server's are of the
clock on the wall.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import psycopg

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import ConfigError, HcpError
from hcp_pipelines.feed.enrolment import Enrolment, Programme
from hcp_pipelines.feed.event_rows import UNUSABLE, Judged, Kept, keep, kept_event, pass_due, pass_on, standing_events
from hcp_pipelines.feed.event_taking import TAKERS, CannotBeMetError, Case, ThereIs, keep_response
from hcp_pipelines.fleet.inventory import load_inventories
from hcp_pipelines.markets.openadr_events import Answer, GridEvent, Interval
from hcp_pipelines.operators.accounts import Operator, OperatorRole
from hcp_pipelines.operators.audit import note
from hcp_pipelines.operators.availability import counted_on
from hcp_pipelines.operators.grid import withdraw
from hcp_pipelines.operators.progress import meter_mw, read_gateway
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

SOURCE = "openadr"
TEST = "a test event: nothing is moved"
W_PER_MW = 1e6
_STATUSES = "select id, facility_id, status from grid_obligations where id = any(%s) order by id"
_CALLED = """
    select max(effective_at) from grid_signals where kind = 'deploy' and (payload ->> 'obligation_id')::bigint = %s"""
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

    def answer(self, event: GridEvent) -> Answer:
        """In or out; the same again for an event that was answered before, or has been changed since.

        Raises:
            HcpError: Postgres is away.
        """
        with self._connected() as connection:
            before = kept_event(connection, SOURCE, event.event_id)
            if before is not None and not _is_newer(event, before):
                return before.answer
            there_is = self._there_is(connection, event)
            with connection.transaction():
                judged = self._judged(connection, event, before, there_is)
                keep(connection, SOURCE, event, judged, self.clock.now())
                about = {"programme": event.programme, "modification": event.modification}
                action = "event.opted_in" if judged.answer.is_in else "event.opted_out"
                note(connection, SOURCE, action, f"event/{event.event_id}", reason=judged.answer.reason, **about)
            with contextlib.suppress(*UNUSABLE):  # another event's row, which `pass_due` tells of in a moment
                pass_due(connection, SOURCE, self.clock.now(), self.clock.speed)
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
            kept = standing_events(connection, SOURCE, self.clock.now())
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

    def _judged(self, connection: Connection, event: GridEvent, before: Kept | None, there_is: ThereIs) -> Judged:
        intervals = [self._simulated(each) for each in event.intervals]
        judged = Judged(Answer(True), intervals[0].start_at, intervals[-1].end_at)
        stands = before if before is not None and before.answer.is_in else None
        try:
            if event.is_cancelled or event.is_test:
                self._take_back(connection, stands, event)
                reason = TEST if event.is_test else ""
                return judged.but(answer=Answer(True, reason), means="test" if event.is_test else "cancelled")
            programme = self._programme_of(event)
            case = Case(
                connection,
                Operator(SOURCE, OperatorRole.OPERATOR),
                event,
                programme,
                self._facilities_of(event, programme),
                there_is,
                intervals,
                event.ramp_up * self.clock.speed,
                self.clock.now(),
            )
            judged = judged.but(means=programme.means)
            if (
                stands
                and stands.means == programme.means == "response"
                and (kept := keep_response(case, judged, stands))
            ):
                return kept
            self._take_back(connection, stands, event)
            stands = None
            with connection.transaction():  # all facilities or none
                return TAKERS[programme.means](case, judged)
        except (CannotBeMetError, ConfigError) as error:
            self._take_back(connection, stands, event)
            return judged.but(answer=Answer(False, str(error)), means="refused")

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

    def _there_is(self, connection: Connection, event: GridEvent) -> ThereIs:
        """What is judged by; for a response gateways are asked, before anything is locked."""
        programme = self.enrolment.programmes.get(event.programme)
        if programme is None or event.is_cancelled:
            return ThereIs({}, {})
        inventories = load_inventories(connection)
        portfolio_mw = sum(each.capacity_mw for each in inventories)
        wanted = {each.facility_id: each for each in inventories if each.facility_id in programme.facilities}
        counted, silent = {}, []
        for facility_id, inventory in wanted.items() if programme.means == "response" else ():
            try:
                state = read_gateway(self.settings, connection, facility_id)
            except HcpError:
                state = None
                silent.append(facility_id)
            share = inventory.capacity_mw / portfolio_mw
            counted[facility_id] = counted_on(connection, inventory, state, self.clock.now(), share)
        return ThereIs(wanted, counted, silent)

    def _take_back(self, connection: Connection, before: Kept | None, event: GridEvent) -> None:
        """End what an event that was changed or cancelled had set going; what is armed stays so, and is not called."""
        actor = Operator(SOURCE, OperatorRole.OPERATOR)
        reason = f"event {event.event_id} was {'cancelled' if event.is_cancelled else 'changed'}"
        rows = connection.execute(_STATUSES, (list(before.obligations),)).fetchall() if before else []
        for number, facility_id, status in rows:
            if before is not None and before.means == "response" and status in ("offered", "awarded"):
                withdraw(connection, actor, number, reason)
                continue
            called = connection.execute(_CALLED, (number,)).fetchone()
            if before is not None and called and called[0] is not None and status in ("awarded", "armed", "deployed"):
                name, at = f"{before.row_name}/recall/{number}", max(self.clock.now(), called[0])
                pass_on(connection, SOURCE, "recall", facility_id, name, at, number)

    def _on_the_wall(self, simulated_at: datetime) -> datetime:
        return self.clock.real_now() + (simulated_at - self.clock.now()) / self.clock.speed

    def _simulated(self, interval: Interval) -> Interval:
        """The interval on the platform's clock."""
        end_at = None if interval.end_at is None else self.clock.to_simulated(interval.end_at)
        return replace(interval, start_at=self.clock.to_simulated(interval.start_at), end_at=end_at)


def _is_newer(event: GridEvent, before: Kept) -> bool:
    """Whether it says more than what was answered last; some servers cancel without counting."""
    is_cancelled_now = event.is_cancelled and before.means != "cancelled"
    return event.modification > before.modification or (event.modification == before.modification and is_cancelled_now)
