"""Ramps of a facility: all strategies and perfect foresight keep them, and reserves are on in time."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from hcp_pipelines.optimizer.ai_work import NO_WORK
from hcp_pipelines.optimizer.backtest.mixed import courses, limits, ramps, together
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
    assert needed[0].tolist() == pytest.approx([0, 0, 0.25, 0.5, 0.75, 1.0])
    asked = ramps.prepared(TWO, sold, np.array([0, 0, 0, 0, 2.5, 2.5]), 0.25)
    assert asked[0].tolist() == pytest.approx([0, 0.125, 0.375, 0.625, 0.75, 1.0]), (
        "what AI work takes of the ramp comes first"
    )
    both = ramps.prepared(TWO, np.array([[0, 0, 0, 0, 0, 0.5], [0, 0, 0, 0, 0, 1.0]]), NO_AI, 0.25)
    assert mw_of(both).tolist() == [pytest.approx([0, 0, 0, 0, 5, 10]), pytest.approx([15, 20, 25, 30, 30, 30])]
    full, eco = ramps.with_needed(*(np.zeros((2, 6)),) * 2, needed, has_eco=True)
    assert (full + 0.8 * eco)[0].tolist() == pytest.approx(needed[0].tolist())
    full, _ = held([[0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1]], needed=[[0, 1, 1, 1, 1, 1], [0] * 6])
    assert mw_of(full)[0].tolist() == pytest.approx([0, 5, 10, 15, 20, 20])


def ramped_two(charges=(), chance=0.3):
    """Two days of an even price of $20, and what is known of peaks: the same at any time before one."""
    here = world(days=2, charges=charges)
    even = np.full(len(here), 20.0)
    cases = tuple(
        replace(case, known=replace(case.known, price_usd_per_mwh=even), day_ahead=even) for case in here.cases
    )
    p = np.where(here.charge > 0, chance, 0.0)
    ai = replace(here.site, ai=NO_WORK, ramp_up_mw_per_h=20.0, ramp_down_mw_per_h=40.0)
    return replace(here, site=ai, cases=cases, p_peak=p, p_peak_ahead=p, p_peak_soon=np.tile(p, (9, 1)))


def cap_of(here):
    nothing = np.zeros(len(here))
    return courses.cap_mw(here, nothing, nothing, has_eco=True)


def test_as_much_sleeps_before_a_peak_as_its_chance_pays_for():
    """20 MW an hour up, 40 down: of 50 MW it takes ten intervals, and five. A MW asleep forgoes $25 to $50 an hour."""
    assert cap_of(ramped_two()).tolist() == [50.0] * len(ramped_two())
    sure = cap_of(ramped_two((16,)))
    assert sure[56:72].tolist() == pytest.approx([50, 50, 50, 50, 40, 30, 20, 10, 0, 0, 0, 0, 5, 10, 15, 20], abs=2)
    doubtful, unlikely = cap_of(ramped_two((16,), 0.008)), cap_of(ramped_two((16,), 0.0005))
    assert 0 < sure[:64].sum() < doubtful[:64].sum() < 50 * 64
    assert unlikely.min() == 50.0
    here = ramped_two((16,))
    over = replace(here, p_peak=np.zeros(48), p_peak_soon=here.p_peak_soon * (np.arange(1, 10) >= 2)[:, None])
    assert cap_of(over)[60:].min() > 20, "what is known no longer an hour before is not slept for"


def test_a_sure_course_is_beaten_by_none():
    """Against courses of random turns, by the dollars of the levels that they are at."""
    here, random = ramped_two((14, 39), 1.0), np.random.default_rng(0)
    parts = courses._worth(here, np.arange(len(here)), has_eco=False)
    cost = 20.0 + np.repeat(here.charge, 4)

    def usd(course):
        earned = (parts * limits.stack(here.site, course, has_eco=False)).sum(axis=1) - cost * course
        return 0.25 * earned.sum()

    nothing = np.zeros(len(here))
    free = replace(here, cases=tuple(replace(c, known=replace(c.known, wake_usd=nothing)) for c in here.cases))
    best = courses.cap_mw(free, nothing, nothing, has_eco=False)
    for _ in range(200):
        other, turns = best.copy(), random.normal(0, 8, len(best)) * (random.random(len(best)) < 0.2)
        for t in range(1, len(other)):
            other[t] = np.clip(best[t] + turns[t], max(other[t - 1] - 10, 0), min(other[t - 1] + 5, 50))
        assert usd(other) <= usd(best) + 40.0  # levels lie 1.7 MW apart


def test_what_is_sold_pays_for_the_hours_beside_it():
    here = ramped_two()
    lost = np.full((2, 2, 48), 1.0)
    lost[:, :, 17:19] = 30.0
    paid = np.full(48, 2.0)
    paid[20] = 40.0
    free = replace(here, forgone_without_peaks=lost, mcpc=paid)
    sold = courses.sold_mw(free, has_eco=True)
    assert sold[20] == 50.0
    assert sold[18] < 15.0
    assert sold[17] == 0.0
    assert (np.diff(sold) <= 20.0).all()
    assert (np.diff(sold) >= -40.0).all()
    calm = courses.sold_mw(replace(free, mcpc=np.full(48, 2.0)), has_eco=True)
    assert calm[17:19].max() == 0.0
    assert calm[[4, 40]].tolist() == [50.0, 50.0]
    doubtful = replace(here, p_peak_ahead=np.where(np.arange(48) == 17, 0.005, 0.0))
    beside = courses.sold_mw(replace(doubtful, forgone_without_peaks=0 * lost + 1.0, mcpc=calm * 0 + 2.0), has_eco=True)
    assert beside[17] == 0.0, "a chance of 0.005 is worth $81 of a MW, whatever it earns"
    assert beside[18] <= 20.0
    assert beside[16] <= 40.0


def test_the_levels_of_a_day_are_the_best_of_all():
    random = np.random.default_rng(3)
    for _ in range(20):
        gain, turn = random.normal(0, 3, (5, 3)), random.exponential(2, (5, 3, 3))

        def usd(course, gain=gain, turn=turn):
            return sum(gain[h, b] - turn[h, a, b] for h, (a, b) in enumerate(itertools.pairwise((1, *course))))

        best = max(itertools.product(range(3), repeat=5), key=usd)
        assert courses._followed(gain, turn, 1).tolist() == list(best)


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
