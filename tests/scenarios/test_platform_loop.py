"""The whole platform, as a user starts it: the loop, the lake, kill -9 of each process, a clean end."""

import json
import os
import signal
import time
from datetime import timedelta

import duckdb
import pytest

from hcp_pipelines.optimizer.backtest.record import REPLAYS, Run, store
from hcp_pipelines.orchestration.lake_state import has_tables
from hcp_pipelines.orchestration.replaying import AskedReplay, run_replay
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.guardian import session_members
from tests.support.platform import judge

pytestmark = [pytest.mark.platform, pytest.mark.timeout(900)]

ACKED = "select coalesce(sum(devices), 0) from switch_journal where event = 'acked'"
SETTLED = "select coalesce(sum(devices), 0) from switch_journal where event = 'settled'"
DAGSTER_POLICIES = "select count(*) from policies where status = 'live' and run_id is not null"


@pytest.fixture(scope="module")
def platform(shared_platform):
    shared_platform.wait_ready()
    return shared_platform


def test_the_loop_runs_to_a_settled_switch(platform):
    platform.wait(lambda: platform.query(ACKED)[0][0] > 0, 180, "a first acked switch")
    platform.wait(lambda: platform.query(DAGSTER_POLICIES)[0][0] > 0, 180, "a policy by a Dagster run")
    platform.wait(lambda: platform.query(SETTLED)[0][0] > 0, 180, "a settled switch")
    done = platform.hcp("status", "--json")
    status = json.loads(done.stdout)
    assert done.returncode == 0, [p for p in status["processes"] if not p["healthy"]]
    assert status["healthy"]
    assert status["policies"]["count"] >= 1
    assert status["policies"]["last_run_id"]
    assert status["switches"]["acked"] > 0
    assert status["switches"]["settled"] > 0


def marts_are_built(platform):
    """The first build begins soon after the start; chaos before these tests may have ended it, and it begins anew."""
    return lambda: has_tables(platform.settings, ["marts.fct_facility_days"])


def test_every_acked_switch_is_in_the_mart_within_a_minute(platform):
    acked = platform.query("select command_id::text || '/' || assignment from switch_journal where event = 'acked'")
    known = {row[0] for row in acked}
    assert known

    query = "select command_id::varchar || '/' || assignment as key from marts.fct_switches where acked_at is not null"
    platform.wait(marts_are_built(platform), 240, "the first marts", every_s=1)
    in_mart = "all acked switches in marts.fct_switches"
    platform.wait(lambda: known <= {key for (key,) in platform.lake(query)}, 60, in_mart, every_s=1)
    done = platform.hcp("sql", query, "--format", "json")
    assert known <= {row["key"] for row in json.loads(done.stdout)}, done.stderr


def test_the_readmes_two_lines_work_in_a_plain_session(platform):
    lake = duckdb.connect()
    lake.execute((platform.state_dir / "analyst.sql").read_text())
    assert lake.sql("select count(*) from marts.fct_switches").fetchone()[0] > 0
    with pytest.raises(duckdb.Error):
        lake.execute("create table marts.mine (x integer)")


def test_a_second_up_is_refused(platform):
    done = platform.hcp("up")
    assert done.returncode == 1
    assert f"pid {platform.process.pid}" in done.stderr


def test_doctor_finds_nothing_wrong(platform):
    platform.wait(lambda: platform.hcp("doctor").returncode == 0, 180, "hcp doctor finds all well", every_s=2)


def test_the_sensor_alone_keeps_policies_coming(platform):
    """The launcher is stopped (SIGSTOP: it is not replaced); what is published now was asked for by the sensor."""
    launcher = platform.row("tick-launcher")["pid"]
    os.kill(launcher, signal.SIGSTOP)
    try:
        for _ in range(2):  # the first may come from a run that the launcher had asked for
            known = platform.query(DAGSTER_POLICIES)[0][0]
            platform.wait(lambda known=known: platform.query(DAGSTER_POLICIES)[0][0] > known, 180, "a policy")
    finally:
        os.kill(launcher, signal.SIGCONT)


EACH = (
    *("allocator-a", "gateway-1", "feed", "collector", "world", "postgres"),
    *("dagster-daemon", "dagster-control", "dagster-analytics", "run-server", "tick-launcher"),
)


@pytest.mark.parametrize("name", EACH)
def test_kill9_of_a_process_loses_and_doubles_nothing(platform, name):
    platform.wait_ready(120)
    newest = platform.query("select max(id) from price_data")[0][0]
    policies = platform.query(DAGSTER_POLICIES)[0][0]
    platform.kill9(name)
    platform.wait(lambda: platform.query("select max(id) from price_data")[0][0] > newest, 180, "ticks go on")
    platform.wait(lambda: platform.query(DAGSTER_POLICIES)[0][0] > policies, 180, "policies go on")


def test_nothing_was_lost_or_doubled_by_all_that(platform):
    platform.wait_ready(120)
    time.sleep(3)
    verdict = judge(platform)
    for _ in range(60):  # commands under way are not lost ones: look again
        if verdict["lost"] == 0:
            break
        time.sleep(1)
        verdict = judge(platform)
    assert verdict["commands"] > 0
    assert (verdict["lost"], verdict["doubled"]) == (0, 0)


def test_what_the_platform_recorded_can_be_replayed(platform):
    """By the function behind `replay_job`, on real ticks, policies and switches, kills and all."""
    first, last = platform.query(
        "select min(simulated_at), max(simulated_at) from switch_journal where event = 'acked'"
    )[0]
    asked = AskedReplay("hou-1", first, last + timedelta(minutes=5))
    with connect(platform.settings, Role.CONTROL) as connection:
        results = run_replay(connection, platform.settings, asked, Run("loop", "hou-1", last)).results
    rows = {row["strategy"]: row for row in results.to_dicts()}
    assert {"realised", "always_on", "published", "oracle"} <= set(rows)
    assert max(row["net_usd"] for row in rows.values()) == pytest.approx(rows["oracle"]["net_usd"])
    assert rows["realised"]["switches_per_device_day"] > 0
    store(platform.settings, results, REPLAYS)
    query = "select strategy, net_usd from marts.fct_backtest where kind = 'replay' and is_newest"
    net = {name: row["net_usd"] for name, row in rows.items()}

    platform.wait(lambda: dict(platform.lake(query)) == net, 180, "the replay in marts.fct_backtest", every_s=1)


def test_killing_the_supervisor_leaves_nothing_and_up_starts_clean(platform):
    sessions = platform.sessions()
    os.kill(platform.process.pid, signal.SIGKILL)
    platform.process.wait(10)
    deadline = time.monotonic() + 40
    while session_members(sessions) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert session_members(sessions) == set() or session_members(sessions) == []
    platform.start()
    platform.wait_ready()
    before = platform.query(ACKED)[0][0]
    assert before > 0, "the journal survives"


def test_ctrl_c_leaves_nothing_running(platform):
    sessions = platform.sessions()
    assert platform.stop() == 0
    assert session_members(sessions) == []
