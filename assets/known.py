"""What models of prices and of GPU demand learn from: as it was known, made anew before they are learnt."""

from collections.abc import Callable
from datetime import datetime

import dagster as dg
import polars as pl

from assets.daily import plain_schema
from hcp_pipelines.forecasting.known_prices import GRID_ROWS, PRICES
from hcp_pipelines.forecasting.learnable.targets.demand import COLUMNS
from hcp_pipelines.orchestration.io_managers import shown
from hcp_pipelines.orchestration.known_tables import gpu_demand_changes, known_grid, known_prices
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.settings import Settings

GROUP, OWNERS, KINDS = "training", ["team:decisions"], {"polars", "ducklake"}


@dg.asset(
    group_name=GROUP, owners=OWNERS, io_manager_key="lake", kinds=KINDS, metadata=plain_schema(PRICES),
    deps=["raw_ercot__rt_spp", "raw_ercot__da_spp", "raw_hcp__price_ticks"],
)  # fmt: skip
def core_power__known_prices(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """Every word on a settlement price of the last 780 days, with the instant since which it is known."""
    return _made(context, platform, known_prices)


@dg.asset(group_name=GROUP, owners=OWNERS, io_manager_key="lake", kinds=KINDS, metadata=plain_schema(GRID_ROWS))
def core_power__known_grid(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """Demand, its forecast, capacity prices, wind and weather by hour, where a replayed folder records them."""
    return _made(context, platform, known_grid)


@dg.asset(
    group_name=GROUP, owners=OWNERS, io_manager_key="lake", kinds=KINDS, metadata=plain_schema(COLUMNS),
    deps=["raw_hcp__workload_events"],
)  # fmt: skip
def core_hcp__gpu_demand_changes(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """GPUs that customers' work asks for: a row as a piece of it is submitted, and one as it ends."""
    return _made(context, platform, gpu_demand_changes)


def _made(
    context: dg.AssetExecutionContext, platform: Platform, of: Callable[[Settings, datetime], pl.DataFrame]
) -> pl.DataFrame:
    table = of(platform.settings(), platform.clock().now())
    context.add_output_metadata({"newest": shown(table.tail(8))})
    return table
