"""Rolling windows against a model that keeps everything, and a successor that counts its predecessor's window."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp_pipelines.policy.ramps import Booking, RampLedger
from hcp_pipelines.policy.schema import RampLimit

LIMITS = (
    RampLimit(scope="f1", up_mw=25.0, down_mw=20.0, window_s=300.0),
    RampLimit(scope="facility", up_mw=75.0, down_mw=75.0, window_s=600.0),
    RampLimit(scope="portfolio", up_mw=300.0, down_mw=300.0, window_s=300.0),
)
bookings = st.lists(st.tuples(st.floats(0, 2000), st.sampled_from(["f1", "f2"]), st.floats(-30, 30)), max_size=12).map(
    sorted
)
few = settings(max_examples=80, deadline=None)


def naive(made, limit, at_s):
    inside = [
        mw for t, f, mw in made if at_s - limit.window_s < t <= at_s and limit.scope in (f, "facility", "portfolio")
    ]
    up, down = sum(mw for mw in inside if mw > 0), -sum(mw for mw in inside if mw < 0)
    return max(limit.up_mw - up, 0.0), max(limit.down_mw - down, 0.0)


@few
@given(bookings, st.floats(0, 1000))
def test_headroom_is_the_limit_less_what_the_window_holds(made, later_s):
    ledger = RampLedger(LIMITS)
    at_s = 0.0
    for n, (at_s, feeder, mw) in enumerate(made):
        ledger.book(at_s, {feeder: mw})
        for limit in LIMITS:
            got = ledger.headroom(at_s)
            assert (got.up_mw[limit.scope], got.down_mw[limit.scope]) == pytest.approx(
                naive(made[: n + 1], limit, at_s)
            )
    for limit in LIMITS:
        got = ledger.headroom(at_s + later_s)
        want = naive(made, limit, at_s + later_s)
        assert (got.up_mw[limit.scope], got.down_mw[limit.scope]) == pytest.approx(want)


@few
@given(bookings, st.randoms(use_true_random=False))
def test_a_successor_that_restores_has_what_its_predecessor_had(made, shuffler):
    first, second = RampLedger(LIMITS), RampLedger(LIMITS)
    for at_s, feeder, mw in made:
        first.book(at_s, {feeder: mw})
    in_any_order = [Booking(*b) for b in made]
    shuffler.shuffle(in_any_order)
    second.restore(in_any_order)
    at_s = made[-1][0] if made else 0.0
    for later_s in (0.0, 150.0, 450.0, 900.0):
        here, there = first.headroom(at_s + later_s), second.headroom(at_s + later_s)
        assert here.up_mw == pytest.approx(there.up_mw)
        assert here.down_mw == pytest.approx(there.down_mw)
        assert first.next_release_at(at_s + later_s) == second.next_release_at(at_s + later_s)


def test_headroom_returns_at_the_release_and_not_before():
    ledger = RampLedger(LIMITS)
    ledger.book(100.0, {"f1": 25.0})
    assert ledger.headroom(399.9).of("f1", up=True) == 0.0
    assert ledger.headroom(399.9).of("f2", up=True) == 50.0
    assert ledger.next_release_at(399.9) == 400.0
    assert ledger.headroom(400.0).of("f1", up=True) == 25.0
    assert ledger.next_release_at(400.0) == 700.0
    assert ledger.next_release_at(700.0) is None


def test_rises_and_falls_are_counted_apart_and_more_than_the_limit_leaves_nothing():
    ledger = RampLedger(LIMITS)
    ledger.book(0.0, {"f1": -50.0})
    got = ledger.headroom(1.0)
    assert (got.of("f1", up=True), got.of("f1", up=False)) == (25.0, 0.0)
    assert got.down_mw["facility"] == 25.0
