"""Sensors of the analytics location: the first build of the marts, as soon as there are tables; reserve offers, each hour."""

import dagster as dg

from hcp_pipelines.orchestration.lake_state import has_tables
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.orchestration.runs import is_under_way
from jobs.analytics import marts_job, reserve_offers_job

NEEDED = ("raw.switch_journal", "raw.paper_plans", "raw.profitability_scores", "raw.device_groups")
BUILT = ("marts.fct_switches",)


@dg.sensor(
    job=marts_job, minimum_interval_seconds=5, default_status=dg.DefaultSensorStatus.RUNNING,
    description="Builds the marts as soon as the collector's tables are there; later builds are the schedule's.",
)  # fmt: skip
def first_marts_sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
    """Request the marts once the collector's tables exist; later builds are the schedule's."""
    if context.cursor == "built":
        return dg.SensorResult(skip_reason="the marts exist; the schedule refreshes them")
    settings = platform.settings()
    if has_tables(settings, BUILT):
        return dg.SensorResult(skip_reason="the marts exist", cursor="built")
    if not has_tables(settings, NEEDED):
        return dg.SensorResult(skip_reason=f"waiting for the collector to make {', '.join(NEEDED)}")
    attempt = int(context.cursor or 0)
    if is_under_way(context.instance, job_name=marts_job.name):
        return dg.SensorResult(skip_reason="the first build is running")
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=f"first-marts-{attempt}")], cursor=str(attempt + 1))


@dg.sensor(
    job=reserve_offers_job, minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for reserve offers once an hour of the world, where HCP_RESERVE_OFFERS is on.",
)  # fmt: skip
def reserve_offers_sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
    """Request offers in each hour of the world, one run at a time: of a world that runs fast the newest hour alone."""
    if platform.settings().reserve_offers == "off":
        return dg.SensorResult(skip_reason="HCP_RESERVE_OFFERS is off: reserve_offers_job can be launched by hand")
    hour = f"{platform.clock().now():%Y-%m-%dT%H}"
    if context.cursor == hour:
        return dg.SensorResult(skip_reason=f"asked for in {hour} of the world")
    if is_under_way(context.instance, job_name=reserve_offers_job.name):
        return dg.SensorResult(skip_reason="a run is under way")
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=f"offers-{hour}")], cursor=hour)
