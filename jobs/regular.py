"""Schedules that ask for a job at set times, on from the start."""

from typing import Any

import dagster as dg


def regular(job: Any, cron_schedule: str, description: str) -> dg.ScheduleDefinition:
    """The schedule of a job; what `define_asset_job` gives has no public type."""
    return dg.ScheduleDefinition(
        job=job, cron_schedule=cron_schedule, description=description, default_status=dg.DefaultScheduleStatus.RUNNING
    )
