"""The tick's run: newest prices → profitability and forecast → policies. The work is in `orchestration.solving`."""

from typing import Any

import dagster as dg
import polars as pl

from assets.daily import plain_schema
from hcp_pipelines.economics.profitability import SCORE_SCHEMA
from hcp_pipelines.forecasting.plain import FORECAST_SCHEMA
from hcp_pipelines.optimizer.publish import Status
from hcp_pipelines.orchestration.io_managers import shown
from hcp_pipelines.orchestration.requests import TICK_ID_TAG
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.orchestration.solving import (
    POLICY_SCHEMA,
    PRICE_SCHEMA,
    context_of,
    forecast_prices,
    latest_prices,
    publish_policies,
    score_fleet,
)
from hcp_pipelines.orchestration.standing import standing_directives

GROUP = "tick"
OWNERS = ["team:decisions"]


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    io_manager_key="memory",
    kinds={"postgres", "polars"},
    deps=["hcp__price_data"],
    metadata=plain_schema(PRICE_SCHEMA),
)
def raw_hcp__latest_prices(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """Newest actionable value of each series that a facility needs: one row a stream and series."""
    with platform.connection() as connection:
        now = platform.clock().now()
        prices = latest_prices(connection, now)
    context.add_output_metadata({"prices": shown(prices), "newest_tick_id": context_of(prices, now).tick_id})
    return prices


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    io_manager_key="memory",
    kinds={"polars", "postgres"},
    metadata=plain_schema(SCORE_SCHEMA),
)
def core_hcp__profitability_scores(
    context: dg.AssetExecutionContext, raw_hcp__latest_prices: pl.DataFrame, platform: Platform
) -> pl.DataFrame:
    """Profit of each group in each use it could serve, $/h and $/MWh: one row a group and use."""
    as_of = context_of(raw_hcp__latest_prices, platform.clock().now())
    with platform.connection() as connection:
        scores = score_fleet(connection, platform.settings(), as_of)
    context.add_output_metadata({"scores": shown(scores), "dagster/row_count": len(scores)})
    return scores


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    io_manager_key="memory",
    kinds={"polars"},
    metadata=plain_schema(FORECAST_SCHEMA),
)
def core_power__price_forecast(
    context: dg.AssetExecutionContext, raw_hcp__latest_prices: pl.DataFrame, platform: Platform
) -> pl.DataFrame:
    """Expected power price of the next 24 h, $/MWh: one row a settlement point and 15-minute interval."""
    as_of = context_of(raw_hcp__latest_prices, platform.clock().now())
    with platform.connection() as connection:
        forecast = forecast_prices(connection, raw_hcp__latest_prices, as_of)
    context.add_output_metadata({"next_hours": shown(forecast), "dagster/row_count": len(forecast)})
    return forecast


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    io_manager_key="memory",
    kinds={"python", "postgres"},
    deps=[
        core_hcp__profitability_scores,
        core_power__price_forecast,
        "core_power__waiting_model",
        "core_hcp__demand_quantiles",
    ],
    metadata=plain_schema(POLICY_SCHEMA),
)
def core_hcp__policies(
    context: dg.AssetExecutionContext, raw_hcp__latest_prices: pl.DataFrame, platform: Platform
) -> pl.DataFrame:
    """The policies published: one row a facility, or why not. Live where a tick asked for the run, else candidates."""
    as_of = context_of(raw_hcp__latest_prices, platform.clock().now())
    status: Status = "live" if TICK_ID_TAG in context.run.tags else "candidate"
    with platform.connection() as connection:
        policies = publish_policies(connection, platform.settings(), as_of, context.run.run_id, status)
        stands = standing_directives(connection, platform.clock().now())
    not_solved = policies.drop_nulls("failed")
    for facility_id, reason in not_solved.select("facility_id", "failed").iter_rows():
        context.log.error(f"{facility_id} keeps its policy, its solve failed: {reason}")
    context.add_output_metadata({"policies": shown(policies), "status": status, "basis_tick_id": as_of.tick_id})
    context.add_output_metadata({"facilities_not_solved": len(not_solved)})
    context.add_output_metadata({"directives": shown(stands), "directives_standing": len(stands)})
    return policies


@dg.asset_check(asset=raw_hcp__latest_prices, blocking=True)
def every_price_is_a_number(raw_hcp__latest_prices: pl.DataFrame) -> dg.AssetCheckResult:
    """A missing price must not reach the optimizer: it would read as free power."""
    wrong = raw_hcp__latest_prices.filter(~pl.col("value").is_finite().fill_null(value=False))
    passed = wrong.is_empty() and not raw_hcp__latest_prices.is_empty()
    metadata: dict[str, Any] = {"prices": len(raw_hcp__latest_prices), "not_a_number": len(wrong)}
    return dg.AssetCheckResult(passed=passed, metadata=metadata)
