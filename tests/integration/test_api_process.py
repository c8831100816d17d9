"""The API as the supervisor starts it: ready file, metrics, log, TLS, SIGTERM, what production does not start with."""

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import time

import httpx
import pytest

from hcp_pipelines.operators import users
from hcp_pipelines.settings import child_environment
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.memory import tree_pss_mb
from hcp_pipelines.wire.certificates import issue, make_authority

PASSWORD = "a password of one's own"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    make_authority(folder)
    issue(folder, "api", hosts=["localhost", "127.0.0.1"])
    return folder


@contextlib.contextmanager
def process(settings, **changes):
    """The process, ended at the end; its output is collected."""
    own = settings.model_copy(update=changes)
    ready = own.at("run", "api.json")
    ready.unlink(missing_ok=True)
    env = child_environment(own, HCP_PROCESS_NAME="api")
    started = subprocess.Popen(
        [sys.executable, "-m", "hcp_pipelines.api"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield started, ready
    finally:
        if started.poll() is None:
            started.send_signal(signal.SIGTERM)
        started.communicate(timeout=60)


def urls(started, ready):
    deadline = time.monotonic() + 60
    while not ready.exists():
        assert started.poll() is None, started.stdout.read()
        assert time.monotonic() < deadline, "not ready"
        time.sleep(0.05)
    return json.loads(ready.read_text())["urls"]


def test_it_serves_tells_its_metrics_and_stops_when_asked(settings):
    with connect(settings, Role.API) as connection:
        users.add_user(connection, "ann", users.UserRole.VIEWER, PASSWORD, "test")
    with process(settings, api_listen="127.0.0.1:0") as (started, ready):
        found = urls(started, ready)
        assert found["api"].startswith("http://127.0.0.1:")
        session = httpx.post(f"{found['api']}/api/v1/auth/login", json={"name": "ann", "password": PASSWORD}).json()
        key = {"Authorization": f"Bearer {session['access_token']}"}
        assert httpx.get(f"{found['api']}/api/v1/facilities", headers=key).status_code == 200
        assert httpx.get(found["health"]).json()["healthy"]
        metrics = httpx.get(found["metrics"]).text
        assert 'route="/api/v1/facilities",status="200"' in metrics
        assert httpx.get(f"{found['api']}/metrics").status_code == 404, "metrics are on the process's own port alone"
        assert tree_pss_mb(started.pid) < 150
        os.kill(started.pid, signal.SIGTERM)
        told, _ = started.communicate(timeout=60)
        assert started.returncode == 0
    requests = [json.loads(line) for line in told.splitlines() if '"request"' in line]
    assert [one["status"] for one in requests if one["path"].endswith("login")] == [200]
    assert PASSWORD not in told
    assert session["access_token"] not in told


def test_production_serves_over_tls_alone_once_no_password_is_a_generated_one(settings, certificates):
    files = {
        "api_certificate_file": certificates / "api.crt",
        "api_certificate_key_file": certificates / "api.key",
        "api_profile": "production",
        "api_listen": "127.0.0.1:0",
    }
    with connect(settings, Role.API) as connection:
        users.add_first_admin(connection, "test")
        with process(settings, **files) as (started, _):
            told, _ = started.communicate(timeout=60)
        assert started.returncode == 1
        assert "admin still has a generated password" in told
        users.set_password(connection, users.user_id_of(connection, "admin"), PASSWORD, "test")
    with process(settings, **files) as (started, ready):
        found = urls(started, ready)
        trusted = ssl.create_default_context(cafile=certificates / "ca.crt")
        reply = httpx.get(f"{found['api']}/ready", verify=trusted)
        assert reply.status_code == 200
        assert reply.headers["strict-transport-security"]
        with pytest.raises(httpx.HTTPError):
            httpx.get(found["api"].replace("https", "http") + "/ready")
