"""Jobs and schedules of the analytics location, whose executor is that of its definitions: in one process."""

import dagster as dg

from jobs.regular import regular

MARTS_JOB = "marts_job"

marts_job = dg.define_asset_job(
    MARTS_JOB,
    selection=dg.AssetSelection.groups("switches", "marts", "published"),
    tags={"hcp/kind": "marts"},
    description="Create or refresh staging, core and marts, test them (dbt build), and publish them as one DuckDB file.",
)

explanations_job = dg.define_asset_job(
    "explanations_job",
    selection=dg.AssetSelection.groups("explanations"),
    tags={"hcp/kind": "explanations"},
    description="Draw each facility's merit order and say why its newest policy asks for what it asks for.",
)

backtest_job = dg.define_asset_job(
    "backtest_job",
    selection=dg.AssetSelection.assets("raw_hcp__backtests"),
    tags={"hcp/kind": "backtest"},
    description="Back-test a preset or a facility on recorded series; its configuration says what, when and which strategies.",
)

replay_job = dg.define_asset_job(
    "replay_job",
    selection=dg.AssetSelection.assets("raw_hcp__replays"),
    tags={"hcp/kind": "backtest"},
    description="What strategies would have earned at a facility on the platform's own recorded history; say which and when.",
)

reserve_offers_job = dg.define_asset_job(
    "reserve_offers_job",
    selection=dg.AssetSelection.groups("offers"),
    tags={"hcp/kind": "offers"},
    description="Work out which reserves each facility should offer in the 48 hours ahead. Nobody submits them.",
)

explanations_schedule = regular(
    explanations_job, "*/10 * * * *", "Every ten minutes: pages of the policies that are newest then."
)

marts_schedule = regular(marts_job, "*/30 * * * *", "Twice an hour: all marts, of what is in the lake then.")

reports_job = dg.define_asset_job(
    "reports_job",
    selection=dg.AssetSelection.groups("reports"),
    tags={"hcp/kind": "reports"},
    description="Draw daily operations, market and fleet health of the newest day, or of the day in the configuration.",
)

reports_schedule = regular(reports_job, "5 * * * *", "Hourly: the three reports of today in the world.")
