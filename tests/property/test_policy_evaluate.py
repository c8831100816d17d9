"""What a policy promises (DESIGN §6 a–d), over random fleets, states and prices."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.support.policies import ANCHOR_INDEX, asked, cases, load_mw, on_at_or_above, prices

few = settings(max_examples=80, deadline=None)


@few
@given(cases(), prices, prices)
def test_neither_the_load_nor_any_block_rises_with_the_price(case, one, other):
    compiled, present = case
    low = asked(compiled, present, min(one, other)).targets
    high = asked(compiled, present, max(one, other)).targets
    assert load_mw(compiled, high) <= load_mw(compiled, low) + 1e-9
    assert all(h <= lo for h, lo in zip(on_at_or_above(compiled, high), on_at_or_above(compiled, low), strict=True))


@few
@given(cases(floors=True), prices, prices)
def test_an_armed_floor_does_not_make_the_load_rise_with_the_price(case, one, other):
    compiled, present = case
    low = asked(compiled, present, min(one, other)).targets
    high = asked(compiled, present, max(one, other)).targets
    assert load_mw(compiled, high) <= load_mw(compiled, low) + 1e-9


@few
@given(cases(), prices)
def test_evaluating_what_was_asked_for_changes_nothing(case, price):
    compiled, present = case
    targets = asked(compiled, present, price).targets
    assert np.array_equal(asked(compiled, targets, price).targets, targets)


@few
@given(cases(floors=True), prices)
def test_with_a_floor_it_comes_to_rest_too(case, price):
    compiled, present = case
    path = [present]
    for _ in range(6):
        path.append(asked(compiled, path[-1], price).targets)
    assert np.array_equal(path[-1], path[-2])


def _strikes(compiled):
    return (
        compiled.on_slope * ANCHOR_INDEX + compiled.on_offset,
        compiled.off_slope * ANCHOR_INDEX + compiled.off_offset,
    )


@few
@given(cases(limits=False), st.data())
def test_inside_every_band_nothing_moves_and_a_path_that_returns_leaves_no_trace(case, data):
    compiled, present = case
    edges = np.unique(np.concatenate([*_strikes(compiled), [-100.0, 200.0]]))
    n = data.draw(st.integers(0, len(edges) - 2))
    low, high = edges[n], edges[n + 1]
    assume(high - low > 1e-6)
    inside = st.floats(low, high, exclude_min=True, exclude_max=True)
    state = asked(compiled, present, data.draw(inside)).targets
    for price in data.draw(st.lists(inside, min_size=1, max_size=4)):
        assert np.array_equal(asked(compiled, state, price).targets, state)


@few
@given(cases(floors=True), prices)
def test_devices_are_conserved_caps_hold_and_the_floor_is_reached_when_it_can_be(case, price):
    compiled, present = case
    got = asked(compiled, present, price)
    assert np.array_equal(got.targets.sum(axis=1), present.sum(axis=1))
    assert (got.targets >= 0).all()
    couplings, groups = compiled.policy.couplings, compiled.policy.groups
    asleep_mw = sum(int(n) * g.ladder[0].power_kw / 1000 for n, g in zip(present.sum(axis=1), groups, strict=True))
    load = load_mw(compiled, got.targets)
    assert load <= max(couplings.cap_mw, asleep_mw) + 1e-6
    for feeder, limit in couplings.feeder_caps_mw.items():
        mine = [n for n, g in enumerate(groups) if g.feeder_id == feeder]
        assert load_mw(compiled, got.targets, mine) <= limit + 1e-6
    sheddable = [n for n, g in enumerate(groups) if not couplings.sheddable or g.group_id in couplings.sheddable]
    is_short = load_mw(compiled, got.targets, sheddable) < couplings.floor_mw - 1e-6
    for n in sheddable if is_short else ():
        mine = [m for m, g in enumerate(groups) if g.feeder_id == groups[n].feeder_id]
        limit = couplings.feeder_caps_mw.get(groups[n].feeder_id, np.inf)
        room = min(couplings.cap_mw - load, limit - load_mw(compiled, got.targets, mine))
        assert _is_all_on(groups[n], got.targets[n]) or room < _next_step_mw(groups[n], got.targets[n]) + 1e-6


def _is_all_on(group, targets):
    return targets[group.ladder[-1].state] == targets.sum()


def _next_step_mw(group, targets):
    """The least MW that one more device's step would take."""
    return min((b.power_kw - a.power_kw) / 1000 for a, b in pairwise(group.ladder) if targets[a.state])


@few
@given(cases(limits=False, slopes=(2.0,)), prices, st.floats(0.9, 1.1))
def test_strikes_are_affine_in_the_index_so_shifting_both_alike_changes_nothing(case, price, factor):
    """With all slopes alike a move of the index moves every strike by slope × change."""
    compiled, present = case
    shift = compiled.on_slope[0] * ANCHOR_INDEX * (factor - 1)
    edges = np.concatenate(
        [compiled.on_slope * ANCHOR_INDEX + compiled.on_offset, compiled.off_slope * ANCHOR_INDEX + compiled.off_offset]
    )
    assume(np.abs(edges - price).min() > 1e-6)
    here = asked(compiled, present, price).targets
    there = asked(compiled, present, price + shift, index=ANCHOR_INDEX * factor).targets
    assert np.array_equal(here, there)


@given(cases(), st.sampled_from([np.nan, np.inf, -np.inf]))
@settings(max_examples=5, deadline=None)
def test_what_is_not_finite_is_refused(case, bad):
    compiled, present = case
    with pytest.raises(ValueError, match="not finite"):
        asked(compiled, present, bad)
    with pytest.raises(ValueError, match="not finite"):
        asked(compiled, present, 30.0, index=bad)
