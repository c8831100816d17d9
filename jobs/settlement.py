"""The job that settles days, and when: a day of the world when it is over, and again when a price of it was corrected."""

from collections.abc import Iterator

import dagster as dg

from assets.daily import DAILY_UTC, requests_of
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.orchestration.settlement.watch import days_to_settle

settlement_job = dg.define_asset_job(
    "settlement_job",
    selection=dg.AssetSelection.groups("settlement")
    | dg.AssetSelection.assets("core_power__settled_prices", "core_bitcoin__network", "core_gpu__rental_rates"),
    partitions_def=DAILY_UTC,
    tags={"hcp/kind": "settlement"},
    description="Settle a day: prices as they stand, what was earned by kind, what each switch was worth, regret.",
)


@dg.schedule(
    job=settlement_job,
    description="Twice an hour: days of the world that are over and not settled, or were corrected since.",
    cron_schedule="27,57 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def settlement_schedule(platform: Platform) -> Iterator[dg.RunRequest]:
    """Days of the world that are over and not settled, or were corrected since: seven at once at most."""
    now = platform.clock().now()
    yield from requests_of(days_to_settle(platform.settings(), now), now)
