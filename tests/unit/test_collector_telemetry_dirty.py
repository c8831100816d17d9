"""What is dirty: everything that a batch brought is rolled up after that batch, also across a restart."""

from hypothesis import given
from hypothesis import strategies as st

from hcp_pipelines.collector.telemetry.dirty import Dirty, Due


def test_a_bucket_is_due_when_it_is_over_and_quiet_or_quiet_for_long():
    dirty = Dirty(quiet_s=8, over_s=90)
    dirty.note({5: 10}, 1, now_s=0)
    assert dirty.due(89, 100) is None
    assert dirty.due(90, 100) == Due(5, 5, 1)
    dirty.note({6: 10}, 2, now_s=1)
    assert dirty.due(8, 100) == Due(5, 5, 2)
    assert dirty.due(7, 100) is None


def test_runs_have_no_gap_and_a_bound_and_begin_with_the_newest():
    dirty = Dirty(0, 0)
    dirty.note({1: 60, 2: 30, 3: 30, 5: 1}, 1, 0)
    assert dirty.due(0, 100) == Due(5, 5, 1)
    dirty.done(Due(5, 5, 1))
    assert dirty.due(0, 100) == Due(2, 3, 1)
    assert dirty.due(0, 10) == Due(3, 3, 1)
    dirty.done(Due(2, 3, 1))
    assert dirty.due(0, 100) == Due(1, 1, 1)


def test_old_minutes_without_end_make_new_ones_wait_for_one_run():
    dirty = Dirty(0, 0)
    for batch in range(1, 10):
        dirty.note({batch: 1, 1_000 + batch: 1}, batch, 0)
        due = dirty.due(0, 100)
        assert due.last == 1_000 + batch
        dirty.done(due)


def test_what_came_meanwhile_is_dirty_still():
    dirty = Dirty(0, 0)
    dirty.note({1: 1}, 1, 0)
    due = dirty.due(0, 100)
    dirty.note({1: 1}, 2, 0)
    assert dirty.rolled_up_to(due) == 1
    dirty.done(due)
    assert dirty.due(0, 100) == Due(1, 1, 2)
    assert dirty.rolled_up_to(Due(1, 1, 2)) == 2


@given(st.data())
def test_behind_the_mark_lies_all_that_is_not_rolled_up(data):
    """A naive model: after a restart, batches behind the last mark name every bucket that is not as it should be."""
    dirty, batches, rolled, mark = Dirty(0, 0), [], {}, 0
    for number in range(1, data.draw(st.integers(1, 12)) + 1):
        batches.append((number, data.draw(st.sets(st.integers(0, 5), min_size=1))))
        due = dirty.due(0, data.draw(st.integers(1, 4))) if data.draw(st.booleans()) else None
        dirty.note(dict.fromkeys(batches[-1][1], 1), number, 0)  # it may come between a look and its end
        if due is not None:
            mark = dirty.rolled_up_to(due)
            rolled |= dict.fromkeys(range(due.first, due.last + 1), due.upto)
            dirty.done(due)
    wrong = {b for number, buckets in batches for b in buckets if rolled.get(b, 0) < number}
    assert wrong <= {b for number, buckets in batches for b in buckets if number > mark}
    left = Dirty(0, 0)
    for number, buckets in batches:
        if number > mark:
            left.note(dict.fromkeys(buckets, 1), number, 0)
    while due := left.due(0, 3):
        wrong -= set(range(due.first, due.last + 1))
        left.done(due)
    assert not wrong
