"""Jobs and schedules of the control location: the tick's run, and housekeeping."""

import dagster as dg

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.orchestration.housekeeping import purge_tick_runs
from hcp_pipelines.orchestration.old_events import forget_old_events
from hcp_pipelines.orchestration.old_work import forget_old_work
from hcp_pipelines.orchestration.requests import KIND_TAG, KIND_TICK, TICK_JOB
from hcp_pipelines.orchestration.resources import Platform
from jobs.regular import regular

TICK_SELECTION = dg.AssetSelection.assets(
    "raw_hcp__latest_prices", "core_hcp__profitability_scores", "core_power__price_forecast", "core_hcp__policies"
)

tick_job = dg.define_asset_job(
    TICK_JOB,
    selection=TICK_SELECTION,
    tags={KIND_TAG: KIND_TICK},
    description="Newest prices → profitability → forecast → a new policy for every facility.",
    executor_def=dg.in_process_executor,
)


@dg.op
def purge_old_tick_runs(context: dg.OpExecutionContext) -> None:
    """Delete finished tick runs after 48 hours, failed ones after 30 days."""
    purged = purge_tick_runs(context.instance, SystemClock().real_now())
    context.add_output_metadata({"finished_purged": purged["finished"], "failed_purged": purged["failed"]})


@dg.op
def forget_work_long_over(context: dg.OpExecutionContext, platform: Platform) -> None:
    """Delete desired rows, their outcomes and routing decisions of work that ended a month ago and is in the lake."""
    with platform.connection() as connection:
        context.add_output_metadata(forget_old_work(connection, platform.settings()))


@dg.op
def forget_events_of_work_long_over(context: dg.OpExecutionContext, platform: Platform) -> None:
    """Delete steps, checkpoints and allocations of work that ended a month ago and is in the lake; the work itself stays."""
    with platform.connection() as connection:
        context.add_output_metadata(forget_old_events(connection, platform.settings()))


@dg.job(tags={KIND_TAG: "housekeeping"}, executor_def=dg.in_process_executor)
def housekeeping_job() -> None:
    """Keep Dagster's own storage small, and what Postgres has of work that is long over."""
    purge_old_tick_runs()
    forget_work_long_over()
    forget_events_of_work_long_over()


housekeeping_schedule = regular(
    housekeeping_job, "17 * * * *", "Hourly: old runs and event logs go, and rows of work long over."
)
