"""What was really earned, by UTC day: settlement, what each switch was worth, regret. `orchestration.settlement` does it."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import polars as pl

from assets.checks import WARN, told
from assets.daily import DAILY_UTC, day_specs, plain_schema
from hcp_pipelines.orchestration.alerts import record_alert
from hcp_pipelines.orchestration.history.publish import Run
from hcp_pipelines.orchestration.history.reading import reading
from hcp_pipelines.orchestration.io_managers import shown
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.orchestration.settlement import regret
from hcp_pipelines.orchestration.settlement.days import SWITCHES, settle_days
from hcp_pipelines.orchestration.settlement.history import fill
from hcp_pipelines.orchestration.settlement.metering import TABLE, energy_of_days
from hcp_pipelines.orchestration.settlement.publish import SETTLEMENT, Published, publish
from hcp_pipelines.orchestration.settlement.watch import is_whole, read_regrets

GROUP, OWNERS = "settlement", ["team:market-data"]
DEPS = [
    "core_power__settled_prices", "core_bitcoin__network", "core_gpu__rental_rates", "raw_ercot__da_capacity",
    "raw_ercot__zone_load", "raw_hcp__switch_journal", "raw_hcp__price_ticks", "core_meter_5min",
    "core_hcp__telemetry_group_1min",
]  # fmt: skip
DESCRIPTIONS = {
    "core_hcp__settlement": "What each facility earned, in DECIMAL: one row a 15-minute interval, kind, group and detail.",
    "core_hcp__switch_value": "What each switch was worth as settled, beside what was expected of it: one row a switch.",
    "core_hcp__regret": "What perfect foresight would have earned on the day beyond what was earned: one row a facility and day.",
}
SCHEMAS = {"core_hcp__settlement": SETTLEMENT, "core_hcp__switch_value": SWITCHES, "core_hcp__regret": regret.REGRET}


@dg.asset(
    group_name=GROUP, owners=OWNERS, kinds={"polars", "ducklake"}, deps=["raw_hcp__meter_readings"], partitions_def=DAILY_UTC,
    backfill_policy=dg.BackfillPolicy.single_run(), io_manager_key="lake", metadata=plain_schema(TABLE),
)  # fmt: skip
def core_meter_5min(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """Energy at the revenue meter, MWh: one row a 5-minute market interval and facility, those that lie between readings."""
    window = context.partition_time_window
    with platform.connection() as connection, reading(platform.settings()) as reader:
        capacity_mw = dict(connection.execute("select id, capacity_mw from facilities").fetchall())
        found = energy_of_days(reader, capacity_mw, (window.start, window.end))
    context.add_output_metadata({"estimated": int(found["is_estimated"].sum())})
    return found


@dg.multi_asset(
    specs=day_specs(DESCRIPTIONS, SCHEMAS, GROUP, OWNERS, DEPS),
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool=GROUP,
)
def settled_days(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[dg.MaterializeResult[Any]]:
    """Settle days at prices as they stand now; a day that was settled before is replaced, and what changed is kept."""
    settings, window, now = platform.settings(), context.partition_time_window, platform.clock().now()
    span = window.start, window.end
    with platform.connection() as connection:
        found = settle_days(connection, settings, span, now)
        filled = fill(connection, found.days)  # first: what is published is not settled again
        done = publish(settings, found, span, Run(context.run.run_id, now))
        for name, reason in found.failed.items():
            detail = {"reason": reason, "days": f"{span[0]:%Y-%m-%d}/{span[1]:%Y-%m-%d}", "run_id": context.run.run_id}
            record_alert(connection, "alert.settlement_failed", name, detail)
    yield from _results(done, filled, found.failed)


def _results(done: Published, filled: int, failed: Mapping[str, str]) -> Iterator[dg.MaterializeResult[Any]]:
    more: dict[str, dict[str, Any]] = {
        "core_hcp__settlement": {
            "by_day": shown(done.days), "changed": len(done.changes), "changes": shown(done.changes),
            "history_rows_filled": filled, "failed": dict(failed),
        },
        "core_hcp__switch_value": {"first_rows": shown(done.switches)},
        "core_hcp__regret": {"by_day": shown(done.regrets)},
    }  # fmt: skip
    rows = dict(zip(DESCRIPTIONS, (done.lines, len(done.switches), len(done.regrets)), strict=True))
    for name, metadata in more.items():
        yield dg.MaterializeResult(name, metadata={"dagster/row_count": rows[name], **metadata})


@dg.asset_check(asset="core_hcp__settlement", partitions_def=DAILY_UTC)
def settlement_is_whole(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
    """Every line has its price: what has none is not in anybody's sum."""
    window = context.partition_time_window
    return told(is_whole(platform.settings(), (window.start, window.end)))


@dg.asset_check(asset="core_hcp__regret")
def regret_has_not_grown(platform: Platform) -> dg.AssetCheckResult:
    """No facility's regret of its newest whole day has doubled against its own mean of two weeks; alerts where it has."""
    judged = regret.judge(read_regrets(platform.settings()), platform.clock().now())
    grown = {name: found for name, found in judged.items() if not found.passed}
    with platform.connection() as connection:
        for name, found in grown.items():
            record_alert(connection, "alert.regret_grew", name, found.told)
    why = (
        "; ".join(f"{name}: {found.why}" for name, found in (grown or judged).items()) or "no whole day is settled yet"
    )
    figures = {name: dg.MetadataValue.json(found.told) for name, found in judged.items()}
    return dg.AssetCheckResult(passed=not grown, severity=WARN, metadata=figures, description=why)
