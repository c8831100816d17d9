"""The tick's run on a real database: prices to policies, the sensor that asks for it, alerts, idempotence."""

import asyncio
import uuid
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.domain.ticks import Stream, Tick
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.orchestration.alerts import alert_overdue_policies
from hcp_pipelines.orchestration.requests import Reason, solve_request
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.orchestration.state import read_solve_state
from hcp_pipelines.storage.postgres import connect, dsn
from hcp_pipelines.storage.prices import store_price_data
from hcp_pipelines.storage.roles import Role

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dagster as dg

    from assets.explanations import core_hcp__explanations
    from hcp_pipelines.definitions.control import defs
    from sensors.control import tick_sensor

AT = datetime(2025, 1, 1, 12, tzinfo=UTC)
POINTS = ("HB_HOUSTON", "HB_NORTH", "HB_HUBAVG")


async def _store(settings, *ticks: Tick) -> list[int]:
    async with await psycopg.AsyncConnection.connect(dsn(settings, Role.FEED), autocommit=True) as connection:
        return [stored.id for stored in await store_price_data(connection, list(ticks))]


def store(settings, *ticks: Tick) -> list[int]:
    """Dagster's runs make event loops of their own, so that these tests are not asynchronous ones."""
    return asyncio.run(_store(settings, *ticks))


def power(minutes: int, price: float) -> list[Tick]:
    return [Tick(Stream.POWER_RT_LMP, p, AT + timedelta(minutes=minutes), price, "USD/MWh", "ERCOT") for p in POINTS]


@pytest.fixture
def fleet(settings):
    with connect(settings, Role.ADMIN) as connection:
        for document in demo_facilities(3, 120):
            apply(connection, document, "test")
    anchor = Anchor(SystemClock().real_now(), AT + timedelta(minutes=30), 1.0)
    path = settings.at("run", "clock.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(anchor.dump())
    store(
        settings,
        Tick(Stream.BTC_USD, "consensus", AT, 95_000.0, "USD", "coinbase"),
        Tick(Stream.BTC_NETWORK, "difficulty", AT, 1.1e14, "1", "mempool"),
        Tick(Stream.BTC_NETWORK, "fees_btc_per_block", AT, 0.05, "BTC", "mempool"),
        Tick(Stream.BTC_NETWORK, "height", AT, 880_000.0, "1", "mempool"),
        Tick(Stream.GPU_SPOT, "H100", AT, 2.1, "USD/GPU-hour", "listings"),
        Tick(Stream.POWER_DA_SPP, "HB_HOUSTON", AT, 30.0, "USD/MWh", "ERCOT"),
    )
    yield settings
    path.unlink()


def run_tick_job(settings, instance, *, raise_on_error=True, **tags: str) -> dg.ExecuteInProcessResult:
    job = defs.get_repository_def().get_job("tick_job")
    resources = {"platform": Platform(state_dir=str(settings.state_dir))}
    return dg.Definitions(
        assets=defs.assets, asset_checks=defs.asset_checks, resources={**defs.resources, **resources},
        jobs=[dg.define_asset_job("tick_job", selection=dg.AssetSelection.assets(*job.asset_layer.executable_asset_keys))],
    ).resolve_job_def("tick_job").execute_in_process(instance=instance, tags=tags, raise_on_error=raise_on_error)  # fmt: skip


def explain(settings, instance) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [core_hcp__explanations], instance=instance, resources={"platform": Platform(state_dir=str(settings.state_dir))}
    )


def policies(settings) -> list[tuple]:
    with connect(settings, Role.OPERATOR) as connection:
        return connection.execute(
            "select facility_id, status, basis_tick_id, run_id from policies order by facility_id, id"
        ).fetchall()


def test_a_tick_becomes_a_live_policy_of_each_facility(fleet):
    ids = store(fleet, *power(0, 40.0))
    with dg.DagsterInstance.ephemeral() as instance:
        result = run_tick_job(fleet, instance, **{"hcp/tick_id": str(max(ids))})
        assert result.success
        again = run_tick_job(fleet, instance, **{"hcp/tick_id": str(max(ids))})
        assert again.success
    rows = policies(fleet)
    assert [row[1] for row in rows] == ["live"] * 3, "the same tick publishes once"
    assert {row[2] for row in rows} <= set(ids)
    assert {row[3] for row in rows} == {result.run_id}
    with connect(fleet, Role.CONTROL) as connection:
        scores = connection.execute("select count(*), count(distinct tick_id) from profitability_scores").fetchone()
        assert scores is not None
        assert scores[0] > 0
        assert solve_request(read_solve_state(connection, AT + timedelta(minutes=31)), 0) is None


def test_a_run_shows_what_operators_have_ordered(fleet):
    store(fleet, *power(0, 40.0))
    with connect(fleet, Role.OPERATOR) as connection:
        connection.execute(
            """insert into operator_overrides (facility_id, kind, scope, value, actor, reason, valid_from)
               values ('hou-1', 'stop_all', '{}', '{}', 'ann', 'fire drill', now())"""
        )
        connection.execute(
            "insert into lockouts (facility_id, scope, holder, reason) values ('nor-1', 'site', 'bob', 'x')"
        )
    with dg.DagsterInstance.ephemeral() as instance:
        result = run_tick_job(fleet, instance)
        (made,) = result.asset_materializations_for_node("core_hcp__policies")
    assert made.metadata["directives_standing"].value == 2
    assert [word in made.metadata["directives"].value for word in ("fire drill", "ann", "lockout/1")] == [True] * 3


def test_the_newest_policies_are_explained_on_pages_attached_to_their_materialization(fleet):
    newest = max(store(fleet, *power(0, 40.0)))
    with dg.DagsterInstance.ephemeral() as instance:
        assert run_tick_job(fleet, instance, **{"hcp/tick_id": str(newest)}).success
        (made,) = explain(fleet, instance).asset_materializations_for_node("core_hcp__explanations")
    assert made.metadata["facilities"].value == 3
    assert "on: the price is below its on-strike" in made.metadata["hou-1"].value
    page = Path(made.metadata["hou-1_page"].value)
    assert page.parent == fleet.at("reports", "explain")
    assert "Merit order" in page.read_text()


def test_a_run_by_hand_publishes_candidates_only(fleet):
    store(fleet, *power(0, 40.0))
    with dg.DagsterInstance.ephemeral() as instance:
        assert run_tick_job(fleet, instance).success
    assert {row[1] for row in policies(fleet)} == {"candidate"}


def test_the_sensor_asks_for_the_newest_tick_once_and_remembers(fleet):
    store(fleet, *power(0, 40.0))
    newest = max(store(fleet, *power(5, 55.0)))
    platform = Platform(state_dir=str(fleet.state_dir))
    with dg.DagsterInstance.ephemeral() as instance:
        other = {"job_name": "backtest_job", "tags": {"hcp/kind": "tick"}, "status": dg.DagsterRunStatus.STARTED}
        instance.add_run(dg.DagsterRun(run_id=str(uuid.uuid4()), **other))  # anybody may tag a run: it is no tick's
        first = tick_sensor.evaluate_tick(
            dg.build_sensor_context(instance=instance, resources={"platform": platform}, definitions=defs)
        )
        assert [(r.run_key, r.tags["hcp/kind"]) for r in first.run_requests] == [(f"tick-{newest}", "tick")]
        context = dg.build_sensor_context(
            instance=instance, resources={"platform": platform}, cursor=first.cursor, definitions=defs
        )
        second = tick_sensor.evaluate_tick(context)
        assert not second.run_requests
        assert run_tick_job(fleet, instance, **{"hcp/tick_id": str(newest)}).success
    with connect(fleet, Role.CONTROL) as connection:
        now = AT + timedelta(minutes=31)
        assert solve_request(read_solve_state(connection, now), 0) is None
        store(fleet, Tick(Stream.BTC_USD, "consensus", AT + timedelta(minutes=6), 99_000.0, "USD", "coinbase"))
        assert solve_request(read_solve_state(connection, now), 0) is None, "bitcoin within its bounds"
        store(fleet, Tick(Stream.BTC_USD, "consensus", AT + timedelta(minutes=7), 120_000.0, "USD", "coinbase"))
        request = solve_request(read_solve_state(connection, now), 0)
        assert request is not None
        assert request.reason is Reason.INDEX_MOVED
        with connect(fleet, Role.ADMIN) as admin:
            apply(admin, demo_facilities(3, 300)[0], "test")
        request = solve_request(read_solve_state(connection, now), 0)
        assert request is not None
        assert request.reason is Reason.NO_POLICY, "of the new inventory generation there is none"


def test_a_price_from_the_future_or_absurd_asks_for_nothing(fleet):
    store(fleet, *power(60, 40.0))
    with connect(fleet, Role.CONTROL) as connection:
        assert solve_request(read_solve_state(connection, AT + timedelta(minutes=31)), 0) is None


def test_an_overdue_policy_is_alerted_once(fleet):
    ids = store(fleet, *power(0, 40.0))
    with dg.DagsterInstance.ephemeral() as instance:
        assert run_tick_job(fleet, instance, **{"hcp/tick_id": str(max(ids))}).success
    with connect(fleet, Role.CONTROL) as connection:
        late = AT + timedelta(hours=3)
        assert alert_overdue_policies(connection, AT + timedelta(minutes=40), set()) == set()
        alerted = alert_overdue_policies(connection, late, set())
        assert len(alerted) == 3
        assert alert_overdue_policies(connection, late, alerted) == alerted
    with connect(fleet, Role.ADMIN) as connection:
        rows = connection.execute("select count(*) from audit_log where action = 'alert.policy_overdue'").fetchone()
    assert rows == (3,)
