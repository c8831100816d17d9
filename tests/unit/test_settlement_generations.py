"""Whose devices a day is settled with: the inventory generations of a facility by their first switch."""

from datetime import UTC, datetime, timedelta

from hcp_pipelines.orchestration.settlement.read import by_generation

NOON, DAY, HOUR = datetime(2024, 7, 3, 12, tzinfo=UTC), timedelta(days=1), timedelta(hours=1)
FIRST = NOON - 12 * HOUR
DAYS = [(FIRST + n * DAY, FIRST + (n + 1) * DAY) for n in range(3)]


def test_a_day_in_which_the_inventory_changed_is_settled_in_parts():
    changed = FIRST + DAY + timedelta(hours=10, minutes=3)
    quarter = FIRST + DAY + timedelta(hours=10)
    found = list(by_generation({1: FIRST + HOUR, 2: changed}, DAYS))
    assert found == [(1, DAYS[0]), (1, (DAYS[1][0], quarter)), (2, (quarter, DAYS[1][1])), (2, DAYS[2])]


def test_a_change_between_two_days_or_in_a_days_first_minutes_parts_none():
    for changed in (DAYS[1][0], DAYS[1][0] + timedelta(minutes=5)):
        assert list(by_generation({1: FIRST, 2: changed}, DAYS)) == [(1, DAYS[0]), (2, DAYS[1]), (2, DAYS[2])]


def test_two_changes_of_one_interval_are_one_and_a_day_before_the_first_switch_is_not_settled():
    changes = {3: FIRST + DAY + HOUR, 4: FIRST + DAY + 2 * HOUR, 5: FIRST + DAY + 2 * HOUR + timedelta(minutes=1)}
    spans = [(3, (DAYS[1][0], FIRST + DAY + 2 * HOUR)), (5, (FIRST + DAY + 2 * HOUR, DAYS[1][1])), (5, DAYS[2])]
    assert list(by_generation(changes, DAYS)) == spans
    assert list(by_generation({}, DAYS)) == []
