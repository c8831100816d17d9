"""Grid events that change while they last, meet on one obligation, or come again after they seemed gone."""

from dataclasses import replace
from datetime import timedelta

import pytest

from hcp_pipelines.fleet.inventory import load_inventory
from hcp_pipelines.operators.accounts import Operator, OperatorRole
from hcp_pipelines.operators.grid_word import base_point
from tests.integration.test_openadr_desk import (
    ECRS,
    EEA,
    HOUR,
    NOON,
    POINTS,
    desk,
    fleet,
    near,
    sell,
)

__all__ = ["desk", "fleet"]

MINUTE = timedelta(minutes=1)
DEPLOYMENT = {"programme": ECRS, "signal": "level", "value": 1.0, "start": NOON}
ALERT = {"programme": EEA, "signal": "level", "value": 1.0, "start": NOON}
LIMIT = {"programme": POINTS, "signal": "power_limit", "value": 0.8, "resources": ("nor-1",), "start": NOON}


def called(desk, *kinds):
    return [(kind, payload["obligation_id"], at.timestamp()) for kind, _, payload, at in desk.signals(*kinds)]


def points(desk):
    return [(payload["mw"], at.timestamp()) for _, _, payload, at in desk.signals("base_point")]


def test_a_deployment_that_is_extended_stays_and_is_recalled_at_its_new_end(desk, fleet):
    number = sell(fleet)
    assert desk.answer(**DEPLOYMENT).is_in
    desk.set_status("deployed")
    now = NOON + HOUR / 2
    assert desk.answer(now, **DEPLOYMENT, lasts=2 * HOUR, modification=1).is_in
    desk.at(NOON + 1.5 * HOUR).pass_due()
    assert called(desk, "deploy", "recall") == [("deploy", number, near(NOON))]
    desk.at(NOON + 2 * HOUR + MINUTE).pass_due()
    assert called(desk, "recall") == [("recall", number, near(NOON + 2 * HOUR))]


def test_a_deployment_that_is_put_off_is_recalled_until_then(desk, fleet):
    number = sell(fleet)
    desk.answer(**DEPLOYMENT)
    desk.set_status("deployed")
    now = NOON + HOUR / 4
    assert desk.answer(now, **DEPLOYMENT | {"start": NOON + HOUR, "modification": 1}).is_in
    assert called(desk, "recall") == [("recall", number, near(now))]
    desk.set_status("armed")
    desk.at(NOON + HOUR).pass_due()
    assert called(desk, "deploy")[1:] == [("deploy", number, near(NOON + HOUR))]


def test_an_alert_that_deepens_calls_more_and_gives_nothing_back(desk, fleet):
    ecrs, ers = sell(fleet), sell(fleet, "ERS", tranche="b")
    desk.answer(**ALERT)
    fleet.execute("update grid_obligations set status = 'deployed' where id = %s", (ers,))
    now = NOON + HOUR / 4
    assert desk.answer(now, **ALERT | {"value": 3.0, "modification": 1}).is_in
    assert called(desk, "deploy", "recall") == [("deploy", ers, near(NOON)), ("deploy", ecrs, near(now))]
    fleet.execute("update grid_obligations set status = 'deployed'")
    later = NOON + HOUR / 2
    assert desk.answer(later, **ALERT | {"modification": 2}).is_in
    assert called(desk, "recall") == [("recall", ecrs, near(later))]


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_an_obligation_that_two_events_call_goes_on_until_the_last_of_them_is_over(desk, fleet, is_cancelled):
    number = sell(fleet, "ERS")
    desk.answer(**ALERT)
    desk.answer(**ALERT | {"event_id": "f", "value": 2.0, "lasts": 3 * HOUR})
    desk.set_status("deployed")
    if is_cancelled:
        now = NOON + HOUR / 2
        desk.answer(now, **ALERT | {"start": now, "is_cancelled": True, "modification": 1})
    desk.at(NOON + HOUR + MINUTE).pass_due()
    assert called(desk, "recall") == []
    desk.at(NOON + 3 * HOUR + MINUTE).pass_due()
    assert called(desk, "recall") == [("recall", number, near(NOON + 3 * HOUR))]


def test_an_obligation_is_recalled_between_two_events(desk, fleet):
    number = sell(fleet)
    desk.answer(**DEPLOYMENT)
    desk.answer(**DEPLOYMENT | {"event_id": "f", "start": NOON + 2 * HOUR})
    desk.set_status("deployed")
    desk.at(NOON + HOUR + MINUTE).pass_due()
    assert called(desk, "recall") == [("recall", number, near(NOON + HOUR))]


def test_a_deployment_from_before_the_obligation_calls_it_when_it_begins(desk, fleet):
    number = sell(fleet)
    early = NOON - 20 * MINUTE
    assert desk.answer(NOON - 2 * HOUR, **DEPLOYMENT | {"start": early, "lasts": 2 * HOUR}).is_in
    desk.at(early + 2 * MINUTE).pass_due()
    assert desk.signals("deploy") == []
    desk.at(NOON).pass_due()
    assert called(desk, "deploy") == [("deploy", number, NOON.timestamp())]
    desk.at(early + 2 * HOUR + MINUTE).pass_due()
    assert called(desk, "recall") == [("recall", number, near(early + 2 * HOUR))]


def test_what_went_for_cancelled_and_is_told_again_is_judged_anew_as_often_as_that_happens(desk):
    event = desk.event(modification=5)
    gone = replace(event, modification=1_000_000, is_cancelled=True)
    for _ in range(2):
        assert desk.at().answer(event).is_in
        assert desk.at().answer(replace(event, modification=4)).is_in
        assert desk.at().answer(gone).is_in
    assert desk.statuses() == [("hou-1", "withdrawn")] * 2
    assert desk.at().answer(event).is_in
    assert desk.statuses()[2:] == [("hou-1", "awarded")]


def test_armed_load_serves_an_event_that_was_not_really_cancelled(desk):
    event = desk.event(modification=5)
    desk.at().answer(event)
    desk.set_status("armed")
    desk.at().answer(replace(event, modification=6, is_cancelled=True))
    assert desk.at().answer(event).is_in
    assert desk.statuses() == [("hou-1", "armed")]
    desk.at(NOON + HOUR).pass_due()
    assert [kind for kind, *_ in called(desk, "deploy", "recall")] == ["deploy"]


def test_a_cancelled_deployment_that_comes_again_is_called_again(desk, fleet):
    number = sell(fleet)
    desk.answer(**DEPLOYMENT)
    desk.set_status("deployed")
    gone_at, back_at = NOON + 10 * MINUTE, NOON + 15 * MINUTE
    desk.answer(gone_at, **DEPLOYMENT, is_cancelled=True, modification=1)
    desk.set_status("recovering")
    assert desk.answer(back_at, **DEPLOYMENT).is_in
    expected = [("deploy", NOON), ("recall", gone_at), ("deploy", back_at)]
    assert called(desk, "deploy", "recall") == [(kind, number, near(at)) for kind, at in expected]


def test_a_base_point_ends_with_its_cancellation(desk):
    desk.answer(**LIMIT, lasts=None)
    now = NOON + 3 * MINUTE
    desk.answer(now, **LIMIT, lasts=None, is_cancelled=True, modification=1)
    desk.at(now + 10 * MINUTE).pass_due()
    assert points(desk) == [(0.8, near(NOON)), ("Infinity", near(now))]


def test_a_changed_base_point_holds_at_once_and_is_not_let_go_between(desk):
    desk.answer(**LIMIT)
    now = NOON + 3 * MINUTE
    desk.answer(now, **LIMIT | {"value": 0.5, "modification": 1})
    assert points(desk) == [(0.8, near(NOON)), (0.5, near(now))]


def test_of_two_base_points_the_end_of_one_does_not_let_go(desk):
    desk.answer(**LIMIT, lasts=HOUR / 2)
    desk.answer(**LIMIT | {"event_id": "f", "value": 0.5})
    desk.at(NOON + HOUR / 2 + MINUTE).pass_due()
    assert "Infinity" not in [mw for mw, _ in points(desk)]
    desk.at(NOON + HOUR + MINUTE).pass_due()
    assert points(desk)[-1] == ("Infinity", near(NOON + HOUR))


def test_an_operators_newer_base_point_outlives_the_event(desk, fleet):
    desk.answer(**LIMIT)
    ann, at = Operator("ann", OperatorRole.OPERATOR), NOON + HOUR / 2
    base_point(fleet, ann, load_inventory(fleet, "nor-1"), 0.6, at, "by telephone")
    desk.at(NOON + HOUR + MINUTE).pass_due()
    assert points(desk)[-1] == (0.6, at.timestamp())
