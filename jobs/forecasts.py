"""The job that makes a day's forecasts, and when: in a world faster than the clock on the wall, several days at once."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import dagster as dg

from assets.ercot import DAILY_UTC
from hcp_pipelines.orchestration.resources import Platform

EVERY = timedelta(minutes=30)
MOST_DAYS = 3

forecasts_job = dg.define_asset_job(
    "forecasts_job",
    selection=dg.AssetSelection.groups("forecasts"),
    partitions_def=DAILY_UTC,
    tags={"hcp/kind": "forecasts"},
    description="Forecast a day of the world as of each of its hours: power prices, peaks, bitcoin's consensus; and score it.",
    executor_def=dg.in_process_executor,
)


@dg.schedule(job=forecasts_job, cron_schedule="17,47 * * * *", default_status=dg.DefaultScheduleStatus.RUNNING)
def forecasts_schedule(platform: Platform) -> Iterator[dg.RunRequest]:
    """Today in the world, and the days that have ended there since the last time."""
    clock = platform.clock()
    for day in days_to_forecast(clock.now(), clock.speed):
        yield dg.RunRequest(partition_key=f"{day:%Y-%m-%d}")


def days_to_forecast(now: datetime, speed: float) -> list[datetime]:
    """The world's days from the last evaluation until now, oldest first, at most three."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    since = min(now - EVERY * speed, now)
    days = [today - timedelta(days=n) for n in range(MOST_DAYS)]
    return [day for day in reversed(days) if day + timedelta(days=1) > since]
