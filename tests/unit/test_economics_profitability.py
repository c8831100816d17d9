"""Scores, ranking and recommendation (EC-10 … EC-14 as ER-04, ER-05 and ER-23 correct them)."""

import numpy as np
import polars as pl
import pytest

from hcp_pipelines.economics.profitability import SCORE_COLUMNS, SCORE_SCHEMA, SITE_SCHEMA, score_uses
from hcp_pipelines.workloads.routing.scoring import profitability_score

_USE = {
    "resource_id": "hou-1/a", "site_id": "hou-1", "type": "ASIC", "workload_type": "bitcoin_mining",
    "revenue_usd_per_hour": 1.0, "power_kw": 10.0,
    "price_usd_per_mwh": 40.0, "switch_usd": 0.0, "is_present": True, "dwell_h": 1.0, "confidence_factor": 1.0,
}  # fmt: skip


def scored(*uses, **site):
    sites = pl.DataFrame([{"site_id": "hou-1", "limit_mw": 1000.0, "resting_usd_per_mwh": 0.0} | site])
    return score_uses(pl.DataFrame([_USE | use for use in uses]), sites).to_dicts()


def recommended(*uses, **site):
    return [row["recommendation"] for row in scored(*uses, **site)]


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


def test_routing_scores_the_same_margin():
    cases = [(0.0, 40.0), (1.0, 40.0), (1.0, 5000.0), (2.5, -250.0), (0.37, 12.5)]
    uses = [
        {"resource_id": str(n), "revenue_usd_per_hour": usd, "price_usd_per_mwh": p} for n, (usd, p) in enumerate(cases)
    ]
    revenue, cost = np.array([usd for usd, _ in cases]), np.array([10.0 / 1000 * price for _, price in cases])
    assert [row["score"] for row in scored(*uses)] == profitability_score(revenue, cost).round(2).tolist()


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


def gpu(kind, usd, **more):
    return {
        "resource_id": "hou-1/g",
        "type": "GPU",
        "workload_type": kind,
        "revenue_usd_per_hour": usd,
        "power_kw": 10.0,
    } | more


def test_the_best_use_is_judged_against_what_runs_not_against_the_second_best():
    """Asleep, 60 and 56 $/MWh to be had, a switch costs 20: it was 'hold', since the second best is within a switch."""
    batch, realtime = (
        gpu("batch", 1.0, is_present=False, switch_usd=0.2),
        gpu("realtime", 0.96, is_present=False, switch_usd=0.2),
    )
    assert recommended(batch, realtime) == ["allocate", "switch"]


def test_of_two_equal_uses_of_a_sleeping_resource_the_first_runs():
    """Both were 'switch', so that nothing ran."""
    assert recommended(gpu("batch", 1.0, is_present=False), gpu("realtime", 1.0, is_present=False)) == [
        "allocate",
        "switch",
    ]


def test_a_better_use_within_the_cost_of_its_switch_leaves_what_is():
    running, better = gpu("batch", 1.0), gpu("realtime", 1.1, is_present=False, switch_usd=0.2)
    assert recommended(running, better) == ["hold", "hold"]
    assert recommended(running, better | {"switch_usd": 0.05}) == ["switch", "allocate"]
    assert recommended(running, better | {"switch_usd": 0.2, "dwell_h": 4.0}) == ["switch", "allocate"]
    assert recommended(gpu("realtime", 1.0, is_present=False), gpu("batch", 1.0)) == ["switch", "allocate"]


def test_what_a_wake_costs_more_than_it_brings_waits():
    assert recommended({"is_present": False, "switch_usd": 0.7}) == ["hold"]
    assert recommended({"is_present": False, "switch_usd": 0.5}) == ["allocate"]


def test_scarce_site_power_goes_to_the_most_dollars_per_mwh():
    """20 kW for 10: the miner yields to the GPU, though both earn."""
    miner, gpus = {"is_present": False}, gpu("batch", 20.0, is_present=False)
    assert recommended(miner, gpus) == ["allocate", "allocate"]
    tight = scored(miner, gpus, limit_mw=0.01)
    assert [r["recommendation"] for r in tight] == ["switch", "allocate"]
    assert [r["next_best_usd_per_mwh"] for r in tight] == [1960.0, 60.0]


def test_scarce_power_changes_hands_only_for_more_than_the_switch():
    running, other = {}, {"resource_id": "hou-1/b", "revenue_usd_per_hour": 1.1, "is_present": False}
    assert recommended(running, other | {"switch_usd": 0.2}, limit_mw=0.01) == ["allocate", "switch"]
    assert recommended(running, other | {"switch_usd": 0.05}, limit_mw=0.01) == ["switch", "allocate"]


def test_without_power_nothing_runs():
    [row] = scored({}, limit_mw=0.0)
    assert (row["recommendation"], row["next_best_usd_per_mwh"]) == ("switch", 60.0)


def test_demand_response_pays_for_sleep():
    [row] = scored({}, resting_usd_per_mwh=100.0)
    assert (row["recommendation"], row["next_best_usd_per_mwh"]) == ("switch", 100.0)


def test_other_sites_have_power_of_their_own():
    rows = recommended({}, {"site_id": "hou-2", "resource_id": "hou-2/a"}, limit_mw=0.0)
    assert rows == ["switch", "allocate"]


def test_an_empty_fleet_has_no_scores():
    frame = pl.DataFrame([_USE]).clear()
    assert score_uses(frame).schema == SCORE_SCHEMA
    assert score_uses(frame).is_empty()


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        (
            "price_usd_per_mwh",
            float("nan"),
            r"row 1: price_usd_per_mwh=nan: must be at least -100000 and at most 100000 \$/MWh",
        ),
        ("price_usd_per_mwh", 4e6, "row 1: price_usd_per_mwh=4000000.0"),
        ("power_kw", -1.0, r"row 1: power_kw=-1.0: must be at least 0"),
        ("revenue_usd_per_hour", None, "row 1: revenue_usd_per_hour=None"),
        ("dwell_h", 0.0, "row 1: dwell_h=0.0: must be above 0"),
        ("price_usd_per_mwh", "dear", "row 1: price_usd_per_mwh=dear: must be at least -100000"),
        ("confidence_factor", 85.0, "row 1: confidence_factor=85.0: must be at least 0 and at most 1"),
        ("site_id", None, "row 1: site_id is null"),
        ("is_present", None, "row 1: is_present is null"),
    ],
)
def test_bad_input_is_refused_by_row_value_and_limit(column, value, told):
    first = str(_USE[column]) if isinstance(value, str) else _USE[column]
    with pytest.raises(ValueError, match=told):
        score_uses(pl.DataFrame([_USE | {column: first}, _USE | {column: value}]))


def test_confidence_is_by_kind_and_falls_with_the_inputs():
    rows = scored(
        {}, gpu("batch", 1.0), {"resource_id": "c", "type": "CPU"}, {"resource_id": "d", "confidence_factor": 0.5}
    )
    assert [row["confidence"] for row in rows] == [0.9, 0.85, 0.8, 0.45]


def test_what_is_moved_out_of_a_loss_is_allocated_and_not_held():
    """A use at a loss of 30; another earns 5 after a switch of 10, and sleep would cost that switch too, later."""
    loss, other = gpu("batch", 0.1, switch_usd=0.1), gpu("realtime", 0.45, is_present=False, switch_usd=0.1)
    assert recommended(loss, other) == ["switch", "allocate"]


@pytest.mark.parametrize(
    ("sites", "told"),
    [
        ([("hou-1", -1.0, 0.0)], r"site hou-1: limit_mw=-1\.0: must be at least 0 MW"),
        ([("hou-1", float("nan"), 0.0)], "site hou-1: limit_mw=nan"),
        ([("hou-1", 1.0, float("inf"))], r"site hou-1: resting_usd_per_mwh=inf: must be at least -100000"),
        ([("hou-1", 1.0, 0.0), ("hou-1", 2.0, 0.0)], "site hou-1 is there twice"),
    ],
)
def test_bad_sites_are_refused_by_name(sites, told):
    with pytest.raises(ValueError, match=told):
        score_uses(pl.DataFrame([_USE]), pl.DataFrame(sites, schema=SITE_SCHEMA, orient="row"))


def test_what_takes_no_power_is_worth_nothing_per_mwh():
    [row] = scored({"power_kw": 0.0, "revenue_usd_per_hour": 1.0})
    assert (row["usd_per_mwh"], row["net_profit"], row["score"]) == (0.0, 1.0, 100.0)


def test_who_does_not_fit_would_have_to_outbid_the_last_who_does():
    fleet = [{"resource_id": f"hou-1/{n}", "revenue_usd_per_hour": 1.4 - n / 10} for n in range(4)]
    rows = scored(*fleet, limit_mw=0.02)
    assert [r["recommendation"] for r in rows] == ["allocate", "allocate", "switch", "switch"]
    assert [r["next_best_usd_per_mwh"] for r in rows] == pytest.approx([80.0, 80.0, 90.0, 90.0])
