"""What can be on when an obligation begins: what is on, wakes and ramps on the way, limits that stand."""

from dataclasses import replace

import pytest

from hcp_pipelines.policy.obligations import Flexible, Obligation, Status
from hcp_pipelines.policy.outlook import HeldOn, Limit, Outlook, not_on
from hcp_pipelines.policy.schema import RampLimit

ASKED = Obligation(0, "hou-1", "ECRS", Status.AWARDED, 10.0, 5000.0, 9000.0, 60.0, 3600.0, 600.0)
QUICK, SLOW = Flexible("s21", 12.0, 40.0), Flexible("stock", 30.0, 500.0)
FEEDERS = {"s21": "f1", "stock": "f2"}
ASLEEP = Outlook(1000.0, {"s21": 0.0, "stock": 30.0}, {"f1": 1.0, "f2": 2.0}, 500.0)


def judge(asked=ASKED, standing=(), **facts):
    return not_on(asked, [QUICK, SLOW], FEEDERS, replace(ASLEEP, **facts), standing)


def test_what_is_asleep_can_be_sold_from_when_it_can_be_on():
    assert judge() == ""
    assert judge(now_s=4490.0) == ""
    assert "0.00 MW of it can be on when it begins" in judge(now_s=4491.0)
    assert judge(now_s=5000.0, on_mw={"s21": 10.0}) == ""
    assert "9.00 MW" in judge(now_s=5000.0, on_mw={"s21": 9.0, "stock": 30.0}), "what is slow counts for nothing"
    assert judge(now_s=5000.0, on_mw=None) == "", "nobody knows"


def test_ramps_are_counted_by_whole_windows():
    ramps = (RampLimit(scope="facility", up_mw=5.0, down_mw=5.0, window_s=300.0),)
    assert judge(now_s=5000.0 - 510.0 - 600.0, ramps=ramps) == ""
    assert "5.00 MW of it can be on" in judge(now_s=5000.0 - 510.0 - 599.0, ramps=ramps)


@pytest.mark.parametrize(
    ("limit", "is_refused"),
    [
        (Limit("stop_all/3", 0.0, 0.0), True),
        (Limit("stop_all/3", 0.0, 0.0, 2000.0), False),
        (Limit("stop_all/3", 0.0, 0.0, 4900.0), True),  # over before it begins, but not long enough for a wake
        (Limit("stop_all/3", 0.0, 9000.0), False),
        (Limit("curtail/4", 42.9, 6000.0), True),  # 1 + 2 + 30 MW may be drawn beside
        (Limit("curtail/4", 43.0, 6000.0), False),
        (Limit("curtail/4", 10.9, 0.0, feeder_id="f1"), True),
        (Limit("curtail/4", 11.0, 0.0, feeder_id="f1"), False),
        (Limit("curtail/4", 0.0, 0.0, feeder_id="f2"), False),
    ],
)
def test_limits_that_stand_in_its_time_are_named(limit, is_refused):
    reason = judge(limits=(limit,))
    assert bool(reason) is is_refused, reason
    assert not reason or limit.name in reason or "let it begin later" in reason


def test_what_others_have_sold_has_to_be_on_as_well():
    sold = replace(ASKED, obligation_id=1, mw=3.0, status=Status.ARMED)
    assert "9.00 MW" in judge(standing=[sold])
    assert judge(standing=[replace(sold, status=Status.DEPLOYED)]) == ""
    assert judge(standing=[replace(sold, start_s=9000.0, end_s=9900.0)]) == ""


def test_demand_response_waits_for_ramps_and_is_sold_by_what_they_let_go():
    ramps = (
        RampLimit(scope="facility", up_mw=99.0, down_mw=10.0, window_s=300.0),
        RampLimit(scope="f1", up_mw=99.0, down_mw=11.0, window_s=300.0),
    )
    quick = replace(ASKED, programme="DR-4CP", notice_s=349.0)
    assert "they let 0.00 MW go within the notice" in judge(quick, ramps=ramps)
    assert judge(replace(quick, notice_s=350.0), ramps=ramps) == ""
    assert judge(replace(quick, programme="RRS"), ramps=ramps) == "", "nothing delays the grid's own"
    slow = RampLimit(scope="f1", up_mw=99.0, down_mw=9.0, window_s=300.0)
    assert "they let 9.00 MW" in judge(replace(quick, notice_s=350.0), ramps=(*ramps[:1], slow))
    sold = replace(quick, obligation_id=1, mw=1.0)
    assert "they let 9.00 MW" in judge(replace(quick, notice_s=350.0), [sold], ramps=ramps), "they wait for the same"


def test_an_override_goes_before_demand_response_which_is_not_sold_while_it_stands():
    asked, held = replace(ASKED, programme="DR"), (HeldOn("override/2", "s21", 0.0, 6000.0),)
    assert "override/2 in that time; release it first" in judge(asked, held_on=held)
    assert judge(replace(asked, programme="RRS"), held_on=held) == "", "the grid's own goes before it"
    assert judge(replace(asked, start_s=6000.0), held_on=held) == ""
    assert judge(asked, held_on=(replace(held[0], group_id="stock"),)) == ""
