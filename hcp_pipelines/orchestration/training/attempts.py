"""When a forecast was last to be learnt, whatever came of it: its runs carry the instant of the world, whoever asked for them."""

from datetime import datetime

import dagster as dg

from hcp_pipelines.orchestration.runs import is_under_way
from hcp_pipelines.orchestration.training.asking import ASKED_AT, job_of

REASON = "hcp/reason"
LOOKED_AT = 20  # newest runs of a job: those that never began have no such tag
BY_HAND = "a person asked for it in the launchpad"


def tags(why: str, now: datetime) -> dict[str, str]:
    """The tags of a run that is asked for now, by the world's clock."""
    return {REASON: why, ASKED_AT: now.isoformat()}


def tag_by_hand(instance: dg.DagsterInstance, run: dg.DagsterRun, now: datetime) -> None:
    """Give a run that came from the launchpad the tags that others come with."""
    if ASKED_AT not in run.tags:
        instance.add_run_tags(run.run_id, tags(BY_HAND, now))


def last_attempt(instance: dg.DagsterInstance, name: str, now: datetime) -> datetime | None:
    """When a training of a name was last asked for; now while one is unfinished, whoever asked; None if never."""
    if is_under_way(instance, job_name=job_of(name)):
        return now
    records = instance.get_run_records(dg.RunsFilter(job_name=job_of(name)), limit=LOOKED_AT)
    runs = [each.dagster_run for each in records]
    return max((datetime.fromisoformat(run.tags[ASKED_AT]) for run in runs if ASKED_AT in run.tags), default=None)
