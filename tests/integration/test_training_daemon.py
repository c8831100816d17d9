"""Dagster's own daemon has forecasts learnt anew: its schedule by the world's week, a sensor by the newest scores."""

import json
import os
import subprocess
import sys
import time
import warnings
from datetime import timedelta

import pytest
import yaml

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.orchestration import instance
from hcp_pipelines.storage import models
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.processes import ROOT
from tests.support import sine
from tests.support.sine import NOW

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dagster as dg
    from dagster._core.remote_origin import (
        ManagedGrpcPythonEnvCodeLocationOrigin,
        RemoteInstigatorOrigin,
        RemoteRepositoryOrigin,
    )
    from dagster._core.scheduler.instigation import (
        InstigatorState,
        InstigatorStatus,
        InstigatorType,
        ScheduleInstigatorData,
    )
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

    from assets import training
    from hcp_pipelines.orchestration.resources import Platform
    from hcp_pipelines.orchestration.training import targets
    from jobs.training import retrain, weekly
    from sensors import training as sensors

pytestmark = [pytest.mark.platform, pytest.mark.timeout(600)]
DEADLINE_S = 400.0  # of a busy machine; a quarter of a minute elsewhere
LOCATION = "tests.support.training_location"


@pytest.fixture
def world(settings, database):
    """It is NOW: sine was learnt eight days ago, broken three; broken's features have drifted by the newest scores."""
    clock = settings.at("run", "clock.json")
    clock.parent.mkdir(parents=True, exist_ok=True)
    clock.write_text(Anchor(SystemClock().real_now(), NOW, 1.0).dump())
    sine.write(settings, sine.hours())
    with connect(settings, Role.CONTROL) as control:
        sine.keep(control, model=sine.SINE.models[0], until=NOW - timedelta(days=8))
        before = NOW - timedelta(days=3)
        models.keep(control, models.Kept("broken", "0" * 64, b"-", before, before, {}), "champion", "test", "a test")
    yield settings
    sine.drop(settings)
    clock.unlink()


@pytest.fixture
def dagster(world, monkeypatch):
    """An instance as the platform writes it, with a workspace of the one location, and its environment."""
    instance.write_instance(world)
    location = {"python_module": {"module_name": LOCATION, "working_directory": str(ROOT)}}
    instance.workspace_path(world).write_text(yaml.safe_dump({"load_from": [location]}))
    env = instance.environment(world) | {"PATH": os.environ["PATH"]}
    for name in ("DAGSTER_HOME", "HCP_DAGSTER_POSTGRES_URL"):
        monkeypatch.setenv(name, env[name])
    with dg.DagsterInstance.get() as opened:
        words = {"broken": {"drift": 0.9, "feature": "signal"}}
        metadata = {training.WORDS: dg.MetadataValue.json(words)}
        opened.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey(training.SCORES), metadata=metadata))
        begin_schedule(opened)
        yield opened, env


def begin_schedule(opened):
    """The daemon has known the schedule for a minute: it does not wait for the next to begin."""
    at = ManagedGrpcPythonEnvCodeLocationOrigin(
        LoadableTargetOrigin(module_name=LOCATION, working_directory=str(ROOT)), LOCATION
    )
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(at, "__repository__"), "retrain_sine_schedule")
    data = ScheduleInstigatorData("* * * * *", time.time() - 60)
    state = InstigatorState(origin, InstigatorType.SCHEDULE, InstigatorStatus.DECLARED_IN_CODE, data)
    opened.add_instigator_state(state)


def test_the_daemon_asks_by_the_week_and_by_drift_and_what_it_asked_for_is_learnt(
    world, dagster, tmp_path, monkeypatch
):
    opened, env = dagster
    argv = [sys.executable, "-m", "dagster._daemon", "run", "-w", str(instance.workspace_path(world))]
    with (tmp_path / "log").open("wb") as log:
        daemon = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=log, stderr=log)
    try:
        runs = finished(opened, {"retrain_sine_job", "retrain_broken_job"}, daemon, tmp_path / "log")
    finally:
        daemon.terminate()
        daemon.wait(60)
    by_job = {run.job_name: run for run in runs}
    assert {name: run.status.value for name, run in by_job.items()} == dict.fromkeys(by_job, "SUCCESS")
    week, drift = by_job["retrain_sine_job"].tags, by_job["retrain_broken_job"].tags
    assert (week["hcp/reason"], week["dagster/schedule_name"]) == ("a week has passed", "retrain_sine_schedule")
    assert drift["hcp/reason"] == "signal has drifted: stability 0.90, above 0.25"
    assert drift["dagster/sensor_name"] == "model_drift_sensor"
    assert all(tags["hcp/asked_at"].startswith("2025-06-01T00:") for tags in (week, drift))
    assert len(runs) == 2
    with connect(world, Role.CONTROL) as control:
        assert models.champion(control, "sine").version == 2, "its check promoted what its trial showed to be better"
        assert models.champion(control, "broken").version == 1
    event = opened.get_latest_materialization_event(dg.AssetKey("core_hcp__broken_model"))
    assert "core.sine__nowhere" in str(event.asset_materialization.metadata["why"].value)
    monkeypatch.setattr(targets, "TARGETS", sine.WHERE | {"broken": "tests.support.sine:BROKEN"})
    assert asked_again(world, opened, monkeypatch) == ([], []), "one that was learnt, and one that made no version"
    for run in runs:
        opened.delete_run(run.run_id)
    assert asked_again(world, opened, monkeypatch) == ([], ["retrain_broken_job"]), (
        "it is its run that speaks against it"
    )


def asked_again(settings, opened, monkeypatch):
    """What the schedule and the sensors would ask for now: these as if scores were new to them."""
    jobs = {name: retrain(name) for name in ("sine", "broken")}
    monkeypatch.setattr(sensors, "retrain_jobs", jobs)
    words = {"instance": opened, "resources": {"platform": Platform(state_dir=str(settings.state_dir))}}
    said = weekly("sine", jobs["sine"])(dg.build_schedule_context(**words))
    ticked = [
        sensor(dg.build_sensor_context(**words)) for sensor in (sensors.model_drift_sensor, sensors.model_error_sensor)
    ]
    requests = [request for each in ticked for request in each.run_requests or []]
    return [said] if isinstance(said, dg.RunRequest) else [], [request.job_name for request in requests]


def finished(opened, jobs, daemon, log):
    """All runs, once each of the jobs has one that has ended."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        runs = opened.get_runs()
        if jobs <= {run.job_name for run in runs if run.is_finished}:
            return runs
        told = json.dumps([(run.job_name, run.status.value) for run in runs])
        assert daemon.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, told + log.read_text()[-3000:]
        time.sleep(0.5)
