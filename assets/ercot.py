"""ERCOT history by UTC day: prices, capacity, load. A range is one run; a re-run replaces, and what it replaces is kept."""

import dagster as dg
import polars as pl
from pydantic import Field

from assets.daily import fetched
from hcp_pipelines.orchestration.history import fetch, tables
from hcp_pipelines.orchestration.resources import Platform

GROUP, KINDS = "market", {"ercot", "polars"}


class SettlementPoints(dg.Config):
    """Which points to fetch."""

    points: list[str] = Field(default=["HB_HOUSTON", "HB_NORTH", "HB_HUBAVG"])


@fetched(tables.RT_SPP, GROUP, KINDS)
def raw_ercot__rt_spp(context: dg.AssetExecutionContext, config: SettlementPoints, platform: Platform) -> pl.DataFrame:
    """Real-time settlement point prices: one row a 15-minute interval and point."""
    now = platform.clock().now()
    return fetch.rt_settlement_point_prices(platform.settings(), config.points, context.partition_time_window, now)


@fetched(tables.DA_SPP, GROUP, KINDS)
def raw_ercot__da_spp(context: dg.AssetExecutionContext, config: SettlementPoints, platform: Platform) -> pl.DataFrame:
    """Day-ahead settlement point prices: one row an hour and point."""
    return fetch.da_settlement_point_prices(platform.settings(), config.points, context.partition_time_window)


@fetched(tables.DA_CAPACITY, GROUP, KINDS)
def raw_ercot__da_capacity(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """Day-ahead clearing prices of capacity: one row an hour and reserve product."""
    return fetch.da_capacity_prices(platform.settings(), context.partition_time_window)


@fetched(tables.ZONE_LOAD, GROUP, KINDS)
def raw_ercot__zone_load(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """Actual load: one row an hour and weather zone, and one of the system."""
    return fetch.zone_load(platform.settings(), context.partition_time_window, platform.clock().now())
