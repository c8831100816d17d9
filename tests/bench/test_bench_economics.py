"""The fleet that `hcp bench economics` scores: what it says it is, and scored as the sites' limits have it. No times."""

import polars as pl

from benchmarks.economics import SITES, fleet, score
from hcp_pipelines.economics.profitability import SCORE_COLUMNS

DEVICES = 1200


def test_every_device_is_scored_in_each_of_its_uses():
    uses, sites = fleet(DEVICES)
    scores = score(uses, sites)
    assert tuple(scores.columns) == SCORE_COLUMNS
    assert (len(scores), scores["resource_id"].n_unique(), len(sites)) == (1400, DEVICES, SITES)
    assert scores["resource_id"].to_list() == uses["resource_id"].to_list()
    assert scores.null_count().sum_horizontal().item() == 0
    assert set(scores["recommendation"]) == {"allocate", "hold", "switch"}


def test_no_site_runs_more_than_its_limit_but_for_the_part_of_a_device():
    uses, sites = fleet(DEVICES)
    runs = (pl.col("recommendation") == "allocate") | ((pl.col("recommendation") == "hold") & pl.col("is_present"))
    found = uses.with_columns(score(uses, sites).select("recommendation")).filter(runs)
    assert found["resource_id"].is_unique().all()
    used_mw = (
        found.group_by("site_id")
        .agg(mw=pl.col("power_kw").sum() / 1000)
        .join(sites.cast({"site_id": uses["site_id"].dtype}), on="site_id")
    )
    assert (used_mw["mw"] <= used_mw["limit_mw"] + 0.006).all()
    assert (used_mw["mw"] > 0.95 * used_mw["limit_mw"]).any()
