"""The fleet by UTC day of the world: its hours, which models learn from, and what is foretold of it. The work is elsewhere."""

from datetime import datetime

import dagster as dg
import polars as pl

from assets.daily import COLUMNS, UNTIL_TODAY, column_schema, plain_schema
from hcp_pipelines.orchestration import capacity_forecasts
from hcp_pipelines.orchestration.fleet_hours import fleet_hours
from hcp_pipelines.orchestration.history.fleet_models import FLEET_KEY, FLEET_ROWS
from hcp_pipelines.orchestration.io_managers import PARTITION_COLUMN, shown
from hcp_pipelines.orchestration.resources import Platform

GROUP = "forecasts"
OWNERS = ["team:decisions"]


@dg.asset(
    group_name=GROUP, owners=OWNERS, partitions_def=UNTIL_TODAY, io_manager_key="lake", kinds={"polars", "ducklake"},
    deps=["raw_hcp__telemetry", "raw_ercot__rt_spp", "raw_open_meteo__temperature", "raw_hcp__price_ticks"],
    metadata={COLUMNS: column_schema(FLEET_ROWS, FLEET_KEY)},
)  # fmt: skip
def core_fleet__hours(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """Installed, available and working devices, failures, heat and price: one row an hour that is over, facility and group."""
    window = context.partition_time_window
    with platform.connection() as connection:
        found = fleet_hours(platform.settings(), connection, (window.start, window.end), platform.clock())
    context.add_output_metadata({"newest": shown(found.tail(8))})
    return found


@dg.asset(
    group_name=GROUP, owners=OWNERS, partitions_def=UNTIL_TODAY, io_manager_key="lake", pool=GROUP, deps=[core_fleet__hours],
    kinds={"polars", "postgres", "ducklake"}, metadata={PARTITION_COLUMN: "asked_at", **plain_schema(capacity_forecasts.PLANNED)},
)  # fmt: skip
def core_fleet__planned_use(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """Use of a facility's devices of a type and how many are recommended, asked at midnight: one row each of thirty days."""
    with platform.connection() as connection:
        found = capacity_forecasts.plan(platform.settings(), connection, _midnight(context))
    return _told(context, found)


@dg.asset(
    group_name=GROUP, owners=OWNERS, partitions_def=UNTIL_TODAY, io_manager_key="lake", pool=GROUP, deps=[core_fleet__hours],
    kinds={"polars", "ducklake"}, metadata={PARTITION_COLUMN: "asked_at", **plain_schema(capacity_forecasts.QUANTILES)},
)  # fmt: skip
def core_fleet__availability(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """Quantiles of a group's available device-hours, a row each of seven days, and of its failures of one, asked at midnight."""
    with platform.connection() as connection:
        found = capacity_forecasts.availability(platform.settings(), connection, _midnight(context))
    return _told(context, found)


def _midnight(context: dg.AssetExecutionContext) -> datetime:
    start: datetime = context.partition_time_window.start
    return start


def _told(context: dg.AssetExecutionContext, found: capacity_forecasts.Foretold) -> pl.DataFrame:
    """The table; who foretold it, or why nobody did, stands at the materialization."""
    context.add_output_metadata({**found.told, "first_rows": shown(found.table)})
    return found.table
