"""What the grid asked of us, by UTC day: signals, and obligations in each of their states. From our own Postgres."""

import dagster as dg
import polars as pl

from assets.daily import fetched
from hcp_pipelines.orchestration.history import fetch, tables
from hcp_pipelines.orchestration.resources import Platform

GROUP, KINDS = "grid", {"postgres", "polars"}


@fetched(tables.SIGNALS, GROUP, KINDS, ["hcp__grid_signals"])
def raw_hcp__grid_signals(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """Signals by when they take effect: one row a signal."""
    with platform.connection() as connection:
        return fetch.grid_signals(connection, context.partition_time_window)


@fetched(tables.OBLIGATIONS, GROUP, KINDS, ["hcp__grid_obligations"])
def raw_hcp__grid_obligations(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """Obligations by when they begin: one row an obligation; its earlier states are the revisions."""
    with platform.connection() as connection:
        return fetch.grid_obligations(connection, context.partition_time_window)
