"""Roll-ups on a real lake: what minutes, hours and groups say is what the samples say, however late and whoever is killed."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from hcp_pipelines.collector.telemetry import retention, rollups
from hcp_pipelines.collector.telemetry.roller import Roller
from hcp_pipelines.collector.telemetry.rollup_sql import (
    GROUP_MINUTE_COLUMNS,
    GROUP_MINUTES,
    HOUR_COLUMNS,
    HOURS,
    MINUTES,
)
from hcp_pipelines.collector.telemetry.rollups import Rollups
from hcp_pipelines.collector.telemetry.rows import BATCHES, TABLE, minutes_of
from hcp_pipelines.collector.telemetry.store import TelemetryStore
from hcp_pipelines.domain.clock import ManualClock, SystemClock
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.roles import Role
from tests.support.telemetry import START_US, clear, sample

NOON = datetime.fromtimestamp(START_US / 1e6, tz=UTC)
EXPECTED = f"""
    select date_trunc('minute', simulated_at), facility_id, group_id, slot, count(*), round(avg(power_kw::double), 5),
           max(power_kw), min(power_kw), count(power_kw), round(avg(temperature_celsius::double), 4), count(temperature_celsius)
    from lake.{TABLE} group by all order by all"""
ROLLED = f"""
    select minute_at, facility_id, group_id, slot, samples, round(power_kw_avg, 5), power_kw_max, power_kw_min, power_kw_count,
           round(temperature_celsius_avg, 4), temperature_celsius_count
    from lake.{MINUTES} order by all"""


@pytest.fixture
def at():
    return ManualClock(NOON)


@pytest.fixture
def store(postgres):
    made = TelemetryStore(postgres, SystemClock())
    yield made
    made.close()
    clear(postgres)


@pytest.fixture
def reader(postgres):
    with lake.attach(postgres, Role.LAKE_READER, read_only=True) as connection:
        yield lambda sql: connection.execute(sql).fetchall()


def noisy(seq, at_s, facility="one"):
    power = np.random.default_rng(seq).normal(3, 0.1, 6)
    power[seq % 6] = np.nan
    temperature = np.full(6, 60.0 + seq % 7, dtype=np.float32)
    return sample(seq, facility, at_s, power_kw=power, temperature_celsius=temperature)


def rolled(settings, store, clock, samples=()):
    """What a roller makes of what is there, and of some more samples."""
    made = Rollups(settings, clock)
    if samples:
        done = store.write(samples)
        made.note(minutes_of(done.samples), done.number)
    clock.advance(rollups.HOUR_OVER_S)
    while made.step():
        pass
    made.close()


def test_minutes_hours_groups_and_views_say_what_the_samples_say(postgres, store, reader, at):
    store.write([noisy(n, 20 * n, facility) for n in range(1, 200) for facility in ("one", "two")])
    rolled(postgres, store, at)
    assert reader(ROLLED) == reader(EXPECTED)
    hours = f"""select hour_at, facility_id, slot, samples, round(power_kw_avg, 4), power_kw_max, power_kw_count
                from lake.{HOURS} order by all"""
    of_samples = f"""select date_trunc('hour', simulated_at), facility_id, slot, count(*), round(avg(power_kw::double), 4),
                     max(power_kw), count(power_kw) from lake.{TABLE} group by all order by all"""
    assert reader(hours) == reader(of_samples)
    groups = f"""select minute_at, group_id, devices, samples, round(power_kw, 4) from lake.{GROUP_MINUTES}
                 where facility_id = 'two' order by all"""
    of_minutes = f"""select minute_at, group_id, count(*), sum(samples), round(sum(power_kw_avg), 4) from lake.{MINUTES}
                     where facility_id = 'two' group by all order by all"""
    assert reader(groups) == reader(of_minutes)
    assert reader('select count(*), count(distinct (resource_id, "time", metric_name)) from lake.core.metrics') == [
        (n := reader(f"select count(power_kw) + count(temperature_celsius) from lake.{TABLE}")[0][0], n)
    ]
    view = "select avg_value, max_value, min_value, count, tags.group_id from lake.core.metrics_1min where resource_id = 'two/11'"
    row = reader(view + f" and metric_name = 'power_kw' and \"time\" = '{NOON + timedelta(minutes=5)}'")
    assert row == reader(
        f"select power_kw_avg, power_kw_max, power_kw_min, power_kw_count, 'gpu' from lake.{MINUTES} "
        f"where facility_id = 'two' and slot = 11 and minute_at = '{NOON + timedelta(minutes=5)}'"
    )
    in_duckdb = {"text": "VARCHAR", "timestamptz": "TIMESTAMP WITH TIME ZONE", "int4": "INTEGER", "int8": "BIGINT",
                 "float4": "FLOAT", "float8": "DOUBLE"}  # fmt: skip
    for table, columns in ((HOURS, HOUR_COLUMNS), (GROUP_MINUTES, GROUP_MINUTE_COLUMNS)):
        made = reader(f"select column_name, column_type from (describe lake.{table})")
        assert made == [(column.name, in_duckdb[column.type]) for column in columns], "as Dagster shows them"


def test_late_samples_make_their_minutes_anew_and_a_restart_makes_only_what_is_not_made(
    postgres, store, reader, at, monkeypatch
):
    rolled(postgres, store, at, [noisy(n, 20 * n) for n in range(1, 20)])
    rolled(postgres, store, at, [noisy(1000, 70.5, "two"), noisy(1001, 130.5, "two")])
    assert reader(ROLLED) == reader(EXPECTED)
    store.write([noisy(2000, 71.5), noisy(2001, 500.0)])  # nobody was told: the collector is killed
    made = []
    monkeypatch.setattr(Rollups, "_roll_run", lambda self, first, last, _: made.append((first, last)))
    rolled(postgres, store, at)
    first_minute = START_US // 60_000_000
    assert [(first - first_minute, last - first_minute) for first, last in made] == [(8, 8), (1, 1)]
    monkeypatch.undo()
    rolled(postgres, store, at)
    assert reader(ROLLED) == reader(EXPECTED)


def test_what_is_old_goes_and_late_samples_do_not_spoil_what_was_rolled_up(postgres, store, reader, at):
    rolled(postgres, store, at, [noisy(n, 20 * n) for n in range(1, 20)])
    before, groups = reader(ROLLED), reader(f"from lake.{GROUP_MINUTES} order by all")
    at.advance(48 * 3600 + 3600)
    made = Rollups(postgres, at)
    raw = retention.KEPT[0]
    assert retention.cut(made.connection, postgres, raw, retention.too_old(raw, at.now())) == 19 * 6
    made.close()
    rolled(postgres, store, at, [noisy(3000, 70.5)])
    assert reader(ROLLED) == before
    assert reader(f"from lake.{GROUP_MINUTES} order by all") == groups


def test_one_sample_of_long_ago_takes_nothing_from_hours_and_groups_whose_minutes_have_gone(
    postgres, store, reader, at
):
    rolled(postgres, store, at, [noisy(n, 20 * n) for n in range(1, 20)])
    before = [reader(f"from lake.{table} order by all") for table in (HOURS, GROUP_MINUTES)]
    at.advance(31 * 24 * 3600)
    made = Rollups(postgres, at)
    for kept in retention.KEPT:
        retention.cut(made.connection, postgres, kept, retention.too_old(kept, at.now()))
    made.close()
    assert reader(ROLLED) == []
    rolled(postgres, store, at, [noisy(3000, 70.5, "two")])
    assert [reader(f"from lake.{table} order by all") for table in (HOURS, GROUP_MINUTES)] == before


def test_samples_that_come_too_old_to_be_kept_are_rolled_up_before_they_go(postgres, store, reader, monkeypatch):
    store.write([noisy(n, 20 * n) for n in range(1, 20)])
    expected, hours = reader(EXPECTED), reader(f"select count(distinct slot) from lake.{TABLE}")
    monkeypatch.setattr("hcp_pipelines.collector.telemetry.roller.CUT_EACH_S", 0.0)
    of_raw, others = NOON + timedelta(days=1), NOON - timedelta(days=1)
    old = {kept: of_raw if kept.table == TABLE else others for kept in retention.KEPT}
    monkeypatch.setattr("hcp_pipelines.collector.telemetry.roller.too_old", lambda kept, _: old[kept])
    roller = Roller(postgres, SystemClock())
    roller._step()
    assert roller.problem == ""
    assert reader(f"select count(*) from lake.{TABLE}") == [(0,)]
    assert reader(ROLLED) == expected
    old[retention.KEPT[1]] = of_raw
    roller._step()
    roller._close()
    assert reader(ROLLED) == []
    assert reader(f"select count(distinct slot) from lake.{HOURS}") == hours


def test_the_oldest_samples_go_where_they_are_too_much_and_the_roller_does_it(postgres, store, reader, at, monkeypatch):
    for n in range(10):
        store.write([noisy(10 * n + k, 60 * n + k) for k in range(1, 5)])
    size = reader("select sum(data_file_size_bytes) from ducklake_list_files('lake', 'telemetry', schema => 'raw')")[0][
        0
    ]
    monkeypatch.setattr("hcp_pipelines.collector.telemetry.roller.CUT_EACH_S", 0.0)
    roller = Roller(postgres.model_copy(update={"lake_raw_max_gb": size / 2e9}), SystemClock())
    monkeypatch.setattr("hcp_pipelines.collector.telemetry.roller.too_old", lambda kept, now: NOON - timedelta(days=1))
    roller._step()
    roller._close()
    minutes = [
        row[0] for row in reader(f"select distinct date_trunc('minute', simulated_at) from lake.{TABLE} order by 1")
    ]
    assert minutes == [NOON + timedelta(minutes=n) for n in range(10 - len(minutes), 10)]
    assert 3 <= len(minutes) <= 5
    assert roller.problem == ""
    assert reader(f"select max(number) from lake.{BATCHES}") == [(10,)]
