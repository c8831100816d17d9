"""EC-21: what a facility was recommended and did, read back by those who may."""

from datetime import UTC, datetime, timedelta

import pytest

from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.storage import statements
from hcp_pipelines.storage.allocation_history import Allocated, get_optimal_allocation_history
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
INSERT = """
    insert into allocation_history ("timestamp", facility_id, resource_id, resource_type, recommended_workload,
        actual_workload, devices, expected_profit, actual_profit, tick_id, policy_id)
    values (%s, %s, %s, 'ASIC', 'bitcoin_mining', %s, 100, 12.5, %s, 7, 3)"""


@pytest.fixture
def first(database):
    """A facility with two rows of the hour from noon, one before it and one behind; another has one."""
    for facility in demo_facilities(2, 1000):
        apply(database, facility, "tester")
    first, other = (row[0] for row in database.execute("select id from facilities order by id").fetchall())
    for minutes, facility, done, profit in (
        (60, first, "curtailed", None),
        (10, first, "curtailed", None),
        (0, first, "bitcoin_mining", 11.0),
        (0, other, "bitcoin_mining", None),
        (-1, first, "bitcoin_mining", None),
    ):
        at = NOON + timedelta(minutes=minutes)
        database.execute(INSERT, (at, facility, f"{facility}/s21", done, profit))
    return first


def test_one_facility_over_a_half_open_window_ascending(first, settings):
    with connect(settings, Role.OPERATOR) as reader:
        found = get_optimal_allocation_history(reader, first, NOON, NOON + timedelta(hours=1))
    assert found[0] == Allocated(
        NOON, f"{first}/s21", "ASIC", "bitcoin_mining", "bitcoin_mining", 100, 12.5, 11.0, 7, 3
    )
    assert [(row.source_at.minute, row.actual_workload, row.actual_profit) for row in found[1:]] == [
        (10, "curtailed", None)
    ]


def test_a_history_beyond_the_limit_is_refused_rather_than_cut(first, settings, monkeypatch):
    monkeypatch.setattr(statements, "HISTORY_ROW_LIMIT", 1)
    with (
        connect(settings, Role.OPERATOR) as reader,
        pytest.raises(ValueError, match=f"more than 1 rows of {first}: read a shorter window"),
    ):
        get_optimal_allocation_history(reader, first, NOON, NOON + timedelta(hours=1))
