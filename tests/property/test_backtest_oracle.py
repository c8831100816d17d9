"""The oracle is exact: no schedule of all there are earns more, and no strategy does; with least times too."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp_pipelines.optimizer.backtest.account import account_of
from hcp_pipelines.optimizer.backtest.case import Course, LeastTimes
from hcp_pipelines.optimizer.backtest.oracle import optimum_usd, value_of_on
from hcp_pipelines.optimizer.backtest.simulate import simulate
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


def schedules(n):
    """All that there are, a row each."""
    return np.array(list(product((False, True), repeat=n)))


def dollars(case, bits):
    """Of each schedule, starting on."""
    was_on = np.column_stack([np.ones(len(bits), dtype=bool), bits[:, :-1]])
    course = case.settled
    return (course.margin_usd_per_mwh * case.step_h * bits - course.wake_usd * (bits & ~was_on)).sum(axis=1)


@some
@given(intervals)
def test_the_optimum_is_that_of_all_schedules(rows):
    case = case_of(rows)
    best = dollars(case, schedules(len(case))).max()
    assert optimum_usd(case.settled, case.step_h) == pytest.approx(best, abs=1e-7)
    schedule = simulate(case, Oracle().strikes(case))
    assert account_of(case, schedule).total_usd == pytest.approx(best, abs=1e-7)


def keeps(bits, least):
    """Whether no switch of a schedule that starts on comes before its time."""
    since, was_on = 10**9, True  # what it starts in it may leave
    for is_on in bits:
        if is_on is not was_on:
            if since < (least.on if was_on else least.off):
                return False
            since, was_on = 0, is_on
        since += 1
    return True


@some
@given(intervals, st.integers(1, 5), st.integers(1, 5), st.floats(0, 1), st.floats(0, 3))
def test_with_least_times_it_is_that_of_all_that_keep_them(rows, on, off, wake_share, sleep_share):
    case = replace(case_of(rows), least=LeastTimes(on, off))
    every = schedules(len(case))
    best = dollars(case, every[[keeps(bits, case.least) for bits in every.tolist()]]).max()
    schedule = simulate(case, Oracle().strikes(case))
    assert account_of(case, schedule).total_usd == pytest.approx(best, abs=1e-7)
    for strategy in (BreakEven(), Hysteresis(wake_share, sleep_share), Oracle()):
        for guarded in (False, True):
            assert keeps(simulate(case, strategy.strikes(case), is_guarded=guarded).is_on.tolist(), case.least)


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
