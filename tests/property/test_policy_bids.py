"""A bid curve is the policy: at every price it wants what the policy asks for, and never more at a higher one."""

from itertools import pairwise

from hypothesis import assume, given, settings

from hcp_pipelines.policy.bids import NUDGE_USD_PER_MWH, POINTS_MAX, bid_curve
from tests.support.policies import ANCHOR_INDEX, NOW, asked, cases, load_mw, prices

few = settings(max_examples=60, deadline=None)
INDICES = {"hashprice": ANCHOR_INDEX}


def wanted_mw(curve, price):
    """What a market would let us buy at a price."""
    return next((point.mw for point in curve if price <= point.usd_per_mwh), curve[-1].mw)


@few
@given(cases(floors=True))
def test_prices_rise_and_the_load_falls(case):
    curve = bid_curve(*case, INDICES, NOW)
    assert 1 <= len(curve) <= POINTS_MAX
    assert all(low.usd_per_mwh < high.usd_per_mwh and low.mw >= high.mw for low, high in pairwise(curve))


@few
@given(cases(), prices)
def test_the_curve_wants_what_the_policy_asks_for(case, price):
    compiled, present = case
    curve = bid_curve(compiled, present, INDICES, NOW)
    assume(len(curve) < POINTS_MAX)
    assume(all(abs(price - point.usd_per_mwh) > 2 * NUDGE_USD_PER_MWH for point in curve))
    assert abs(wanted_mw(curve, price) - load_mw(compiled, asked(compiled, present, price).targets)) < 1e-9


@few
@given(cases())
def test_a_curve_that_is_too_long_is_shortened_on_the_side_of_less_load(case):
    from hcp_pipelines.policy import bids

    compiled, present = case
    whole = bid_curve(compiled, present, INDICES, NOW)
    assume(len(whole) > 2)
    limit, bids.POINTS_MAX = bids.POINTS_MAX, 2
    try:
        short = bid_curve(compiled, present, INDICES, NOW)
    finally:
        bids.POINTS_MAX = limit
    assert len(short) == 2
    for point in whole:
        assert wanted_mw(short, point.usd_per_mwh) <= wanted_mw(whole, point.usd_per_mwh) + 1e-9
