"""The job that bills days, and when: a day in which work ran, when it is over, and again when what is known of it has changed."""

from collections.abc import Iterator

import dagster as dg

from assets.daily import DAILY_UTC, requests_of
from hcp_pipelines.orchestration.billing.watch import days_to_bill
from hcp_pipelines.orchestration.resources import Platform

billing_job = dg.define_asset_job(
    "billing_job",
    selection=dg.AssetSelection.groups("billing"),
    partitions_def=DAILY_UTC,
    tags={"hcp/kind": "billing"},
    description="Bill a day: GPU-seconds and energy of customers' work by 15 minutes, at agreed rates and settled prices.",
)


@dg.schedule(
    job=billing_job,
    description="Twice an hour: days of the world that are over, in which work ran, and not billed as it is known by now.",
    cron_schedule="12,42 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def billing_schedule(platform: Platform) -> Iterator[dg.RunRequest]:
    """Days of the world that are over, in which work ran, and not billed as it is known by now: seven at once at most."""
    now = platform.clock().now()
    with platform.connection() as connection:
        days = days_to_bill(connection, platform.settings(), now)
    yield from requests_of(days, now)
