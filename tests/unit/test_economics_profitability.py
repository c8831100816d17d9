"""Scores, ranking and recommendation (EC-10 … EC-14 as ER-04, ER-05 and ER-23 correct them)."""

import time

import polars as pl

from hcp_pipelines.economics.profitability import SCORE_COLUMNS, score_groups

_USE = {
    "resource_id": "hou-1/a", "type": "ASIC", "workload_type": "bitcoin_mining", "revenue_usd_per_hour": 1.0, "power_kw": 10.0,
    "price_usd_per_mwh": 40.0, "switch_usd": 0.0, "is_present": True, "dwell_h": 1.0, "confidence_factor": 1.0,
}  # fmt: skip


def scored(*uses):
    return score_groups(pl.DataFrame([_USE | use for use in uses])).to_dicts()


def test_fields_and_arithmetic():
    (row,) = scored({})
    assert tuple(row) == SCORE_COLUMNS
    assert (row["expected_revenue"], row["estimated_cost"], row["net_profit"]) == (1.0, 0.4, 0.6)
    assert (row["score"], row["usd_per_mwh"], row["confidence"]) == (60.0, 60.0, 0.9)


def test_the_score_stays_between_0_and_100_and_no_revenue_scores_0():
    rows = scored(
        {"revenue_usd_per_hour": 0.0},
        {"resource_id": "b", "price_usd_per_mwh": 5000.0},
        {"resource_id": "c", "price_usd_per_mwh": -250.0},
    )
    assert [r["score"] for r in rows] == [0.0, 0.0, 100.0]
    assert rows[1]["net_profit"] == -49.0


def test_a_loss_is_left_for_sleep_unless_the_switch_costs_more():
    losing = {"price_usd_per_mwh": 110.0}  # −10 $/MWh
    assert scored(losing)[0]["recommendation"] == "switch"
    assert scored(losing | {"switch_usd": 0.2})[0]["recommendation"] == "hold"  # 20 $/MWh of switch
    assert scored(losing | {"is_present": False})[0]["recommendation"] == "switch"


def test_uses_are_ranked_by_dollars_per_mwh_of_site_power_not_by_margin():
    rich = {"workload_type": "ai_inference_batch", "revenue_usd_per_hour": 20.0, "power_kw": 10.0, "is_present": False}
    thin = {"workload_type": "ai_inference_realtime", "revenue_usd_per_hour": 2.0, "power_kw": 0.1, "is_present": True}
    got = {r["workload_type"]: r for r in scored(rich, thin)}
    assert got["ai_inference_realtime"]["usd_per_mwh"] > got["ai_inference_batch"]["usd_per_mwh"]
    assert got["ai_inference_realtime"]["recommendation"] == "allocate"
    assert got["ai_inference_batch"]["recommendation"] == "switch"


def test_300_000_devices_are_scored_in_a_fraction_of_a_second():
    n = 300_000
    uses = (
        pl.DataFrame([_USE])
        .select(pl.all().repeat_by(n).explode())
        .with_columns(resource_id=pl.int_range(n).cast(pl.String))
    )
    started = time.perf_counter()
    scores = score_groups(uses)
    assert time.perf_counter() - started < 2.0  # generous: two shared cores
    assert scores.height == n
