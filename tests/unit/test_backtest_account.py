"""What a schedule earned: dollars by kind, switches, the worst of it, and the share of the gap with its interval."""

import numpy as np
import pytest

from hcp_pipelines.optimizer.backtest.account import account_of, block_interval, gap_closed, mean_interval
from hcp_pipelines.optimizer.backtest.simulate import Schedule, simulate
from hcp_pipelines.optimizer.backtest.strategies import BreakEven, Hysteresis, Oracle
from tests.support.recorded import plain_case, random_prices


def accounts_of(case, *strategies):
    named = (BreakEven(), *strategies, Oracle())
    return {s.name: account_of(case, simulate(case, s.strikes(case))) for s in named}


def test_dollars_by_kind_by_hand():
    case = plain_case([20.0, 100.0, 20.0, 40.0], revenue=60.0, wake_usd=12.0)
    account = account_of(case, Schedule(np.array([True, False, True, False])))
    assert (account.revenue_usd, account.energy_usd, account.switching_usd) == (30.0, -10.0, -12.0)
    assert account.net_usd.tolist() == [10.0, 0.0, -2.0, 0.0]
    assert (account.total_usd, account.wakes, account.curtailed_mwh) == (8.0, 1, 0.5)
    assert account.switches_per_device_day == 3 * 24  # one wake and two sleeps within an hour
    assert account.worst_intervals_usd == -2.0
    assert (account.worst_day, account.worst_day_usd) == ("2024-03-01", 8.0)


def test_costs_that_are_none_are_no_negative_zero():
    account = account_of(plain_case([20.0] * 4), Schedule(np.ones(4, dtype=bool)))
    assert str(account.as_dict()["parts_usd"]) == "{'revenue': 60.0, 'energy': -20.0, 'switching': 0.0}"


def test_the_worst_day_and_one_per_cent_of_intervals():
    prices = np.full(96 * 3, 20.0)
    prices[96:102] = [500.0, 400.0, 300.0, 200.0, 100.0, 90.0]
    account = account_of(plain_case(prices), Schedule(np.ones(len(prices), dtype=bool)))
    assert account.worst_day == "2024-03-02"
    assert account.worst_intervals_usd == (60 - 500 + 60 - 400) * 0.25  # two of 288


def test_the_share_is_between_the_two_ends_and_none_where_there_is_no_gap():
    case = plain_case(random_prices(96 * 40))
    accounts = accounts_of(case, Hysteresis())
    shares = {name: gap_closed(case, accounts, name) for name in accounts}
    assert (shares["break_even"].share, shares["oracle"].share) == (0.0, 1.0)
    found = shares["hysteresis"]
    assert found.low < found.share < found.high
    gain = accounts["hysteresis"].total_usd - accounts["break_even"].total_usd
    assert found.gain_usd_per_mw_year == pytest.approx(gain / 40 * 365.25)
    quiet = plain_case([20.0] * 96)
    assert gap_closed(quiet, accounts_of(quiet), "oracle").share is None


def test_the_worst_month_is_that_of_the_gain():
    case = plain_case(random_prices(96 * 50))
    accounts = accounts_of(case, Hysteresis(0.5, 3.0))
    found = gap_closed(case, accounts, "hysteresis")
    gain = accounts["hysteresis"].net_usd - accounts["break_even"].net_usd
    by_month = {"2024-03": gain[: 96 * 31].sum(), "2024-04": gain[96 * 31 :].sum()}
    assert found.worst_month == min(by_month, key=by_month.get)
    assert found.worst_month_usd == pytest.approx(min(by_month.values()))


def test_the_interval_is_a_blocks_own_share_where_all_are_alike():
    assert block_interval(np.full(8, 3.0), np.full(8, 4.0)) == (0.75, 0.75)
    assert block_interval(np.full(3, 3.0), np.full(3, 4.0)) == (None, None)
    low, high = block_interval(np.array([0.0, 4.0] * 10), np.full(20, 4.0))
    assert 0.25 < low < 0.45 < 0.55 < high < 0.75


def test_the_mean_over_efficiencies_draws_the_same_weeks_for_all():
    case = plain_case(random_prices(96 * 70))
    one = (case, accounts_of(case, Hysteresis()))
    alone = gap_closed(*one, "hysteresis")
    assert mean_interval([one, one], "hysteresis", "break_even") == pytest.approx((alone.low, alone.high))
    assert mean_interval([one], "hysteresis", "hysteresis") == (0.0, 0.0)


def test_weeks_in_which_no_price_is_above_break_even_have_no_share_and_no_interval():
    case = plain_case(np.full(96 * 35, -20.0))
    one = (case, accounts_of(case, Hysteresis()))
    found = gap_closed(*one, "hysteresis")
    assert (found.share, found.low, found.high, found.gain_usd_per_mw_year) == (None, None, None, 0.0)
    assert mean_interval([one, one], "hysteresis", "break_even") == (None, None)
