"""Obligations: the state machine, what is asked of the load, and the verdict at the meter."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcp_pipelines.policy.obligations import (
    MET_FRACTION,
    NEXT,
    SAMPLE_GAP_S,
    Flexible,
    Obligation,
    Signals,
    Status,
    ask_of,
    observe,
    refusal_of,
    step,
)

AWARDED = Obligation(1, "a-1", "ECRS", Status.AWARDED, 10.0, 1000.0, 5000.0, 60.0, 1800.0, 300.0)
NOTHING = Signals()


def run(obligation, until_s, signals=NOTHING, meter=lambda at_s: 50.0, each_s=10.0, lead_s=0.0):
    """Samples and steps as a clock would; the statuses passed through, and the obligation at the end."""
    passed, at_s = [obligation.status], obligation.start_s - 200.0
    while at_s <= until_s:
        before = None
        obligation = observe(obligation, at_s, meter(at_s))
        while before != obligation:
            before, obligation = obligation, step(obligation, at_s, _known(signals, at_s), meter(at_s), lead_s)
            if obligation.status != passed[-1]:
                passed.append(obligation.status)
        at_s += each_s
    return passed, obligation


def _known(signals, now_s):
    deploy, recall = signals.deploy_at_s, signals.recall_at_s
    return Signals(deploy if deploy and deploy <= now_s else None, recall if recall and recall <= now_s else None)


def sheds(deploy_s, depth_mw=10.0, after_s=40.0, until_s=math.inf):
    return lambda at_s: 50.0 - depth_mw if deploy_s + after_s <= at_s < until_s else 50.0


def test_an_interval_without_a_call_is_armed_and_settled():
    passed, end = run(AWARDED, 6000.0)
    assert passed == [Status.AWARDED, Status.ARMED, Status.SETTLED]
    assert end.reason == "not called"


def test_it_is_armed_so_long_before_its_interval_as_the_load_takes_to_wake():
    _, early = run(AWARDED, 860.0, lead_s=150.0)
    _, late = run(AWARDED, 840.0, lead_s=150.0)
    assert (early.status, late.status) == (Status.ARMED, Status.AWARDED)


def test_a_deployment_that_is_met_is_armed_again_and_settled_at_the_end():
    signals = Signals(2000.0, 3000.0)
    passed, end = run(AWARDED, 6000.0, signals, sheds(2000.0, until_s=3010.0))
    assert passed == [
        Status.AWARDED, Status.ARMED, Status.DEPLOYED, Status.RECOVERING, Status.ARMED, Status.SETTLED,
    ]  # fmt: skip
    assert end.baseline_mw == 50.0


@pytest.mark.parametrize(
    ("meter", "reason"),
    [
        (sheds(2000.0, depth_mw=10.0 * MET_FRACTION - 0.01), "delivered 94.9%"),
        (sheds(2000.0, after_s=75.0), "delivered 0.0%"),
        (sheds(2000.0, until_s=2900.0), "delivered 0.0%"),
        (lambda at_s: 50.0 if at_s < 2040.0 else math.nan, "no meter reading"),
        (lambda at_s: math.nan if 2200.0 < at_s < 2400.0 else sheds(2000.0)(at_s), "silent for"),
    ],
    ids=["too-little", "too-late", "gave-up-early", "meter-dead", "meter-silent"],
)
def test_what_the_meter_does_not_show_is_a_failure_with_its_reason(meter, reason):
    _, end = run(AWARDED, 6000.0, Signals(2000.0, 3000.0), meter)
    assert end.status is Status.FAILED
    assert reason in end.reason


def test_recalled_before_its_deadline_nothing_was_owed():
    _, end = run(AWARDED, 6000.0, Signals(2000.0, 2050.0), lambda at_s: 50.0)
    assert end.status is Status.SETTLED


def test_an_event_ends_by_itself_at_its_longest_duration():
    _, during = run(AWARDED, 2000.0 + 60.0 + 1800.0 - 10.0, Signals(2000.0), sheds(2000.0))
    _, after = run(AWARDED, 2000.0 + 60.0 + 1800.0, Signals(2000.0), sheds(2000.0))
    assert (during.status, after.status) == (Status.DEPLOYED, Status.RECOVERING)


def test_a_deployment_outside_the_interval_is_none():
    for at_s in (900.0, 5000.0):
        passed, _ = run(AWARDED, 6000.0, Signals(at_s))
        assert Status.DEPLOYED not in passed


def test_armed_mw_are_a_floor_and_deployed_mw_a_cap_below_the_baseline():
    armed = replace(AWARDED, status=Status.ARMED)
    deployed = replace(armed, obligation_id=2, status=Status.DEPLOYED, mw=15.0, baseline_mw=50.0, deployed_at_s=2000.0)
    assert ask_of([armed]).floor_mw == 10.0
    ask = ask_of([armed, deployed])
    assert (ask.floor_mw, ask.cap_mw, ask.deadline_s) == (10.0, 35.0, 2060.0)
    second = replace(deployed, obligation_id=3, mw=20.0, baseline_mw=35.0, deployed_at_s=2500.0)
    assert ask_of([armed, deployed, second]).cap_mw == 15.0  # both at once, below what there was before the first
    assert ask_of([replace(AWARDED, status=s) for s in (Status.OFFERED, Status.AWARDED, Status.SETTLED)]).floor_mw == 0


def test_a_floor_never_asks_for_more_than_a_deployment_leaves():
    armed = replace(AWARDED, status=Status.ARMED, mw=40.0)
    deployed = replace(AWARDED, obligation_id=2, status=Status.DEPLOYED, mw=20.0, baseline_mw=50.0, deployed_at_s=0.0)
    ask = ask_of([armed, deployed])
    assert ask.floor_mw <= ask.cap_mw == 30.0


def test_what_cannot_be_met_is_refused_beforehand_with_the_reason():
    fast, slow = Flexible("s21", 12.0, 40.0), Flexible("stock", 30.0, 500.0)
    assert refusal_of(AWARDED, [fast, slow]) == ""
    assert "12.00 MW settle within the notice of 60 s; the slowest needs 500 s" in refusal_of(
        replace(AWARDED, mw=13.0), [fast, slow]
    )
    sold = replace(AWARDED, obligation_id=2, mw=5.0)
    assert "5.00 MW of them are sold" in refusal_of(AWARDED, [fast, slow], [sold])
    assert refusal_of(AWARDED, [fast, slow], [replace(sold, start_s=5000.0, end_s=6000.0)]) == ""
    assert refusal_of(AWARDED, [fast, slow], [replace(sold, status=Status.SETTLED)]) == ""
    assert refusal_of(AWARDED, [Flexible("s21", 12.0, 51.0)]) != ""  # within the notice, but not within its margin
    assert "no MW" in refusal_of(replace(AWARDED, mw=math.nan), [fast])
    assert "no MW" in refusal_of(replace(AWARDED, mw=math.inf), [fast])


@pytest.mark.parametrize("name", ["notice_s", "duration_s", "recovery_s", "end_s"])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_times_that_are_no_number_are_refused(name, value):
    refusal = refusal_of(replace(AWARDED, **{name: value}), [Flexible("s21", 100.0, 5.0)])
    assert name.removesuffix("_s") in refusal
    assert "number of seconds" in refusal


times = st.floats(0.0, 8000.0)


@given(times, times, st.lists(st.floats(0.0, 60.0) | st.just(math.nan), min_size=1, max_size=20))
def test_it_only_goes_where_there_is_a_way_and_ends(deploy_s, recall_s, loads):
    passed, end = run(
        AWARDED, 9000.0, Signals(deploy_s, recall_s), lambda at_s: loads[int(at_s / 100) % len(loads)], 25.0
    )
    assert all(after in NEXT[before] for before, after in pairwise(passed))
    assert end.status in (Status.SETTLED, Status.FAILED)


@given(st.floats(1000.0, 4900.0), st.floats(9.5, 30.0), st.floats(20.0, 40.0))
def test_a_load_that_goes_in_time_and_stays_down_always_meets(deploy_s, depth_mw, after_s):
    _, end = run(AWARDED, 7000.0, Signals(deploy_s), sheds(deploy_s, depth_mw, after_s), 20.0)
    assert end.status is Status.SETTLED


@given(st.floats(1.0, SAMPLE_GAP_S), st.integers(1, 50))
def test_samples_that_come_again_or_late_change_nothing(gap_s, count):
    deployed = replace(AWARDED, status=Status.DEPLOYED, deployed_at_s=1000.0, baseline_mw=50.0)
    at = [1060.0 + n * gap_s for n in range(count) if 1060.0 + n * gap_s <= deployed.event_end_s]
    once = twice = deployed
    for at_s in at:
        once = observe(once, at_s, 40.0)
        twice = observe(observe(observe(twice, at_s, 40.0), at_s, 60.0), at_s - 1.0, 60.0)
    assert once == twice
    assert once.delivery.is_met()
