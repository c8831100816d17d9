"""Jobs that learn a forecast and that ask it in the shadow, and their schedules; each tick is one query where nothing is due."""

from dataclasses import asdict
from typing import Any

import dagster as dg

from assets.training import LEARNT_FROM, model_key, words_of
from hcp_pipelines.orchestration.alerts import ACTOR
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.orchestration.training import attempts, due, retention, shadow
from hcp_pipelines.orchestration.training.asking import job_of
from hcp_pipelines.orchestration.training.targets import TARGETS
from jobs.regular import regular

KIND = "training"
SHADOW_JOB = "shadow_job"
MADE_FIRST = {
    name: LEARNT_FROM[name] for name in ("price", "demand")
}  # whole tables; the fleet's hours are made by day


def retrain(name: str) -> Any:
    """The job that learns a target, tries it and lets the check promote it; what `define_asset_job` gives has no public type."""
    return dg.define_asset_job(
        job_of(name),
        selection=dg.AssetSelection.assets(model_key(name), *MADE_FIRST.get(name, ())),
        tags={"hcp/kind": KIND},
        description=f"Learn the forecast of {words_of(name)}, try it beside the champion, promote it if it is better.",
        executor_def=dg.in_process_executor,
    )


def weekly(name: str, job: Any, cron_schedule: str = "23 * * * *") -> dg.ScheduleDefinition:
    """Hourly: a run where a week of the world has passed. What was never learnt is a person's to begin."""

    @dg.schedule(
        job=job, cron_schedule=cron_schedule, name=f"retrain_{name}_schedule", default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Hourly: {words_of(name)} is learnt anew where a week of the world has passed since the last time.",
    )  # fmt: skip
    def _schedule(context: dg.ScheduleEvaluationContext, platform: Platform) -> dg.RunRequest | dg.SkipReason:
        now = platform.clock().now()
        with platform.connection() as connection:
            why = due.week_passed(connection, name, now)
            if why:
                why = due.week_passed(connection, name, now, attempts.last_attempt(context.instance, name, now))
        return (
            dg.RunRequest(tags=attempts.tags(why, now))
            if why
            else dg.SkipReason("never learnt, of this week, in its trial, or asked for lately")
        )

    return _schedule


retrain_jobs = {name: retrain(name) for name in TARGETS}
retrain_schedules = [weekly(name, job) for name, job in retrain_jobs.items()]

shadow_job = dg.define_asset_job(
    SHADOW_JOB,
    selection=dg.AssetSelection.groups("shadow"),
    tags={"hcp/kind": KIND},
    description="Ask champions and challengers what can be asked now, score what is known, promote what was better.",
    executor_def=dg.in_process_executor,
)


@dg.op
def let_go_of_old_models(context: dg.OpExecutionContext, platform: Platform) -> None:
    """Let go of the bytes, files and shadow rows of old versions."""
    with platform.connection() as connection:
        found = retention.let_go(connection, platform.settings(), ACTOR)
    context.add_output_metadata({name: dg.MetadataValue.json(asdict(each)) for name, each in found.items()})
    failed = {name: each.why_not for name, each in found.items() if each.why_not}
    for name, why_not in failed.items():
        context.log.warning("files of %s stay and are tried again with the next run: %s", name, why_not)
    if failed and not any(each.recorded for each in found.values()):
        raise dg.Failure("no file of an old version could be removed", metadata=dict(failed))


@dg.job(tags={"hcp/kind": "housekeeping"}, executor_def=dg.in_process_executor)
def models_upkeep_job() -> None:
    """Let go of old versions of models: their bytes, their files in MLflow, what they said in the shadow. Evidence stays."""
    let_go_of_old_models()


models_upkeep_schedule = regular(models_upkeep_job, "41 4 * * *", "Daily: old versions of models are let go of.")


@dg.schedule(
    job=shadow_job,
    description="Hourly: champions and challengers are asked, where there are any.",
    cron_schedule="53 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def shadow_schedule(platform: Platform) -> dg.RunRequest | dg.SkipReason:
    """A run where any forecast serves."""
    with platform.connection() as connection:
        names = shadow.names_asked(connection)
    return dg.RunRequest() if names else dg.SkipReason("no forecast was learnt yet")
