"""The rule of the back-test is the policy's: band and guard, over the same prices, interval by interval."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp_pipelines.domain.modes import STATE_COUNT, DeviceState
from hcp_pipelines.optimizer.backtest.simulate import Strikes, simulate
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.evaluate import evaluate
from hcp_pipelines.policy.guard import GuardState
from hcp_pipelines.policy.schema import Affine, Anchor, Block, Couplings, LadderStep, Policy, PolicyGroup
from tests.support.policies import FULL, NOW, OFF
from tests.support.recorded import plain_case

REVENUE = 60.0
paths = st.lists(st.floats(-100, 400), min_size=1, max_size=60)


def one_megawatt(on, off, wake_usd):
    """A policy of a single device of a megawatt."""
    group = PolicyGroup(
        group_id="g", feeder_id="f", devices=1,
        ladder=(
            LadderStep(state=OFF, power_kw=0.0),
            LadderStep(state=FULL, power_kw=1000.0, revenue_usd_per_device_hour=Affine(offset=REVENUE)),
        ),
    )  # fmt: skip
    block = Block(
        group_id="g", from_state=OFF, to_state=FULL, devices=1, mw=1.0, order=0,
        on=Affine(offset=on), off=Affine(offset=off), wake_cost_usd_per_mw=wake_usd,
    )  # fmt: skip
    return Policy(
        facility_id="f", settlement_point="p", basis_tick_id=1, solved_at=NOW, refresh_due_at=NOW,
        expires_at=NOW.replace(year=2030), input_age_s={}, inventory_generation=1, groups=(group,), blocks=(block,),
        couplings=Couplings(cap_mw=10.0),
        anchor=Anchor(decision_price_usd_per_mwh=0.0, indices={}, devices_by_state={}, target_by_state={}),
    )  # fmt: skip


def as_the_policy_does(policy, prices):
    """On or off by interval, by the evaluation that allocator and gateway call."""
    compiled = compile_policy(policy)
    present = np.zeros((1, STATE_COUNT), dtype=np.int64)
    present[0, FULL] = 1
    guard, states = GuardState.empty(compiled), []
    for price in prices:
        asked = evaluate(compiled, present, price, {}, NOW, guard, elapsed_h=0.25)
        present, guard = asked.targets, asked.guard
        states.append(bool(present[0, DeviceState.MINING_FULL]))
    return states


@settings(max_examples=120, deadline=None)
@given(paths, st.floats(20, 100), st.floats(0, 120), st.sampled_from([1.0, 8.0, 30.0]))
def test_band_and_guard_are_the_policys(prices, on, band, wake_usd):
    case = plain_case(prices, REVENUE, wake_usd)
    strikes = Strikes(np.full(len(prices), on), np.full(len(prices), on + band))
    ours = simulate(case, strikes, is_guarded=True)
    assert ours.is_on.tolist() == as_the_policy_does(one_megawatt(on, on + band, wake_usd), prices)


@settings(max_examples=120, deadline=None)
@given(paths, st.floats(20, 100), st.floats(0, 120), st.booleans())
def test_without_the_guard_the_band_alone_decides(prices, on, band, starts_on):
    strikes = Strikes(np.full(len(prices), on), np.full(len(prices), on + band))
    state, expected = starts_on, []
    for price in prices:
        state = price <= on + band if state else price < on
        expected.append(state)
    assert simulate(plain_case(prices), strikes, starts_on=starts_on).is_on.tolist() == expected


def test_where_no_price_is_known_yet_it_stays_as_it_is():
    case = plain_case([10.0, 500.0, 10.0], known=[np.nan, 500.0, np.nan])
    strikes = Strikes(np.full(3, 60.0), np.full(3, 60.0))
    assert simulate(case, strikes).is_on.tolist() == [True, False, False]
    assert simulate(case, strikes, is_guarded=True).is_on.tolist() == [True, False, False]


def test_the_guard_wakes_who_sleeps_for_ever_and_says_how_often():
    case = plain_case([20.0] * 12, revenue=60.0, wake_usd=25.0)
    asleep = Strikes(np.full(12, -np.inf), np.full(12, -np.inf))
    schedule = simulate(case, asleep, is_guarded=True)
    assert schedule.is_on.tolist() == [False] * 3 + [True] * 9  # 10 $ an interval, from the second on, against 25 $
    assert schedule.guarded == 9
