"""The fleet's hours from a real lake, and what is foretold of them: rows in the lake and those that the API tells."""

import json
import uuid
import warnings
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from pyroaring import BitMap

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.forecasting.capacity.fleet_days import TABLE
from hcp_pipelines.forecasting.capacity.targets import UTILIZATION
from hcp_pipelines.forecasting.learnable.fitted import FittedQuantiles
from hcp_pipelines.forecasting.learnable.framing import Framing
from hcp_pipelines.forecasting.learnable.lessons import HORIZONS_H, Learning
from hcp_pipelines.forecasting.learnable.models import Forest
from hcp_pipelines.forecasting.learnable.protocol import LEVELS
from hcp_pipelines.forecasting.model_file import digest_of
from hcp_pipelines.orchestration.capacity_forecasts import availability, plan
from hcp_pipelines.orchestration.fleet_hours import fleet_hours as hours_of_lake
from hcp_pipelines.orchestration.fleet_hours import without_locked
from hcp_pipelines.orchestration.history import daemon_models
from hcp_pipelines.orchestration.history.reading import reading
from hcp_pipelines.orchestration.history.tables import TEMPERATURE
from hcp_pipelines.orchestration.history.watch import judge_daemon
from hcp_pipelines.orchestration.mart_sources import ensure_sources
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.runtime.process import read_clock
from hcp_pipelines.storage import lake, models
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from tests.integration.test_telemetry_stream import FACILITY, FEEDER, GENERATION
from tests.support.fleet_hours import fleet_hours

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dagster as dg

    from assets import fleet
    from hcp_pipelines.orchestration.io_managers import LakeIOManager

DAY = datetime(2025, 2, 20, tzinfo=UTC)
NOW = DAY + timedelta(hours=5, minutes=20)
TABLES = (TABLE, "core.fleet__planned_use", "core.fleet__availability", TEMPERATURE.revisions)
FILLED = ("core.telemetry_1h", "raw.device_groups", "raw.facilities", "core.power__settled_prices", "raw.price_ticks")
MINERS = 6
GROUP = """
insert into device_groups (facility_id, generation, group_id, feeder_id, type, model, firmware, cooling_class, first_slot,
    devices, ladder, specifications) values ('hou-1', 1, 's21', 'f1', 'ASIC', 'S21', 'stock', 'air', 0, 6, '[]', '{}')"""


@pytest.fixture
def world(settings, postgres):
    """The settings of a world in which it is NOW; what a test writes to the lake goes afterwards."""
    path = settings.at("run", "clock.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(Anchor(SystemClock().real_now(), NOW, 1.0).dump())
    ensure_sources(settings)
    with connect(settings, Role.ADMIN) as database:
        database.execute(FACILITY, ("hou-1",))
        database.execute(FEEDER, ("hou-1",))
        database.execute(GENERATION, ("hou-1", 1, MINERS))
        database.execute(GROUP)
    yield settings
    path.unlink()
    with lake.attach(settings) as connection:
        connection.execute("begin")
        for table in TABLES:
            connection.execute(f"drop table if exists lake.{table}")
        for table in FILLED:
            connection.execute(f"delete from lake.{table}")
        connection.execute("commit")


def put(settings, table, rows, **given):
    frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows, infer_schema_length=None)
    with lake.attach(settings) as connection:
        if given.get("make"):
            return lake.write(connection, table, frame, uuid.uuid4().hex, settings=settings)
        there = connection.execute(f"from lake.{table} limit 0").pl()
        whole = frame.select(
            (pl.col(name) if name in frame.columns else pl.lit(None)).cast(kind).alias(name)
            for name, kind in there.schema.items()
        )
        return lake.write(connection, table, whole, uuid.uuid4().hex, settings=settings)


def hour(n, slot, power_kw=3.5, *, told=60, **changes):
    """A miner's hour: it tells its temperature in all of 60 samples unless it is said otherwise."""
    return {
        "hour_at": DAY + timedelta(hours=n), "facility_id": "hou-1", "group_id": "s21", "generation": 1, "slot": slot,
        "samples": 60, "power_kw_avg": power_kw, "power_kw_count": 60, "temperature_celsius_count": told,
        "temperature_celsius_max": 61.5 + slot if told else None, **changes,
    }  # fmt: skip


def telemetry(settings):
    """Four hours of six miners: the last one falls silent at two, the one before sleeps, another answers for half an hour."""
    ladder = json.dumps([{"state": 0, "power_kw": 0.03, "settle_s": 1}, {"state": 3, "power_kw": 3.5, "settle_s": 60}])
    group = {
        "facility_id": "hou-1", "generation": 1, "group_id": "s21", "feeder_id": "f1", "type": "ASIC", "model": "S21",
        "firmware": "x", "cooling_class": "air", "first_slot": 0, "devices": MINERS, "ladder": ladder, "specifications": "{}",
    }  # fmt: skip
    tick = {"stream": "power.rt_spp", "series": "HB_HOUSTON", "quality": "good", "revision": 0}
    put(settings, "raw.device_groups", [group])
    put(settings, "raw.facilities", [{"id": "hou-1", "settlement_point": "HB_HOUSTON"}])
    at = [(n, DAY + timedelta(hours=n)) for n in range(5)]
    known = timedelta(minutes=20)
    ticks = [{**tick, "id": n, "timestamp": on, "value": 20.0 + n, "received_at": on + known} for n, on in at]
    put(settings, "raw.price_ticks", ticks)
    rows = [hour(n, slot) for n in range(-1, 4) for slot in range(4)]
    rows += [hour(n, 4, 0.03, told=30 if n == 3 else 60) for n in range(-1, 4)]
    rows += [hour(n, 5, told=60 if n < 2 else 0) for n in range(-1, 4)]
    put(settings, "core.telemetry_1h", rows)


def control(settings):
    return connect(settings, Role.CONTROL)


def asked(settings):
    with control(settings) as connection:
        return hours_of_lake(settings, connection, (DAY, DAY + timedelta(days=1)), read_clock(settings))


def test_hours_say_what_was_there_what_worked_and_what_failed(world):
    telemetry(world)
    found = asked(world)
    assert found["start_at"].to_list() == [DAY + timedelta(hours=n) for n in range(4)]
    assert found["available_h"].to_list() == [6, 6, 5, 4.5]
    assert found["in_use_h"].to_list() == [5, 5, 4, 4]
    assert found["failures"].to_list() == [0, 0, 1, 0]
    assert found["price_usd_per_mwh"].to_list() == [20, 21, 22, 23]
    assert found["hottest_celsius"].to_list() == [66.5, 66.5, 65.5, 65.5]
    assert found["outdoor_celsius"].null_count() == found["outdoor_known_at"].null_count() == 4
    assert found["known_at"].to_list() == [DAY + timedelta(hours=n + 1) for n in range(4)]


def test_weather_and_prices_are_those_that_were_known_and_since_when(world):
    telemetry(world)
    fetched = DAY + timedelta(days=1, minutes=7)
    row = {"place": "HOUSTON", "source": "open_meteo", "is_withdrawn": False, "run_id": "r"}
    words = [(0, 30.0, fetched, 0), (0, 33.0, fetched + timedelta(days=3), 1), (1, 31.0, fetched, 0)]
    put(
        world, TEMPERATURE.revisions, make=True,
        rows=[
            {"start_at": DAY + timedelta(hours=n), "temperature_celsius": celsius, "known_at": at, "revision": revision, **row}
            for n, celsius, at, revision in words
        ],
    )  # fmt: skip
    late = {
        "stream": "power.rt_spp",
        "series": "HB_HOUSTON",
        "quality": "good",
        "revision": 1,
        "id": 99,
        "value": 900.0,
    }
    put(world, "raw.price_ticks", [{**late, "timestamp": DAY, "received_at": DAY + timedelta(days=2)}])
    found = asked(world)
    assert found["outdoor_celsius"].to_list() == [30, 31, None, None]
    assert found["outdoor_known_at"].to_list() == [fetched, fetched, None, None]
    assert found["price_usd_per_mwh"].to_list() == [20, 21, 22, 23]


def test_where_nobody_tells_a_temperature_power_says_who_answers(world):
    telemetry(world)
    rows = [hour(4, slot, 0.0 if slot == 1 else 3.5) for slot in range(3)]
    with lake.attach(world) as connection:
        connection.execute("update lake.core.telemetry_1h set temperature_celsius_count = 0")
    put(world, "core.telemetry_1h", [{**row, "temperature_celsius_count": 0} for row in rows])
    assert asked(world)["available_h"].to_list()[-1] == 2


def test_locked_devices_are_not_available(world, database):
    telemetry(world)
    slots = BitMap([0, 1]).serialize()
    insert = """insert into lockouts (facility_id, scope, slots, holder, reason, placed_at, removed_at)
                values (%s, %s, %s, 'x', 'x', %s, %s)"""
    span = (DAY + timedelta(minutes=90), DAY + timedelta(hours=3))
    clock = read_clock(world)  # the world's day is past in real time: what was placed then is mapped as any instant is
    shift = clock.real_now() - clock.now()
    database.execute(insert, ("hou-1", "device", slots, *(at + shift for at in span)))
    found = asked(world)
    assert found["available_h"].to_list() == pytest.approx([6, 5, 4, 4.5], abs=0.01)
    assert found["in_use_h"].to_list() == pytest.approx([5, 5, 4, 4], abs=0.01)
    frame = found.with_columns(installed=pl.lit(6), available_h=pl.lit(6.0))
    none = pl.DataFrame(schema={"facility_id": pl.String, "group_id": pl.String, "locked": pl.Int64})
    assert without_locked(frame, none).equals(frame)


def test_a_lake_without_telemetry_has_no_hours_and_no_forecast(world):
    assert asked(world).is_empty()
    with control(world) as connection:
        found = plan(world, connection, DAY)
        assert (found.table.is_empty(), found.told["model"]) == (True, "none")
        assert "materialize core_fleet__hours" in found.told["why"]
        assert availability(world, connection, DAY).table.is_empty()
        assert connection.execute("select count(*) from capacity_forecasts").fetchone() == (0,)


def history(settings, days):
    put(settings, TABLE, fleet_hours(days, start=DAY - timedelta(days=days)), make=True)


def materialized(settings, *chosen):
    resources = {
        "platform": Platform(state_dir=str(settings.state_dir)),
        "lake": LakeIOManager(state_dir=str(settings.state_dir)),
    }
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize([*chosen], partition_key="2025-02-20", resources=resources, instance=instance)


def test_the_assets_keep_thirty_days_for_the_api_once(world):
    history(world, 3)
    telemetry(world)
    assets = dg.load_assets_from_modules([fleet])
    assert materialized(world, *assets).success
    assert materialized(world, *assets).success
    with control(world) as connection:
        rows = connection.execute(
            """select type, day, predicted_utilization, recommended_capacity, model, made_at from capacity_forecasts
               where facility_id = 'hou-1' order by type, day"""
        ).fetchall()
    assert len(rows) == 60  # and none of nor-1, which Postgres does not know
    assert [row[1] for row in rows[:30]] == [(DAY + timedelta(days=n)).date() for n in range(30)]
    assert {(row[4], row[5]) for row in rows} == {("utilization/naive", DAY)}
    for kind, _, use, recommended, *_ in rows:
        devices = {"ASIC": 60, "GPU": 32}[kind]
        assert recommended == pytest.approx(use * 1.2 * devices, abs=1.0)
    with lake.attach(world, read_only=True) as connection:
        table = connection.execute(
            """select target, count(*) as n, count(chance_of_any) as chances, bool_and(q05 <= q50 and q50 <= q95) as rises
               from lake.core.fleet__availability group by all order by 1"""
        ).pl()
        kept = connection.execute(
            "select count(*) as n from lake.core.fleet__hours where start_at >= '2025-02-20'"
        ).pl()
    assert table.rows() == [("capacity", 28, 0, True), ("failure_risk", 4, 4, True)]
    assert kept["n"].to_list() == [4]


def test_the_champion_answers_once_there_is_one(world):
    history(world, 40)
    with reading(world) as reader:
        hours = reader.rows(f"from lake.{TABLE}")
    examples = UTILIZATION.examples({TABLE: hours}, (DAY - timedelta(days=40), DAY))
    fitted = Forest(trees=5, learning=Learning(least_days=14, held_days=7)).fit(examples, DAY)
    content = fitted.to_bytes()
    with control(world) as connection:
        version = models.keep(
            connection,
            models.Kept("utilization", digest_of(content), content, DAY, DAY, {}),
            "champion",
            "test",
            "a test",
        )
        told = plan(world, connection, DAY)
        assert told.told["model"] == f"utilization/{version}"
        assert set(told.table["model"]) == {f"utilization/{version}"}
        yesterday = plan(world, connection, DAY - timedelta(days=1))  # it learnt from what was not known then
        assert yesterday.told["model"] == "utilization/naive"
        assert "learnt from what was known by 2025-02-19" in yesterday.told["why"]
        assert f"utilization/{version} learnt from what was later than the day" in yesterday.told["why"]


def test_a_champion_that_can_not_be_asked_leaves_persistence_and_its_reason(world, database):
    history(world, 3)
    odd = FittedQuantiles("odd", DAY, LEVELS, Framing("moon"), np.zeros((len(HORIZONS_H), len(LEVELS))))
    content = odd.to_bytes()
    with control(world) as connection:
        for name in ("utilization", "capacity"):
            kept = models.Kept(name, digest_of(content), content, DAY, DAY, {})
            models.keep(connection, kept, "champion", "test", "a test")
        told = plan(world, connection, DAY).told
        assert told["model"] == "utilization/naive"
        assert "utilization/1 can't be asked: features that the model reads are missing: moon" in told["why"]
        database.execute("update models set artefact = 'x' where name = 'capacity'")
        found = availability(world, connection, DAY)
    assert set(found.table["model"]) == {"capacity/naive", "failure_risk/naive"}
    assert "the champion can't be read: capacity 1: its digest is" in found.told["why"]


def test_the_check_finds_hours_that_nobody_can_have(world):
    table = next(each for each in daemon_models.JUDGED if each.key == "core_fleet__hours")
    history(world, 1)
    with reading(world) as reader:
        assert judge_daemon(reader, table, DAY).passed
    put(world, TABLE, fleet_hours(1, start=DAY - timedelta(days=1)).with_columns(available_h=1e6).head(1), make=True)
    with reading(world) as reader:
        assert not judge_daemon(reader, table, DAY).passed
