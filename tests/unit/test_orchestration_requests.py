"""The re-solve rule: what asks for a new policy, and what does not."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hcp_pipelines.orchestration.requests import (
    FacilityState,
    Reason,
    SolveState,
    moved_index,
    reason_to_solve,
    solve_request,
)

NOW = datetime(2025, 1, 1, 12, tzinfo=UTC)
QUIET = FacilityState(
    "hou-1",
    newest_power_tick_id=90,
    policy_basis_tick_id=100,
    policy_published_at=NOW,
    refresh_due_at=NOW + timedelta(hours=1),
    anchor_indices={"hashprice": 50.0},
    indices={"hashprice": 50.0},
    relative_bounds={"hashprice": 0.10},
)


def test_nothing_new_asks_for_nothing():
    assert reason_to_solve(QUIET, NOW) is None
    assert solve_request(SolveState(NOW, 140, [QUIET]), 100) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"policy_basis_tick_id": None}, Reason.NO_POLICY),
        ({"newest_signal_at": NOW + timedelta(seconds=1)}, Reason.GRID_SIGNAL),
        ({"newest_power_tick_id": 101}, Reason.POWER_INTERVAL),
        ({"indices": {"hashprice": 55.1}}, Reason.INDEX_MOVED),
        ({"indices": {"hashprice": 44.9}}, Reason.INDEX_MOVED),
        ({"refresh_due_at": NOW}, Reason.REFRESH_DUE),
    ],
)
def test_each_reason(change, reason):
    assert reason_to_solve(replace(QUIET, **change), NOW) is reason


@pytest.mark.parametrize(
    "change",
    [
        {"indices": {"hashprice": 55.0}},
        {"indices": {"hashprice": 45.0}},
        {"indices": {}},
        {"newest_signal_at": NOW - timedelta(seconds=1)},
        {"newest_power_tick_id": 100},
        {"refresh_due_at": NOW + timedelta(seconds=1)},
    ],
)
def test_inside_the_bounds_nothing_is_asked_for(change):
    assert reason_to_solve(replace(QUIET, **change), NOW) is None


def test_without_a_power_price_there_is_nothing_to_solve_on():
    assert reason_to_solve(FacilityState("new-1", newest_power_tick_id=0), NOW) is None


def test_a_burst_coalesces_into_the_newest_tick():
    due = replace(QUIET, newest_power_tick_id=101)
    request = solve_request(SolveState(NOW, 117, [QUIET, due]), 100)
    assert request is not None
    assert request.run_key == "tick-117"
    assert request.tags_as_sensor() == {
        "hcp/kind": "tick",
        "hcp/tick_id": "117",
        "hcp/reason": "power_interval",
        "dagster/run_key": "tick-117",
        "dagster/sensor_name": "tick_sensor",
    }


def test_the_same_tick_is_asked_for_once():
    due = replace(QUIET, newest_power_tick_id=101)
    assert solve_request(SolveState(NOW, 117, [due]), 117) is None


def test_the_index_that_moved_is_named():
    assert moved_index(replace(QUIET, indices={"hashprice": 60.0})) == "hashprice"
