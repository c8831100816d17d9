"""Code location `control`: ticks, economics, policy. Lean: no dbt, sklearn, pandas, pandera or mlflow (a test holds it)."""

import dagster as dg

from assets import external, ticks
from hcp_pipelines.orchestration.resources import Platform, fixed
from jobs.control import housekeeping_job, housekeeping_schedule, tick_job
from sensors.control import policy_overdue_sensor, run_failed_sensor, tick_sensor

defs = dg.Definitions(
    assets=[
        *external.external_assets,
        *dg.load_assets_from_modules([ticks]),
    ],
    asset_checks=dg.load_asset_checks_from_modules([ticks]),
    jobs=[tick_job, housekeeping_job],
    schedules=[housekeeping_schedule],
    sensors=[tick_sensor, policy_overdue_sensor, run_failed_sensor],
    resources={
        "platform": fixed(Platform()),
        "memory": dg.mem_io_manager,
        "io_manager": dg.mem_io_manager,  # in place of the default, whose folder of pickles a run could choose
    },
    executor=dg.in_process_executor,
)
