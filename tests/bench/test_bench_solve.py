"""What `hcp bench solve` solves: sites that switch, sell and train, and windows that earn what one programme does. No times."""

import numpy as np

from benchmarks.solve import AHEAD_H, FINE_H, JOBS, horizon, mixed, prices, start_of, ten_groups, windows_against_one
from hcp_pipelines.optimizer.programme import SiteProgramme


def test_both_grids_are_48_hours_and_the_site_uses_all_of_its_parts():
    assert AHEAD_H.sum() == FINE_H.sum() == 48
    spec = ten_groups()
    ahead = horizon(spec, AHEAD_H, prices(len(AHEAD_H), 0.25), JOBS)
    plan = SiteProgramme(spec, AHEAD_H).solve(ahead, start_of(spec))
    assert plan.duality_gap < 1e-9
    assert (plan.load_mw <= 95.0 + 1e-6).all()
    assert plan.wakes.sum() > 0
    assert plan.reserve_mw.sum() > 0
    assert plan.training_mw.sum() > 0
    assert plan.short_training_mwh.max() < 1e-6
    assert len({float(n) for n in plan.devices[:, 0].round(3)}) > 2


def test_windows_earn_what_one_programme_does():
    assert windows_against_one(12) < 1e-9


def test_prices_have_a_day_and_events():
    found = prices(96 * 60, 0.25)
    assert np.quantile(found, 0.99) > 150
    assert -60 < np.quantile(found, 0.01) < 20
    assert len(mixed().groups) == 3
