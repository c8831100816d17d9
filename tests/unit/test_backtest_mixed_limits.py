"""Limits that bind: who runs goes by worth, nobody is above a limit, and perfect foresight is one programme over all of it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import lil_array

from hcp_pipelines.optimizer.backtest.mixed import limits, together
from hcp_pipelines.optimizer.backtest.mixed.foresight import foresee
from hcp_pipelines.optimizer.backtest.mixed.ledger import settle
from hcp_pipelines.optimizer.backtest.mixed.rules import ALL_RULES, decide
from hcp_pipelines.optimizer.backtest.mixed.site import MinerGroup, MixedSite
from tests.support.mixed import bound, world

RULES = {rules.name: rules for rules in ALL_RULES}
TWO = MixedSite((MinerGroup("old", 20.0, 29.5, "a"), MinerGroup("new", 30.0, 15.0, "b")))
ALL, NONE = np.ones((2, 1)), np.zeros((2, 1))


def fitted(room_mw, full=ALL, eco=NONE, sold=NONE, *, site=TWO, has_eco=False):
    found = limits.fitted(site, np.array([room_mw]), full, eco, sold, has_eco=has_eco)
    return [pytest.approx(part[:, 0].tolist()) for part in found]


def test_who_earns_more_runs_and_the_marginal_group_in_part():
    assert fitted(40.0) == [[0.5, 1.0], [0.0, 0.0]]
    assert fitted(25.0) == [[0.0, 25 / 30], [0.0, 0.0]]
    assert fitted(90.0) == [[1.0, 1.0], [0.0, 0.0]]
    assert fitted(-1.0) == [[0.0, 0.0], [0.0, 0.0]]


def test_more_devices_in_eco_before_fewer_in_full_where_that_earns_more():
    assert fitted(40.0, has_eco=True) == [[0.0, 1.0], [10 / 16, 0.0]]
    near = replace(TWO, groups=(replace(TWO.groups[0], efficiency_j_per_th=17.5), TWO.groups[1]))
    assert fitted(42.0, site=near, has_eco=True) == [[0.0, 1 / 3], [1.0, 2 / 3]]
    assert fitted(40.0, NONE, ALL, has_eco=True) == [[0.0, 0.0], [1.0, 1.0]]


def test_what_is_sold_is_on_first_and_no_more_is_sold_than_fits():
    old = np.array([[1.0], [0.0]])
    assert fitted(40.0, sold=old) == [[1.0, 20 / 30], [0.0, 0.0]]
    assert limits.sellable(TWO, np.array([40.0]), ALL)[:, 0].tolist() == pytest.approx([0.5, 1.0])


def test_a_feeder_holds_its_own():
    assert fitted(90.0, site=replace(TWO, feeder_limits_mw={"b": 12.0})) == [[1.0, 0.4], [0.0, 0.0]]
    assert [limits.binds(site) for site in (TWO, replace(TWO, limit_mw=50.0), replace(TWO, limit_mw=49.9))] == [
        False,
        False,
        True,
    ]
    assert limits.binds(replace(TWO, feeder_limits_mw={"b": 29.0}))


def limited(seed, days=10, **more):
    """A made-up site of 50 MW of miners and up to 12 MW of AI work under 45 MW, the first group behind a feeder of 25 MW."""
    here = world(days=days, seed=seed, charges=(40, 100), **more)
    return replace(here, site=bound(here.site, 45.0, one=25.0))


def done_by(name, here):
    return foresee(here) if name == "oracle" else decide(here, RULES[name])


@pytest.mark.parametrize("seed", range(3))
def test_nobody_is_above_a_limit_or_short_and_nothing_beats_foresight(seed):
    here = limited(seed)
    mw, net = np.array([[30.0], [20.0]]), {}
    for name in (*RULES, "oracle"):
        done = done_by(name, here)
        ledger = settle(here, done)
        net[name] = ledger.total_usd
        assert ledger.load_mw.max() <= 45.0 + 1e-6, name
        assert (mw * done.power)[0].max() <= 25.0 + 1e-6, name
        assert ledger.parts()["reserve_shortfall"] == 0, name
        assert ledger.deadlines_missed == 0, name
    assert max(net.values()) == net["oracle"]
    assert net["mpc"] > net["always_on"]


@pytest.mark.parametrize("seed", range(2))
def test_windows_earn_what_one_programme_does(seed, monkeypatch):
    here = limited(seed)
    piecewise = settle(here, foresee(here)).total_usd
    monkeypatch.setattr(together, "WINDOW_DAYS", 10)
    monkeypatch.setattr(together, "KEPT_DAYS", 10)
    assert piecewise == pytest.approx(settle(here, foresee(here)).total_usd, rel=2e-5)


@pytest.mark.parametrize("seed", range(2))
def test_where_nothing_binds_the_programme_is_the_dynamic_programme(seed):
    here = world(days=6, seed=seed, charges=(40, 100))
    free = replace(here, site=bound(here.site, 1e3))
    together_usd = settle(free, together.foresee_together(free)).total_usd
    assert together_usd == pytest.approx(settle(here, foresee(here)).total_usd, rel=2e-5)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_optimum_of_another_formulation_and_whole_devices_earn_little_less(seed):
    """Written down once more for scipy, without windows and without our layout: continuous, and with devices as integers."""
    here = replace(world(days=1, seed=seed, charges=(15,)), site=replace(bound(MINERS, 35.0, one=25.0)))
    best = settle(here, foresee(here)).total_usd
    assert best == pytest.approx(formulated(here, are_whole=False), rel=1e-6)
    whole = formulated(here, are_whole=True)
    assert best - 0.02 * abs(best) < whole <= best + 1e-6


MINERS = MixedSite((MinerGroup("one", 30.0, 15.0), MinerGroup("two", 20.0, 29.5)))
DEVICE_MW = 5.0


def formulated(here, are_whole):
    """Dollars of the best plan of a site of miners: by interval and group devices in full, in eco, woken; by hour MW sold."""
    n, h = len(here), here.step_h
    size = 6 * n + len(here.mcpc)  # full, eco, woken of two groups, interval by interval; then what is sold
    cost, upper, rows = np.zeros(size), np.full(size, np.inf), []
    start, power = limits.starting(here.site), here.settled_price + np.repeat(here.charge, here.steps)
    for g, (group, case) in enumerate(zip(here.site.groups, here.cases, strict=True)):
        full, eco, woken = (np.arange(n) + (3 * g + k) * n for k in range(3))
        revenue, devices = case.settled.revenue_usd_per_mwh, group.mw / DEVICE_MW
        cost[full], cost[eco] = (-h * DEVICE_MW * (a * revenue - b * power) for a, b in ((1.0, 1.0), (0.86, 0.8)))
        cost[woken] = DEVICE_MW * case.settled.wake_usd
        for t in range(n):
            rows.append(({full[t]: 1, eco[t]: 1}, -np.inf, devices))
            before = {full[t - 1]: 1, eco[t - 1]: 1} if t else {}
            rows.append(
                (
                    {full[t]: 1, eco[t]: 1, woken[t]: -1} | dict.fromkeys(before, -1),
                    -np.inf,
                    0 if t else start[g] * devices,
                )
            )
    for t in range(n):
        load = {t + k * n: DEVICE_MW * mw for k, mw in ((0, 1.0), (1, 0.8), (3, 1.0), (4, 0.8))}
        rows.append((load, -np.inf, here.site.limit_mw))
        rows.append(({k: mw for k, mw in load.items() if k < 3 * n}, -np.inf, here.site.feeder_limits_mw["one"]))
        rows.append((load | {6 * n + t // here.steps: -1}, 0, np.inf))
    cost[6 * n :] = -here.mcpc
    matrix = lil_array((len(rows), size))
    for row, (entries, _, _) in enumerate(rows):
        for column, value in entries.items():
            matrix[row, column] = value
    lower, most = (np.array([row[k] for row in rows], dtype=float) for k in (1, 2))
    integers = np.r_[np.ones(6 * n) * are_whole, np.zeros(len(here.mcpc))]
    found = milp(
        cost, integrality=integers, bounds=Bounds(0, upper), constraints=LinearConstraint(matrix.tocsr(), lower, most),
        options={"mip_rel_gap": 2e-3, "time_limit": 20},
    )  # fmt: skip
    return -found.fun
