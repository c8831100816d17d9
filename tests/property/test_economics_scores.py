"""The ranking of uses against a slow and plain account of it, and what must hold of any ranking."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hcp_pipelines.economics.rivals import SiteUses, rank

USD = st.integers(-40, 120).map(float)


@st.composite
def sites(draw, limit_mw=None):
    """Up to six resources of one to three uses each, in any order of rows."""
    rows = []
    for resource in range(draw(st.integers(1, 6))):
        count = draw(st.integers(1, 3))
        present = draw(st.sampled_from([None, *range(count)]))
        mw = float(draw(st.integers(1, 5)))
        rows += [(resource, draw(USD), float(draw(st.integers(0, 30))), mw, n == present) for n in range(count)]
    resource, value, switch, mw, is_present = (np.array(c) for c in zip(*draw(st.permutations(rows)), strict=True))
    limit = float(draw(st.integers(0, 15))) if limit_mw is None else limit_mw
    return SiteUses(resource, value, switch, mw, is_present, float(draw(st.sampled_from([0, 20]))), limit)


def net(uses, row):
    return uses.value[row] - (0.0 if uses.is_present[row] else uses.switch[row])


def runs(uses, ranking):
    """Rows that run afterwards: what is allocated, and what is present and held."""
    return ranking.is_allocated | (ranking.is_held & uses.is_present)


@given(sites(limit_mw=np.inf))
@settings(max_examples=200, deadline=None)
def test_with_enough_power_every_resource_does_what_pays_most_net_of_the_switch(uses):
    running = runs(uses, rank(uses))
    for resource in set(uses.resource):
        rows = np.flatnonzero(uses.resource == resource)
        best = max(rows, key=lambda r: (net(uses, r), uses.is_present[r], -r))
        asleep = uses.resting - uses.switch[best] * any(uses.is_present[rows])  # what sleeps comes back, at that cost
        chosen = [r for r in rows if running[r]]
        assert len(chosen) <= 1
        assert (net(uses, chosen[0]) if chosen else asleep) == max(net(uses, best), asleep)


@given(sites())
@settings(max_examples=200, deadline=None)
def test_scarce_power_goes_to_those_who_pay_most_and_the_last_fits_in_part(uses):
    ranking = rank(uses)
    running = np.flatnonzero(runs(uses, ranking))
    wanting = np.flatnonzero(runs(uses, rank(SiteUses(*(getattr(uses, f) for f in uses.__slots__[:-1])))))
    assert set(running) <= set(wanting)
    bids = {r: net(uses, r) for r in wanting}
    used_mw = uses.mw[running].sum()
    if len(running) < len(wanting):
        assert min((bids[r] for r in running), default=np.inf) >= max(bids[r] for r in wanting if r not in running)
        assert used_mw >= uses.limit_mw
    if len(running):
        least = min(running, key=lambda r: bids[r])
        tied_mw = max(uses.mw[r] for r in running if bids[r] == bids[least])
        assert used_mw - tied_mw < uses.limit_mw


LOSING_WITH_A_WAY_OUT = SiteUses(
    np.zeros(2, dtype=np.int64), np.array([-30.0, 5.0]), np.array([10.0, 10.0]), np.ones(2), np.array([True, False])
)


@given(sites())
@example(LOSING_WITH_A_WAY_OUT)
@settings(max_examples=200, deadline=None)
def test_nothing_is_both_allocated_and_held_and_what_runs_beats_its_rival(uses):
    ranking = rank(uses)
    assert not (ranking.is_allocated & ranking.is_held).any()
    for row in np.flatnonzero(ranking.is_allocated):
        assert uses.value[row] >= ranking.next_best[row]


@given(sites(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_of_rows_changes_nothing_but_ties(uses, random):
    order = np.array(random.sample(range(len(uses.value)), len(uses.value)))
    unique = uses.value + np.arange(len(uses.value)) * 1e-6  # no ties
    first = rank(SiteUses(uses.resource, unique, uses.switch, uses.mw, uses.is_present, uses.resting, uses.limit_mw))
    moved = (a[order] for a in (uses.resource, unique, uses.switch, uses.mw, uses.is_present))
    second = rank(SiteUses(*moved, uses.resting, uses.limit_mw))
    assert np.array_equal(first.is_allocated[order], second.is_allocated)
    assert np.array_equal(first.is_held[order], second.is_held)
    assert np.array_equal(first.next_best[order], second.next_best)


@given(sites(), st.integers(0, 10))
@settings(max_examples=100, deadline=None)
def test_more_power_never_runs_less(uses, more_mw):
    wider = SiteUses(
        uses.resource, uses.value, uses.switch, uses.mw, uses.is_present, uses.resting, uses.limit_mw + more_mw
    )
    assert (runs(wider, rank(wider)) >= runs(uses, rank(uses))).all()
