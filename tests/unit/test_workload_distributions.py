"""Distributions, gaps and load shapes: what is drawn is what was fitted, and what is no shape is refused."""

import numpy as np
import pytest
from pydantic import ValidationError

from simulators.workloads.distributions import LEVELS, Gaps, Quantiles, ks_distance
from simulators.workloads.shapes import Shape, ShapeError


def test_a_sample_of_known_tail_is_found_again():
    random = np.random.default_rng(1)
    sample = 3.0 * (1.0 - random.random(200_000)) ** (-1 / 1.5)
    fit = Quantiles.fit(sample, most=1e9)
    assert fit.tail_index == pytest.approx(1.5, rel=0.05)
    drawn = fit.draw(random.random(200_000))
    assert ks_distance(drawn, sample) < 0.01
    for far in (100.0, 1000.0):  # beyond the last quantile
        assert (drawn > far).mean() == pytest.approx((sample > far).mean(), rel=0.25)


def test_draws_rise_with_their_number_and_end_at_the_limit():
    sample = np.random.default_rng(2).lognormal(3.0, 1.0, 5000)
    fit = Quantiles.fit(sample, most=float(sample.max()))
    values = fit.draw(np.linspace(0, 1, 1001)[:-1])
    assert (np.diff(values) >= 0).all()
    assert fit.draw(np.array([0.0, 1 - 1e-15])).tolist() == [fit.values[0], fit.most]
    assert fit.draw(np.array(LEVELS)) == pytest.approx(fit.values)


def test_what_is_no_distribution_is_refused():
    good = Quantiles.fit(np.random.default_rng(3).lognormal(0, 1, 500), most=1e6)
    for wrong in (
        {"values": good.values[::-1]},
        {"values": (0.0, *good.values[1:])},
        {"most": good.values[-1] / 2},
        {"tail_index": 0.0},
    ):
        with pytest.raises(ValidationError):
            Quantiles(**(good.model_dump() | wrong))
    with pytest.raises(ValueError, match="too few for a tail"):
        Quantiles.fit(np.ones(99), most=10)


def test_gaps_that_were_drawn_are_fitted_again():
    true = Gaps(together=0.2, weights=(0.3, 0.7), means=(0.05, 1.7643))
    drawn = true.draw(np.random.default_rng(4), 20_000)
    assert drawn.mean() == pytest.approx(true.mean, rel=0.02)
    assert drawn.var() == pytest.approx(true.variance, rel=0.05)
    fit = Gaps.fit(drawn / drawn.mean())
    assert fit.mean == pytest.approx(1.0, abs=1e-3)
    assert fit.together == pytest.approx(0.2, abs=0.01)
    assert fit.variance == pytest.approx(true.variance, rel=0.1)
    assert ks_distance(fit.draw(np.random.default_rng(5), 100_000), drawn) < 0.015


def test_the_distance_of_two_samples_is_that_of_their_functions():
    ones = np.ones(10)
    assert ks_distance(ones, ones) == 0.0
    assert ks_distance(ones, 2 * ones) == 1.0
    assert ks_distance(np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 3.0, 4.0, 5.0])) == 0.25
    assert ks_distance(np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0])) == pytest.approx(1 / 3)  # ties count once


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steady", [1, 1, 1, 1]),
        ("step:at=60,times=5", [1, 1, 5, 5]),
        ("spike:at=60,for=30,times=20", [1, 1, 20, 1]),
    ],
)
def test_a_shape_multiplies_the_rate(text, expected):
    assert Shape.parse(text).at(np.array([0.0, 59.9, 60.0, 90.0])).tolist() == expected


def test_a_ramp_rises_evenly_and_stays_up():
    at = Shape.parse("ramp:for=100,times=11").at(np.array([0.0, 50.0, 99.9, 1e6]))
    assert at == pytest.approx([1.0, 6.0, 11.0, 11.0], abs=0.06)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "wave",
        "step",
        "step:at=60",
        "step:at=x,times=2",
        "spike:at=1,for=0,times=2",
        "ramp:for=5,times=-1",
        "steady:at=1",
    ],
)
def test_what_is_no_shape_is_refused(text):
    with pytest.raises(ShapeError):
        Shape.parse(text)
