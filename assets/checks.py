"""Checks of the lake's tables: rows, freshness, sources that should agree. What each tells is in `history.watch`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import dagster as dg
import polars as pl

from assets.daily import DAILY_UTC
from hcp_pipelines.orchestration.history import daemon_models, joined, tables, watch
from hcp_pipelines.orchestration.history.model import Model
from hcp_pipelines.orchestration.history.reading import Reader, reading
from hcp_pipelines.orchestration.history.tables import key_of
from hcp_pipelines.orchestration.io_managers import shown
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.orchestration.watching import Judged

WARN = dg.AssetCheckSeverity.WARN


def told(found: Judged) -> dg.AssetCheckResult:
    """The result of a check, with a table of the rows to look at."""
    metadata: dict[str, Any] = {k: shown(v) if isinstance(v, pl.DataFrame) else v for k, v in found.told.items()}
    return dg.AssetCheckResult(passed=found.passed, severity=WARN, metadata=metadata, description=found.why)


def _fresh(table: tables.HistoryTable, reader: Reader, now: datetime) -> Judged:
    return watch.judge_freshness(reader, table, now)


def _daemon(table: daemon_models.DaemonTable, reader: Reader, now: datetime) -> Judged:
    return watch.judge_daemon(reader, table, now)


def published_rows_are_good(table: tables.HistoryTable) -> dg.AssetChecksDefinition:
    """Of the partitions of the run: what readers see is good, and nothing had to be kept from them."""

    @dg.asset_check(asset=key_of(table.name), name="rows_are_good", partitions_def=DAILY_UTC)
    def check(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
        """Each row has the table's types, bounds and rules, and no row of the last fetch was rejected."""
        with reading(platform.settings()) as reader:
            return told(watch.judge_published(reader, table, context.partition_time_window))

    return check


def made_rows_are_good(name: str, model: Model) -> dg.AssetChecksDefinition:
    """Of the partitions of the run: the rows of a table made of others."""

    @dg.asset_check(asset=key_of(name), name="rows_are_good", partitions_def=DAILY_UTC)
    def check(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
        """Each row has the table's types, bounds and rules."""
        with reading(platform.settings()) as reader:
            return told(watch.judge_table(reader, name, model, context.partition_time_window))

    return check


@dataclass(frozen=True)
class Standing:
    """A check of what is there now, whichever partitions a run is of; `judge` is given the lake and the world's instant."""

    asset: str
    name: str
    said: str
    judge: Callable[[Reader, datetime], Judged]

    @property
    def spec(self) -> dg.AssetCheckSpec:
        """How Dagster knows it."""
        return dg.AssetCheckSpec(self.name, asset=self.asset, description=self.said)


STANDING = [
    *(
        Standing(key_of(t.name), "is_fresh", "Days that are over are there, by the world's clock.", partial(_fresh, t))
        for t in (*tables.ALL, *tables.OPTIONAL)
    ),
    *(
        Standing(t.key, "rows_are_good", "Rows of the last day are good.", partial(_daemon, t))
        for t in daemon_models.JUDGED
    ),
    Standing(
        key_of(tables.DA_SPP.name),
        "scale_is_real_time_s",
        "Day-ahead and real-time prices are of one scale.",
        watch.judge_scale,
    ),
    Standing(
        "raw_hcp__telemetry",
        "hashrate_is_what_power_makes",
        "Miners that draw a steady power report the hashrate that it makes.",
        watch.judge_hashrate,
    ),
    Standing(
        "raw_hcp__meter_readings",
        "meter_shows_what_devices_draw",
        "Energy at each revenue meter is that of its devices, and of their cooling.",
        watch.judge_meter,
    ),
    Standing(
        "core_bitcoin__network", "exchanges_agree", "Closes of the exchanges lie together.", watch.judge_exchanges
    ),
]


@dg.multi_asset_check(specs=[each.spec for each in STANDING], can_subset=True)
def lake_as_it_is(context: dg.AssetCheckExecutionContext, platform: Platform) -> Iterator[dg.AssetCheckResult]:
    """All checks of what is there now, in one step: each alone would attach the lake for itself."""
    wanted, now = context.selected_asset_check_keys, platform.clock().now()
    with reading(platform.settings()) as reader:
        for each in STANDING:
            if each.spec.key in wanted:
                yield told(each.judge(reader, now))._replace(asset_key=each.spec.asset_key, check_name=each.name)


all_checks = [
    *(published_rows_are_good(table) for table in (*tables.ALL, *tables.OPTIONAL)),
    *(made_rows_are_good(name, model) for name, model in joined.MADE.items()),
    lake_as_it_is,
]
