"""Forecasts by UTC day of the world: power-price quantiles, coincident peaks, bitcoin over exchanges, and how good they were."""

from typing import Any

import dagster as dg
import polars as pl

from assets.checks import told
from assets.daily import UNTIL_TODAY, plain_schema
from hcp_pipelines.forecasting.power_forecast import empty_table
from hcp_pipelines.forecasting.quantile_scores import empty_scores
from hcp_pipelines.orchestration import demand_quantiles as demand
from hcp_pipelines.orchestration.consensus import CONSENSUS, bitcoin_of_day
from hcp_pipelines.orchestration.forecasting import (
    PEAKS,
    DayForecast,
    coincident_peaks,
    forecast_scores,
    upcoming_chances,
)
from hcp_pipelines.orchestration.io_managers import PARTITION_COLUMN, shown
from hcp_pipelines.orchestration.price_quantiles import judge_champion, price_quantiles
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.orchestration.watching import judge_forecasts
from hcp_pipelines.storage import peak_chances

GROUP = "forecasts"
OWNERS = ["team:decisions"]
PRICES = ["raw_ercot__rt_spp", "raw_ercot__da_spp", "raw_hcp__price_ticks"]


@dg.asset(
    group_name=GROUP, owners=OWNERS, partitions_def=UNTIL_TODAY, io_manager_key="lake", deps=PRICES, pool=GROUP,
    kinds={"polars", "postgres", "ducklake"}, metadata={PARTITION_COLUMN: "issued_at", **plain_schema(empty_table().schema)},
)  # fmt: skip
def core_power__price_quantiles(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """Quantiles of the power price, $/MWh: one row a settlement point, hour asked and hour of the 48 from it on.

    Asked of the champion of `price`; until there is one, and where it can't be asked, a plain anchor stands, and says why.
    """
    with platform.connection() as connection:
        return _of_day(context, price_quantiles(connection, platform.settings(), _day(context), platform.clock().now()))


@dg.asset_check(asset=core_power__price_quantiles)
def price_champion_answers(platform: Platform) -> dg.AssetCheckResult:
    """Where a version of price serves, it made the newest forecast."""
    with platform.connection() as connection:
        return told(judge_champion(connection, platform.settings()))


@dg.asset(
    group_name=GROUP, owners=OWNERS, partitions_def=UNTIL_TODAY, io_manager_key="lake", pool=GROUP,
    deps=["raw_hcp__workload_events"], kinds={"polars", "postgres", "ducklake"},
    metadata={PARTITION_COLUMN: "asked_at", **plain_schema(demand.SCHEMA)},
)  # fmt: skip
def core_hcp__demand_quantiles(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """Quantiles of the GPUs that work will ask for: one row a class, hour asked and hour of the 72 from it on.

    Asked of the champion of `demand`; without one there are no rows.
    """
    with platform.connection() as connection:
        found = demand.demand_quantiles(connection, platform.settings(), _day(context), platform.clock().now())
    return _of_day(context, found)


@dg.asset_check(asset=core_hcp__demand_quantiles)
def demand_champion_answers(platform: Platform) -> dg.AssetCheckResult:
    """Where a version of demand serves, solves can use its newest word."""
    with platform.connection() as connection:
        return told(demand.judge_champion(connection, platform.clock().now()))


@dg.asset(
    group_name=GROUP, owners=OWNERS, partitions_def=UNTIL_TODAY, io_manager_key="lake", pool=GROUP,
    kinds={"sklearn", "polars", "ducklake"}, metadata=plain_schema(PEAKS),
)  # fmt: skip
def core_power__coincident_peak_probability(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """Probability that an hour is its month's peak of demand, as of the day before and of its beginning: one row an hour.

    The newest word on the hours to come goes to Postgres too, for the solves of facilities whose contract charges for peaks.
    """
    now = platform.clock().now()
    found = coincident_peaks(platform.settings(), _day(context), now)
    with platform.connection() as connection:
        peak_chances.keep(connection, upcoming_chances(found.table, now), now)
    return _of_day(context, found)


@dg.asset(
    group_name=GROUP, owners=OWNERS, partitions_def=UNTIL_TODAY, io_manager_key="lake", deps=["raw_hcp__price_ticks"],
    kinds={"polars", "ducklake"}, metadata=plain_schema(CONSENSUS),
)  # fmt: skip
def core_bitcoin__consensus(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """Bitcoin's price over the exchanges that are fresh and agree, USD: one row every five minutes, null with its reason."""
    found = bitcoin_of_day(platform.settings(), _day(context), platform.clock().now())
    without = found.filter(pl.col("price_usd").is_null())
    why = without["reason"].last() if len(without) else ""
    context.add_output_metadata({"newest": shown(found.tail(5)), "without_price": len(without), "why": str(why)})
    return found


@dg.asset(
    group_name=GROUP, owners=OWNERS, partitions_def=UNTIL_TODAY, io_manager_key="lake", pool=GROUP, kinds={"polars", "ducklake"},
    deps=[dg.AssetDep(core_power__price_quantiles, partition_mapping=dg.TimeWindowPartitionMapping(start_offset=-2))],
    metadata={PARTITION_COLUMN: "day_start_at", **plain_schema(empty_scores().schema)},
)  # fmt: skip
def core_power__forecast_scores(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """Pinball loss, coverage and MAE beside the baselines' of a day's hours: one row a settlement point, method and horizon."""
    found = forecast_scores(platform.settings(), _day(context), platform.clock().now())
    context.add_output_metadata({"scores": shown(found.select(found.columns[:12]))})
    return found


@dg.asset_check(asset=core_power__forecast_scores)
def forecasts_are_fresh_and_cover(platform: Platform) -> dg.AssetCheckResult:
    """The newest forecast is of the last two hours, and four in five prices of the last week lie in their 80 % interval."""
    clock = platform.clock()
    return told(judge_forecasts(platform.settings(), clock.now(), clock.speed))


def _day(context: dg.AssetExecutionContext) -> Any:
    window = context.partition_time_window
    return window.start, window.end


def _of_day(context: dg.AssetExecutionContext, found: DayForecast) -> pl.DataFrame:
    """The table; what a reader must know of it stands at the materialization."""
    context.add_output_metadata({**found.told, "first_rows": shown(found.table)})
    context.log.info(f"{found.told['method']}: {found.told['why']}")
    return found.table
