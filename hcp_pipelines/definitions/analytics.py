"""Code location `analytics`: dbt marts, explanations, back-tests; telemetry and models as they come. May be heavy to import."""

import dagster as dg

from assets.backtests import raw_hcp__backtests
from assets.explanations import core_hcp__explanations
from assets.switches import dbt_cli, switch_models
from hcp_pipelines.orchestration.resources import Platform, fixed
from jobs.analytics import backtest_job, explanations_job, explanations_schedule, marts_job, marts_schedule
from sensors.analytics import first_marts_sensor

defs = dg.Definitions(
    assets=[switch_models, core_hcp__explanations, raw_hcp__backtests],
    jobs=[marts_job, explanations_job, backtest_job],
    schedules=[marts_schedule, explanations_schedule],
    sensors=[first_marts_sensor],
    resources={
        "dbt": fixed(dbt_cli),
        "platform": fixed(Platform()),
        "io_manager": dg.mem_io_manager,  # in place of the default, whose folder of pickles a run could choose
    },
    executor=dg.in_process_executor,
)
