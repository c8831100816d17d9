"""Purges old run records: at a tick every few seconds Dagster's own storage would grow by gigabytes a week."""

from datetime import datetime, timedelta

import dagster as dg

from hcp_pipelines.orchestration.requests import KIND_TAG, KIND_TICK, TICK_JOB

FINISHED_KEPT = timedelta(hours=48)
FAILED_KEPT = timedelta(days=30)
BATCH = 2000


def purge_tick_runs(instance: dg.DagsterInstance, real_now: datetime, limit: int = BATCH) -> dict[str, int]:
    """Delete finished tick runs older than 48 h and failed ones older than 30 days; how many of each."""
    done = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED]
    return {
        "finished": _purge(instance, done, real_now - FINISHED_KEPT, limit),
        "failed": _purge(instance, [dg.DagsterRunStatus.FAILURE], real_now - FAILED_KEPT, limit),
    }


def _purge(instance: dg.DagsterInstance, statuses: list[dg.DagsterRunStatus], before: datetime, limit: int) -> int:
    chosen = dg.RunsFilter(job_name=TICK_JOB, tags={KIND_TAG: KIND_TICK}, statuses=statuses, created_before=before)
    records = instance.get_run_records(chosen, limit=limit, ascending=True)
    for record in records:
        instance.delete_run(record.dagster_run.run_id)
    return len(records)
