"""When a forecast was last to be learnt, whatever came of it: runs that the platform asked for carry the instant of the world."""

from datetime import datetime

import dagster as dg

from hcp_pipelines.orchestration.training.asking import job_of

REASON, ASKED_AT = "hcp/reason", "hcp/asked_at"
LOOKED_AT = 20  # newest runs of a job: a person's have no such tag
UNFINISHED = frozenset(
    {
        dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING,
    }
)  # fmt: skip


def tags(why: str, now: datetime) -> dict[str, str]:
    """The tags of a run that is asked for now, by the world's clock."""
    return {REASON: why, ASKED_AT: now.isoformat()}


def last_attempt(instance: dg.DagsterInstance, name: str, now: datetime) -> datetime | None:
    """When a training of a name was last asked for; now while one is unfinished, whoever asked; None if never."""
    runs = [
        each.dagster_run for each in instance.get_run_records(dg.RunsFilter(job_name=job_of(name)), limit=LOOKED_AT)
    ]
    if any(run.status in UNFINISHED for run in runs):
        return now
    return max((datetime.fromisoformat(run.tags[ASKED_AT]) for run in runs if ASKED_AT in run.tags), default=None)
