"""The job that fetches days of history for the sensor that finds gaps (operators need none), and the checks of what is there."""

import dagster as dg

from assets.checks import lake_as_it_is
from assets.daily import DAILY_UTC
from hcp_pipelines.orchestration.history import tables
from hcp_pipelines.orchestration.history.plan import assets_by_source
from jobs.regular import regular

KIND = "history"

history_job = dg.define_asset_job(
    "history_job",
    selection=dg.AssetSelection.assets(
        *(name for names in assets_by_source(tables.OPTIONAL).values() for name in names)
    ),
    partitions_def=DAILY_UTC,
    tags={"hcp/kind": KIND},
    description="Fetch days of history from their sources, audit, publish; join them with the feed's ticks.",
    executor_def=dg.in_process_executor,
)

lake_checks_job = dg.define_asset_job(
    "lake_checks_job",
    selection=dg.AssetSelection.checks(lake_as_it_is),
    tags={"hcp/kind": "checks"},
    description="Look at every table of the lake as it is: rows of daemons, freshness, sources that should agree.",
    executor_def=dg.in_process_executor,
)

lake_checks_schedule = regular(
    lake_checks_job, "41 * * * *", "Hourly: all checks of the lake as it is now, whichever partitions runs are of."
)
