"""A floor holds on the way too: nothing falls before what replaces it is on."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hcp_pipelines.policy.floors import held_above
from hcp_pipelines.policy.waves import FacilityShape

LADDERS = ((0, 2, 3), (0, 3))
POWER = np.array([[0.1, 0, 2.0, 3.5, 0, 0, 0], [0.2, 0, 0, 5.0, 0, 0, 0]])
SHAPE = FacilityShape("f", 1, ("a", "b"), ("f1", "f2"), LADDERS, np.zeros(0, dtype=np.int64), POWER)


@st.composite
def mixes(draw, whole=(9, 7)):
    counts = np.zeros((2, 7), dtype=np.int64)
    for g, ladder in enumerate(LADDERS):
        left = whole[g]
        for state in ladder[1:]:
            counts[g, state] = draw(st.integers(0, left))
            left -= counts[g, state]
        counts[g, 0] = left
    return counts


def shed_mw(counts):
    return float((counts * (POWER - POWER[:, [0]])).sum())


def falls_mw(now, after):
    """What falls first, before anything rises."""
    down = 0.0
    for g, ladder in enumerate(LADDERS):
        for k in range(1, len(ladder)):
            lost = now[g, list(ladder[k:])].sum() - after[g, list(ladder[k:])].sum()
            down += max(lost, 0) * (POWER[g, ladder[k]] - POWER[g, ladder[k - 1]])
    return down


@given(mixes(), mixes(), st.floats(0, 70))
def test_what_falls_at_once_leaves_the_floor_standing(now, wanted, floor_mw):
    held = held_above(SHAPE, now, wanted, None, floor_mw)
    assert (held >= 0).all()
    assert (held.sum(axis=1) == now.sum(axis=1)).all()
    assert falls_mw(now, held) <= max(shed_mw(now) - floor_mw, 0.0) + 1e-6
    assert falls_mw(now, held) <= falls_mw(now, wanted) + 1e-9


@given(mixes(), mixes())
def test_without_a_floor_in_the_way_targets_stay_as_they_are(now, wanted):
    assert np.array_equal(held_above(SHAPE, now, wanted, None, 0.0), wanted)
    assert np.array_equal(held_above(SHAPE, now, wanted, np.array([False, False]), 1e9), wanted)
