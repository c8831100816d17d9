"""What an event sets going, by what its programme means: an obligation taken on, what was sold called, base points to be told.

Nothing is taken on by halves: what raises `CannotBeMetError` or `ConfigError` leaves nothing behind, and its message answers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from hcp_pipelines.domain.modes import DispatchRegime
from hcp_pipelines.feed.enrolment import Programme
from hcp_pipelines.feed.event_limits import CannotBeMetError
from hcp_pipelines.feed.event_rows import Judged, Kept
from hcp_pipelines.fleet.inventory import FacilityInventory
from hcp_pipelines.markets.openadr_events import Answer, GridEvent, Interval
from hcp_pipelines.operators.accounts import Operator
from hcp_pipelines.operators.availability import CountedOn
from hcp_pipelines.operators.grid import Award, award

_STANDING = """
    select id from grid_obligations
    where facility_id = any(%s) and programme = any(%s) and status in ('awarded', 'armed', 'deployed', 'recovering')
      and during && tstzrange(%s, %s)
    order by id"""
_TAKEN = """
    select facility_id, status, mw, lower(during), upper(during) from grid_obligations where id = any(%s) order by id"""
_FITS_MW = 1e-9
_FITS = timedelta(seconds=1)  # a server that tells the same anew may round it otherwise


@dataclass(frozen=True)
class ThereIs:
    """The facilities of a programme, and what can be counted on of each where that matters.

    `silent`: those whose gateways did not answer; they are judged by the books alone, as for an award.
    """

    inventories: Mapping[str, FacilityInventory]
    counted: Mapping[str, CountedOn]
    silent: Sequence[str] = ()

    def of(self, facility_id: str) -> FacilityInventory:
        """The facility.

        Raises:
            CannotBeMetError: it has no devices.
        """
        if facility_id not in self.inventories:
            raise CannotBeMetError(f"{facility_id} has no inventory")
        return self.inventories[facility_id]


@dataclass(frozen=True)
class Case:
    """An event before the desk; its instants and intervals simulated."""

    connection: psycopg.Connection[Any]
    actor: Operator
    event: GridEvent
    programme: Programme
    facilities: Sequence[str]
    there_is: ThereIs
    intervals: Sequence[Interval]
    ramp_up: timedelta
    now: datetime

    @property
    def from_now_on(self) -> datetime:
        """When it begins, or now if it has begun."""
        return max(self.intervals[0].start_at, self.now)

    def shares(self, value: float) -> dict[str, float]:
        """MW of all facilities together, over them by their capacity."""
        capacities = {facility_id: self.there_is.of(facility_id).capacity_mw for facility_id in self.facilities}
        return {facility_id: value * mw / sum(capacities.values()) for facility_id, mw in capacities.items()}

    def span(self) -> tuple[datetime, datetime]:
        """From the first interval that asks for something to the last one's end.

        Raises:
            CannotBeMetError: it asks for nothing, or has no end.
        """
        called = [each for each in self.intervals if each.value != 0]
        if not called:
            raise CannotBeMetError("it asks for nothing")
        if called[-1].end_at is None:
            raise CannotBeMetError("it has no end: nobody can promise that")
        return called[0].start_at, called[-1].end_at

    def calls_at(self, start_at: datetime) -> datetime:
        """When a response is called so that it is there when it begins."""
        notice = max(timedelta(seconds=self.programme.notice_s), self.ramp_up)
        return max(start_at - notice, self.now)


def take_response(case: Case, judged: Judged) -> Judged:
    """An obligation for each facility, called in time; met from the event's beginning to its end."""
    start_at, end_at = case.span()
    calls_at, programme, numbers = case.calls_at(start_at), case.programme, []
    for facility_id, mw in case.shares(asked_mw(case.event, programme)).items():
        asked = Award(
            programme.name,
            mw,
            calls_at,
            end_at,
            max((start_at - calls_at).total_seconds(), 0.0),
            (end_at - start_at).total_seconds(),
            programme.recovery_s,
            programme.penalty_usd_per_mwh,
            programme.tranche,
        )
        inventory, counted = case.there_is.of(facility_id), case.there_is.counted[facility_id]
        reason = f"event {case.event.event_id}"
        numbers.append(award(case.connection, case.actor, inventory, asked, counted, case.now, reason))
    silent = ", ".join(facility_id for facility_id in case.facilities if facility_id in case.there_is.silent)
    answer = Answer(True, f"{silent}: no answer of its gateway, devices are taken for well and on" if silent else "")
    return judged.but(answer=answer, obligations=numbers, deploy_at=calls_at, end_at=end_at)


def keep_response(case: Case, judged: Judged, before: Kept) -> Judged | None:
    """A response that was changed, or cancelled and told anew, within what was taken on for it; None where it is not."""
    start_at, end_at = case.span()
    shares = case.shares(asked_mw(case.event, case.programme))
    rows = case.connection.execute(_TAKEN, (list(before.obligations),)).fetchall()
    fits = {
        facility_id
        for facility_id, status, mw, since, until in rows
        if status in ("awarded", "armed", "deployed")
        and shares.get(facility_id, float("inf")) <= mw + _FITS_MW
        and since <= start_at + _FITS
        and end_at <= until + _FITS
    }
    if not rows or fits != set(shares):
        return None
    is_called = before.stands and any(status == "deployed" for _, status, *_ in rows)
    calls_at = before.deploy_at if is_called else max(case.calls_at(start_at), *(row[3] for row in rows))
    return judged.but(obligations=before.obligations, deploy_at=calls_at, end_at=end_at)


def take_deployment(case: Case, judged: Judged) -> Judged:
    """What is sold in the programme while it lasts goes, each from when it is."""
    numbers = _standing(case, [case.programme.name])
    if not numbers:
        where = ", ".join(case.facilities)
        raise CannotBeMetError(
            f"nothing of {case.programme.name} is sold of {where} from {case.from_now_on:%m-%d %H:%M}Z on"
        )
    return judged.but(obligations=numbers, deploy_at=case.from_now_on)


def take_alert(case: Case, judged: Judged) -> Judged:
    """News, and never refused; it calls what it calls."""
    level = round(max(each.value for each in case.intervals))
    called = [name for name, least in case.programme.calls.items() if level >= least]
    return judged.but(level=str(level), obligations=_standing(case, called), deploy_at=case.from_now_on)


def take_base_point(case: Case, judged: Judged) -> Judged:
    """Limits, told while they last, from now on."""
    least_mw = min(each.value for each in case.intervals)
    if case.event.signal != "power_limit" or least_mw < 0:
        raise CannotBeMetError("a base point is a load set point, 0 or more")
    for facility_id in case.facilities:
        regime = case.there_is.of(facility_id).dispatch_regime
        if regime is not DispatchRegime.CLR_BASE_POINT:
            raise CannotBeMetError(f"{facility_id} is dispatched by {regime}, not by base points")
    floor_mw = case.programme.least_fraction * sum(case.there_is.of(each).capacity_mw for each in case.facilities)
    if least_mw < floor_mw - _FITS_MW:
        raise CannotBeMetError(
            f"a base point of {least_mw:g} MW: {floor_mw:g} MW are the least agreed on (least_fraction)"
        )
    points = [
        (facility_id, max(each.start_at, case.now).isoformat(), each.end_at.isoformat() if each.end_at else None, mw)
        for each in case.intervals
        for facility_id, mw in case.shares(each.value).items()
    ]
    return judged.but(points=points)


def asked_mw(event: GridEvent, programme: Programme) -> float:
    """MW that are to go, all facilities together: the most that any interval asks for.

    Raises:
        CannotBeMetError: nothing is to go, nobody knows how much, or more than was agreed on.
    """
    mw = _told_mw(event, programme)
    if mw <= 0:
        raise CannotBeMetError("it asks for more load, not less")
    if mw > programme.most_mw:
        raise CannotBeMetError(f"it asks for {mw:g} MW, {programme.most_mw:g} MW are agreed on (most_mw)")
    return mw


def _told_mw(event: GridEvent, programme: Programme) -> float:
    if event.signal == "power_change":
        return -min(each.value for each in event.intervals)
    if event.signal == "level":
        level = round(max(each.value for each in event.intervals))
        if level not in programme.mw_by_level:
            raise CannotBeMetError(f"level {level} has no MW in the enrolment (mw_by_level)")
        return programme.mw_by_level[level]
    raise CannotBeMetError("its signal is no load change and no level")


def _standing(case: Case, programmes: Sequence[str]) -> list[int]:
    """Obligations from the event's beginning, or now, to its end; none where it is over."""
    end_at = case.intervals[-1].end_at
    if end_at is not None and end_at <= case.from_now_on:
        return []
    asked = (list(case.facilities), list(programmes), case.from_now_on, end_at)
    return [number for (number,) in case.connection.execute(_STANDING, asked).fetchall()]


Taker = Callable[[Case, Judged], Judged]
TAKERS: Mapping[str, Taker] = {
    "response": take_response,
    "deployment": take_deployment,
    "alert": take_alert,
    "base_point": take_base_point,
}
