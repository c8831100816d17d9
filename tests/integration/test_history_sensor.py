"""The gap sensor: which days it requests, what it does in `observe`, when it gives up; and what daemons have written."""

import uuid
import warnings
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.orchestration.history.plan import assets_by_source
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from tests.support.collected import whole

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dagster as dg

    from sensors.history import MOST_ATTEMPTS, daemon_tables_sensor, history_gaps_sensor

NOW = datetime(2025, 1, 4, 9, tzinfo=UTC)
TICK_SQL = """
insert into price_data (stream, series, "timestamp", price_type, value, unit, source, quality, received_at)
values ('power.rt_lmp', 'HB_NORTH', %s, 'electricity', 20, 'USD/MWh', 'ERCOT', 'good', %s)"""


@pytest.fixture
def world(settings):
    """A platform whose first tick came on the second of January, and in which it is NOW."""
    path = settings.at("run", "clock.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(Anchor(SystemClock().real_now(), NOW, 1.0).dump())
    yield settings
    path.unlink()


def tick(settings):
    with connect(settings, Role.ADMIN) as connection:
        connection.execute(TICK_SQL, [NOW - timedelta(days=2)] * 2)


def materialized(instance, source, *days):
    for asset in assets_by_source()[source]:
        for day in days:
            instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=day))


def evaluate(settings, instance, cursor=None):
    context = dg.build_sensor_context(
        instance=instance, cursor=cursor, resources={"platform": Platform(state_dir=str(settings.state_dir))}
    )
    return history_gaps_sensor(context)


def run_of(instance, request, status):
    tags = {**request.tags, "dagster/run_key": request.run_key, "hcp/kind": "history"}
    instance.add_run(dg.DagsterRun("history_job", tags=tags, status=status))


def test_gaps_are_requested_a_source_at_a_time_and_given_up_after_three_failures(world):
    with dg.DagsterInstance.ephemeral() as instance:
        assert "no tick was recorded yet" in evaluate(world, instance).skip_reason.skip_message
        tick(world)
        materialized(instance, "ercot", "2025-01-02", "2025-01-03")
        (request,) = evaluate(world, instance).run_requests
        assert request.tags["hcp/source"] == "open_meteo"
        assert request.tags["dagster/asset_partition_range_start"] == "2025-01-02"
        assert request.tags["dagster/asset_partition_range_end"] == "2025-01-03", (
            "the day that still runs is not asked for"
        )
        run_of(instance, request, dg.DagsterRunStatus.STARTED)
        assert "a run is under way" in evaluate(world, instance).skip_reason.skip_message
    with dg.DagsterInstance.ephemeral() as instance:
        for source in assets_by_source():
            if source != "mempool":
                materialized(instance, source, "2025-01-02", "2025-01-03")
        for _ in range(MOST_ATTEMPTS):
            (request,) = evaluate(world, instance).run_requests
            run_of(instance, request, dg.DagsterRunStatus.FAILURE)
        given_up = evaluate(world, instance)
        assert "failed 3 times" in given_up.skip_reason.skip_message
        assert evaluate(world, instance, given_up.cursor).cursor == given_up.cursor, "it is said, and not each minute"
        with connect(world, Role.ADMIN) as connection:
            told = connection.execute(
                "select subject, detail from audit_log where action = 'alert.data_gap'"
            ).fetchall()
        assert told == [("mempool", {"first_day": "2025-01-02", "last_day": "2025-01-03", "days": 2})]
        materialized(instance, "mempool", "2025-01-02", "2025-01-03")
        assert "no day that is over is missing" in evaluate(world, instance).skip_reason.skip_message


def test_in_observe_they_are_only_named(world, monkeypatch):
    tick(world)
    monkeypatch.setenv("HCP_HISTORY_GAPS", "observe")
    with dg.DagsterInstance.ephemeral() as instance:
        found = evaluate(world, instance)
    assert not found.run_requests
    assert "ercot 2025-01-02 to 2025-01-03" in found.skip_reason.skip_message


def test_what_daemons_have_written_is_observed(world):
    rows = pl.DataFrame({"id": [1, 2], "received_at": [NOW - timedelta(hours=1), NOW - timedelta(minutes=2)]})
    typed = rows.with_columns(pl.col("received_at").cast(pl.Datetime("us", "UTC")))
    lake.write(world, "raw.price_ticks", whole("raw.price_ticks", typed), str(uuid.uuid4()))
    try:
        resources = {"platform": Platform(state_dir=str(world.state_dir))}
        with dg.DagsterInstance.ephemeral() as instance:
            found = daemon_tables_sensor(dg.build_sensor_context(instance=instance, resources=resources))
        told = {event.asset_key.path[-1]: event.metadata for event in found.asset_events}["raw_hcp__price_ticks"]
        assert told["dagster/row_count"].value == 2
        assert 120 <= told["lag_s"].value < 600
    finally:
        with lake.attach(world) as connection:
            connection.execute("drop table lake.raw.price_ticks")
