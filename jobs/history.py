"""The job that fetches days of history, for the sensor that finds gaps; operators' backfills need none."""

import dagster as dg

from assets.daily import DAILY_UTC
from hcp_pipelines.orchestration.history.plan import assets_by_source

KIND = "history"

history_job = dg.define_asset_job(
    "history_job",
    selection=dg.AssetSelection.assets(*(name for names in assets_by_source().values() for name in names)),
    partitions_def=DAILY_UTC,
    tags={"hcp/kind": KIND},
    description="Fetch days of history from their sources, audit, publish; join them with the feed's ticks.",
    executor_def=dg.in_process_executor,
)
