"""What the mining pool credits and pays, by UTC day, who claims more than that, and whether the pay is what was credited.

The work is in `orchestration.history.pool` and `pool_pay`.
"""

import dagster as dg
import polars as pl

from assets.checks import told
from assets.daily import fetched
from hcp_pipelines.orchestration.alerts import record_alert
from hcp_pipelines.orchestration.history import tables
from hcp_pipelines.orchestration.history.pool import credits_of, judge_claims, liars_by_facility
from hcp_pipelines.orchestration.history.pool_pay import judge_pay, statements_of
from hcp_pipelines.orchestration.history.reading import reading
from hcp_pipelines.orchestration.resources import Platform


@fetched(tables.POOL_CREDITS, "bitcoin", {"polars"})
def raw_pool__credits(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """What the pool credited each worker, counted from its shares: one row a worker and day."""
    found = credits_of(platform.settings(), context.partition_time_window, platform.clock().now())
    luck = {f"luck_of_{blocks}_blocks": value for blocks, value in found.terms.luck.items()}
    context.add_output_metadata({"pool_fee_fraction": str(found.terms.fee_fraction), **luck})
    return found.rows


@fetched(tables.POOL_STATEMENTS, "bitcoin", {"polars"})
def raw_pool__statements(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """What the pool says that it paid the account, its fee and its luck as it told them then: one row a day."""
    return statements_of(platform.settings(), context.partition_time_window, platform.clock().now())


@dg.asset_check(asset="raw_pool__statements", additional_deps=["raw_pool__credits", "core_bitcoin__network"])
def pay_matches_credits(platform: Platform) -> dg.AssetCheckResult:
    """What the pool paid for the newest credited day is what its credits are worth; alerts where it is less."""
    with reading(platform.settings()) as reader:
        judged = judge_pay(reader)
    if not judged.passed:
        with platform.connection() as connection:
            record_alert(connection, "alert.pool_underpays", "pool", judged.told)
    return told(judged)


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
