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
                   100 as devices""")
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


def test_a_lake_from_before_the_column_tells_nothing(lake):
    minutes(lake, told="1 as samples")
    assert read_hashed(Reader(lake, TABLES), "one", 1, WINDOW).is_empty()
