"""Weather history by UTC day, of the places that settlement points stand for."""

import dagster as dg
import polars as pl

from assets.daily import fetched
from hcp_pipelines.orchestration.history import fetch, tables
from hcp_pipelines.orchestration.resources import Platform


@fetched(tables.TEMPERATURE, "market", {"polars"})
def raw_open_meteo__temperature(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """Outdoor temperature: one row an hour and place."""
    return fetch.temperatures(platform.settings(), context.partition_time_window, platform.clock().now())
