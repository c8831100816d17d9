"""The mix that a policy is asked about while somebody else has the last word."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hcp_pipelines.allocator.shadow import Shadow

ON, DOWN = np.array([[0, 0, 10], [5, 0, 5]]), np.array([[10, 0, 0], [5, 0, 5]])


def test_nothing_bent_nothing_kept():
    shadow = Shadow()
    shadow.note(ON, DOWN, ())
    assert shadow.over(DOWN) is DOWN


def test_a_bent_group_is_asked_about_as_if_it_were_not_until_it_is_back():
    shadow = Shadow()
    shadow.note(ON, DOWN, {0})
    assert np.array_equal(shadow.over(DOWN), ON)
    shadow.note(ON, DOWN, ())  # released, and still on its way
    assert np.array_equal(shadow.over(DOWN), ON)
    shadow.note(ON, ON, ())
    assert shadow.over(DOWN) is DOWN


def test_a_group_that_is_bent_to_where_it_is_stays_bent():
    shadow = Shadow()
    shadow.note(ON, ON, {0})
    assert np.array_equal(shadow.over(DOWN), ON)


@given(st.lists(st.integers(0, 30), min_size=3, max_size=3), st.integers(0, 120))
def test_it_always_has_as_many_devices_as_there_are(kept, devices):
    shadow = Shadow()
    shadow.note(np.array([kept]), np.array([[0, 0, 0]]), {0})
    mix = shadow.over(np.array([[devices, 0, 0]]))
    assert mix.sum() == devices
    assert (mix >= 0).all()
