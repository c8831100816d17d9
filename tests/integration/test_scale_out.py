"""The platform's parts elsewhere: somebody else's PostgreSQL over TCP, the lake's files in an S3-compatible store."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import duckdb
import polars as pl
import pytest

from hcp_pipelines.domain.errors import ConfigError, StorageError
from hcp_pipelines.orchestration import instance
from hcp_pipelines.orchestration.dbt_project import PROJECT, dbt_executable, target_name
from hcp_pipelines.orchestration.spreading import make_broker_tables
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import lake, object_store
from hcp_pipelines.storage.bootstrap import bootstrap
from hcp_pipelines.storage.query import run_select
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.storage.secrets import password
from hcp_pipelines.supervisor.processes import ROOT
from tests.support.object_store import BUCKET, KEY_ID, SECRET, objects
from tests.support.object_store import object_store as running_store
from tests.support.site_postgres import QUOTED, SUPERUSER, site_postgres

ROWS = pl.DataFrame({"power_kw": [float(n) for n in range(2000)]})  # more than goes to the catalogue
AWS_KEYS = {"AWS_ACCESS_KEY_ID": "ANALYST", "AWS_SECRET_ACCESS_KEY": "own", "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Settings of a platform that is set up on such a server and such a store, and the store's address."""
    state_dir = tmp_path_factory.mktemp("site")
    secret = state_dir / "store-secret"
    secret.write_text(SECRET + "\n")
    with site_postgres() as port, running_store() as endpoint:
        settings = Settings(
            state_dir=state_dir,
            world="real",
            database_url=f"postgresql://{SUPERUSER}:{QUOTED}@127.0.0.1:{port}/postgres",
            lake_url=f"s3://{BUCKET}/hcp",
            lake_s3_endpoint=endpoint,
            lake_s3_key_id=KEY_ID,
            lake_s3_secret_file=secret,
        )
        bootstrap(settings)
        lake.write(settings, "raw.readings", ROWS, "first")
        yield SimpleNamespace(settings=settings, endpoint=endpoint)


def test_what_is_written_lies_in_the_store_and_only_there(site):
    assert lake.write(site.settings, "raw.readings", ROWS, "first").was_known
    assert "<Key>hcp/raw/readings/" in objects(site.endpoint)
    assert not site.settings.at("lake").exists()
    with lake.attach(site.settings, Role.LAKE_READER, read_only=True) as connection:
        assert connection.execute("select count(*), sum(power_kw) from lake.raw.readings").fetchone() == (
            2000,
            1_999_000,
        )
        assert SECRET not in str(connection.execute("from duckdb_secrets()").fetchall())


def test_hcp_sql_reads_it_and_nothing_beside_it(site):
    assert run_select(site.settings, "select count(*) from raw.readings").rows == [(2000,)]
    for other in (f"s3://{BUCKET}/hcpx/a.parquet", "s3://other/a.parquet", "/etc/passwd"):
        with pytest.raises(StorageError, match=r"disabled by configuration"):
            run_select(site.settings, f"select * from read_text('{other}')")


def test_an_analysts_script_has_no_key_of_the_platforms_but_uses_their_own(site):
    script = site.settings.at("analyst.sql")
    assert SECRET not in script.read_text()
    assert KEY_ID not in script.read_text()
    asks = f"import duckdb; c = duckdb.connect(); c.execute(open({str(script)!r}).read()); "
    asks += "print(c.execute('select count(*) from raw.readings').fetchone()[0])"
    done = subprocess.run([sys.executable, "-c", asks], env=os.environ | AWS_KEYS, capture_output=True, text=True)
    assert done.stdout.strip() == "2000", done.stderr


def test_a_new_machine_needs_no_folder_before(site, tmp_path):
    new = {"state_dir": tmp_path / "new", "secrets_dir": site.settings.at("secrets")}
    bootstrap(site.settings.model_copy(update=new))
    assert (tmp_path / "new" / "analyst.sql").exists()


@pytest.mark.parametrize(("changed", "says"), [
    ({"lake_s3_secret_file": None}, "HCP_LAKE_S3_KEY_ID='TESTKEYID' has no secret"),
    ({"lake_s3_secret_file": Path("/nowhere/secret")}, "HCP_LAKE_S3_SECRET_FILE=/nowhere/secret: No such file"),
])  # fmt: skip
def test_half_a_key_is_refused_by_name(site, changed, says):
    with pytest.raises(ConfigError, match=says), lake.attach(site.settings.model_copy(update=changed)):
        pass


def test_a_store_that_is_away_is_an_error_without_the_secret(site):
    away = site.settings.model_copy(update={"lake_s3_endpoint": "http://127.0.0.1:9"})
    big = pl.DataFrame({"power_kw": [1.0] * 2000})  # more than goes to the catalogue
    with pytest.raises(StorageError, match="Could not connect to server") as caught:
        lake.write(away, "raw.elsewhere", big, "first")
    assert SECRET not in str(caught.value)


def test_certificates_are_verified(site):
    with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
        for statement in object_store.statements(site.settings):
            connection.execute(statement)
        query = "select bool_and(value::bool) from duckdb_settings() where name like 'enable%_cert_verification'"
        assert connection.execute(query).fetchone() == (True,)


def test_dbt_reaches_the_lake_there_and_logs_no_secret(site, tmp_path):
    (tmp_path / "dbt_project.yml").write_text("name: empty\nversion: 1.0.0\nprofile: hcp\n")
    query = "select count(*) as found from lake.raw.readings"
    argv = [dbt_executable(), "--debug", "show", "--inline", query, "--target", target_name(site.settings)]
    own = {"DBT_LOG_PATH": str(tmp_path / "logs"), "DBT_TARGET_PATH": str(tmp_path / "target")}
    env = instance.environment(site.settings) | own
    folders = ["--project-dir", str(tmp_path), "--profiles-dir", str(PROJECT)]
    done = subprocess.run([*argv, *folders], env=env, capture_output=True, text=True)
    assert "2000" in done.stdout, done.stdout[-2000:]
    assert SECRET not in done.stdout + done.stderr + (tmp_path / "logs" / "dbt.log").read_text()


@pytest.fixture
def workers(site, tmp_path):
    """Two Celery workers as `hcp run celery-worker` starts them, and whoever sends them three runs once they are ready."""
    settings = site.settings.model_copy(update={"executor": "celery"})
    instance.write_instance(settings)
    make_broker_tables(settings)
    job = ("tests.support.spread_location", "lake_maintenance_job", "3")
    argv = [sys.executable, "-m", "tests.support.send_runs", *job]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    sender = subprocess.Popen(argv, cwd=ROOT, env=instance.environment(settings), text=True, **pipes)
    started = {}
    for name in ("worker-1", "worker-2"):
        command = instance.celery_worker(settings, name)
        with (tmp_path / name).open("wb") as log:
            started[name] = subprocess.Popen(command.argv, env=command.env, cwd=ROOT, stdout=log, stderr=log)
    try:
        for name, process in started.items():
            wait_for_text(tmp_path / name, "ready.", process)
        yield SimpleNamespace(sender=sender, logs=[tmp_path / name for name in started])
    finally:
        sender.kill()
        sender.communicate()
        for process in started.values():
            process.send_signal(signal.SIGQUIT)  # what it works on is done
        for process in started.values():
            process.wait(30)


def wait_for_text(path, text, process):
    deadline = time.monotonic() + 60
    while text not in path.read_text():
        assert process.poll() is None, path.read_text()[-2000:]
        assert time.monotonic() < deadline, path.read_text()[-2000:]
        time.sleep(0.1)


@pytest.mark.platform
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # kombu's own
def test_two_workers_share_the_runs_of_an_analytics_job(site, workers):
    """The broker is a table of Dagster's database here; the lake that the runs look after is in the store."""
    out, errors = workers.sender.communicate("go\n", timeout=120)
    assert workers.sender.returncode == 0, errors[-3000:]
    told = json.loads(out)
    assert [run["status"] for run in told["runs"]] == ["SUCCESS"] * 3
    assert [run["tags"]["hcp/worker"] for run in told["runs"]] == ["elsewhere"] * 3
    assert told["health"] == ["SUCCESS"] * 3
    taken = [path.read_text().count("Task execute_job") for path in workers.logs]
    assert min(taken) >= 1, taken
    written = site.settings.at("dagster", "dagster.yaml").read_text() + "".join(p.read_text() for p in workers.logs)
    assert password(site.settings, Role.DAGSTER) not in written
