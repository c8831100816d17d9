"""Which runs go elsewhere, and who is asked about them afterwards."""

from types import SimpleNamespace

import dagster as dg
import pytest
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster_celery.launcher import CeleryRunLauncher

from hcp_pipelines.orchestration import run_launcher as launchers
from hcp_pipelines.orchestration.run_launcher import SpreadingRunLauncher, WarmRunLauncher

CONFIG = {
    "module": "dagster_celery.launcher",
    "class": "CeleryRunLauncher",
    "config": {
        "default_queue": "dagster",
        "broker": {"env": "HCP_CELERY_BROKER"},
        "backend": {"env": "HCP_CELERY_RESULTS"},
    },
}


class Elsewhere:
    """The other launcher, which notes what it is asked."""

    def __init__(self):
        self.asked = []

    def launch_run(self, context):
        self.asked.append(("launch", context.dagster_run.run_id))

    def terminate(self, run_id):
        self.asked.append(("terminate", run_id))
        return True

    def check_run_worker_health(self, run):
        self.asked.append(("health", run.run_id))
        return CheckRunHealthResult(WorkerStatus.RUNNING)


@pytest.fixture
def spread(monkeypatch):
    """A launcher on an instance in memory; runs' locations are those of their `location` tag."""
    monkeypatch.setattr(launchers, "location_of", lambda run: run.tags.get("location"))
    here = []
    monkeypatch.setattr(WarmRunLauncher, "launch_run", lambda self, context: here.append(context.dagster_run.run_id))
    with dg.DagsterInstance.ephemeral() as instance:
        launcher = SpreadingRunLauncher("/nowhere/run-server.sock", CONFIG)
        launcher.register_instance(instance)
        launcher.__dict__["elsewhere"] = other = Elsewhere()
        job = dg.GraphDefinition("nothing").to_job()

        def launch(location):
            run = instance.create_run_for_job(job, tags={"location": location})
            launcher.launch_run(SimpleNamespace(dagster_run=run))
            return instance.get_run_by_id(run.run_id)

        yield SimpleNamespace(launch=launch, launcher=launcher, here=here, there=other.asked)


def test_the_control_locations_runs_stay_here(spread):
    run = spread.launch("control")
    assert spread.here == [run.run_id]
    assert spread.there == []


def test_all_others_go_elsewhere_and_are_asked_about_and_ended_there(spread):
    run = spread.launch("analytics")
    assert run.tags["hcp/worker"] == "elsewhere"
    assert spread.launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
    assert spread.launcher.terminate(run.run_id)
    assert spread.here == []
    assert spread.there == [("launch", run.run_id), ("health", run.run_id), ("terminate", run.run_id)]


def test_the_other_launcher_is_made_with_what_the_environment_holds(monkeypatch):
    monkeypatch.setenv("HCP_CELERY_BROKER", "amqp://hcp:hunter2@broker:5672//")
    monkeypatch.setenv("HCP_CELERY_RESULTS", "db+sqlite://")
    with dg.DagsterInstance.ephemeral() as instance:
        launcher = SpreadingRunLauncher("/nowhere/run-server.sock", CONFIG)
        launcher.register_instance(instance)
        assert isinstance(launcher.elsewhere, CeleryRunLauncher)
        assert launcher.elsewhere.broker == "amqp://hcp:hunter2@broker:5672//"
