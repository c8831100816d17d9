"""Sensors of the control location: ticks that ask for a policy, policies overdue, runs failed."""

import json

import dagster as dg

from hcp_pipelines.orchestration.alerts import SOLVE_FAILED, alert_overdue_policies, record_alert
from hcp_pipelines.orchestration.requests import (
    KIND_TAG,
    KIND_TICK,
    TICK_ID_TAG,
    TICK_JOB,
    TICK_SENSOR,
    solve_request,
)
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.orchestration.runs import is_under_way
from hcp_pipelines.orchestration.state import read_solve_state
from jobs.control import tick_job


@dg.sensor(
    name=TICK_SENSOR, job=tick_job, minimum_interval_seconds=5, default_status=dg.DefaultSensorStatus.RUNNING,
    description="The safety net behind the launcher: asks for a policy where a tick wants one and nobody has asked.",
)  # fmt: skip
def tick_sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
    """Request one run on the newest tick when a policy should be solved again; the launcher asks the same, sooner."""
    last_tick_id = int(context.cursor or 0)
    if is_under_way(context.instance, job_name=TICK_JOB, tags={KIND_TAG: KIND_TICK}):
        return dg.SensorResult(skip_reason="a tick run is in progress; what came since is looked at after it")
    with platform.connection() as connection:
        state = read_solve_state(connection, platform.clock().now())
    request = solve_request(state, last_tick_id)
    if request is None:
        return dg.SensorResult(skip_reason=f"nothing asks for a new policy up to tick {state.newest_tick_id}")
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=request.run_key, tags=request.tags())], cursor=str(request.tick_id)
    )


@dg.sensor(
    minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING,
    description="Alerts where a facility's policy is past its time of refresh.",
)  # fmt: skip
def policy_overdue_sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
    """Alert once about each policy that is past its refresh date (it stays in force until it expires)."""
    alerted = set(json.loads(context.cursor or "[]"))
    with platform.connection() as connection:
        overdue = alert_overdue_policies(connection, platform.clock().now(), alerted)
    reason = f"{len(overdue)} policies overdue" if overdue else "every policy is fresh"
    return dg.SensorResult(skip_reason=reason, cursor=json.dumps(sorted(overdue)))


@dg.run_failure_sensor(
    monitor_all_code_locations=True, minimum_interval_seconds=10, default_status=dg.DefaultSensorStatus.RUNNING,
    description="Alerts for each failed run of either code location.",
)  # fmt: skip
def run_failed_sensor(context: dg.RunFailureSensorContext, platform: Platform) -> None:
    """Put an alert into the audit log for each failed run; of a live solve it is one that the next one's success ends."""
    run = context.dagster_run
    detail = {"job": run.job_name, "message": context.failure_event.message or "", "tags": dict(run.tags)}
    with platform.connection() as connection:
        if TICK_ID_TAG in run.tags:
            reason = f"run {run.run_id}: {_cause(context) or detail['message']}"
            record_alert(connection, SOLVE_FAILED, TICK_JOB, {"reason": reason, "tick_id": run.tags[TICK_ID_TAG]})
        else:
            record_alert(connection, "alert.run_failed", run.run_id, detail)


def _cause(context: dg.RunFailureSensorContext) -> str:
    """What the first failed step tripped over, below Dagster's own words for it; empty where no step did."""
    for event in context.get_step_failure_events():
        error = event.step_failure_data.error
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None:
            return error.message.strip()
    return ""
