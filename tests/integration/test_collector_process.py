"""The collector as the supervisor starts it: ready file, metrics and health, kill -9 of itself and of Postgres, SIGTERM."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime

import psycopg
import pytest

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.settings import Settings, child_environment
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.bootstrap import bootstrap
from hcp_pipelines.storage.embedded import EmbeddedPostgres
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

AT = datetime(2025, 1, 1, 12, tzinfo=UTC)
FACILITY = """
insert into facilities (id, name, location, capacity_mw, pue, settlement_point, document_version, document_digest, document)
values ('hou-1', 'Houston', '{}', 75, 1.1, 'HB_HOUSTON', 1, 'd', '{}')
"""
JOURNAL = """
insert into switch_journal (event, facility_id, owner, epoch, command_id, assignment, generation, group_id, to_state,
    devices, slots, reason, simulated_at)
select 'commanded', 'hou-1', 'allocator-a', 1, %s, n, 1, 's21', 0, 10, '\\x00ff'::bytea, 'economics', %s
from generate_series(1, %s::integer) n
"""


def wait_for(condition, what, within_s=120.0):
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError, StorageError, psycopg.OperationalError):
            if condition():
                return
        time.sleep(0.05)
    raise AssertionError(f"not within {within_s:.0f} s: {what}")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of the module's own, since it is killed."""
    own = Settings(state_dir=tmp_path_factory.mktemp("collector") / "state")
    server = EmbeddedPostgres(own)
    server.prepare()
    server.spawn()
    try:
        server.wait_ready()
        bootstrap(own)
        with connect(own, Role.ADMIN) as connection:
            connection.execute(FACILITY)
        yield server, own
    finally:
        server.stop()


class Daemon:
    """A collector process that can be started again."""

    def __init__(self, settings):
        self.settings = settings
        self.process = None
        self.record_path = settings.at("run", "collector.json")

    def start(self):
        self.record_path.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hcp_pipelines.collector"],
            env=child_environment(self.settings, HCP_PROCESS_NAME="collector"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(self.record_path.exists, "the collector is ready")

    def get(self, what):
        url = json.loads(self.record_path.read_text())["urls"][what]
        try:
            with urllib.request.urlopen(url, timeout=60) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def end(self, number):
        os.kill(self.process.pid, number)
        return self.process.wait(10)


@pytest.fixture
def daemon(server):
    made = Daemon(server[1])
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def add_rows(settings, rows):
    with connect(settings, Role.ADMIN) as connection:
        connection.execute(JOURNAL, (uuid.uuid4(), AT, rows))


def posted(settings):
    with connect(settings, Role.ADMIN) as connection:
        return [row[0] for row in connection.execute("select id from switch_journal order by id").fetchall()]


def copied(settings):
    with lake.attach(settings, Role.LAKE_READER, read_only=True) as connection:
        return [row[0] for row in connection.execute("select id from lake.raw.switch_journal order by id").fetchall()]


def test_it_is_ready_with_tables_copies_and_says_so(server, daemon):
    settings = server[1]
    daemon.start()
    assert copied(settings) == posted(settings)
    add_rows(settings, 3)
    wait_for(lambda: copied(settings) == posted(settings), "the rows are in the lake")
    text = daemon.get("metrics")[1]
    assert 'hcp_collector_rows_copied_total{table="raw.switch_journal"} 3.0' in text
    assert 'hcp_collector_lag_seconds{table="raw.price_ticks"}' in text
    assert daemon.get("health") == (200, '{"healthy": true, "problems": {}}')


def test_a_stop_copies_what_is_left(server, daemon):
    settings = server[1]
    daemon.start()
    add_rows(settings, 2)
    assert daemon.end(signal.SIGTERM) == 0
    assert copied(settings) == posted(settings)


def test_a_stop_copies_what_a_transaction_of_before_it_held_back(server, daemon):
    settings = server[1]
    with connect(settings, Role.ADMIN) as connection:
        with connection.transaction():
            connection.execute(JOURNAL, (uuid.uuid4(), AT, 2))
            daemon.start()
            time.sleep(0.5)  # a round has met it
        connection.execute(JOURNAL, (uuid.uuid4(), AT, 1))
    assert daemon.end(signal.SIGTERM) == 0
    assert copied(settings) == posted(settings)


def test_it_starts_beside_views_over_its_tables(server, daemon):
    """DuckLake ends a process that sets some options of a schema with views: history has one a table."""
    settings = server[1]
    with lake.attach(settings) as connection:
        connection.execute("create or replace view lake.raw.known as from lake.raw.switch_journal")
    lake.initialise(settings)
    daemon.start()
    add_rows(settings, 1)
    wait_for(lambda: copied(settings) == posted(settings), "the row is in the lake")
    assert daemon.end(signal.SIGTERM) == 0


def test_kill9_at_any_moment_neither_loses_nor_doubles(server, daemon):
    settings = server[1]
    for _ in range(2):
        daemon.start()
        add_rows(settings, 500)
        wait_for_more_than(settings, len(copied(settings)))
        daemon.end(signal.SIGKILL)
    daemon.start()
    wait_for(lambda: copied(settings) == posted(settings), "all rows are there, once")


def wait_for_more_than(settings, rows):
    with lake.attach(settings, Role.LAKE_READER, read_only=True) as connection:
        count = "select count(*) from lake.raw.switch_journal"
        wait_for(lambda: connection.execute(count).fetchone()[0] > rows, "a batch is committed")


def test_kill9_of_postgres_is_survived_and_reported(server, daemon):
    postgres, settings = server
    daemon.start()
    process = postgres._process
    process.kill()
    process.wait()
    wait_for(lambda: daemon.get("health")[0] == 503, "the collector says that Postgres is away")
    wait_for(lambda: "copy" in json.loads(daemon.get("health")[1])["problems"], "the copier says so too")
    restart(postgres)
    add_rows(settings, 4)
    wait_for(lambda: copied(settings) == posted(settings), "the rows are in the lake")
    wait_for(lambda: daemon.get("health")[0] == 200, "the collector is well again")
    assert daemon.process.poll() is None


def restart(postgres):
    """Orphaned backends of the killed server may hold its memory for a moment: try again."""
    for _ in range(20):
        process = postgres.spawn()
        try:
            postgres.wait_ready()
        except StorageError:
            process.wait()
            time.sleep(0.2)
        else:
            return
    raise AssertionError("Postgres does not come back")
