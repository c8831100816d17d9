"""Hashes that miners told, from tables as the lake has them: whole quarters alone, and a lake from before the column."""

from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from hcp_pipelines.orchestration.history.reading import Reader
from hcp_pipelines.orchestration.settlement.metering import read_hashed

START = datetime(2024, 7, 3, tzinfo=UTC)
WINDOW = START, START + timedelta(hours=1)
TABLES = frozenset({"core.telemetry_group_1min", "raw.device_groups"})


@pytest.fixture
def lake():
    with duckdb.connect() as connection:
        connection.execute(
            "set timezone = 'UTC'; attach ':memory:' as lake; create schema lake.raw; create schema lake.core"
        )
        connection.execute("""create table lake.raw.device_groups as
            select 'one' as facility_id, 1 as generation, unnest(['s21', 'h100']) as group_id, unnest(['ASIC', 'GPU']) as type,
                   unnest([100, 500]) as first_slot, 100 as devices""")
        yield connection


def minutes(connection, told="case when m = 20 then 94 when m < 15 then 96 else 100 end as devices_with_hashrate"):
    connection.execute(
        f"""create table lake.core.telemetry_group_1min as
            select 'one' as facility_id, 1 as generation, g as group_id, $1 + to_minutes(m) as minute_at,
                   200.0 * case when m < 15 then 96 else 100 end as hashrate_th_per_s, {told}
            from range(60) r(m), (select unnest(['s21', 'h100']) as g) where m <> 50""",
        [START],
    )


def test_quarters_of_which_nearly_all_is_told_are_scaled_to_all_miners_and_others_are_not_known(lake):
    minutes(lake)
    found = read_hashed(Reader(lake, TABLES), "one", 1, WINDOW)
    quarters = [START, START + timedelta(minutes=30)]  # at 00:20 too many are silent, at 00:50 nothing was told
    assert found.select("start_at", "group_id").rows() == [(at, "s21") for at in quarters]
    assert found["ph_days"].to_list() == pytest.approx([100 * 200 * 0.25 / 24_000] * 2)


def a_day(connection, credited=(196.0,) * 100, missing=0):
    """Each miner tells 200 TH/s for half a day and 100 for the other; the pool credits its own figure."""
    connection.execute(
        """create table lake.core.telemetry_group_1min as
           select 'one' as facility_id, 1 as generation, 's21' as group_id, $1 + to_minutes(m::int) as minute_at,
                  100 * case when m < 720 then 200.0 else 100.0 end as hashrate_th_per_s, 100 as devices_with_hashrate
           from range($2::bigint, 1440) r(m)""",
        [START, missing],
    )
    connection.execute(
        "create table lake.raw.pool__credits (start_at timestamptz, facility_id text, slot int, hashrate_th_per_s double)"
    )
    rows = [(START, "one", 100 + n, rate) for n, rate in enumerate(credited)]
    others = [
        (START - timedelta(days=1), "one", 100, 9e3),
        (START, "two", 100, 9e3),
        (START, "one", 99, 9e3),
        (START, "one", None, 9e3),
    ]
    connection.executemany("insert into lake.raw.pool__credits values (?, ?, ?, ?)", rows + others)
    return read_hashed(Reader(connection, TABLES | {"raw.pool__credits"}), "one", 1, (START, START + timedelta(days=1)))


def test_a_day_that_is_told_whole_comes_to_what_the_pool_credited(lake):
    found = a_day(lake)
    assert found["basis"].unique().to_list() == ["credited"]
    assert found["ph_days"].sum() == pytest.approx(100 * 196.0 / 1000)
    by_hour = found.sort("start_at")["ph_days"]
    assert len(by_hour) == 96
    assert by_hour[:48].sum() == pytest.approx(2 * by_hour[48:].sum()), "as the miners told it over the day"


@pytest.mark.parametrize(
    "options",
    [{"credited": (196.0,) * 94}, {"missing": 15}, {"credited": ()}],
    ids=["too few are at the pool", "a quarter is not told", "no credits"],
)
def test_what_can_not_be_compared_stays_as_told(lake, options):
    found = a_day(lake, **options)
    assert found["basis"].unique().to_list() == ["told"]
    assert found["ph_days"].sum() == pytest.approx(
        100 * (200.0 * (720 - options.get("missing", 0)) + 100.0 * 720) / 1440 / 1000
    )


def test_who_is_credited_nothing_is_paid_nothing(lake):
    found = a_day(lake, credited=(0.0,) * 95)
    assert (found["basis"].unique().to_list(), found["ph_days"].sum()) == (["credited"], 0.0)


def test_a_lake_from_before_the_column_tells_nothing(lake):
    minutes(lake, told="1 as samples")
    assert read_hashed(Reader(lake, TABLES), "one", 1, WINDOW).is_empty()
