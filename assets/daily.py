"""What assets by UTC day have in common: the partitions, retries, and how those are made that are fetched from a source."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import dagster as dg
import polars as pl

from hcp_pipelines.orchestration.history.joined import MADE
from hcp_pipelines.orchestration.history.model import Model
from hcp_pipelines.orchestration.history.tables import HistoryTable
from hcp_pipelines.orchestration.io_managers import table_of

DAILY_UTC = dg.DailyPartitionsDefinition(start_date="2024-01-01", timezone="UTC")
# what is made of today too, also where the world keeps time with the wall; what is fetched is fetched of whole days
UNTIL_TODAY = dg.DailyPartitionsDefinition(start_date="2024-01-01", timezone="UTC", end_offset=1)
RETRY = dg.RetryPolicy(max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
FETCHED = "hcp/fetched"  # the tag of what can be fetched again: backfills and the gap sensor go by it
SOURCE = "hcp/source"
COLUMNS = "dagster/column_schema"


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
        metadata={COLUMNS: column_schema(table.model, table.key)},
        deps=deps,
    )


def joined(
    group: str, deps: Sequence[dg.AssetsDefinition | str]
) -> Callable[[Callable[..., pl.DataFrame]], dg.AssetsDefinition]:
    """An asset made of what is in the lake already, by days: one run a range, a re-run replaces."""

    def made(function: Callable[..., pl.DataFrame]) -> dg.AssetsDefinition:
        model = MADE[table_of(dg.AssetKey(function.__name__))]
        return dg.asset(
            group_name=group,
            partitions_def=DAILY_UTC,
            backfill_policy=dg.BackfillPolicy.single_run(),
            io_manager_key="lake",
            kinds={"polars", "ducklake"},
            owners=["team:market-data"],
            metadata={COLUMNS: column_schema(model, model.unique)},
            deps=deps,
        )(function)

    return made


def column_schema(model: Model, key: Sequence[str]) -> dg.TableSchema:
    """A model's columns as the UI shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name,
                str(kind),
                description="; ".join(_said(model, key, name)) or None,
                constraints=dg.TableColumnConstraints(nullable=name in model.nullable),
            )
            for name, kind in model.columns.items()
        ]
    )


def day_specs(
    names: Mapping[str, str],
    schemas: Mapping[str, Mapping[str, Any]],
    group: str,
    owners: Sequence[str],
    deps: Sequence[str],
) -> list[dg.AssetSpec]:
    """Assets that one function makes by UTC day, each with its description and its columns."""
    return [
        dg.AssetSpec(
            name, description=what, group_name=group, owners=owners, kinds={"polars", "ducklake"}, deps=deps,
            partitions_def=DAILY_UTC, metadata=plain_schema(schemas[name]),
        )
        for name, what in names.items()
    ]  # fmt: skip


def requests_of(days: Iterable[date], now: datetime) -> Iterator[dg.RunRequest]:
    """A run a day, at most once in an hour of the world."""
    for day in days:
        key = f"{day:%Y-%m-%d}"
        yield dg.RunRequest(partition_key=key, run_key=f"{key}/{now:%Y-%m-%dT%H}")


def plain_schema(columns: Mapping[str, Any]) -> dict[str, dg.TableSchema]:
    """Metadata of an asset whose table has these columns, of polars' types."""
    return {COLUMNS: dg.TableSchema([dg.TableColumn(name, str(kind)) for name, kind in columns.items()])}


def _said(model: Model, key: Sequence[str], column: str) -> list[str]:
    said = ["key"] if column in key else []
    if column in model.bounds:
        low, high = model.bounds[column]
        said.append(f"{low:g} to {high:g}")
    return said
