"""Scores and comparisons by hand, back-tests as they would have been made."""

import math
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.hours import HOUR_US, microseconds
from hcp_pipelines.forecasting.learnable.compare import compare, diebold_mariano, student_below
from hcp_pipelines.forecasting.learnable.lessons import DAY_US
from hcp_pipelines.forecasting.learnable.models import Naive, SeasonalNaive
from hcp_pipelines.forecasting.learnable.protocol import LEVELS, Examples, TooShortError
from hcp_pipelines.forecasting.learnable.rolling import rolling
from hcp_pipelines.forecasting.learnable.scoring import Forecasts, horizon_names, naive_error, scores
from tests.support.learnable import changed_after, day, examples_of

WINDOW = (day(40), day(55))


def questions(target, naive, ahead_h, entity=None, entities=("a", "b")):
    n = len(target)
    asked = np.arange(n) * DAY_US
    wanted = asked + (np.array(ahead_h) - 1) * HOUR_US
    return Examples(
        np.zeros((n, 1), np.float32), ("last",), np.array(target, float), np.array(entity or [0] * n), entities,
        asked, wanted, wanted + HOUR_US, np.array(naive, float), np.ones(n),
    )  # fmt: skip


def test_scores_by_hand():
    nan = math.nan
    asked = questions([10, 0, 8, nan, 5], [8, nan, 8, 1, 1], [1, 3, 30, 30, 30], [0, 0, 0, 0, 1])
    quantiles = np.array([[6, 8, 9], [-1, 0, 1], [9, 10, 11], [1, 2, 3], [nan, nan, nan]], float)
    found = scores(Forecasts("m", asked, quantiles, (0.1, 0.5, 0.9)), questions([3, 5], [1, 9], [1, 1]))
    rows = {(row["entity"], row["horizon"]): row for row in found.iter_rows(named=True)}
    assert list(rows)[:4] == [("a", "1"), ("a", "2–6"), ("a", "25–36"), ("a", "all")]
    first = rows["a", "1"]
    assert first["pinball_10"] == pytest.approx(0.4)
    assert first["pinball_90"] == pytest.approx(0.9)
    assert first["pinball"] == pytest.approx((0.4 + 1.0 + 0.9) / 3)
    assert (first["mae"], first["bias"], first["rmae_naive"]) == (2, -2, 1)
    assert first["mase"] == pytest.approx(2 / 3)  # the naive forecast was off by 2 and 4 before
    assert first["smape"] == pytest.approx(4 / 18)
    assert first["mape"] == pytest.approx(0.2)
    assert first["coverage_80"] == 0
    assert "coverage_90" not in found.columns
    middle = rows["a", "2–6"]
    assert (middle["mae"], middle["smape"], middle["mape"], middle["rmae_naive"]) == (0, 0, None, None)
    whole = rows["all", "all"]
    assert (whole["asked"], whole["forecasts"]) == (5, 3)
    assert whole["mae"] == pytest.approx((2 + 0 + 2) / 3)
    assert whole["rmae_naive"] == pytest.approx(4 / 2)
    assert rows["b", "all"]["mae"] is None
    assert scores(Forecasts("m", asked, quantiles, (0.1, 0.5, 0.9)))["mase"].null_count() == len(found)
    assert np.isnan(naive_error(asked)[1]) == False  # noqa: E712 - of b one is known
    assert horizon_names()[:3] == ("1", "2–6", "7–12")
    with pytest.raises(ConfigError, match="m has no median"):
        scores(Forecasts("m", asked, quantiles[:, :2], (0.1, 0.9)))


def test_student_is_what_tables_say():
    for freedom, t in ((1, -6.314), (5, -2.015), (30, -1.697), (1000, -1.646)):
        assert student_below(t, freedom) == pytest.approx(0.05, abs=2e-4)
    assert student_below(2.015, 5) == pytest.approx(0.95, abs=2e-4)
    assert student_below(-math.inf, 9) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("days", "ahead", "left"), [(14, 1, 0), (28, 7, 0), (28, 1, 0.5), (120, 3, 0)])
def test_the_test_errs_as_often_as_it_says_also_with_few_days_that_hang_together(days, ahead, left):
    random, wrongly = np.random.default_rng(0), 0
    for _ in range(1000):
        noise = random.normal(size=days + ahead + 20)
        for k in range(1, len(noise)):
            noise[k] += left * noise[k - 1]
        wrongly += diebold_mariano(np.convolve(noise, np.ones(ahead), "valid")[-days:], ahead)[1] < 0.05
    assert 0.02 < wrongly / 1000 < 0.075  # two standard errors above 6 %


def test_a_difference_is_found_and_none_is_not():
    random = np.random.default_rng(0)
    assert diebold_mariano(random.normal(size=120) - 0.5, 1)[1] < 0.001
    assert diebold_mariano(random.normal(size=120) + 0.5, 1)[1] > 0.99
    assert diebold_mariano(np.zeros(20), 1) == (0.0, 1.0)
    assert diebold_mariano(np.full(20, -1.0), 1) == (-math.inf, 0.0)


def test_by_hand_of_one_wave():
    """Three days, one cosine: Student's t of one degree of freedom."""
    differences = np.array([-1.0, -2.0, 0.0])
    statistic, p_value = diebold_mariano(differences, 1)
    wave = 2 / 3 * (math.cos(math.pi / 6) * -1 + math.cos(5 * math.pi / 6) * 0) ** 2
    assert statistic == pytest.approx(-1 / math.sqrt(wave / 3))
    assert p_value == pytest.approx(0.5 + math.atan(statistic) / math.pi, abs=1e-6)


@pytest.fixture(scope="module")
def examples():
    return examples_of()


@pytest.fixture(scope="module")
def rolled(examples):
    return {
        model.name: rolling(examples, model, WINDOW, every=timedelta(days=5)) for model in (SeasonalNaive(), Naive())
    }


def test_each_origin_learns_from_what_was_known_and_answers_until_the_next(examples, rolled):
    found = rolled["naive"]
    assert [each.trained_until for each in found.models] == [day(40), day(45), day(50)]
    asked = found.forecasts.examples.asked_us
    assert (asked.min(), asked.max()) == (microseconds(day(40)), microseconds(day(55)) - 6 * HOUR_US)
    second = Naive().fit(examples, day(45))
    part = examples.only((examples.asked_us >= microseconds(day(45))) & (examples.asked_us < microseconds(day(50))))
    own = found.forecasts.quantiles[(asked >= microseconds(day(45))) & (asked < microseconds(day(50)))]
    assert own.tobytes() == second.predict(part).tobytes()
    other = rolling(changed_after(examples, day(50)), Naive(), WINDOW, every=timedelta(days=5)).forecasts
    assert other.quantiles.tobytes() == found.forecasts.quantiles.tobytes()  # the last one learns at day 50


def test_what_is_better_is_found_to_be_better_and_never_the_other_way(examples, rolled):
    one, other = (rolled[name].forecasts for name in ("seasonal_naive", "naive"))
    found = compare(one, other)
    back = compare(other, one)
    assert found.ratio == pytest.approx(1 / back.ratio)
    assert found.p_value == pytest.approx(1 - back.p_value)
    assert (found.questions, found.days) == (len(one.examples), 16)
    same = compare(one, replace(one, model="twin"))
    assert (same.statistic, same.p_value, same.ratio, same.low, same.high) == (0, 1, 1, 1, 1)
    assert not same.is_better
    truth = one.examples.target[:, None] + 0.1 * (one.quantiles - one.examples.target[:, None])
    better = compare(replace(one, model="oracle", quantiles=truth), one)
    assert better.is_better
    assert better.ratio == pytest.approx(0.1)
    assert better.low == pytest.approx(0.1)
    again = compare(one, other)
    assert again == found


def test_only_questions_that_both_answered_are_compared_in_whatever_order(rolled):
    one, other = (rolled[name].forecasts for name in ("seasonal_naive", "naive"))
    mixed = np.random.default_rng(0).permutation(len(other.examples))[:-100]
    answers = other.quantiles[mixed].copy()
    answers[:50] = np.nan
    shuffled = replace(other, examples=other.examples.only(mixed), quantiles=answers)
    found = compare(one, shuffled)
    assert found.questions == len(one.examples) - 150
    point = replace(other, quantiles=other.quantiles[:, [3]], levels=(0.5,))
    by_median = compare(one, point, (0.5,))
    error = np.abs(one.median - one.examples.target).mean()
    assert by_median.loss_of_one == pytest.approx(error / 2)
    assert compare(one, point) == by_median
    with pytest.raises(ConfigError, match=r"not \[0.1\]"):
        compare(one, point, (0.1,))


def test_too_little_is_refused(examples, rolled):
    one = rolled["naive"].forecasts
    few = np.flatnonzero(one.examples.wanted_us < microseconds(day(47)))
    short = replace(one, examples=one.examples.only(few), quantiles=one.quantiles[few])
    with pytest.raises(ConfigError, match="both answered 7 days: at least 10"):
        compare(short, one)
    with pytest.raises(ConfigError, match="nothing is asked"):
        rolling(examples, Naive(), (day(400), day(401)))
    with pytest.raises(TooShortError):
        rolling(examples, Naive(), (day(1), day(40)))
    assert len(LEVELS) == one.quantiles.shape[1]
