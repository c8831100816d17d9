"""Rows of `desired_state` as arrays: what can't be is refused with the reason, and the others stand."""

from dataclasses import replace

import pytest

from hcp_pipelines.allocator.desired_rows import compile_rows
from hcp_pipelines.allocator.desired_table import NOTHING_STORED
from tests.support import fleet
from tests.support.desired import GROUP, TRAINING, Desired, inventory, stored
from tests.support.fleet import site

SITE = site(scheduled=frozenset({GROUP}))
GOOD = Desired(1, (0, 2, 99))


def compiled(*rows):
    return compile_rows(stored(*rows), SITE)


def test_rows_stand_in_line_by_priority_then_order_then_age():
    rows = (
        Desired(4, (0,), priority=10),
        Desired(3, (1, 2), priority=90, order_index=1),
        Desired(2, (3,), priority=90),
        Desired(1, (4,), priority=90, order_index=1),
    )
    made = compiled(*rows).rows
    first = next(g.first_slot for g in inventory().groups if g.group_id == GROUP)
    assert made.ids.tolist() == [2, 1, 3, 4]
    assert (made.slots - first).tolist() == [3, 4, 1, 2, 0]
    assert made.row_of.tolist() == [0, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"generation": 0}, "inventory generation 0; hou-1 has 1"),
        ({"group_id": "h200"}, "group 'h200'; hou-1 has s21, m60s, s19xp, h100"),
        ({"group_id": "s21"}, "group s21 is not scheduled: `groups[].scheduled` in the facility file"),
        ({"state": TRAINING}, "state 6; h100 works in inference_batch"),
        ({"state": 1}, "state 1; h100 works in inference_batch"),
        ({"state": 250}, "state 250; h100 works in inference_batch"),
        ({"slots": (5, 100)}, "slots outside the group: h100 has the slots 0 to 99"),
        ({"slots": (5, 2**32 - 1)}, "slots outside the group: h100 has the slots 0 to 99"),
        ({"slots": (5, 4)}, "slots that are not ascending"),
        ({"slots": (5, 5)}, "slots that are not ascending"),
        ({"slots": (1, 2)}, "1 of its slots are those of row 1"),
        ({"is_outdated": True}, "its workload has rows under a higher lease epoch"),
    ],
)
def test_what_can_not_be_is_refused_and_the_others_stand(changes, reason):
    bad = replace(Desired(7, (50,), priority=80), **changes)
    found = compiled(GOOD, bad, Desired(9, (60, 61)))
    assert found.refused == {7: reason}
    assert found.rows.ids.tolist() == [1, 9]


def test_of_rows_that_overlap_the_oldest_stands_whatever_the_priorities_and_a_refused_one_takes_nothing():
    found = compiled(
        Desired(1, (10, 11), priority=10), Desired(2, (11, 12), priority=90), Desired(3, (12, 13), priority=50)
    )
    assert found.rows.ids.tolist() == [3, 1]
    assert found.refused == {2: "1 of its slots are those of row 1"}


def test_a_row_of_a_generation_that_is_not_known_here_yet_is_left_for_later():
    found = compiled(GOOD, Desired(2, (5,), generation=2))
    assert (found.rows.ids.tolist(), found.refused) == ([1], {})


def test_no_rows_are_no_trouble():
    found = compile_rows(NOTHING_STORED, SITE)
    assert (found.rows.ids.tolist(), found.refused) == ([], {})


def test_a_facility_without_scheduled_groups_refuses_all():
    found = compile_rows(stored(GOOD), fleet.site())
    assert list(found.refused) == [1]
