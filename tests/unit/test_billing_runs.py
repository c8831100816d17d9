"""Which time of a piece of work is billed: by hand, and against a step-by-step account of whatever may happen to it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp_pipelines.workloads.billing.runs import BILLED, FAILED, LOST, parts_of, slices_of
from tests.support.billed import AT, checkpoints, events

QUARTER = timedelta(minutes=15)


def seconds(parts, treatment=BILLED):
    chosen = parts.filter(treatment=treatment)
    return (chosen["until_at"] - chosen["from_at"]).dt.total_microseconds().sum() / 1e6


def billed(told, saved=(), until=100_000, **of):
    return parts_of(events(told, **of), checkpoints(saved), AT + timedelta(seconds=until))


def test_pauses_are_no_running():
    parts = billed([(0, "running"), (600, "paused"), (900, "running"), (1000, "completed")])
    assert [(p["from_at"], p["until_at"], p["run"]) for p in parts.to_dicts()] == [
        (AT, AT + timedelta(seconds=600), 1), (AT + timedelta(seconds=900), AT + timedelta(seconds=1000), 2),
    ]  # fmt: skip
    assert set(parts["treatment"]) == {BILLED}


def test_what_runs_still_has_run_until_now():
    parts = billed([(0, "running")], until=50)
    assert seconds(parts) == 50


def test_what_no_checkpoint_holds_is_lost_and_what_goes_on_from_it_is_billed():
    told = [(0, "running"), (1000, "waiting"), (1500, "running"), (2000, "completed")]
    parts = billed(told, [(800, 600)])
    assert (seconds(parts), seconds(parts, LOST)) == (600 + 500, 400)
    assert parts.filter(treatment=LOST)["from_at"].to_list() == [AT + timedelta(seconds=600)]


def test_a_checkpoint_of_a_pause_before_the_return_loses_nothing():
    told = [(0, "running"), (1000, "paused"), (1010, "waiting"), (1500, "running"), (1600, "completed")]
    parts = billed(told, [(1005, 1000)])
    assert (seconds(parts), seconds(parts, LOST)) == (1100, 0)


def test_what_devices_tell_after_the_return_is_kept_and_what_can_not_be_loaded_then_is_lost():
    told = [(0, "running"), (1000, "waiting"), (1500, "running"), (2000, "completed")]
    assert seconds(billed(told, [(1005, 1000)])) == 1500
    assert seconds(billed(told[:2], [(1005, 1000)])) == 1000
    assert seconds(billed(told, [(1005, 1000), (1400, 300)])) == 300 + 500
    assert seconds(billed(told, [(1600, 1100)])) == 500, "of the run after it"


def test_a_loss_reaches_back_over_the_run_before():
    told = [
        (0, "running"),
        (1000, "paused"),
        (1100, "running"),
        (1200, "waiting"),
        (1300, "running"),
        (1400, "completed"),
    ]
    parts = billed(told, [(500, 400)])
    assert (seconds(parts), seconds(parts, LOST)) == (400 + 100, 600 + 100)


@pytest.mark.parametrize(
    ("kind", "retries", "found"),
    [
        ("model_training", 0, (0, 0, 500)),  # ours: nothing of it is billed
        ("model_training", 2, (500, 0, 0)),  # its own: it was not tried again, though it might have been
        ("ai_inference_realtime", 0, (500, 0, 0)),  # what was served was served
    ],
)
def test_work_that_fails_for_good(kind, retries, found):
    parts = billed([(0, "running"), (500, "failed")], type=kind, retries_left=retries)
    assert tuple(seconds(parts, treatment) for treatment in (BILLED, LOST, FAILED)) == found


def test_realtime_inference_loses_nothing_of_what_it_served():
    told = [(0, "running"), (1000, "waiting"), (1500, "running"), (2000, "cancelled")]
    assert seconds(billed(told, type="ai_inference_realtime")) == 1500


def test_slices_lie_in_their_intervals_and_window():
    parts = billed([(600, "running"), (2000, "completed")])
    window = AT + QUARTER, AT + timedelta(days=1)
    found = slices_of(parts, window, QUARTER)
    assert found["start_at"].to_list() == [AT + QUARTER, AT + 2 * QUARTER]
    assert found["hours"].to_list() == pytest.approx([900 / 3600, 200 / 3600])
    assert slices_of(parts, (AT, AT + timedelta(seconds=600)), QUARTER).is_empty()


def test_a_day_without_work_has_no_slices():
    assert slices_of(billed([]), (datetime(2024, 1, 1, tzinfo=UTC), AT), QUARTER).is_empty()


def account(told, saved):
    """The same, one step at a time: progress goes up by running, and back at a return to the checkpoint of the next run."""
    kept, open_at = [], None
    for at, status in told:
        if open_at is not None:
            kept.append(at - open_at)
            open_at = None
        if status == "running":
            open_at = at
        if status == "waiting":
            left = next((progress for when, progress in reversed(saved) if when <= at + 10), 0.0)
            lost = max(sum(kept) - left, 0.0)
            while lost > 0:
                taken = min(lost, kept[-1])
                kept[-1] -= taken
                lost -= taken
                if kept[-1] <= 0:
                    kept.pop()
    return sum(kept)


@settings(max_examples=50, deadline=None)  # the first call loads what polars needs
@given(
    st.lists(
        st.tuples(st.integers(1, 500), st.booleans(), st.sampled_from([None, -0.5, 5]), st.integers(0, 2000)),
        min_size=1,
        max_size=12,
    )
)
def test_whatever_happens_it_is_what_the_customer_keeps(steps):
    told, saved, now = [], [], 0
    for length, is_return, saved_after_s, progress in steps:
        told.append((now, "running"))
        now += length
        if saved_after_s is not None:
            saved.append((now + saved_after_s, float(progress)))
        told.append((now, "waiting" if is_return else "paused"))
        now += 10
    parts = billed(told, saved, until=now)
    assert seconds(parts) == pytest.approx(account(told, saved), abs=1e-4)
    assert sum(seconds(parts, t) for t in (BILLED, LOST)) == pytest.approx(sum(length for length, *_ in steps))
