"""The guard bounds what wrong strikes cost, spell by spell and in all; whatever they say, and whatever prices do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp_pipelines.optimizer.backtest.case import Known
from hcp_pipelines.optimizer.backtest.simulate import ORDER_USD_PER_MWH, Strikes, simulate
from hcp_pipelines.optimizer.backtest.strategies import Oracle
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.evaluate import evaluate
from hcp_pipelines.policy.guard import BEHIND_MOST, DISTRUSTED_AT, GuardState
from tests.property.test_backtest_rule import REVENUE, as_the_policy_does, one_megawatt
from tests.support.policies import FULL, NOW
from tests.support.recorded import plain_case

WAKE_USD = 8.0
ASLEEP, AWAKE, OPEN = (-np.inf, -np.inf), (np.inf, np.inf), (-np.inf, np.inf)
paths = st.lists(st.tuples(st.floats(-100, 400), st.sampled_from([ASLEEP, AWAKE, OPEN])), min_size=1, max_size=300)


def strikes_of(words):
    on, off = np.array(words).T
    return Strikes(on, off)


def earned(case, is_on):
    before = np.r_[True, is_on[:-1]]
    return float(
        (case.settled.margin_usd_per_mwh * case.step_h * is_on - case.settled.wake_usd * (is_on & ~before)).sum()
    )


def told_late(prices):
    """A case of which each interval's price is known when the next one begins."""
    return plain_case(prices, REVENUE, WAKE_USD, known=[np.nan, *prices[:-1]], model=Known.AFTER)


def spell_by_spell(usd, counts):
    """By interval, what is counted of dollars since they were last at or below zero."""
    total, so_far = 0.0, []
    for each, is_counted in zip(usd.tolist(), counts.tolist(), strict=True):
        total = total + each * is_counted if each > 0 else 0.0
        so_far.append(total)
    return np.array(so_far)


def plain_rule(case):
    """Ski rental without any forecast: strikes that are always open, so that the guard alone decides when to sleep."""
    revenue = case.known.revenue_usd_per_mwh
    return earned(case, simulate(case, Strikes(revenue, np.full(len(case), np.inf)), is_guarded=True).is_on)


@settings(max_examples=150, deadline=None)
@given(paths)
def test_whatever_strikes_say_they_cost_a_bounded_number_of_wakes(path):
    """Against the plain rule: the wakes of distrust, two on the way in and out, and half of it again for every recovery."""
    prices, words = zip(*path, strict=True)
    case = plain_case(prices, REVENUE, WAKE_USD)
    schedule = simulate(case, strikes_of(words), is_guarded=True)
    recoveries = len(path) // 20  # to make up 2.5 wakes takes spells in which the strikes are right
    bound = (DISTRUSTED_AT + 4) + recoveries * (DISTRUSTED_AT / 2 + 4)
    assert earned(case, schedule.is_on) >= plain_rule(case) - bound * WAKE_USD


@settings(max_examples=150, deadline=None)
@given(paths)
def test_told_late_a_spell_costs_a_wake_and_by_how_much_the_last_interval_beat_the_one_before(path):
    """Asleep: with the interval under way on account. Awake: beyond the first interval, which the field's rule pays as well."""
    prices, words = zip(*path, strict=True)
    case = told_late(prices)
    is_on = simulate(case, strikes_of(words), is_guarded=True).is_on
    usd = case.settled.margin_usd_per_mwh * case.step_h
    forgone, lost = spell_by_spell(usd, ~is_on), spell_by_spell(-usd, is_on)
    for k in range(1, len(path)):
        if usd[k] > 0 and usd[k - 1] > 0 and not is_on[k]:
            assert forgone[k] < WAKE_USD + usd[k] - usd[k - 1] + 1e-9
        if usd[k] < 0 and usd[k - 1] < 0 and is_on[k]:
            assert lost[k] < WAKE_USD - usd[k] + 1e-9


def test_told_late_perfect_foresight_is_not_distrusted():
    """Booked with the margin of an interval is who was on in it, not who is on once it is known."""
    case = told_late(([40.0] * 6 + [300.0]) * 40)
    best = Oracle().strikes(case)
    ours = simulate(case, best, is_guarded=True)
    assert ours.is_on.tolist() == ([True] * 6 + [False]) * 40
    assert ours.guarded == 0


def test_an_order_to_be_on_or_off_earns_nobody_a_lead():
    """Of a mixed facility what is told to be on has no price; who was asleep before it is no further behind."""
    case = plain_case([56.0, 56.0, -2 * ORDER_USD_PER_MWH, 62.0, 56.0, 56.0], REVENUE, WAKE_USD, model=Known.AFTER)
    schedule = simulate(case, strikes_of([ASLEEP] * len(case)), is_guarded=True)
    assert schedule.is_on.tolist() == [False, False, True, False, False, False]


def blips(number):
    """Cheap hours with a price just above break-even between them: who sleeps through it pays a wake for nothing."""
    return [20.0, 20.0, 20.0, 62.0] * number


def test_who_is_wrong_in_every_spell_is_distrusted_after_five_wakes_and_costs_no_more():
    case = plain_case(blips(100), REVENUE, WAKE_USD)
    asleep = strikes_of([ASLEEP] * len(case))
    cost = plain_rule(case) - earned(case, simulate(case, asleep, is_guarded=True).is_on)
    assert (DISTRUSTED_AT - 1) * WAKE_USD < cost < (DISTRUSTED_AT + 2) * WAKE_USD


def test_who_mends_is_believed_again():
    prices = blips(20) + ([20.0] * 8 + [300.0] * 2) * 12
    case = plain_case(prices, REVENUE, WAKE_USD)
    wise = [AWAKE if price < REVENUE + 10 else ASLEEP for price in prices]
    mended = [ASLEEP] * 80 + wise[80:]
    ours, best, never = (
        simulate(case, strikes_of(words), is_guarded=True).is_on for words in (mended, wise, [ASLEEP] * 200)
    )
    assert not np.array_equal(ours[40:80], never[:40]), "the plain rule sits out the blips"
    assert np.array_equal(ours[-60:], best[-60:])


@pytest.mark.parametrize(("on", "band"), [(-500.0, 0.0), (-500.0, 40.0), (900.0, 0.0), (20.0, 10.0), (59.0, 1.0)])
def test_trust_is_the_same_rule_in_the_policy(on, band):
    random = np.random.default_rng(3)
    prices = np.where(random.random(1500) < 0.5, 30.0, 85.0) + random.normal(0, 15, 1500)
    prices = np.repeat(prices, 2).tolist()
    case = plain_case(prices, REVENUE, WAKE_USD)
    strikes = Strikes(np.full(len(prices), on), np.full(len(prices), on + band))
    ours = simulate(case, strikes, is_guarded=True).is_on.tolist()
    assert ours == as_the_policy_does(one_megawatt(on, on + band, WAKE_USD), prices)


def test_accounts_are_bounded_and_evaluating_twice_books_once():
    compiled = compile_policy(one_megawatt(-500.0, -500.0, WAKE_USD))
    guard = GuardState.empty(compiled)
    present = np.zeros((1, compiled.power_mw.shape[1]), dtype=np.int64)
    present[0, FULL] = 1
    for price in blips(60):
        asked = evaluate(compiled, present, price, {}, NOW, guard, elapsed_h=0.25)
        again = evaluate(compiled, asked.targets, price, {}, NOW, asked.guard, elapsed_h=0.0)
        assert np.array_equal(again.targets, asked.targets)
        assert np.array_equal(again.guard.accounts, asked.guard.accounts)
        present, guard = asked.targets, asked.guard
    assert guard["is_distrusted"].tolist() == [1.0]
    assert DISTRUSTED_AT <= guard["behind_wakes"][0] <= BEHIND_MOST
