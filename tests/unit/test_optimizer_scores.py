"""Scores of a facility's groups: one score asked for by name, scarce site power, and switches costed from what runs."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import DeviceState, Mode, ResourceType
from hcp_pipelines.optimizer.inputs import FacilityInputs, GroupInputs, SiteInputs, StateInputs
from hcp_pipelines.optimizer.scores import calculate_profitability, score_facilities

OFF, FULL, IDLE = DeviceState.CURTAILED, DeviceState.MINING_FULL, DeviceState.IDLE
BATCH, TRAINING = DeviceState.INFERENCE_BATCH, DeviceState.TRAINING
MINERS = GroupInputs("s21", "f1", ResourceType.ASIC, 1000, (StateInputs(OFF, 0.0), StateInputs(FULL, 3.5, 200.0)))
GPUS = GroupInputs(
    "h100", "f1", ResourceType.GPU, 100,
    (StateInputs(IDLE, 0.45), StateInputs(BATCH, 1.2), StateInputs(TRAINING, 1.3)), gpu_type="H100",
)  # fmt: skip


def facility(price=40.0, present=None, **more):
    site = SiteInputs("hou-1", "HB_HOUSTON", 1, 0, more.pop("capacity_mw", 100.0), (MINERS, GPUS), **more)
    indices = {"hashprice": 48.0, "gpu.H100": 2.0}
    return FacilityInputs(site, 7, datetime(2025, 1, 1, tzinfo=UTC), price, indices, present=present or {})


def test_one_score_by_name_has_the_fields_of_the_record():
    score = calculate_profitability(
        facility(adders_usd_per_mwh=2.0, pool_fee_fraction=0.01), "s21", Mode.BITCOIN_MINING
    )
    assert (score.resource_id, score.workload_type, score.confidence) == ("hou-1/s21", "bitcoin_mining", 0.9)
    assert score.expected_revenue == pytest.approx(1000 * 0.2 * 48 / 24 * 0.99)
    assert score.estimated_cost == pytest.approx(3.5 * 42)
    assert score.net_profit == pytest.approx(score.expected_revenue - score.estimated_cost)
    assert score.usd_per_mwh == pytest.approx(score.net_profit / 3.5)
    assert score.score == round(100 * score.net_profit / score.expected_revenue, 2)
    assert score.recommendation == "allocate"


def test_what_there_is_not_is_refused_with_what_there_is():
    with pytest.raises(ConfigError, match="hou-1 has no group 's19'; there are s21, h100"):
        calculate_profitability(facility(), "s19", Mode.BITCOIN_MINING)
    with pytest.raises(ConfigError, match="hou-1/s21 does no model_training; it does bitcoin_mining"):
        calculate_profitability(facility(), "s21", Mode.MODEL_TRAINING)


def test_where_the_site_cant_feed_all_the_miners_yield_to_the_gpus():
    wide, tight = (score_facilities([facility(capacity_mw=mw)]) for mw in (100.0, 0.1))
    assert dict(zip(wide["resource_id"], wide["recommendation"], strict=True))["hou-1/s21"] == "allocate"
    [row] = [r for r in tight.to_dicts() if r["resource_id"] == "hou-1/s21"]
    assert row["recommendation"] == "switch"
    assert row["next_best_usd_per_mwh"] > row["usd_per_mwh"]


def test_a_miner_at_a_small_loss_holds_while_its_wake_costs_more():
    """Revenue 114.3 $/MWh: at 115 a sleep saves 0.7 an hour, and a wake costs 33."""
    awake = facility(price=115.0, present={"s21": {FULL: 1000}})
    assert calculate_profitability(awake, "s21", Mode.BITCOIN_MINING).recommendation == "hold"
    assert calculate_profitability(facility(price=115.0), "s21", Mode.BITCOIN_MINING).recommendation == "switch"
    dear = facility(price=160.0, present={"s21": {FULL: 1000}})
    assert calculate_profitability(dear, "s21", Mode.BITCOIN_MINING).recommendation == "switch"


def test_training_that_would_pay_a_little_more_leaves_batches_running():
    """3 minutes of 2 $/h to restart a job against 0.1 kW more a GPU: equal rates are no reason."""
    rates = {TRAINING: 1.09}
    running = facility(present={"h100": {BATCH: 100}}, gpu_rate_fraction=rates)
    assert calculate_profitability(running, "h100", Mode.AI_INFERENCE_BATCH).recommendation == "hold"
    assert calculate_profitability(running, "h100", Mode.MODEL_TRAINING).recommendation == "hold"
    asleep = facility(gpu_rate_fraction={TRAINING: 1.2})
    assert calculate_profitability(asleep, "h100", Mode.MODEL_TRAINING).recommendation == "allocate"


def test_old_prices_lower_the_confidence_of_those_who_depend_on_them():
    limits = {"power.rt_lmp": 900.0, "btc.usd": 7200.0}
    fresh, old_power, old_bitcoin = (
        replace(facility(), input_age_s=ages)
        for ages in ({}, {"power.rt_lmp": 675.0, "gpu.spot": 9e9}, {"power.rt_lmp": 450.0, "btc.usd": 7200.0})
    )
    found = [
        dict(zip(s["workload_type"], s["confidence"], strict=True))
        for s in (score_facilities([one], limits) for one in (fresh, old_power, old_bitcoin))
    ]
    assert [row["bitcoin_mining"] for row in found] == pytest.approx([0.9, 0.45, 0.0])
    assert [row["ai_inference_batch"] for row in found] == pytest.approx([0.85, 0.42, 0.85])
    assert set(score_facilities([old_power])["confidence"]) == {0.9, 0.85}
