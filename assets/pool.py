"""What the mining pool credits, by UTC day, and who claims more than that. The work is in `orchestration.history.pool`."""

import dagster as dg
import polars as pl

from assets.checks import told
from assets.daily import fetched
from hcp_pipelines.orchestration.alerts import record_alert
from hcp_pipelines.orchestration.history import tables
from hcp_pipelines.orchestration.history.pool import credits_of, judge_claims, liars_by_facility
from hcp_pipelines.orchestration.history.reading import reading
from hcp_pipelines.orchestration.resources import Platform


@fetched(tables.POOL_CREDITS, "bitcoin", {"polars"})
def raw_pool__credits(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """What the pool credited each worker, counted from its shares: one row a worker and day."""
    found = credits_of(platform.settings(), context.partition_time_window, platform.clock().now())
    luck = {f"luck_of_{blocks}_blocks": value for blocks, value in found.terms.luck.items()}
    earned = {f"{day}": btc for day, btc in found.earned_btc.items()}
    context.add_output_metadata({"earned_btc": earned, "pool_fee_fraction": str(found.terms.fee_fraction), **luck})
    return found.rows


@dg.asset_check(asset="raw_pool__credits", additional_deps=["core_hcp__telemetry_1h"])
def claims_match_credits(platform: Platform) -> dg.AssetCheckResult:
    """No miner reported more on the newest credited day than it was credited; alerts where some did."""
    with reading(platform.settings()) as reader:
        judged = judge_claims(reader)
    liars = judged.told.pop("liars", None)
    if liars is not None:
        with platform.connection() as connection:
            for facility_id, detail in liars_by_facility(liars):
                record_alert(connection, "alert.miners_overclaim", facility_id, detail)
    return told(judged)
