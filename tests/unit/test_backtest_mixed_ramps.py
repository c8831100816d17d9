"""Ramps of a facility: all strategies and perfect foresight keep them, and reserves are on in time."""

from dataclasses import replace

import numpy as np
import pytest

from hcp_pipelines.optimizer.backtest.mixed import ramps, together
from hcp_pipelines.optimizer.backtest.mixed.foresight import foresee
from hcp_pipelines.optimizer.backtest.mixed.ledger import settle
from hcp_pipelines.optimizer.backtest.mixed.rules import ALL_RULES, decide
from hcp_pipelines.optimizer.backtest.mixed.site import MinerGroup, MixedSite
from tests.support.mixed import bound, world

RULES = {rules.name: rules for rules in ALL_RULES}
TWO = MixedSite(
    (MinerGroup("old", 20.0, 29.5), MinerGroup("new", 30.0, 15.0)), ramp_up_mw_per_h=20.0, ramp_down_mw_per_h=40.0
)
NO_AI = np.zeros(6)


def held(full, ai_mw=NO_AI, needed=None, *, has_eco=False, eco=None):
    full = np.array(full, dtype=float)
    eco, needed = (np.zeros_like(full) if each is None else np.array(each, dtype=float) for each in (eco, needed))
    return ramps.held(TWO, 0.25, (full, eco), needed, np.asarray(ai_mw, dtype=float), has_eco=has_eco)


def mw_of(shares):
    return np.array([[20.0], [30.0]]) * shares


def test_who_earns_more_comes_first_and_goes_last():
    full, _ = held([[0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0]])
    assert mw_of(full).tolist() == [pytest.approx([0, 0, 0, 0, 0, 0]), pytest.approx([0, 5, 10, 15, 5, 0])]
    full, _ = held([[1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]])
    assert mw_of(full).tolist() == [pytest.approx([20, 10, 0, 0, 0, 0]), pytest.approx([30, 30, 30, 20, 10, 0])]


def test_what_goes_makes_room_for_what_comes_and_ai_work_has_its_own():
    full, _ = held([[1, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1]])
    assert mw_of(full).tolist() == [pytest.approx([20, 0, 0, 0, 0, 0]), pytest.approx([0, 25, 30, 30, 30, 30])]
    full, _ = held([[0] * 6, [0, 1, 1, 1, 1, 1]], ai_mw=[0, 3, 3, 0, 0, 0])
    assert mw_of(full)[1].tolist() == pytest.approx([0, 2, 7, 15, 20, 25])


def test_full_becomes_eco_before_eco_goes():
    full, eco = held([[0] * 6, [1, 0, 0, 0, 0, 0]], has_eco=True)
    assert full[1].tolist() == pytest.approx([1, 0, 0, 0, 0, 0])
    assert (30 * 0.8 * eco[1]).tolist() == pytest.approx([0, 20, 10, 0, 0, 0])


def test_what_is_sold_is_prepared_and_goes_first():
    sold = np.array([[0, 0, 0, 0, 0, 1.0], [0] * 6])
    needed = ramps.prepared(TWO, sold, NO_AI, 0.25)
    assert needed[0].tolist() == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    asked = ramps.prepared(TWO, sold, np.array([0, 0, 0, 0, 2.5, 2.5]), 0.25)
    assert asked[0].tolist() == pytest.approx([0.55, 0.65, 0.75, 0.85, 0.9, 1.0]), (
        "what AI work takes of the ramp comes first"
    )
    full, eco = ramps.with_needed(*(np.zeros((2, 6)),) * 2, needed, has_eco=True)
    assert (full + 0.8 * eco)[0].tolist() == pytest.approx(needed[0].tolist())
    full, _ = held([[0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1]], needed=[[0, 1, 1, 1, 1, 1], [0] * 6])
    assert mw_of(full)[0].tolist() == pytest.approx([0, 5, 10, 15, 20, 20])


def test_peaks_are_seen_before_they_come_and_nothing_is_sold_beside_them():
    """20 MW an hour up, 40 down: of 50 MW it takes three hours, and two."""
    now, ahead = np.zeros(12), np.array([0.0] * 7 + [0.3] * 4 + [0.0])
    assert ramps.foreseen(TWO, now, ahead, 0.25).tolist() == [0.0, 0.0] + [0.3] * 8 + [0.0, 0.0]
    chance, day = np.array([0, 0, 0, 0, 0.2, 0, 0, 0, 0, 0.0]), np.array([0] * 6 + [1] * 4)
    assert ramps.near(TWO, chance, day).tolist() == [0, 0, 0.2, 0.2, 0.2, 0.2, 0, 0, 0, 0]
    assert ramps.near(TWO, chance, 0 * day).tolist() == [0, 0, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0, 0]


def ramped(seed, up=32.0, down=48.0, days=8):
    """A made-up site of 50 MW of miners and up to 12 MW of AI work: 8 MW up and 12 MW down an interval."""
    here = world(days=days, seed=seed, charges=(40, 100))
    return replace(here, site=replace(here.site, ramp_up_mw_per_h=up, ramp_down_mw_per_h=down))


def load_of(here, done):
    mw = np.array([[30.0], [20.0]])
    return (mw * done.power).sum(axis=0) + done.inference_mw.sum(axis=0) + done.training_mw.sum(axis=0)


@pytest.mark.parametrize("is_bound", [False, True])
def test_nobody_changes_faster_and_nothing_beats_foresight(is_bound):
    here, net = ramped(1, up=48.0), {}
    if is_bound:
        here = replace(here, site=replace(bound(here.site, 45.0, one=25.0)))
    for name in (*RULES, "oracle"):
        done = foresee(here) if name == "oracle" else decide(here, RULES[name])
        turns = np.diff(load_of(here, done))
        assert turns.max() <= 12.0 + 1e-6, name
        assert turns.min() >= -12.0 - 1e-6, name
        if is_bound:
            assert load_of(here, done).max() <= 45.0 + 1e-6, name
            assert 30.0 * done.power[0].max() <= 25.0 + 1e-6, name
        ledger = settle(here, done)
        net[name] = ledger.total_usd
        assert ledger.parts()["reserve_shortfall"] > -1.0, name
    assert max(net.values()) == net["oracle"]


def test_foresight_of_no_ramps_earns_more_and_windows_earn_what_one_programme_does(monkeypatch):
    here = ramped(0)
    unramped = replace(here, site=replace(bound(here.site, 1e3), ramp_up_mw_per_h=np.inf, ramp_down_mw_per_h=np.inf))
    free, slow = (settle(here, foresee(each)).total_usd for each in (unramped, here))
    assert free > slow
    monkeypatch.setattr(together, "WINDOW_DAYS", 8)
    monkeypatch.setattr(together, "KEPT_DAYS", 8)
    assert slow == pytest.approx(settle(here, foresee(here)).total_usd, rel=1e-4)


def test_ramps_that_never_bind_change_nothing():
    here, wide = ramped(2, up=1e3, down=1e3), world(days=8, seed=2, charges=(40, 100))
    for rules in ALL_RULES:
        assert settle(here, decide(here, rules)).total_usd == settle(wide, decide(wide, rules)).total_usd
