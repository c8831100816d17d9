"""Which days have to be settled, and whether those that are have all their prices: from tables as the lake has them."""

from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from hcp_pipelines.orchestration.history.publish import PUBLISHED
from hcp_pipelines.orchestration.history.reading import Reader
from hcp_pipelines.orchestration.settlement.publish import DAYS, LINES
from hcp_pipelines.orchestration.settlement.read import JOURNAL, LOADS
from hcp_pipelines.orchestration.settlement.watch import due

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
FIRST = datetime(2024, 7, 3, tzinfo=UTC)
NOW = FIRST + 3 * DAY + HOUR
COLUMNS = {
    JOURNAL: "simulated_at timestamptz",
    DAYS: "day_at timestamptz, until_at timestamptz, settled_at timestamptz, unknown bigint, run_id text",
    PUBLISHED: '"table" text, day_at timestamptz, revised bigint, withdrawn bigint, published_at timestamptz',
    LINES: "start_at timestamptz, kind text, usd decimal(18, 6)",
    LOADS: "start_at timestamptz, zone text, load_mw double",
}


@pytest.fixture
def lake():
    """Tables of a lake in memory; settled are three whole days from the first, at the end of each."""
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'; attach ':memory:' as lake")
        for table, columns in COLUMNS.items():
            connection.execute(f"create schema if not exists lake.{table.split('.')[0]}")
            connection.execute(f"create table lake.{table} ({columns})")
        connection.execute(f"insert into lake.{JOURNAL} values (?)", [FIRST + 5 * HOUR])
        for n in range(3):
            settled(connection, FIRST + n * DAY)
        yield connection


def settled(connection, day, until=DAY, unknown=0, at=None):
    values = [day, day + until, at or day + DAY, unknown, "run"]
    connection.execute(f"insert into lake.{DAYS} values (?, ?, ?, ?, ?)", values)


def published(connection, day, revised, at, table="raw.ercot__rt_spp"):
    connection.execute(f"insert into lake.{PUBLISHED} values (?, ?, ?, 0, ?)", [table, day, revised, at])


def due_days(connection, now=NOW):
    return list(due(Reader(connection, frozenset(COLUMNS)), now))


def test_a_day_is_due_when_it_is_over_and_until_it_is_settled_to_its_end(lake):
    assert due_days(lake) == []
    assert due_days(lake, NOW + DAY) == [FIRST + 3 * DAY]
    settled(lake, FIRST + 3 * DAY, until=HOUR)
    assert due_days(lake, NOW + DAY) == [FIRST + 3 * DAY]


def test_a_day_whose_credits_came_after_it_was_settled_is_due_once(lake):
    settled_at = FIRST + DAY
    published(lake, FIRST, 0, settled_at + HOUR, table="raw.pool__credits")
    assert due_days(lake) == [FIRST]
    settled(lake, FIRST, at=settled_at + 2 * HOUR)
    assert due_days(lake) == []
    published(lake, FIRST, 0, settled_at + 3 * HOUR, table="raw.pool__credits")
    assert due_days(lake) == [], "the same credits again change nothing"
    published(lake, FIRST, 1, settled_at + 4 * HOUR, table="raw.pool__credits")
    assert due_days(lake) == [FIRST]


def test_what_was_corrected_since_is_due_again_and_what_was_before_is_not(lake):
    published(lake, FIRST, 2, FIRST + DAY - HOUR)
    published(lake, FIRST + DAY, 2, NOW)
    published(lake, FIRST + 2 * DAY, 0, NOW)  # the same as before
    assert due_days(lake) == [FIRST + DAY]
    published(lake, FIRST, 1, NOW, table="raw.open_meteo__temperature")
    assert due_days(lake) == [FIRST + DAY]


def test_what_had_no_price_is_due_as_soon_as_something_came(lake):
    settled(lake, FIRST, unknown=3, at=FIRST + 2 * DAY)
    assert due_days(lake) == []
    published(lake, FIRST, 0, NOW, table="raw.mempool__blocks")
    assert due_days(lake) == [FIRST]


def test_a_higher_peak_makes_both_its_day_and_the_former_one_due(lake):
    for n, load in ((18, 80.0), (42, 70.0)):
        lake.execute(f"insert into lake.{LOADS} values (?, 'total', ?)", [FIRST + n * HOUR, load])
    lake.execute(f"insert into lake.{LINES} values (?, 'peak_charge', -5)", [FIRST + 18.25 * HOUR])
    assert due_days(lake) == []
    lake.execute(f"insert into lake.{LOADS} values (?, 'total', 90)", [FIRST + 43 * HOUR])
    assert due_days(lake) == [FIRST, FIRST + DAY]
