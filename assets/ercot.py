"""ERCOT history: settlement point prices by UTC day, in the lake. A range is fetched in one run; a re-run replaces."""

import dagster as dg
import polars as pl
from pydantic import Field

from hcp_pipelines.orchestration.history import da_settlement_point_prices, rt_settlement_point_prices
from hcp_pipelines.orchestration.resources import Platform

DAILY_UTC = dg.DailyPartitionsDefinition(start_date="2024-01-01", timezone="UTC")
RETRY = dg.RetryPolicy(max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
COLUMNS = dg.TableSchema(
    columns=[
        dg.TableColumn("start_at", "timestamp", description="Start of the interval, UTC"),
        dg.TableColumn("settlement_point", "string"),
        dg.TableColumn("price_usd_per_mwh", "double"),
        dg.TableColumn("source", "string"),
    ]
)


class SettlementPoints(dg.Config):
    """Which points to fetch."""

    points: list[str] = Field(default=["HB_HOUSTON", "HB_NORTH", "HB_HUBAVG"])


@dg.asset(
    group_name="market",
    partitions_def=DAILY_UTC,
    backfill_policy=dg.BackfillPolicy.single_run(),
    io_manager_key="lake",
    kinds={"ercot", "polars", "ducklake"},
    owners=["team:market-data"],
    pool="ercot",
    retry_policy=RETRY,
    metadata={"dagster/column_schema": COLUMNS},
)
def raw_ercot__rt_spp(context: dg.AssetExecutionContext, config: SettlementPoints, platform: Platform) -> pl.DataFrame:
    """Real-time settlement point prices: one row a 15-minute interval and point."""
    window = context.partition_time_window
    return rt_settlement_point_prices(platform.settings(), config.points, window.start, window.end)


@dg.asset(
    group_name="market",
    partitions_def=DAILY_UTC,
    backfill_policy=dg.BackfillPolicy.single_run(),
    io_manager_key="lake",
    kinds={"ercot", "polars", "ducklake"},
    owners=["team:market-data"],
    pool="ercot",
    retry_policy=RETRY,
    metadata={"dagster/column_schema": COLUMNS},
)
def raw_ercot__da_spp(context: dg.AssetExecutionContext, config: SettlementPoints, platform: Platform) -> pl.DataFrame:
    """Day-ahead settlement point prices: one row an hour and point."""
    window = context.partition_time_window
    return da_settlement_point_prices(platform.settings(), config.points, window.start, window.end)


@dg.asset_check(asset=raw_ercot__rt_spp, partitions_def=DAILY_UTC, blocking=True)
def no_rt_price_is_null(raw_ercot__rt_spp: pl.DataFrame) -> dg.AssetCheckResult:
    """A null price must not reach the optimizer: it would read as free power."""
    nulls = raw_ercot__rt_spp["price_usd_per_mwh"].null_count()
    return dg.AssetCheckResult(passed=nulls == 0, metadata={"null_prices": nulls})
