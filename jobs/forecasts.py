"""The job that makes a day's forecasts, and when: in a world faster than the clock on the wall, several days at once."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import dagster as dg

from assets.daily import UNTIL_TODAY
from assets.forecasts import core_power__forecast_scores
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.orchestration.watching import FORECASTS_EVERY
from jobs.regular import regular

MOST_DAYS = 3

TAGS = {"hcp/kind": "forecasts"}

forecasts_job = dg.define_asset_job(
    "forecasts_job",
    selection=dg.AssetSelection.groups("forecasts"),
    partitions_def=UNTIL_TODAY,
    tags=TAGS,
    description="Forecast a day of the world as of each of its hours: power prices, peaks, bitcoin's consensus; and score it.",
)

forecasts_check_job = dg.define_asset_job(
    "forecasts_check_job",
    selection=dg.AssetSelection.checks_for_assets(core_power__forecast_scores),
    tags=TAGS,
    description="Say whether the forecasts are fresh, also where no run makes any.",
)

forecasts_check_schedule = regular(
    forecasts_check_job, "2 * * * *", "Hourly: are the forecasts fresh, and do they cover."
)


@dg.schedule(
    job=forecasts_job,
    description="Twice an hour: today in the world, and the days that have ended there since the last time.",
    cron_schedule="17,47 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def forecasts_schedule(context: dg.ScheduleEvaluationContext, platform: Platform) -> Iterator[dg.RunRequest]:
    """Today in the world, and the days that have ended there since the last time."""
    clock = platform.clock()
    for day in days_to_forecast(clock.now(), clock.speed):
        key = f"{day:%Y-%m-%d}"  # a run key too: of several at once Dagster wants one each
        yield dg.RunRequest(partition_key=key, run_key=f"{key}/{context.scheduled_execution_time:%Y-%m-%dT%H:%M}")


def days_to_forecast(now: datetime, speed: float) -> list[datetime]:
    """The world's days from the last evaluation until now, oldest first, at most three."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    since = min(now - FORECASTS_EVERY * speed, now)
    days = [today - timedelta(days=n) for n in range(MOST_DAYS)]
    return [day for day in reversed(days) if day + timedelta(days=1) > since]
