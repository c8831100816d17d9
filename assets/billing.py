"""What customers' work cost, by UTC day, and whether queue and meters agree with that. `orchestration.billing` does it."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets.checks import WARN, told
from assets.daily import DAILY_UTC, day_specs
from hcp_pipelines.orchestration.alerts import record_alert
from hcp_pipelines.orchestration.billing.days import BILLING, bill_days
from hcp_pipelines.orchestration.billing.publish import publish
from hcp_pipelines.orchestration.billing.watch import energy_agrees, gpu_seconds_agree, is_whole
from hcp_pipelines.orchestration.history.publish import Run
from hcp_pipelines.orchestration.history.reading import reading
from hcp_pipelines.orchestration.io_managers import shown
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.workloads.billing.use import ENERGY

GROUP, OWNERS = "billing", ["team:market-data"]
DEPS = [
    "raw_hcp__workload_events", "raw_hcp__allocation_events", "raw_hcp__workload_checkpoints", "raw_hcp__desired_state",
    "core_power__settled_prices", "core_gpu__rental_rates", "core_hcp__telemetry_group_1min",
]  # fmt: skip
DESCRIPTIONS = {
    "core_hcp__billing": "What each piece of work used and costs, in DECIMAL: one row a 15-minute interval, run and group.",
    "core_hcp__work_energy": "Energy by 15 minutes and group: what work used, what the rest drew, the group's own roll-up.",
}
SCHEMAS = {"core_hcp__billing": BILLING, "core_hcp__work_energy": ENERGY}


@dg.multi_asset(
    specs=day_specs(DESCRIPTIONS, SCHEMAS, GROUP, OWNERS, DEPS),
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool=GROUP,
)
def billed_days(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[dg.MaterializeResult[Any]]:
    """Bill days at prices and of events as they stand now; a day that was billed before is replaced, and what changed is kept."""
    settings, window, now = platform.settings(), context.partition_time_window, platform.clock().now()
    span = window.start, window.end
    with platform.connection() as connection:
        bill = bill_days(connection, settings, span, now)
    done = publish(settings, bill, span, Run(context.run.run_id, now))
    changed: dict[str, Any] = {"by_day": shown(done.days), "changed": len(done.changes), "changes": shown(done.changes)}
    yield dg.MaterializeResult("core_hcp__billing", metadata={"dagster/row_count": done.lines, **changed})
    yield dg.MaterializeResult("core_hcp__work_energy", metadata={"dagster/row_count": done.energy})


@dg.asset_check(asset="core_hcp__billing", partitions_def=DAILY_UTC)
def billing_is_whole(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
    """Every line that is billed has its price: what has none is not in anybody's bill."""
    window = context.partition_time_window
    with reading(platform.settings()) as reader:
        return told(is_whole(reader, (window.start, window.end)))


@dg.asset_check(asset="core_hcp__billing", partitions_def=DAILY_UTC)
def gpu_seconds_are_those_of_the_queue(
    context: dg.AssetCheckExecutionContext, platform: Platform
) -> dg.AssetCheckResult:
    """Work that ended on these days has the GPU-seconds that the queue counted, lost ones included; alerts where not."""
    window = context.partition_time_window
    with reading(platform.settings()) as reader, platform.connection() as connection:
        judged = gpu_seconds_agree(reader, connection, (window.start, window.end))
        if not judged.passed:
            record_alert(connection, "alert.billing_off", "gpu_seconds", {"reason": judged.why})
    return told(judged)


@dg.asset_check(asset="core_hcp__work_energy", partitions_def=DAILY_UTC)
def energy_is_that_of_the_groups(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
    """Energy of work and of what nobody had comes to that of the groups, within 2 %; alerts where not."""
    window = context.partition_time_window
    with reading(platform.settings()) as reader:
        judged = energy_agrees(reader, (window.start, window.end))
    off = {name: found for name, found in judged.items() if not found.passed}
    with platform.connection() as connection:
        for name, found in off.items():
            record_alert(connection, "alert.billing_off", name, {"reason": found.why})
    why = "; ".join(f"{name}: {found.why}" for name, found in (off or judged).items()) or "no work ran on these days"
    figures = {name: dg.MetadataValue.json(found.told) for name, found in judged.items()}
    return dg.AssetCheckResult(passed=not off, severity=WARN, metadata=figures, description=why)
