"""The grid's calls of a scenario as events: told in time, changed, cancelled, forgotten; refused where they say nothing."""

import json

import pytest
from pydantic import ValidationError

from simulators.exogenous import ExogenousLog
from simulators.grid_calls import GridCall
from simulators.openadr.events import KEPT_S, MAX_EVENTS, Event, EventBook
from simulators.openadr.times import Wall, from_period, from_stamp, period, stamp
from simulators.scenarios import scenario_named
from simulators.script import Script
from simulators.settings import SiteConfig
from tests.contract.test_world_http import world
from tests.support.openadr import SIMULATED_S, script_of, site

HOUR_S = 3600.0
CALL = {"kind": "response", "at_h": 2, "minutes": 60, "fraction": 0.5, "notice_minutes": 30}


class Told:
    """A book whose clock is moved by hand."""

    def __init__(self, *calls):
        self.now_s = SIMULATED_S
        sites = [SiteConfig.model_validate(site(name, devices)) for name, devices in (("one", 100), ("two", 200))]
        self.book = EventBook(script_of(*calls), sites, lambda: self.now_s)

    def at(self, hour):
        self.now_s = SIMULATED_S + hour * HOUR_S
        return [(e.event_id.split("-")[2], e.status(self.now_s), e.value) for e in self.book.standing()]


def test_a_call_is_told_so_long_before_to_each_site_by_its_own_power_and_no_longer_than_it_lasts():
    told = Told(CALL)
    assert told.at(1.4) == []
    assert told.at(1.5) == [("one", "far", 0.1925), ("two", "far", 0.385)]
    assert [status for _, status, _ in told.at(1.9)] == ["near", "near"]
    assert [status for _, status, _ in told.at(2.5)] == ["active", "active"]
    assert told.at(3.0) == []
    assert told.book.get(f"response-0-one-{SIMULATED_S + 2 * HOUR_S:.0f}") is not None
    told.at(3.0 + KEPT_S / HOUR_S)
    assert told.book.get(f"response-0-one-{SIMULATED_S + 2 * HOUR_S:.0f}") is None


def test_what_is_under_way_as_a_world_starts_is_told_with_the_same_name():
    first, again = Told(CALL), Told(CALL)
    first.at(1.6)
    first_ids = [event.event_id for event in first.book.standing()]
    again.at(2.9)
    assert [event.event_id for event in again.book.standing()] == first_ids


def test_a_call_of_one_site_and_one_that_is_cancelled():
    told = Told(CALL | {"site": 1, "cancelled_at_h": 1.8})
    assert told.at(1.6) == [("two", "far", 0.385)]
    assert told.at(1.9) == [("two", "cancelled", 0.385)]
    assert [event.modification for event in told.book.standing()] == [1]
    assert Told(CALL | {"site": 7}).at(1.9) == []


def test_there_are_so_many_events_at_once():
    told = Told()
    for number in range(MAX_EVENTS):
        told.book.publish(Event(f"e{number}", "alert", "", (), told.now_s, HOUR_S, 1.0))
    told.book.publish(Event("e0", "alert", "", (), told.now_s, HOUR_S, 2.0))
    with pytest.raises(ValueError, match="more than 500 events"):
        told.book.publish(Event("one too many", "alert", "", (), told.now_s, HOUR_S, 1.0))


@pytest.mark.parametrize(
    "call",
    [{"kind": "response"}, {"kind": "deployment"}, {"kind": "alert"}, {"kind": "alert", "level": 4}, {"kind": "x"}],
)
def test_a_call_that_says_nothing_is_refused(call):
    with pytest.raises(ValidationError):
        GridCall.model_validate({"at_h": 1, "minutes": 5} | call)


@pytest.mark.parametrize("name", ["winter-storm", "heat-wave"])
def test_the_scenarios_calls_are_in_the_exogenous_log_whoever_listens(name, tmp_path):
    asked = world(scenario=name)
    begins_s = asked.script.origin_s
    log = ExogenousLog(tmp_path / "log", asked, begins_s)
    while log.write_until(begins_s + 8 * HOUR_S):
        pass
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    written = [call for line in lines for call in line.get("grid.calls", ())]
    expected = [call for call in scenario_named(name).grid if call.at_h < 8]
    assert sorted((call["kind"], call["minutes"]) for call in written) == sorted((c.kind, c.minutes) for c in expected)
    assert expected


def test_a_script_that_ends_before_its_calls_is_refused():
    scenario = scenario_named("calm").model_dump()
    with pytest.raises(ValidationError, match="begins anew"):
        type(scenario_named("calm")).model_validate(scenario | {"grid": [CALL | {"at_h": 200}]})
    assert Script(scenario_named("calm")).scenario.grid == []


class Clock:
    """Simulated time of long ago, sixty times as fast."""

    speed = 60.0

    def now_s(self):
        return 1000.0

    def real_s(self):
        return 5000.0


def test_instants_are_translated_to_the_wall_and_back():
    wall = Wall(Clock())
    assert [wall.of(1000.0), wall.of(1600.0), wall.of(400.0)] == [5000.0, 5010.0, 4990.0]
    assert [wall.simulated(5010.0), wall.simulated(4990.0)] == [1600.0, 400.0]
    assert [wall.length_s(600.0), wall.length_s(5.0), wall.length_s(0.0)] == [10, 1, 0]
    assert from_stamp(stamp(1234.5)) == 1234.5
    assert [from_period(period(seconds)) for seconds in (0, 59, 3661, 86_400)] == [0, 59, 3661, 86_400]


@pytest.mark.parametrize("text", ["", "P", "PT", "1H", "P1Y", "PT1H ", "PT" + "9" * 20 + "S"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="no duration"):
        from_period(text)
