"""Energy by 5 minutes from a meter's register: sums stay, resets and silence are told; and what settlement takes of it."""

from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from hcp_pipelines.economics.metering import READING, energy_by_interval
from hcp_pipelines.orchestration.history.reading import Reader
from hcp_pipelines.orchestration.settlement.metering import ENERGY_5MIN, READINGS, energy_of_days, read_metered

START = datetime(2025, 1, 1, tzinfo=UTC)


def readings(*rows):
    """(seconds, kW, MWh) each."""
    told = [(START + timedelta(seconds=at), power, register) for at, power, register in rows]
    return pl.DataFrame(told, schema=READING, orient="row")


def steady(seconds, first=100.0, kw=1200.0):
    return [(at, kw, first + kw / 1000 * at / 3600) for at in seconds]


def test_a_steady_load_is_the_same_in_each_interval_whenever_it_was_read():
    found = energy_by_interval(readings(*steady(range(-7, 1207, 13))), 2.0)
    assert found["start_at"].to_list() == [START + n * timedelta(minutes=5) for n in range(4)]
    assert np.allclose(found["energy_mwh"], 0.1)
    assert not found["is_estimated"].any()


def test_a_register_that_falls_or_leaps_is_bridged_by_power_and_said():
    falls = [*steady(range(0, 400, 10)), *steady(range(400, 901, 10), first=0.0)]
    found = energy_by_interval(readings(*falls), 2.0)
    assert found["is_estimated"].to_list() == [False, True, False]
    assert np.allclose(found["energy_mwh"], 0.1, atol=1e-3)
    leaps = [*steady(range(0, 400, 10)), *steady(range(400, 901, 10), first=9000.0)]
    assert np.allclose(energy_by_interval(readings(*leaps), 2.0)["energy_mwh"], found["energy_mwh"])


def test_silence_leaves_the_sum_and_spreads_it():
    found = energy_by_interval(readings(*steady(range(0, 290, 10)), (1000, 0.0, 100.5), (1200, 0.0, 100.5)), 3.0)
    assert found["is_estimated"].to_list() == [True, True, True, True]
    assert round(found["energy_mwh"].sum(), 9) == 0.5


def test_without_a_register_power_is_counted_and_said():
    found = energy_by_interval(readings(*[(at, 600.0, None) for at in range(0, 301, 60)]), 2.0)
    assert found.rows()[0][1:] == (0.05, True)
    assert energy_by_interval(readings((0, 1.0, 1.0)), 2.0).is_empty()


@given(st.lists(st.tuples(st.integers(1, 400), st.floats(0.0, 1.0)), min_size=2, max_size=40))
def test_intervals_add_up_to_what_the_register_rose(steps):
    at, register, rows = 0, 50.0, [(0, 0.0, 50.0)]
    for seconds, share in steps:
        at, register = at + seconds, register + share * 2.0 * seconds / 3600
        rows.append((at, share * 2000, register))
    rows.append(((at // 300 + 1) * 300, 0.0, register))
    found = energy_by_interval(readings(*rows), 2.0)
    assert abs(found["energy_mwh"].sum() - (register - 50.0)) < 1e-9


def test_a_day_of_the_lake_has_its_facilities_fives_and_settlement_takes_whole_quarters():
    rows = [(f"f{n}", at, power, register, at_s) for n in (1, 2) for at_s, (at, power, register) in told(n)]
    day = START, START + timedelta(days=1)
    with duckdb.connect() as connection:
        connection.execute(
            "set timezone = 'UTC'; attach ':memory:' as lake; create schema lake.raw; create schema lake.core"
        )
        columns = "facility_id text, read_at timestamptz, power_kw double, energy_mwh double, seq bigint"
        connection.execute(f"create table lake.{READINGS} ({columns})")
        connection.executemany(f"insert into lake.{READINGS} values (?, ?, ?, ?, ?)", rows)
        reader = Reader(connection, frozenset({READINGS, ENERGY_5MIN}))
        found = energy_of_days(reader, {"f1": 2.0, "f2": 2.0}, day)
        connection.register("found", found.to_arrow())
        connection.execute(f"create table lake.{ENERGY_5MIN} as from found")
        quarters = [read_metered(reader, name, day) for name in ("f1", "f2")]
    assert found.filter(pl.col("facility_id") == "f1")["start_at"].to_list() == [
        START + n * timedelta(minutes=5) for n in range(7)
    ]
    assert [frame["start_at"].to_list() for frame in quarters] == [[START, START + timedelta(minutes=15)]] * 2
    assert np.allclose(quarters[0]["energy_mwh"], 0.3)
    assert quarters[0]["basis"].to_list() == ["metered", "estimated"]  # a register that fell in the second
    assert quarters[1]["basis"].to_list() == ["metered", "metered"]


def told(facility):
    """Half an hour and a little more, from before midnight on; the first facility's register is reset after 20 minutes."""
    for at in range(-10, 2150, 10):
        reset = facility == 1 and at >= 1200
        yield at + 10, (START + timedelta(seconds=at), 1200.0, (0.0 if reset else 50.0) + 1.2 * at / 3600)
