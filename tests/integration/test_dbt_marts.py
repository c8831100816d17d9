"""The dbt project built by its Dagster job on a real lake: counts, names and clocks of the switches."""

import re
import subprocess
import sys
import uuid
from datetime import UTC, date, datetime, timedelta

import duckdb
import polars as pl
import pytest
import yaml

from hcp_pipelines.cli.bill_statement import read_statement
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.orchestration import instance
from hcp_pipelines.orchestration.dbt_project import PROJECT, ensure_manifest, is_stale, lake_environment
from hcp_pipelines.orchestration.history.pool import judge_claims
from hcp_pipelines.orchestration.history.reading import reading
from hcp_pipelines.orchestration.lake_state import has_tables
from hcp_pipelines.orchestration.published import publish_marts
from hcp_pipelines.orchestration.reports.make import DRAWN, Kind, make_report
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Database, Role
from tests.support import mart_rows
from tests.support.collected import whole
from tests.support.recorded import random_prices, write_folder

STEPS = '{"read": 2.5, "plan": 4.0, "journal": 6.0, "send": 6.25, "ack": 14.0}'
AT = datetime(2025, 1, 1, 12, tzinfo=UTC)
GUIDE = (PROJECT.parent / "docs" / "analyst-guide.md").read_text()
QUESTIONS = dict(re.findall(r"^### (\d+\. .*?)\n.*?```sql\n(.*?)```", GUIDE, flags=re.DOTALL | re.MULTILINE))
BUILD = """
from assets.switches import switch_models
from hcp_pipelines.definitions.analytics import defs
from hcp_pipelines.orchestration import dbt_project
import dagster as dg
assert all(isinstance(r, dg.ResourceDefinition) for r in defs.resources.values()) and "io_manager" in defs.resources
graph = defs.resolve_asset_graph()
for node in map(graph.get, graph.materializable_asset_keys):
    assert node.description and node.owners and node.kinds and node.group_name != "default", node.key
    is_table = {"ducklake", "dbt"} & set(node.kinds)
    assert "dagster/column_schema" in node.metadata or not is_table, node.key
evil = {"dbt": {"config": {"project_dir": str(dbt_project.PROJECT), "dbt_executable": "/bin/false"}}}  # a run can't change it
jobs = defs.get_repository_def()
asked = {"start": "2024-03-11", "end": "2024-04-10", "point": "HB_TEST", "strategies": ["always_on"],
         "efficiencies_j_per_th": [17.5]}
for _ in range(2):  # what was run again is there twice, and known to be
    found = jobs.get_job("backtest_job").execute_in_process(run_config={"ops": {"raw_hcp__backtests": {"config": asked}}})
    [made] = found.asset_materializations_for_node("raw_hcp__backtests")
    assert "break_even" in made.metadata["results"].value and "plotly" in open(made.metadata["page"].value).read(100_000)
built = jobs.get_job("marts_job").execute_in_process(run_config={"resources": evil})
deps = {
    made.asset_key.path[-1]: made.metadata["dagster/column_lineage"].value.deps_by_column
    for made in (event.step_materialization_data.materialization for event in built.get_asset_materialization_events())
    if "dagster/column_lineage" in made.metadata
}
assert all(deps.get(key.path[-1]) for key in switch_models.keys), "where each column comes from"
status = {(dep.asset_key.path[-1], dep.column_name) for dep in deps["fct_switches"]["status"]}
assert status == {("core_hcp__switches", name) for name in ("acked_at", "expired_at", "settled_at")}, status
day = {"config": {"day": "2025-01-01"}}
names = ["report_daily_operations", "report_market", "report_fleet_health"]
drawn = jobs.get_job("reports_job").execute_in_process(run_config={"ops": dict.fromkeys(names, day)})
for name in names:
    [made] = drawn.asset_materializations_for_node(name)
    assert made.metadata["page"].value.endswith("2025-01-01.html") and "| --- |" in made.metadata["preview"].value
"""

REBUILD = """
import sys
from dbt.cli.main import dbtRunner
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Database, Role
project, *marts = sys.argv[1:]
where = ["--project-dir", project, "--profiles-dir", project, "--target", "lake"]
for how in (["--select", *marts, "fct_switches"], ["--full-refresh", "--select", *marts]):
    assert dbtRunner().invoke(["run", "--quiet", *where, *how]).success
    with connect(Settings.load(), Role.LAKE_READER, Database.LAKE) as connection:
        print("snapshot", connection.execute("select max(snapshot_id) from ducklake_snapshot").fetchone()[0], flush=True)
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
    mart_rows.fill(settings)
    ensure_manifest(settings, lake_environment(settings))
    recorded = {"HCP_RECORDED_DIR": str(write_folder(tmp_path, random_prices(96 * 40)))}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BUILD],
        cwd=instance.ROOT, env=instance.environment(settings) | recorded, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return settings


def rebuild(settings) -> list[int]:
    """Build on top, then the incremental ones from nothing; the lake's snapshot after each."""
    script = [sys.executable, "-W", "ignore", "-c", REBUILD, str(PROJECT), *INCREMENTAL]
    done = subprocess.run(
        script, cwd=instance.ROOT, env=instance.environment(settings), capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("snapshot ")]


def catalogue(settings, sql: str) -> list[tuple]:
    with connect(settings, Role.LAKE_READER, Database.LAKE) as connection:
        return connection.execute(sql).fetchall()


def query(settings, sql: str) -> list[tuple]:
    with lake.attach(settings, read_only=True) as connection:
        return connection.execute(sql).fetchall()


def check_columns(settings) -> None:
    """Each model's columns are those that its description tells, with their types."""
    told = {
        (model["name"], column["name"], column["data_type"].upper())
        for page in (PROJECT / "models").rglob("*.yml")
        for model in yaml.safe_load(page.read_text()).get("models", ())
        for column in model["columns"]
    }
    names = ", ".join(f"'{model}'" for model in {each[0] for each in told})
    there = query(
        settings,
        f"""select table_name, column_name, data_type from duckdb_columns()
            where database_name = 'lake' and table_name in ({names})""",
    )
    assert told ^ set(there) == set()


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


def check_profit(settings) -> None:
    """By hand: 93 of hou-1's 100 miners earn $40/h and draw 3.5 kW at 40 $/MWh, its GPUs $25/h and 7 kW in all."""
    [row] = query(
        settings,
        """select mw, price_usd_per_mwh, revenue_usd, power_cost_usd, net_usd, is_estimated, cast(operating_day as varchar)
           from lake.marts.fct_facility_5min
           where facility_id = 'hou-1' and start_at = timestamptz '2025-01-01 13:00:00+00'""",
    )
    mw, price, revenue, cost, net, *rest = row
    on = 83  # 8 taken, 1 of them failed; 10 more were found asleep
    assert mw == pytest.approx((on * 3.5 + 17 * 0.02 + 10 * 0.7) * 1.1 / 1000)
    assert (price, rest) == (40.0, [True, "2025-01-01"])
    assert revenue == pytest.approx((40 * on / 100 + 25) / 12)
    assert cost == pytest.approx((on * 3.5 + 7) / 1000 * 40 / 12)
    assert net == pytest.approx(revenue - cost)
    days = query(
        settings,
        """select cast(operating_day as varchar), hours, estimated_hours, settled_usd, mining_usd, penalties_usd,
                  round(energy_mwh, 6) from lake.marts.fct_facility_days where facility_id = 'wtx-1' order by 1""",
    )
    mwh = 50 * 3.4 / 1000
    evening = 24 * 4.5 - 6 * mwh * 40  # the UTC day's first six hours are the Central day before
    noon = 72 * 4.5 - 4 * mwh * -20 - 14 * mwh * 40 + 8 * 0.2 - 12
    assert [(day, hours, estimated) for day, hours, estimated, *_ in days] == [
        ("2024-12-31", 6.0, 0.0), ("2025-01-01", 24.0, 6.0), ("2025-01-02", pytest.approx(70 / 12), pytest.approx(70 / 12)),
    ]  # fmt: skip
    assert [float(row[3]) for row in days[:2]] == pytest.approx([evening, noon], abs=1e-4)
    assert [float(row[4]) for row in days[:2]] == [24 * 4.5, 72 * 4.5]
    assert (days[1][5], days[2][3], days[1][6]) == (-12, None, pytest.approx(24 * mwh))
    prices = query(
        settings,
        """select market, origin, count(*), min(price_usd_per_mwh), max(price_usd_per_mwh) from lake.marts.fct_prices
           group by all order by all""",
    )
    assert prices == [
        ("ancillary", "history", 24, 7.5, 7.5), ("day_ahead", "history", 24, -15.0, 45.0),
        ("real_time", "history", 96, -20.0, 40.0), ("real_time", "tick", 144 + 48, -20.0, 40.0),
    ]  # fmt: skip


def check_fleet(settings) -> None:
    facilities = query(
        settings, "select facility_id, devices, miners, round(full_mw, 4) from lake.marts.dim_facilities order by 1"
    )
    assert facilities == [("hou-1", 110, 100, round(357 * 1.1 / 1000, 4)), ("wtx-1", 50, 50, 0.17)]
    used = query(
        settings,
        """select group_id, count(*), round(avg(power_fraction), 6), round(avg(hashrate_fraction), 6)
           from lake.marts.fct_utilisation group by all order by all""",
    )
    assert used == [("h100", 216, 0.9, None), ("m60", 216, 0.9, 0.9), ("s21", 216, 0.9, 0.9)]
    lying = query(
        settings, "select distinct slot from lake.marts.fct_device_hashrate where reported_fraction > 1.1 order by slot"
    )
    assert [slot for (slot,) in lying] == list(mart_rows.LYING)
    paid = query(
        settings,
        """select day, workers, round(paid_fraction, 9), is_underpaid, round(paid_usd, 6), settled_usd,
                  round(paid_less_settled_usd, 6) from lake.marts.fct_pool_days order by day""",
    )
    assert paid == [
        (date(2025, 1, 1), 20, 1.0, False, 0.294, 432.0, -431.706),
        (date(2025, 1, 2), None, None, False, None, None, None),
    ]
    credited = query(
        settings,
        """select slot, hours_told, is_overclaiming, round(reported_fraction, 3) from lake.marts.fct_device_credits
           where day = date '2025-01-01' order by slot""",
    )
    assert credited == [
        (slot, 24, slot in mart_rows.LYING, round((1.4 if slot in mart_rows.LYING else 1.0) / 0.996, 3))
        for slot in range(19)
    ]
    with reading(settings) as reader:
        judged = judge_claims(reader)
    assert judged.told["liars"]["slot"].to_list() == list(mart_rows.LYING), "the check's verdict is the mart's"
    reliability = query(
        settings,
        """select group_id, model, firmware, devices_commanded, devices_refused, devices_failed, devices_found_otherwise,
                  refused_fraction, failed_fraction from lake.marts.fct_device_reliability order by 1""",
    )
    assert reliability == [
        ("h100", "H100", "stock", 10, 0, 0, 0, 0.0, None),
        ("s21", "Antminer S21", "stock", 20, 1, 1, 10, 0.05, 0.125),
    ]
    assert query(settings, "select count(*), min(gap_closed) < max(gap_closed) from lake.marts.fct_regret") == [
        (4, True)
    ]
    assert query(settings, "select horizon, mae_usd_per_mwh from lake.marts.fct_forecast_accuracy order by 2") == [
        ("1", 4.0), ("all", 7.0), ("24", 9.0),
    ]  # fmt: skip


def check_grid(settings) -> None:
    cut = query(
        settings,
        """select group_id, cause, round(mw, 6), mw_settled, time_to_meter_s from lake.marts.fct_curtailment
           where time_to_meter_s is not null order by reduced_at""",
    )
    assert cut == [("s21", "price", 0.035, 0.0245, 540.0), ("s21", "price", 0.03828, pytest.approx(0.03828), 0.0)]
    asked = query(
        settings,
        """select obligation_id, was_called, delivered_mw, is_met, paid_usd, penalty_usd
           from lake.marts.fct_demand_response order by 1""",
    )
    assert asked == [
        (1, True, pytest.approx(0.102), True, pytest.approx(0.8), None),
        (2, True, pytest.approx(0.06), False, pytest.approx(0.8), -12.0),
        (3, False, None, None, None, None),
    ]


def check_work(settings) -> None:
    """By hand, of the lives in mart_rows."""
    work = query(
        settings,
        """select workload_id, status, first_wait_s / 60, waited_s / 60, ran_s / 60, paused_s / 60, preemptions, retries,
                  billed_gpu_s, lost_gpu_s, is_deadline_met, cast(earned_usd as double), lines_without_price
           from lake.marts.fct_workloads where workload_id < 'w9' order by 1""",
    )
    assert work == [
        ("w1", "completed", 11.0, 10.0 + 9 + 9, 60.0 + 30 + 15 + 15, 5.0, 1, 1, 7200.0, 7200.0, True, 4.5, 0),
        ("w2", "failed", 31.0, 30.0, 30.0, 0.0, 0, 0, 7200.0, 0.0, False, None, 1),
        ("w3", "queued", None, 105.0, 0.0, 0.0, 0, 0, 0.0, 0.0, False, None, 0),
        ("w4", "cancelled", None, 5.0, 0.0, 0.0, 0, 0, 0.0, 0.0, None, None, 0),
    ]
    stood_still = """select stops, stops_lost, stops_lost_gpu_s, stops_kept_gpu_s from lake.marts.fct_workloads
                     where workload_id in ('w1', 'w2') order by workload_id"""
    assert query(settings, stood_still) == [(3, 1, 1200.0, 7200.0), (0, 0, 0.0, 0.0)]
    levels = query(
        settings,
        """select type, cast(day as varchar), submitted, started, completed, failed, cancelled, wait_p50_s / 60, wait_p95_s / 60,
                  deadlines, deadline_hit_rate, completion_rate, preemptions, retries, cast(earned_usd as double)
           from lake.marts.fct_service_levels where type = 'model_training'""",
    )
    of = (
        "model_training",
        "2025-01-01",
        4,
        2,
        1,
        1,
        1,
        31.0,  # w3 has not run and counts with the 105 minutes that it has waited
        pytest.approx(97.6),
        3,
        pytest.approx(1 / 3),
        0.5,
        1,
        1,
        4.5,
    )
    assert levels == [of]
    bills = query(
        settings,
        """select customer_id, cast(operating_day as varchar), workloads, gpu_hours, unbilled_gpu_hours, cast(gpu_usd as double),
                  energy_mwh, cast(usd as double), metered_fraction, lines_without_price
           from lake.marts.fct_billing order by 1""",
    )
    assert bills == [
        ("c1", "2025-01-01", 2, 4.0, 2.0, 8.0, 0.02, 4.5, pytest.approx(2 / 3), 1),
        ("c2", "2025-01-02", 1, 2.0, 0.0, 3.0, 0.01, 3.5, 1.0, 0),
        ("c3", "2025-01-01", 1, 2.0, 0.0, 3.0, 0.01, 3.25, 1.0, 0),
    ]
    credits_ = query(
        settings,
        """select workload_id, customer_id, cast(operating_day as varchar), credit_fraction, cast(billed_usd as double),
                  cast(credit_usd as double) from lake.marts.fct_sla_credits""",
    )
    assert credits_ == [("x1", "c3", "2025-01-01", 0.25, 3.25, 0.8125)], "as it held when the day began"
    statement = read_statement(settings, "c3", date(2025, 1, 1), date(2025, 1, 31))
    assert [(item.kind, str(item.amount_usd)) for item in statement.items] == [
        ("gpu", "3.00"), ("energy", "0.25"), ("credit", "-0.81"),
    ]  # fmt: skip
    assert str(statement.total_usd) == "2.44"
    phases = query(
        settings,
        """select facility_id, from_state, to_state, switches, devices, succeeded, rolled_back, control_p50_ms, pause_p95_ms,
                  checkpoint_p95_ms, device_p50_s, round(control_fraction, 6)
           from lake.marts.fct_switch_phases""",
    )
    assert phases == [
        (
            "hou-1",
            "inference_batch",
            "training",
            2,
            8,
            1,
            1,
            50.0,
            pytest.approx(14.75),
            None,
            5.4,
            round(100 / 10900, 6),
        )
    ]
    overflow = query(
        settings,
        """select workload_id, decisions, cloud_provider, cloud_usd_per_hour, cloud_usd,
                  epoch(last_at - first_at) / 60, epoch(placed_at - first_at) / 60, status
           from lake.marts.fct_overflow""",
    )
    assert overflow == [("w2", 2, "market", 5.0, 10.0, 10.0, 30.0, "failed")]


def check_published(settings) -> None:
    """The questions of the guide, on the lake and in the published file; who has the old file open goes on with it."""
    done = publish_marts(settings)
    assert done.rows["fct_switches"] == 3
    before = done.path.stat().st_ino
    with duckdb.connect(str(done.path), read_only=True) as old, lake.attach(settings, read_only=True) as connection:
        connection.execute("use lake")
        assert len(QUESTIONS) == 13
        for title, question in QUESTIONS.items():
            found = connection.execute(question).fetchall()
            assert found, title
            assert old.execute(question).fetchall() == found, title
        said = "select comment from duckdb_columns() where table_name = 'fct_facility_5min' and column_name = 'is_estimated'"
        assert old.execute(said).fetchall() == [("Whether it is not settled yet.",)]
        assert publish_marts(settings).path.stat().st_ino != before
        assert old.execute("select count(*) from marts.fct_switches").fetchall() == [(3,)]
    assert [path.name for path in done.path.parent.iterdir()] == ["hcp.duckdb"]
    negative = query(
        settings, "use lake; " + QUESTIONS["1. What did last night's negative prices earn us at each facility?"]
    )
    assert [(row[0], row[1], row[6]) for row in negative] == [("hou-1", 4.0, True), ("wtx-1", 4.0, True)]
    assert [row[4] for row in negative] == pytest.approx([(83 * 3.5 + 7) / 1000 * 20 * 4, 0.17 * 20 * 4])
    racks = query(settings, "use lake; " + QUESTIONS["2. Which racks lie about their hashrate?"])
    assert [row[2:5] for row in racks] == [(2, 10, 5)]


def check_reports(settings) -> None:
    """What is in each; the pages are those that the job has drawn."""
    day = mart_rows.FIRST.date()
    with lake.attach(settings, read_only=True) as connection:
        drawn = {kind: draw(lambda *asked: connection.execute(*asked).pl(), day) for kind, (_, draw) in DRAWN.items()}
    assert [row[0] for row in drawn[Kind.DAILY].rows] == ["hou-1", "wtx-1"]
    assert drawn[Kind.DAILY].rows[1][2:6] == ["232.00", "6.00", "24.00", "4.08"]
    assert drawn[Kind.MARKET].rows[1][:5] == ["HB_WEST", "30.00", "-20.00", "40.00", "4.00"]
    assert "5 report more than 1.05 times" in drawn[Kind.FLEET].notes[1]
    for kind, one in drawn.items():
        page = settings.at("reports", kind.value, f"{day}.html").read_text()
        assert one.title in page
        assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", page), "it needs no network"
    assert make_report(settings, Kind.DAILY).day == day + timedelta(days=1), "the newest there is"
    with pytest.raises(StorageError, match="nothing of 2024-01-01"):
        make_report(settings, Kind.MARKET, date(2024, 1, 1))


INCREMENTAL = {"fct_facility_5min": "facility_5min_id", "fct_utilisation": "group_minute_id"}


def check_incremental_is_a_full_refresh(settings) -> None:
    """New ticks and minutes, an old minute that is told anew, an old day that is settled: built on top, and from nothing."""
    noon, day = mart_rows.FIRST + timedelta(hours=36), timedelta(days=1)
    later = [row for n in range(12) for row in mart_rows.scores_at(145 + n, noon + n * mart_rows.QUARTER)]
    minutes = [mart_rows.minute_row(noon, "hou-1", "s21"), mart_rows.minute_row(noon - day, "hou-1", "s21", 0.5, 61)]
    lines = [mart_rows.settlement_line(mart_rows.FIRST + day, "mining", 4.5)]
    stamp = mart_rows.settled_day(mart_rows.FIRST + day)
    before = {mart: contents(settings, mart) for mart in INCREMENTAL}
    with lake.attach(settings) as connection:
        connection.execute(
            "delete from lake.core.telemetry_group_1min where minute_at = ? and group_id = 's21'", [noon - day]
        )
    mart_rows.add(settings, {
        "raw.profitability_scores": later, "core.telemetry_group_1min": minutes, "core.hcp__settlement": lines,
        "core.hcp__settled_days": [stamp],
    })  # fmt: skip
    on_top, anew = rebuild(settings)
    grown = {mart: contents(settings, mart, on_top) for mart in INCREMENTAL}
    assert all(len(grown[mart]) > len(before[mart]) for mart in INCREMENTAL)
    changed = set(before["fct_utilisation"]) - set(grown["fct_utilisation"])
    assert len(changed) == 1, "the minute that was told anew"
    second = (mart_rows.FIRST + day).date()
    assert any(not row[-3] for row in grown["fct_facility_5min"] if (row[1], row[3]) == ("wtx-1", second))
    for mart, rows in grown.items():
        assert contents(settings, mart, anew) == rows, mart


def contents(settings, mart: str, snapshot: int | None = None) -> list[tuple]:
    at = f" at (version => {snapshot})" if snapshot else ""
    return query(settings, f"from lake.marts.{mart}{at} order by {INCREMENTAL[mart]}")


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
    check_columns(built_lake)
    check_backtests(built_lake)
    check_profit(built_lake)
    check_fleet(built_lake)
    check_grid(built_lake)
    check_work(built_lake)
    check_published(built_lake)
    check_reports(built_lake)
    check_incremental_is_a_full_refresh(built_lake)
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
    check_a_group_that_slept_at_first(built_lake)


def check_a_group_that_slept_at_first(settings) -> None:
    """All 50 miners of wtx-1 are asleep when their journal begins, as in a world that begins: they don't run beside that."""
    of = {"facility_id": "wtx-1", "group_id": "m60", "from_state": 0, "to_state": 3, "devices": 50}
    command = uuid.uuid4()
    rows = [journal_row(8, "commanded", command, 0, 0, **of), journal_row(9, "acked", command, 0, 1, **of)]
    lake.write(
        settings, "raw.switch_journal", whole("raw.switch_journal", pl.DataFrame(rows)), batch_id=uuid.uuid4().hex
    )
    found = query(
        settings,
        """select state, from_at < timestamptz '2001-01-01 00:00:00+00', devices from lake.core.core_hcp__group_states
           where facility_id = 'wtx-1' and group_id = 'm60' and state in ('curtailed', 'mining_full') order by all""",
    )
    assert found == [
        ("curtailed", False, 0),
        ("curtailed", True, 50),
        ("mining_full", False, 50),
        ("mining_full", True, 0),
    ]
