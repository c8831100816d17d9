"""What assets by UTC day have in common: the partitions, retries, and how those are made that are fetched from a source."""

from collections.abc import Callable, Sequence

import dagster as dg
import polars as pl

from hcp_pipelines.orchestration.history.tables import HistoryTable

DAILY_UTC = dg.DailyPartitionsDefinition(start_date="2024-01-01", timezone="UTC")
RETRY = dg.RetryPolicy(max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
FETCHED = "hcp/fetched"  # the tag of what can be fetched again: backfills and the gap sensor go by it
SOURCE = "hcp/source"


def fetched(
    table: HistoryTable, group: str, kinds: set[str], deps: Sequence[str] = ()
) -> Callable[[Callable[..., pl.DataFrame]], dg.AssetsDefinition]:
    """An asset that asks a source for days: one run a range, one at a time a source, retried; a re-run replaces."""
    return dg.asset(
        group_name=group,
        partitions_def=DAILY_UTC,
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key="history",
        kinds=kinds | {"ducklake"},
        owners=["team:market-data"],
        pool=table.source,
        retry_policy=RETRY,
        tags={FETCHED: "", SOURCE: table.source},
        metadata={"dagster/column_schema": column_schema(table)},
        deps=deps,
    )


def joined(
    group: str, deps: Sequence[dg.AssetsDefinition | str]
) -> Callable[[Callable[..., pl.DataFrame]], dg.AssetsDefinition]:
    """An asset made of what is in the lake already, by days: one run a range, a re-run replaces."""
    return dg.asset(
        group_name=group,
        partitions_def=DAILY_UTC,
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key="lake",
        kinds={"polars", "ducklake"},
        owners=["team:market-data"],
        deps=deps,
    )


def column_schema(table: HistoryTable) -> dg.TableSchema:
    """The columns as the UI shows them."""
    model = table.model
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name,
                str(kind),
                description="; ".join(_said(table, name)) or None,
                constraints=dg.TableColumnConstraints(nullable=name in model.nullable),
            )
            for name, kind in model.columns.items()
        ]
    )


def _said(table: HistoryTable, column: str) -> list[str]:
    said = ["key"] if column in table.key else []
    if column in table.model.bounds:
        low, high = table.model.bounds[column]
        said.append(f"{low:g} to {high:g}")
    return said
