"""Dagster's runs that are under way: asked for, waiting, starting or going on."""

from typing import Any

import dagster as dg

UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,  # for seconds; without it a second one would run beside the first
    dg.DagsterRunStatus.STARTED,
)


def is_under_way(instance: dg.DagsterInstance, **which: Any) -> bool:
    """Whether any run of a `job_name`, with some `tags`, is: words of `dagster.RunsFilter`."""
    return bool(instance.get_run_records(dg.RunsFilter(**which, statuses=list(UNFINISHED)), limit=1))
