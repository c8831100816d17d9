"""Sensors that have a forecast learnt anew out of turn: its questions have drifted, or it errs more than in its trial."""

from collections.abc import Callable, Iterator
from datetime import datetime

import dagster as dg

from assets.training import SCORES, WORDS
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.orchestration.training import attempts, due
from hcp_pipelines.orchestration.training.asking import job_of
from jobs.training import retrain_jobs

JOBS = list(retrain_jobs.values())


@dg.sensor(
    jobs=JOBS, minimum_interval_seconds=600, default_status=dg.DefaultSensorStatus.RUNNING,
    description="Has a forecast learnt anew whose features are no longer those that it learnt from.",
)  # fmt: skip
def model_drift_sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
    """A run for each champion whose features have drifted, by the newest scores."""
    return _requests(context, platform, due.drifted)


@dg.sensor(
    jobs=JOBS, minimum_interval_seconds=600, default_status=dg.DefaultSensorStatus.RUNNING,
    description="Has a forecast learnt anew that errs much more than in its trial.",
)  # fmt: skip
def model_error_sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
    """A run for each champion that errs, by the newest scores."""
    return _requests(context, platform, due.erring)


def _requests(
    context: dg.SensorEvaluationContext, platform: Platform, wrong: Callable[[due.Word], str]
) -> dg.SensorResult:
    """Of the newest scores, once each: their materialization is the cursor, so a tick without new ones is one look-up."""
    event = context.instance.get_latest_materialization_event(dg.AssetKey(SCORES))
    made = event.asset_materialization if event is not None else None
    if event is None or made is None:
        return dg.SensorResult(skip_reason="no forecast was scored yet")
    if context.cursor == event.run_id:
        return dg.SensorResult(skip_reason="nothing was scored since")
    words, now = made.metadata[WORDS].value, platform.clock().now()
    found = dict(_wrong(context.instance, platform, words if isinstance(words, dict) else {}, wrong, now))
    requests = [
        dg.RunRequest(job_name=job_of(name), run_key=f"{job_of(name)}/{event.run_id}", tags=attempts.tags(why, now))
        for name, why in found.items()
    ]
    why_not = None if requests else "no champion's questions or errors have moved"
    return dg.SensorResult(run_requests=requests, skip_reason=why_not, cursor=event.run_id)


def _wrong(
    instance: dg.DagsterInstance,
    platform: Platform,
    words: dict[str, due.Word],
    wrong: Callable[[due.Word], str],
    now: datetime,
) -> Iterator[tuple[str, str]]:
    suspects = {name: why for name, word in words.items() if name in retrain_jobs and (why := wrong(word))}
    if not suspects:
        return
    with platform.connection() as connection:
        newest = due.newest(connection, list(suspects))
    for name, why in suspects.items():
        if name in newest and due.may_ask(newest[name], attempts.last_attempt(instance, name, now), now):
            yield name, why
