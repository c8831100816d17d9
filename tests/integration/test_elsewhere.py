"""`hcp prepare`, `run`, `exec`, `healthy` and `edge assign`: what starts a process where there is no `hcp up`."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from hcp_pipelines.cli.main import cli
from hcp_pipelines.domain.errors import ConfigError, StorageError
from hcp_pipelines.edge.config import EdgeConfig
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.orchestration import instance
from hcp_pipelines.orchestration.spreading import celery_environment, run_launcher
from hcp_pipelines.runtime.http import StatusServer
from hcp_pipelines.supervisor import elsewhere
from tests.support.site_postgres import free_port


def test_a_daemon_runs_alone_answers_at_its_address_and_ends_when_told(settings, tmp_path):
    port, log = free_port(), tmp_path / "log"
    env = {"HCP_STATE_DIR": str(settings.state_dir), "HCP_WORLD": "real", "HCP_STATUS_LISTEN": f"127.0.0.1:{port}"}
    argv = [sys.executable, "-c", "from hcp_pipelines.cli.main import main; main()", "run", "alerts"]
    with log.open("wb") as file:
        process = subprocess.Popen(argv, env=os.environ | env, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 60
        while elsewhere.problem(settings, "alerts"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, elsewhere.problem(settings, "alerts")
            time.sleep(0.1)
        record = json.loads(settings.at("run", "alerts.json").read_text())
        assert record["urls"]["health"] == f"http://127.0.0.1:{port}/healthz"
        assert record["pid"] == process.pid, "it became the process"
    finally:
        process.terminate()
        process.wait(30)
    assert "alerts is not ready" in elsewhere.problem(settings, "alerts")
    assert "never been ready here" in elsewhere.problem(settings, "no-such-process")


async def test_an_address_that_is_taken_is_refused_by_name():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"HCP_STATUS_LISTEN=127.0.0.1:{port}: "):
            await StatusServer(dict, f"127.0.0.1:{port}").start()


def test_what_cannot_be_is_refused_by_name(settings):
    with pytest.raises(ConfigError, match="'allocator-c' is no process of the platform: feed,"):
        elsewhere.command(settings, "allocator-c")
    with pytest.raises(ConfigError, match="HCP_EXECUTOR=in_process: a worker takes runs only with HCP_EXECUTOR=celery"):
        elsewhere.command(settings, "celery-worker")
    with pytest.raises(ConfigError, match="HCP_EXECUTOR=k8s needs HCP_K8S_RUN_FILE"):
        run_launcher(settings.model_copy(update={"executor": "k8s"}))
    with pytest.raises(ConfigError, match="HCP_CELERY_BROKER_FILE=/nowhere: No such file"):
        celery_environment(settings.model_copy(update={"executor": "celery", "celery_broker_file": Path("/nowhere")}))
    with pytest.raises(ConfigError, match="'nowhere' is no facility"):
        elsewhere.assign_gateway(settings, "gw", "gw:7443", ["nowhere"])
    with pytest.raises(ConfigError, match="'gw' is not HOST:PORT"):
        elsewhere.assign_gateway(settings, "gw", "gw", ["nowhere"])


def test_a_gateway_elsewhere_is_written_down_and_told_what_it_serves(settings, database):
    for document in demo_facilities(2, 60):
        apply(database, document, "test")
    first = database.execute("select min(id) from facilities").fetchone()[0]
    real = settings.model_copy(update={"world": "real", "tls_dir": settings.at("tls")})
    document = elsewhere.assign_gateway(real, "gw-1", "gw-1.example:7443", [first])
    config = EdgeConfig.model_validate(yaml.safe_load(yaml.safe_dump(document)))
    assert config.listen == "0.0.0.0:7443"
    assert [f.facility_id for f in config.facilities] == [first]
    rows = database.execute("select facility_id, address, gateway from gateway_endpoints").fetchall()
    assert rows == [(first, "gw-1.example:7443", "gw-1")]


def test_the_login_to_set_up_with_comes_from_a_file_and_is_named_in_no_error(settings, tmp_path):
    login = tmp_path / "login"
    login.write_text(f"postgresql://somebody:hunter2@127.0.0.1:{free_port()}/postgres\n")
    done = CliRunner().invoke(cli, ["--state-dir", str(tmp_path), "prepare", "--login-file", str(login)])
    assert isinstance(done.exception, StorageError)
    assert "the database can't be set up" in str(done.exception)
    assert "hunter2" not in str(done.exception)


def test_a_job_of_a_run_has_dagsters_environment(settings, monkeypatch):
    monkeypatch.setattr(instance, "ensure_manifest", lambda *_: None)
    chosen = elsewhere.dagster_command(settings, ["dagster", "api", "execute_run", "{}"])
    assert chosen.argv == ("dagster", "api", "execute_run", "{}")
    assert chosen.environment["DAGSTER_HOME"] == str(settings.at("dagster"))
    assert "HCP_DAGSTER_POSTGRES_URL" in chosen.environment
