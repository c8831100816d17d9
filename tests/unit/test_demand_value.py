"""Dollars of demand forecasts: who knows what will be asked for sells the rest, and who sells too much loses the work."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.hours import HOUR_US, microseconds
from hcp_pipelines.forecasting.learnable.protocol import Examples
from hcp_pipelines.forecasting.learnable.scoring import Forecasts
from hcp_pipelines.optimizer.demand_value import DAY_H, ReserveTerms, demand_value

START = datetime(2025, 3, 1, tzinfo=UTC)
DAYS, AHEAD, LEVELS = 4, 72, (0.1, 0.5, 0.9)
CLASSES = ("ai_inference_realtime", "model_training", "total")
TERMS = ReserveTerms()


def examples(entities=CLASSES, every=5):
    """Two classes that go up and down by the hour, and their total; asked every few hours."""
    hours = np.arange(DAY_H * DAYS + AHEAD)
    first, second = 60 + 30 * np.sin(hours / 4.0), 40 + 20 * np.cos(hours / 9.0)
    demand = np.stack([first, second, first + second])
    asked, entity, after = (
        each.ravel()
        for each in np.meshgrid(np.arange(0, DAY_H * DAYS, every), np.arange(3), np.arange(AHEAD), indexing="ij")
    )
    wanted, start_us, n = asked + after, microseconds(START), len(asked)
    return Examples(
        np.zeros((n, 0), np.float32), (), demand[entity, wanted], entity, entities, start_us + asked * HOUR_US,
        start_us + wanted * HOUR_US, start_us + (wanted + 1) * HOUR_US, demand[entity, np.maximum(asked - 24 + after % 24, 0)],
        np.ones(n),
    )  # fmt: skip


def said(model, of, values):
    values = np.broadcast_to(np.asarray(values, float), len(of))
    return Forecasts(model, of, np.repeat(values[:, None], len(LEVELS), axis=1), LEVELS)


def test_who_knows_sells_what_is_left_and_too_much_costs_more_than_too_little():
    asked = examples()
    told = {"knows": asked.target, "naive": asked.naive, "none": 0.0, "all": 1e6}
    by_name = {each.name: each for each in demand_value([said(name, asked, values) for name, values in told.items()])}
    assert by_name["knows"].usd_per_unit_year == by_name["oracle"].usd_per_unit_year > 0
    assert (by_name["knows"].gap_closed, by_name["naive"].usd_per_unit_year) == (1.0, 0.0)
    assert by_name["none"].usd_per_unit_year < by_name["all"].usd_per_unit_year < by_name["oracle"].usd_per_unit_year


def test_dollars_are_those_of_the_offers_counted_by_hand():
    """All GPUs are asked for all along. Who says all sells nothing; who says none sells all miners, and that work is lost."""
    asked = examples()
    full = replace(asked, target=np.full(len(asked), 200.0), naive=np.full(len(asked), 900.0))
    found = {each.name: each for each in demand_value([said("none", full, 0.0), said("all", full, 300.0)])}
    assert found["all"].usd_per_unit_year == found["oracle"].usd_per_unit_year == 0.0
    lost = TERMS.gpu_usd_per_mwh - TERMS.miner_usd_per_mwh - TERMS.capacity_usd_per_mw_h
    lots_mw = 8.9  # of the 9 MW
    assert found["none"].usd_per_unit_year == pytest.approx(-lost * lots_mw / 10_000 * 8766, abs=0.01)


def test_what_can_not_be_counted_is_refused():
    trace = examples(entities=("gold", "silver", "total"))
    with pytest.raises(ConfigError, match="no whole day of customers' work"):
        demand_value([said("knows", trace, trace.target)])
    live = examples()
    with pytest.raises(ConfigError, match="no whole day of customers' work"):
        demand_value([said("silent", live, np.nan)])
    with pytest.raises(ConfigError, match="not asked the same questions"):
        demand_value([said("knows", live, live.target), said("other", examples(every=7), examples(every=7).target)])
