"""Dollars of forecasts: one that knows the prices earns what hindsight does, one that says nothing what the plain band does."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.hours import HOUR_US, microseconds
from hcp_pipelines.forecasting.learnable.protocol import Examples
from hcp_pipelines.forecasting.learnable.scoring import Forecasts
from hcp_pipelines.optimizer.model_value import CommitmentPrices, Value, commitment_value, price_value

START = datetime(2025, 3, 1, tzinfo=UTC)
AHEAD, HOURS, LEVELS = 12, 24 * 21, (0.1, 0.5, 0.9)


def told_prices():
    """Dear spells of one to six hours, a coin each: how long one lasts is what pays to know."""
    random, prices = np.random.default_rng(3), np.full(HOURS, 30.0)
    for day in range(0, HOURS, 12):
        at = day + int(random.integers(1, 5))
        prices[at : at + int(random.choice((1, 6)))] = 150.0
    return prices + random.normal(0, 0.5, HOURS)


def asked_of(prices, **changed):
    asked, after = np.meshgrid(np.arange(len(prices) - AHEAD), np.arange(AHEAD), indexing="ij")
    wanted, start_us = (asked + after).ravel(), microseconds(START)
    n = len(wanted)
    columns = {
        "features": np.zeros((n, 0), np.float32), "names": (), "target": prices[wanted], "entity": np.zeros(n, np.int64),
        "entities": ("HB_HUBAVG",), "asked_us": start_us + asked.ravel() * HOUR_US, "wanted_us": start_us + wanted * HOUR_US,
        "known_us": start_us + (wanted + 1) * HOUR_US, "naive": np.full(n, 30.0), "scale": np.ones(n),
    }  # fmt: skip
    return Examples(**columns | changed)


def said(model, examples, values):
    values = np.broadcast_to(np.asarray(values, float), len(examples))
    return Forecasts(model, examples, np.repeat(values[:, None], len(LEVELS), axis=1), LEVELS)


def test_a_forecast_is_worth_what_its_decisions_earn():
    examples = asked_of(told_prices())
    told = {"knows": examples.target, "blind": 30.0, "silent": np.nan}
    by_name = {each.name: each for each in price_value([said(name, examples, value) for name, value in told.items()])}
    assert by_name["oracle"].usd_per_unit_year > 2000
    assert by_name["knows"].gap_closed > 0.9
    assert by_name["blind"].usd_per_unit_year < 0, "it wakes into every dear hour"
    assert by_name["silent"] == Value("silent", 0.0, 0.0), "where it says nothing the plain band stands"


def test_a_forecast_of_some_hours_ago_is_still_decided_by():
    examples = asked_of(told_prices())
    each_fifth = examples.only((examples.asked_us // HOUR_US) % 5 == 0)
    late = replace(each_fifth, asked_us=each_fifth.asked_us + HOUR_US // 12)  # published five minutes into the hour
    hourly, fifth = (price_value([said("knows", each, each.target)])[0].gap_closed for each in (examples, late))
    assert fifth > 0.8 * hourly


def test_what_can_not_be_counted_is_refused():
    examples = asked_of(told_prices())
    short = examples.only(examples.wanted_us < microseconds(START + timedelta(days=6)))
    with pytest.raises(ConfigError, match="no point has 168 hours"):
        price_value([said("knows", short, short.target)])
    with pytest.raises(ConfigError, match="not asked the same questions"):
        price_value([said("knows", examples, examples.target), said("other", short, short.target)])
    with pytest.raises(ConfigError, match="both must be above 0"):
        CommitmentPrices(rate_usd=0.0)


def test_promises_of_a_capacity_earn_by_how_well_its_low_end_is_known():
    there = 100.0 - np.random.default_rng(1).exponential(5.0, HOURS)
    one_each = asked_of(np.full(HOURS, 1.0)).only(np.arange(HOURS))
    examples = replace(one_each, target=there, naive=np.full(HOURS, there.mean()), scale=np.full(HOURS, 100.0))
    calibrated = Forecasts("calibrated", examples, np.tile(np.quantile(there, LEVELS), (HOURS, 1)), LEVELS)
    found = {each.name: each for each in commitment_value([calibrated, said("sure", examples, 100.0)])}
    assert found["calibrated"].usd_per_unit_year > 0 > found["sure"].usd_per_unit_year
    assert found["oracle"].gap_closed == 1.0
    same = {each.name: each for each in commitment_value([said("naive", examples, there.mean())])}
    assert same["naive"].usd_per_unit_year == 0.0, "a model may be called as what it is compared with"
    best = np.quantile(there, CommitmentPrices().level)
    low, exact, high = (
        commitment_value([said("x", examples, best + step)])[0].usd_per_unit_year for step in (-3.0, 0.0, 3.0)
    )
    assert exact > max(low, high), "the stated quantile is the one that pays best"
