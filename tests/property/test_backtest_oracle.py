"""The oracle is exact: no schedule of all there are earns more, and no strategy does."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp_pipelines.optimizer.backtest.account import account_of
from hcp_pipelines.optimizer.backtest.case import Course
from hcp_pipelines.optimizer.backtest.oracle import optimum_usd, value_of_on
from hcp_pipelines.optimizer.backtest.simulate import Schedule, simulate
from hcp_pipelines.optimizer.backtest.strategies import AlwaysOn, BreakEven, Hysteresis, Oracle
from tests.support.recorded import plain_case

intervals = st.lists(
    st.tuples(st.floats(-300, 300), st.floats(20, 160), st.floats(0, 60)), min_size=1, max_size=8
)  # price, revenue, wake cost
some = settings(max_examples=150, deadline=None)


def case_of(rows):
    price, revenue, wake = (np.array(column) for column in zip(*rows, strict=True))
    case = plain_case(price)
    return type(case)(
        **{**case.__dict__, "known": Course(price, revenue, wake), "settled": Course(price, revenue, wake)}
    )


def all_schedules(case):
    """Dollars of each of the 2^n schedules, starting on."""
    for bits in product((False, True), repeat=len(case)):
        yield account_of(case, Schedule(np.array(bits))).total_usd


@some
@given(intervals)
def test_the_optimum_is_that_of_all_schedules(rows):
    case = case_of(rows)
    best = max(all_schedules(case))
    assert optimum_usd(case.settled, case.step_h) == pytest.approx(best, abs=1e-7)
    schedule = simulate(case, Oracle().strikes(case))
    assert account_of(case, schedule).total_usd == pytest.approx(best, abs=1e-7)


@some
@given(intervals)
def test_asleep_at_the_start_it_is_worth_the_value_of_being_on_less(rows):
    case = case_of(rows)
    off = optimum_usd(case.settled, case.step_h, starts_on=False)
    on = optimum_usd(case.settled, case.step_h)
    values = value_of_on(case.settled, case.step_h)
    assert on - off == pytest.approx(values[0], abs=1e-9)
    assert (values >= 0).all()
    assert (values[:-1] <= case.settled.wake_usd).all()


@some
@given(intervals, st.floats(0, 1), st.floats(0, 3))
def test_no_strategy_earns_more(rows, wake_share, sleep_share):
    case = case_of(rows)
    best = optimum_usd(case.settled, case.step_h)
    for strategy in (AlwaysOn(), BreakEven(), Hysteresis(wake_share, sleep_share)):
        for guarded in (False, True):
            schedule = simulate(case, strategy.strikes(case), is_guarded=guarded)
            assert account_of(case, schedule).total_usd <= best + 1e-7
