"""What a server that is wrong, or not what it seems, can do: bounded, told, and nothing else stops."""

import asyncio
import socket
import tempfile
import time
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
import structlog

from hcp_pipelines.feed import grid_events
from hcp_pipelines.feed.enrolment import Enrolment
from hcp_pipelines.feed.event_rows import _CURRENT
from hcp_pipelines.feed.grid_events import EventDesk
from hcp_pipelines.feed.grid_signals import GridSignals
from hcp_pipelines.markets.openadr_events import Answer, Interval
from hcp_pipelines.operators import progress
from hcp_pipelines.runtime.process import ProcessContext
from tests.integration.test_openadr_desk import (
    BY_THE_BOOKS,
    DR,
    ECRS,
    EEA,
    ENROLMENT,
    HOUR,
    NOON,
    POINTS,
    SPEED,
    desk,
    fleet,
    near,
    sell,
)
from tests.support.waiting import until

__all__ = ["desk", "fleet"]

DAY = timedelta(days=1)
DEPLOYMENT = {"programme": ECRS, "signal": "level", "value": 1.0, "start": NOON}
ALERT = {"programme": EEA, "signal": "level", "value": 1.0, "start": NOON}
LIMIT = {"programme": POINTS, "signal": "power_limit", "value": 0.8, "resources": ("nor-1",), "start": NOON}


def spans(event, *hours):
    """The event with intervals from one hour to another, simulated, after its own beginning."""
    at = event.intervals[0].start_at
    listed = (Interval(at + a * HOUR / SPEED, None if b is None else at + b * HOUR / SPEED, -0.1) for a, b in hours)
    return replace(event, intervals=tuple(listed))


def far(event):
    at = event.intervals[0].start_at
    return replace(event, intervals=(Interval(at.replace(year=9000), at.replace(year=9001), -0.1),))


UNUSABLE = [
    (lambda event: replace(event, event_id="a\0b"), "letters that can't be kept"),
    (lambda event: replace(event, event_id="a\ud800b"), "letters that can't be kept"),
    (lambda event: replace(event, resources=("a\0",)), "letters that can't be kept"),
    (lambda event: replace(event, programme="\udfff"), "letters that can't be kept"),
    (lambda event: spans(event, (2, 3), (1, 1.5)), "interval 1 begins before the one before it ends"),
    (lambda event: spans(event, (0, 2), (1, 3)), "interval 1 begins before the one before it ends"),
    (lambda event: spans(event, (0, None), (1, 3)), "interval 1 comes after one without an end"),
    (lambda event: spans(event, (1, 0.5)), "interval 0 ends before it begins"),
    (lambda event: spans(event, (1, 1)), "interval 0 ends before it begins"),
    (far, "beyond any calendar"),
]


@pytest.mark.parametrize(("spoilt", "said"), UNUSABLE)
def test_an_event_that_cant_be_used_is_answered_out_and_says_why(desk, spoilt, said):
    answer = desk.at().answer(spoilt(desk.event()))
    assert (answer.is_in, said in answer.reason) == (False, True), answer
    assert desk.obligations() == []
    desk.at().pass_due()


def test_a_change_that_cant_be_used_takes_back_what_stood(desk):
    desk.answer()
    assert not desk.at().answer(far(desk.event(modification=1))).is_in
    assert desk.statuses() == [("hou-1", "withdrawn")]


def signals_of(settings, desk):
    context = ProcessContext("feed", settings, desk.clock, structlog.get_logger("test"))
    return GridSignals(context, desk.enrolment, desk, make=None)


class Troubled(EventDesk):
    """Postgres, or an event, is in trouble a few times."""

    def __init__(self, desk, *errors):
        super().__init__(desk.settings, desk.enrolment, desk.clock)
        self.errors = list(errors)

    def answer(self, event, there_is=None):
        if self.errors:
            raise self.errors.pop(0)
        return super().answer(event, there_is)


@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.CheckViolation("x"),
        psycopg.DataError("x"),
        psycopg.errors.InsufficientPrivilege("x"),
        ValueError("x"),
        OverflowError("x"),
        KeyError("x"),
    ],
)
async def test_what_lies_in_the_event_is_answered_out_at_once(settings, desk, error):
    troubled = Troubled(desk.at(), error)
    answer = await asyncio.wait_for(signals_of(settings, troubled).on_event(desk.event()), 5)
    assert answer == Answer(False, f"it can't be used: {type(error).__name__}")
    assert troubled.errors == []


async def test_while_postgres_is_away_the_answer_waits(settings, desk):
    troubled = Troubled(desk.at(), psycopg.OperationalError("away"))
    try:
        assert await asyncio.wait_for(signals_of(settings, troubled).on_event(desk.event()), 10) == BY_THE_BOOKS
    finally:
        troubled.close()


@pytest.fixture
def mute(fleet):
    """A gateway's socket, of both facilities, that nobody answers at: connections wait in its queue."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/g")
        listener.listen()
        listener.setblocking(False)
        for facility_id in ("hou-1", "nor-1"):
            fleet.execute("insert into gateway_endpoints values (%s, %s, 'g')", (facility_id, f"unix:{folder}/g"))
        yield listener


async def test_calls_go_on_while_gateways_are_silent_and_are_asked_side_by_side(
    settings, desk, fleet, mute, monkeypatch
):
    monkeypatch.setattr(progress, "READ_WITHIN_S", 4.0)
    number = sell(fleet, tranche="b")
    early = NOON - HOUR / 2
    assert desk.answer(early, **DEPLOYMENT, event_id="sold").is_in
    asked = desk.at(NOON)
    signals = signals_of(settings, asked)
    began_s = time.monotonic()
    answer = asyncio.create_task(signals.on_event(desk.event(resources=())))
    connection, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(mute), 60)
    with connection:
        passing = asyncio.create_task(signals._pass_due())
        await until(lambda: desk.signals("deploy"), "the call")
        assert not answer.done()
        passing.cancel()
        assert (await answer).is_in
    assert time.monotonic() - began_s < 2 * 4.0
    assert [payload["obligation_id"] for _, _, payload, _ in desk.signals("deploy")] == [number]


def test_a_gateway_of_a_facility_that_is_not_named_is_not_asked(desk, fleet, mute):
    fleet.execute("delete from gateway_endpoints where facility_id = 'hou-1'")
    assert desk.answer(resources=("METER-1",)) == BY_THE_BOOKS
    with pytest.raises(BlockingIOError):
        mute.accept()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"lasts": 25 * HOUR}, "it lasts 25.0 h, 24 are agreed on (most_hours)"),
        ({"start": NOON + 15 * DAY}, "it begins in 15.0 days, 14 are agreed on (most_days_ahead)"),
        (ALERT | {"start": NOON + 15 * DAY}, "most_days_ahead"),
        (LIMIT | {"value": 0.2}, "(least_fraction)"),
        (LIMIT | {"value": 0.0, "lasts": None}, "(least_fraction)"),
    ],
)
def test_what_was_not_agreed_on_is_answered_out_without_a_word_in_the_enrolment(desk, asked, said):
    answer = desk.answer(**asked)
    assert (answer.is_in, said in answer.reason) == (False, True), answer
    desk.at(asked.get("start", NOON)).pass_due()
    assert desk.signals("base_point") == []


def test_what_a_response_may_ask_for_is_finite_without_a_word_in_the_enrolment():
    programmes = {DR: {"means": "response", "facilities": ["hou-1"]}}
    assert Enrolment.model_validate(ENROLMENT | {"programmes": programmes}).programmes[DR].most_mw < 100


def test_an_event_without_an_end_is_over_when_that_was_agreed_on(desk, fleet):
    number = sell(fleet)
    enrolled = Enrolment.model_validate(ENROLMENT)
    brief = enrolled.programmes[ECRS].model_copy(update={"most_hours": 2.0})
    bounded = enrolled.model_copy(update={"programmes": {ECRS: brief}})
    told = EventDesk(desk.settings, bounded, desk.at().clock)
    assert told.answer(desk.event(**DEPLOYMENT, lasts=None)).is_in
    told.close()
    desk.at(NOON + 2 * HOUR + HOUR / 60).pass_due()
    assert [(p["obligation_id"], at.timestamp()) for _, _, p, at in desk.signals("recall")] == [
        (number, near(NOON + 2 * HOUR))
    ]
    assert desk.at(NOON + 3 * HOUR).standing() == []


def test_events_beyond_those_agreed_on_in_a_day_are_out_and_leave_no_rows_but_cancellations_are_heard(desk):
    enrolled = Enrolment.model_validate(ENROLMENT)
    few = {DR: enrolled.programmes[DR].model_copy(update={"most_events_a_day": 3})}
    told = EventDesk(desk.settings, enrolled.model_copy(update={"programmes": few}), desk.at().clock)
    assert told.answer(desk.event()).is_in
    for number in range(2, 8):
        answer = told.answer(desk.event(event_id=f"e-{number}", value=0.1))
        assert ("(most_events_a_day)" in answer.reason) is (number > 3), (number, answer)
    assert len(desk.signals("event")) == 3
    assert desk.statuses() == [("hou-1", "awarded")]
    assert told.answer(desk.event(is_cancelled=True, modification=1)).is_in
    assert desk.statuses() == [("hou-1", "withdrawn")]
    for number in range(2, 5):
        told.answer(desk.event(modification=number))
        told.answer(desk.event(modification=number, is_cancelled=True))
        told.answer(desk.event(event_id=f"never-{number}", is_cancelled=True))
    assert len(desk.signals("event")) == 4
    assert desk.statuses() == [("hou-1", "withdrawn")]
    told.close()


def test_events_of_programmes_that_are_not_ours_leave_a_bounded_number_of_rows(desk, monkeypatch):
    monkeypatch.setattr(grid_events, "STRANGERS_A_DAY", 3)
    told = desk.at()
    for number in range(6):
        assert not told.answer(desk.event(event_id=f"e-{number}", programme=f"http://x/{number}")).is_in
    assert len(desk.signals("event")) == 3


def test_the_newest_word_of_each_of_many_events_is_found_by_an_index(desk, fleet):
    """Without one, three thousand open events are nine million comparisons; the number of rows looked at is counted, not time."""
    desk.answer(**ALERT, lasts=None)
    fleet.execute(
        """insert into grid_signals (kind, payload, source, source_event_id, effective_at, ends_at, received_at)
           select 'event', payload || jsonb_build_object('event_id', 'x' || number), 'openadr', 'x' || number, effective_at,
                  ends_at, received_at
           from grid_signals, generate_series(1, 3000) number where kind = 'event'"""
    )
    fleet.execute("analyze grid_signals")
    (plan,) = fleet.execute("explain (analyze, format json) " + _CURRENT, ("openadr", NOON)).fetchone()[0]
    assert plan["Plan"]["Actual Rows"] == 3001
    assert rows_looked_at(plan["Plan"]) < 10 * 3001


def rows_looked_at(node):
    own = node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
    own += node["Actual Loops"] * node.get("Rows Removed by Join Filter", 0)
    return own + sum(rows_looked_at(child) for child in node.get("Plans", ()))
