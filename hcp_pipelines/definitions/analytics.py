"""Code location `analytics`: dbt marts, explanations, forecasts, back-tests; telemetry as it comes. May be heavy to import."""

import dagster as dg

from assets import (
    billing,
    bitcoin,
    checks,
    ercot,
    fleet,
    forecasts,
    grid,
    joined,
    known,
    models,
    offers,
    pool,
    published,
    reports,
    settlement,
    training,
    weather,
)
from assets.backtests import raw_hcp__backtests, raw_hcp__replays
from assets.explanations import core_hcp__explanations
from assets.switches import dbt_cli, switch_models
from hcp_pipelines.orchestration.io_managers import HistoryIOManager, LakeIOManager
from hcp_pipelines.orchestration.resources import Platform, fixed
from jobs.analytics import (
    backtest_job,
    explanations_job,
    explanations_schedule,
    marts_job,
    marts_schedule,
    replay_job,
    reports_job,
    reports_schedule,
    reserve_offers_job,
)
from jobs.billing import billing_job, billing_schedule
from jobs.forecasts import forecasts_check_job, forecasts_check_schedule, forecasts_job, forecasts_schedule
from jobs.history import history_job, lake_checks_job, lake_checks_schedule
from jobs.lake import lake_maintenance_job, lake_maintenance_schedule
from jobs.models import waiting_model_job, waiting_model_schedule
from jobs.settlement import settlement_job, settlement_schedule
from jobs.training import (
    models_upkeep_job,
    models_upkeep_schedule,
    retrain_jobs,
    retrain_schedules,
    shadow_job,
    shadow_schedule,
)
from sensors.analytics import first_marts_sensor, reserve_offers_sensor
from sensors.history import daemon_tables_sensor, history_gaps_sensor
from sensors.training import model_drift_sensor, model_error_sensor

defs = dg.Definitions(
    assets=[
        switch_models,
        core_hcp__explanations,
        raw_hcp__backtests,
        raw_hcp__replays,
        *training.trained,
        training.core_hcp__model_forecasts,
        training.core_hcp__model_scores,
        *dg.load_assets_from_modules(
            [
                fleet,
                forecasts,
                models,
                offers,
                ercot,
                weather,
                bitcoin,
                pool,
                grid,
                joined,
                known,
                settlement,
                billing,
                published,
                reports,
            ]
        ),
    ],
    asset_checks=[
        *dg.load_asset_checks_from_modules([forecasts, models, settlement, billing, pool]),
        *checks.all_checks,
        *training.trials,
        training.shadow_promotes,
    ],
    jobs=[
        marts_job,
        explanations_job,
        backtest_job,
        replay_job,
        forecasts_job,
        forecasts_check_job,
        waiting_model_job,
        *retrain_jobs.values(),
        shadow_job,
        models_upkeep_job,
        history_job,
        lake_checks_job,
        lake_maintenance_job,
        settlement_job,
        billing_job,
        reports_job,
        reserve_offers_job,
    ],
    schedules=[
        lake_checks_schedule,
        marts_schedule,
        explanations_schedule,
        forecasts_schedule,
        forecasts_check_schedule,
        waiting_model_schedule,
        *retrain_schedules,
        shadow_schedule,
        models_upkeep_schedule,
        lake_maintenance_schedule,
        settlement_schedule,
        billing_schedule,
        reports_schedule,
    ],
    sensors=[
        first_marts_sensor,
        reserve_offers_sensor,
        history_gaps_sensor,
        daemon_tables_sensor,
        model_drift_sensor,
        model_error_sensor,
    ],
    resources={
        "dbt": fixed(dbt_cli),
        "platform": fixed(Platform()),
        "lake": fixed(LakeIOManager()),
        "history": fixed(HistoryIOManager()),
        "io_manager": dg.mem_io_manager,  # in place of the default, whose folder of pickles a run could choose
    },
    executor=dg.in_process_executor,
)
