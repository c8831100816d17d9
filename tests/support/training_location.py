"""A small code location for Dagster's daemon: trainings of the tests' targets, with the platform's own schedule and sensors.

The schedule ticks each minute instead of each hour. The targets are put in their place before whoever reads them is imported.
"""

import dagster as dg

from hcp_pipelines.orchestration.resources import Platform, fixed
from hcp_pipelines.orchestration.training import targets
from tests.support import sine

targets.TARGETS = sine.WHERE | {"broken": "tests.support.sine:BROKEN"}

from assets import training  # noqa: E402 - these read the targets
from jobs.training import retrain_jobs, weekly  # noqa: E402
from sensors.training import model_drift_sensor, model_error_sensor  # noqa: E402

defs = dg.Definitions(
    assets=training.trained,
    asset_checks=training.trials,
    jobs=list(retrain_jobs.values()),
    schedules=[weekly("sine", retrain_jobs["sine"], "* * * * *")],
    sensors=[model_drift_sensor, model_error_sensor],
    resources={"platform": fixed(Platform())},
)
