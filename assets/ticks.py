"""The tick's run: newest prices → profitability, forecast → policies. Thin: the work is in the lower rooms."""

import dagster as dg
import polars as pl

from hcp_pipelines.orchestration.resources import Platform

COMMON = {"io_manager_key": "memory", "owners": ["team:decisions"]}


@dg.asset(group_name="ticks", kinds={"postgres", "polars"}, io_manager_key="memory", owners=["team:decisions"])
def raw_hcp__latest_prices(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """Newest."""
    with platform.connection() as connection:
        rows = connection.execute("select id, value from latest_prices").fetchall()
    return pl.DataFrame(rows, schema=["id", "value"], orient="row")


@dg.asset(group_name="ticks", io_manager_key="memory")
def core_hcp__profitability_scores(raw_hcp__latest_prices: pl.DataFrame) -> pl.DataFrame:
    """X."""
    return raw_hcp__latest_prices


@dg.asset(group_name="ticks", io_manager_key="memory")
def core_power__price_forecast(raw_hcp__latest_prices: pl.DataFrame) -> pl.DataFrame:
    """X."""
    return raw_hcp__latest_prices


@dg.asset(group_name="ticks", io_manager_key="memory")
def core_hcp__policies(core_hcp__profitability_scores: pl.DataFrame, core_power__price_forecast: pl.DataFrame, platform: Platform) -> pl.DataFrame:
    """X."""
    with platform.connection() as connection:
        connection.execute("insert into process_cursors(process,cursor,value) values ('d','d',1) on conflict (process,cursor) do update set value=process_cursors.value+1")
        connection.execute("select pg_notify('hcp_policy','1')")
    return core_hcp__profitability_scores
