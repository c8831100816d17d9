"""The job that learns a model for the live policies, and when: every week of the world, and as soon as there is enough."""

import dagster as dg

from hcp_pipelines.orchestration.learning import due
from hcp_pipelines.orchestration.resources import Platform

waiting_model_job = dg.define_asset_job(
    "waiting_model_job",
    selection=dg.AssetSelection.groups("models"),
    tags={"hcp/kind": "models"},
    description="Learn what being on is worth from the record, score it on the last weeks, promote it if it is no worse.",
    executor_def=dg.in_process_executor,
)


@dg.schedule(
    job=waiting_model_job,
    description="Hourly: a model is made where one is due in the world's time.",
    cron_schedule="37 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def waiting_model_schedule(platform: Platform) -> dg.RunRequest | dg.SkipReason:
    """A run where one is due in the world's time."""
    with platform.connection() as connection:
        why = due(connection, platform.settings(), platform.clock().now())
    return (
        dg.RunRequest(tags={"hcp/reason": why})
        if why
        else dg.SkipReason("the newest is of this week, or too little is known")
    )
