"""The dbt project built by its Dagster job on a real lake: counts, names and clocks of the switches."""

import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from hcp_pipelines.orchestration import instance
from hcp_pipelines.orchestration.dbt_project import PROJECT, dbt_executable, ensure_manifest, is_stale, lake_environment
from hcp_pipelines.orchestration.lake_state import has_tables
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Database, Role
from tests.support.collected import whole
from tests.support.recorded import random_prices, write_folder

STEPS = '{"read": 2.5, "plan": 4.0, "journal": 6.0, "send": 6.25, "ack": 14.0}'
AT = datetime(2025, 1, 1, 12, tzinfo=UTC)
BUILD = """
from hcp_pipelines.definitions.analytics import defs
from hcp_pipelines.orchestration import dbt_project
import dagster as dg
assert all(isinstance(r, dg.ResourceDefinition) for r in defs.resources.values()) and "io_manager" in defs.resources
evil = {"dbt": {"config": {"project_dir": str(dbt_project.PROJECT), "dbt_executable": "/bin/false"}}}  # a run can't change it
jobs = defs.get_repository_def()
asked = {"start": "2024-03-11", "end": "2024-04-10", "point": "HB_TEST", "strategies": ["always_on"],
         "efficiencies_j_per_th": [17.5]}
for _ in range(2):  # what was run again is there twice, and known to be
    found = jobs.get_job("backtest_job").execute_in_process(run_config={"ops": {"raw_hcp__backtests": {"config": asked}}})
    [made] = found.asset_materializations_for_node("raw_hcp__backtests")
    assert "break_even" in made.metadata["results"].value and "plotly" in open(made.metadata["page"].value).read(100_000)
assert jobs.get_job("marts_job").execute_in_process(run_config={"resources": evil}).success
"""


def journal_row(number: int, event: str, command: uuid.UUID, assignment: int, after_s: int, **changed) -> dict:
    row = {
        "id": number, "event": event, "facility_id": "hou-1", "owner": "allocator-a", "epoch": 3,
        "command_id": str(command), "assignment": assignment, "generation": 1, "group_id": "s21", "feeder_id": "f1",
        "wave": 0, "from_state": 3, "to_state": 0, "devices": 10, "refused": 0, "deferred": 0, "failed": 0,
        "superseded": 0, "mw_delta": -0.035, "tick_id": 7, "policy_id": 5, "decision_price_usd_per_mwh": 210.0,
        "usd_per_hour": 4.2, "reason": "economics", "reason_detail": "", "actor": "policy", "steps_ms": None,
        "simulated_at": AT + timedelta(seconds=60 * after_s), "recorded_at": AT + timedelta(seconds=after_s),
    }  # fmt: skip
    return row | changed


def paper_row(number: int, hours: float, actual: float, paper: float, **changed) -> dict:
    row = {
        "id": number, "facility_id": "hou-1", "control_mode": "observe", "tick_id": number, "policy_id": 5,
        "decision_price_usd_per_mwh": 210.0, "hours": hours, "usd_actual": actual, "usd_paper": paper, "wake_usd": 1.0,
        "devices": 3, "mw_actual": 4.0, "mw_paper": 1.0, "simulated_at": AT, "recorded_at": AT,
    }  # fmt: skip
    return row | changed


@pytest.fixture
def built_lake(settings, tmp_path):
    first, second = uuid.uuid4(), uuid.uuid4()
    rows = [
        journal_row(1, "commanded", first, 0, 0),
        journal_row(2, "commanded", first, 1, 0, group_id="h100", from_state=1, to_state=5),
        journal_row(3, "acked", first, 0, 1, devices=8, refused=1, deferred=1, steps_ms=STEPS),
        journal_row(4, "settled", first, 0, 9, devices=7, failed=1),
        journal_row(5, "commanded", second, 0, 2, from_state=0, to_state=3),
        journal_row(6, "observed", uuid.uuid4(), 0, 3),
    ]
    lake.write(
        settings,
        "raw.switch_journal",
        whole("raw.switch_journal", pl.DataFrame(rows)),
        batch_id=str(first),
        mode="replace",
    )
    papers = [
        paper_row(1, 0.25, -10.0, -1.0),
        paper_row(2, 0.75, 30.0, 20.0, mw_paper=4.0),
        paper_row(3, 1.0, 5.0, 5.0, simulated_at=AT + timedelta(hours=14)),
    ]
    lake.write(
        settings,
        "raw.paper_plans",
        whole("raw.paper_plans", pl.DataFrame(papers)),
        batch_id=uuid.uuid4().hex,
        mode="replace",
    )
    ensure_manifest(settings, lake_environment(settings))
    recorded = {"HCP_RECORDED_DIR": str(write_folder(tmp_path, random_prices(96 * 40)))}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BUILD],
        cwd=instance.ROOT, env=instance.environment(settings) | recorded, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return settings


def rebuild(settings) -> None:
    argv = [
        dbt_executable(),
        "run",
        "--quiet",
        "--project-dir",
        str(PROJECT),
        "--profiles-dir",
        str(PROJECT),
        "--target",
        "lake",
    ]
    done = subprocess.run(argv, env=instance.environment(settings), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def catalogue(settings, sql: str) -> list[tuple]:
    with connect(settings, Role.LAKE_READER, Database.LAKE) as connection:
        return connection.execute(sql).fetchall()


def query(settings, sql: str) -> list[tuple]:
    with lake.attach(settings, read_only=True) as connection:
        return connection.execute(sql).fetchall()


def check_backtests(settings) -> None:
    rows = query(
        settings,
        """select strategy, kind, subject, days, mw, gap_closed, count(*), count(*) filter (is_newest),
                  min(net_usd - mining_usd - energy_usd - switching_usd)
           from lake.marts.fct_backtest where subject = 'asic-1mw' and known = 'at-start' group by all order by 1""",
    )
    gaps = [row[5] for row in rows]
    assert [row[:5] for row in rows] == [
        (name, "backtest", "asic-1mw", 30.0, 1.0) for name in ("always_on", "break_even", "oracle")
    ]
    assert gaps[0] < gaps[1] == 0 < gaps[2] == 1
    assert [row[6:8] for row in rows] == [(2, 1)] * 3
    assert [row[8] for row in rows] == pytest.approx([0.0] * 3, abs=1e-6)


def test_marts_are_built_and_as_fresh_as_the_copied_rows(built_lake):
    assert not is_stale(built_lake)
    assert has_tables(built_lake, ["raw.switch_journal", "core.core_hcp__switches", "marts.fct_switches"])
    rows = query(
        built_lake,
        """select group_id, from_state, to_mode, status, devices_commanded, devices_accepted, devices_refused,
                  devices_settled, devices_failed, command_to_ack_ms, ack_to_settled_simulated_s
           from lake.marts.fct_switches order by commanded_at, assignment""",
    )
    assert rows == [
        ("s21", "mining_full", "curtailed", "settled", 10, 8, 1, 7, 1, 1000, 480),
        ("h100", "idle", "ai_inference_batch", "commanded", 10, None, None, None, None, None, None),
        ("s21", "curtailed", "bitcoin_mining", "commanded", 10, None, None, None, None, None, None),
    ]
    days = query(
        built_lake,
        """select facility_id, cast(day as varchar), hours, gain_usd, wake_usd, devices_changed, mean_mw_paper
           from lake.marts.fct_observed_days order by day""",
    )
    assert days == [("hou-1", "2025-01-01", 1.0, -1.0, 2.0, 6, 3.25), ("hou-1", "2025-01-02", 1.0, 0.0, 1.0, 3, 1.0)]
    latency = query(
        built_lake,
        """select facility_id, tick_id, devices_accepted, read_ms, plan_ms, journal_ms, send_ms, ack_ms, tick_to_ack_ms
           from lake.marts.fct_switch_latency""",
    )
    assert latency == [("hou-1", 7, 8, 2.5, 1.5, 2.0, 0.25, 7.75, 14.0)]
    check_backtests(built_lake)
    rebuild(built_lake)
    lives = catalogue(
        built_lake, "select begin_snapshot, end_snapshot from ducklake_view where view_name = 'fct_switches'"
    )
    lives.sort()
    assert len(lives) == 2
    assert lives[0][1] == lives[1][0], "a reader finds the mart at each instant of a rebuild"
    third = query(built_lake, "select command_id from lake.marts.fct_switches where from_state = 'curtailed'")[0][0]
    row = journal_row(7, "acked", uuid.UUID(third), 0, 5, from_state=0, to_state=3)
    lake.write(
        built_lake, "raw.switch_journal", whole("raw.switch_journal", pl.DataFrame([row])), batch_id=uuid.uuid4().hex
    )
    acked = query(built_lake, "select count(*) from lake.marts.fct_switches where acked_at is not null")
    assert acked == [(2,)], "the mart is a view: no build is needed for a new row"
