"""Dagster's runs that are under way: asked for, waiting, starting, going on or being cancelled."""

from typing import Any

import dagster as dg

UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,  # for seconds; without it a second one would run beside the first
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,  # its process works until it has ended
)


def is_under_way(instance: dg.DagsterInstance, **which: Any) -> bool:
    """Whether any run of a `job_name`, with some `tags`, is: words of `dagster.RunsFilter`."""
    return bool(instance.get_run_records(dg.RunsFilter(**which, statuses=list(UNFINISHED)), limit=1))
