"""The programme as a policy (DESIGN §6 a, b): its own first stage at its anchor, and load that never rises with the price."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp_pipelines.optimizer.programme import Group, Horizon, Mode, SiteProgramme, SiteSpec, Start
from hcp_pipelines.optimizer.programme.envelopes import levels_around, step_mw, steps_of, sweep

DEVICES = 10.0
seeds = st.integers(0, 10_000)


def site(random, groups=3, **more):
    """Groups that run at eco and full, of random worth and wakes."""
    made = []
    for g in range(groups):
        full = random.uniform(30, 150)
        modes = (Mode("eco", 0.8, 0.0, 0.86 * full), Mode("full", 1.0, 0.0, full))
        made.append(Group(f"g{g}", DEVICES, modes, wake_usd=random.uniform(1, 40)))
    return SiteSpec(tuple(made), **more)


def solved(spec, random, cap_mw=np.inf):
    horizon = Horizon.of(np.maximum(random.normal(70, 60, 16), -50), 0.25, cap_mw=cap_mw)
    programme = SiteProgramme(spec, horizon.hours)
    programme.solve(horizon, Start(np.full(len(spec.groups), DEVICES)))
    return programme, horizon


def strikes(spec):
    worth = [mode.usd_per_hour / mode.mw for _, mode in spec.pairs]
    return levels_around([w + band for w in worth for band in (-120.0, -60.0, 0.0, 60.0, 120.0)])


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_without_couplings_the_two_sweeps_say_all(seed):
    """Any price, any state: what is asked for is what the programme asks for when it is solved again."""
    random = np.random.default_rng(seed)
    spec = site(random)
    programme, horizon = solved(spec, random)
    levels = strikes(spec)
    envelopes = sweep(programme, horizon, levels)
    for level in random.choice(levels, 4):
        awake = random.integers(0, int(DEVICES) + 1, len(spec.groups)).astype(float)
        programme.start_from(awake)
        again = steps_of(spec, programme.first_stage(float(level), horizon))
        lower = again[::2] if spec.groups[0].modes[0].name == "eco" else again
        asked = envelopes.asked(np.repeat(awake, 2), float(level))[::2]
        assert np.allclose(asked, lower, atol=1e-6), (level, awake)


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_load_never_rises_with_the_price_and_the_sweeps_need_no_mending(seed):
    random = np.random.default_rng(seed)
    spec = site(random)
    programme, horizon = solved(spec, random, cap_mw=random.uniform(12, 28))
    levels = strikes(spec)
    programme.start_from(np.zeros(len(spec.groups)))
    loads = [float(steps_of(spec, programme.first_stage(level, horizon)) @ step_mw(spec)) for level in levels.tolist()]
    assert (np.diff(loads) <= 1e-6).all()
    envelopes = sweep(programme, horizon, levels)
    for curve in (envelopes.least, envelopes.most):
        assert (np.diff(curve, axis=0) <= 1e-6).all(), "no step of a group of miners rises"
    assert (envelopes.least <= envelopes.most + 1e-6).all()


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_at_its_anchor_it_is_the_programme_and_asks_for_nothing_twice(seed):
    random = np.random.default_rng(seed)
    spec = site(random, feeder_caps_mw={"": 22.0})
    programme, horizon = solved(spec, random, cap_mw=random.uniform(12, 28))
    envelopes = sweep(programme, horizon, strikes(spec))
    price, awake = float(random.choice(envelopes.levels_usd_per_mwh)), random.uniform(0, DEVICES, len(spec.groups))
    programme.start_from(awake)
    before, after = np.repeat(awake, 2), steps_of(spec, programme.first_stage(price, horizon))
    anchored = envelopes.anchored(price, before, after)
    assert np.allclose(anchored.asked(before, price), after, atol=1e-6)
    assert np.allclose(anchored.asked(after, price), after, atol=1e-6)
    assert (np.diff(anchored.least @ step_mw(spec)) <= 1e-6).all()
    assert (np.diff(anchored.most @ step_mw(spec)) <= 1e-6).all()
