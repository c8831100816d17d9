"""The programme of a facility against what follows by hand, and against the dynamic programme of one asset."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.optimizer.backtest.oracle import optimum_usd
from hcp_pipelines.optimizer.programme import (
    Group,
    Horizon,
    InfeasibleError,
    Mode,
    SiteProgramme,
    SiteSpec,
    Start,
    Training,
)
from hcp_pipelines.optimizer.programme.layout import hours_of_reserve
from hcp_pipelines.optimizer.programme.windows import solve_long
from tests.support.recorded import plain_case

FULL = Mode("full", 1.0, 0.0, 60.0)  # a megawatt that earns 60 $/MWh


def group(name="a", devices=10.0, usd=60.0, **more):
    return Group(name, devices, (Mode("full", 1.0, 0.0, usd),), **more)


def solve(spec, horizon, awake=None, **start):
    awake = [g.devices for g in spec.groups] if awake is None else awake
    return SiteProgramme(spec, horizon.hours).solve(horizon, Start(np.array(awake, dtype=float), **start))


def one(prices, awake=None, hours=1.0, site=None, **more):
    start = {key: more.pop(key) for key in ("load_mw", "ai_mw") if key in more}
    spec = SiteSpec((group(),)) if site is None else site
    return solve(spec, Horizon.of(np.array(prices, dtype=float), hours, **more), awake, **start)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-100, 300), min_size=1, max_size=24), st.booleans(), st.sampled_from([1.0, 12.0, 40.0]))
def test_one_asset_is_the_dynamic_programme(prices, starts_on, wake_usd):
    case = plain_case(prices, 60.0, wake_usd)
    spec = SiteSpec((Group("a", 1.0, (FULL,), wake_usd=wake_usd),))
    plan = solve(spec, Horizon.of(case.settled.price_usd_per_mwh, 0.25), [float(starts_on)])
    assert plan.net_usd == pytest.approx(optimum_usd(case.settled, 0.25, starts_on=starts_on), abs=1e-6)
    assert plan.duality_gap < 1e-9


def test_the_site_s_limit_goes_to_what_earns_most_and_has_its_price():
    spec = SiteSpec((group("poor", usd=50.0), group("rich", usd=90.0)))
    plan = solve(spec, Horizon.of(np.array([20.0]), 1.0, cap_mw=14.0))
    assert plan.devices[:, 0].tolist() == pytest.approx([4.0, 10.0])
    assert plan.cap_usd_per_mwh[0] == pytest.approx(30.0, abs=0.01)


def test_power_for_cooling_is_bought_and_counts_at_the_limit():
    plan = one([20.0], cap_mw=5.0, pue=1.25)
    assert plan.load_mw[0] == pytest.approx(5.0)
    assert plan.devices[0, 0] == pytest.approx(4.0)
    assert plan.usd["energy"] == pytest.approx(-100.0)
    assert one([49.0], pue=1.25).devices[0, 0] == pytest.approx(0.0), "61 $ of power for 60 $ of coins"


def test_a_feeder_s_limit_holds_for_its_groups_alone():
    spec = SiteSpec((group("a", feeder="f1"), group("b", feeder="f2")), feeder_caps_mw={"f1": 3.0})
    assert solve(spec, Horizon.of(np.array([20.0]))).devices[:, 0].tolist() == pytest.approx([3.0, 10.0])


def test_between_two_strikes_it_runs_at_less_power():
    miners = Group("a", 10.0, (Mode("eco", 0.8, 0.0, 51.6), Mode("full", 1.0, 0.0, 60.0)))
    asked = [
        solve(SiteSpec((miners,)), Horizon.of(np.array([p]))).devices[:, 0].round(6).tolist()
        for p in (30.0, 50.0, 70.0)
    ]
    assert asked == [[0.0, 10.0], [10.0, 0.0], [0.0, 0.0]]  # full over eco is worth 42 $/MWh, eco 64.50


def test_revenue_and_wakes_follow_the_index():
    miners = Group("a", 1.0, (Mode("full", 1.0, 1.0),), index="hashprice", wake_usd_per_index=0.6)
    horizon = Horizon.of(np.array([80.0, 50.0]), 1.0, indices={"hashprice": np.array([40.0, 100.0])})
    plan = solve(SiteSpec((miners,)), horizon, [0.0])
    assert plan.devices[0].tolist() == pytest.approx([0.0, 0.0]), "a wake costs 24 and 60, the hours earn -40 and 50"
    assert solve(SiteSpec((miners,)), horizon, [1.0]).net_usd == pytest.approx(10.0)


def test_reserve_is_sold_by_load_that_is_on_also_at_a_loss():
    site = SiteSpec((group(),), reserves=("RRS",), reserve_most_mw=6.0)
    plan = one([70.0, 70.0], site=site, mcpc_usd_per_mw_h=np.array([[25.0, 4.0]]))
    assert plan.devices[0].tolist() == pytest.approx([6.0, 0.0])
    assert plan.usd["reserves"] == pytest.approx(150.0)
    assert plan.usd["reserve_shortfall"] == 0.0


def test_what_was_sold_before_stays_on_and_what_lacks_is_paid_for():
    assert one([500.0], floor_mw=3.0).devices[0, 0] == pytest.approx(3.0)
    plan = one([20.0], [0.0], floor_mw=8.0, site=SiteSpec((group(),), ramp_mw_per_h=2.0), load_mw=0.0)
    assert plan.short_reserve_mw[0] == pytest.approx(6.0)
    assert plan.usd["reserve_shortfall"] == pytest.approx(-6 * 15_000.0)


def test_ramps_hold_from_the_meter_s_load_on():
    site = SiteSpec((group(),), ramp_mw_per_h=3.0)
    assert one([20.0] * 3, [0.0], site=site, load_mw=1.0).load_mw.tolist() == pytest.approx([4.0, 7.0, 10.0])
    assert one([500.0] * 3, site=site, load_mw=10.0).load_mw.tolist() == pytest.approx([7.0, 4.0, 1.0])


def test_minimum_times_hold_both_ways():
    spike = [20.0, 20.0, 500.0, 20.0, 20.0]
    assert one(spike).devices[0].round(6).tolist() == [10, 10, 0, 10, 10]
    down = SiteSpec((group(min_down_h=3.0),))
    slept = one(spike, site=down)
    assert slept.devices[0].round(6).tolist().count(0) == 3, "three hours, two of them at a loss of 40 $"
    assert slept.net_usd == pytest.approx(2 * 400.0, abs=0.1)
    up = SiteSpec((group(min_up_h=3.0),))
    dip = [500.0, 20.0, 70.0, 500.0, 500.0]
    assert one(dip, [0.0], site=up).devices[0].round(6).tolist() == [0, 0, 0, 0, 0]
    assert one(dip, [0.0]).devices[0].round(6).tolist() == [0, 10, 0, 0, 0]


def test_devices_that_fall_out_break_no_minimum():
    spec = SiteSpec((group(min_up_h=3.0, min_down_h=3.0),))
    horizon = Horizon.of(np.array([20.0] * 4), 1.0, healthy=np.array([[10.0, 4.0, 4.0, 4.0]]))
    assert solve(spec, horizon, [0.0]).devices[0].round(6).tolist() == [10, 4, 4, 4]


def test_demand_response_is_obeyed_or_its_violation_paid():
    assert one([20.0], response_cap_mw=2.0).load_mw[0] == pytest.approx(2.0)
    paid = one([20.0], response_cap_mw=2.0, response_usd_per_mwh=10.0)
    assert (paid.load_mw[0], paid.usd["demand_response"]) == (pytest.approx(10.0), pytest.approx(-80.0))


def test_a_peak_s_charge_is_an_adder():
    plan = one([20.0, 20.0], adder_usd_per_mwh=np.array([0.0, 300.0]))
    assert plan.devices[0].tolist() == pytest.approx([10.0, 0.0])
    assert one([20.0], adder_usd_per_mwh=10.0).usd["adders"] == pytest.approx(-100.0)


GPUS = SiteSpec((), gpu_mw=4.0, gpu_idle_fraction=0.25, inference_usd_per_mwh=(900.0, 300.0), training_slots=1)


def ai(prices, demand, jobs=(), site=GPUS, **more):
    horizon = Horizon.of(
        np.array(prices, dtype=float), 1.0, demand_mw=np.array(demand, dtype=float), training=tuple(jobs), **more
    )
    return solve(site, horizon, [])


def test_gpus_serve_what_is_worth_most_and_draw_power_idle():
    plan = ai([50.0, 500.0], [[3.0, 3.0], [3.0, 3.0]])
    assert plan.inference_mw[:, 0].tolist() == pytest.approx([3.0, 1.0])
    assert plan.inference_mw[:, 1].tolist() == pytest.approx([3.0, 0.0]), "300 $ do not pay for three quarters of 500 $"
    assert plan.load_mw.tolist() == pytest.approx([4.0, 0.25 * 4 + 0.75 * 3])


def test_training_waits_for_cheap_hours_and_never_for_its_deadline():
    job = Training("j", 6.0, 0, 3, 4.0, 1e4)
    plan = ai([200.0, 20.0, 100.0, 1.0], [[0.0] * 4] * 2, [job])
    assert plan.training_mw[0].tolist() == pytest.approx([0.0, 4.0, 2.0, 0.0])
    late = ai([20.0] * 4, [[0.0] * 4] * 2, [Training("j", 30.0, 0, 3, 4.0, 1e4)])
    assert (late.short_training_mwh[0], late.usd["deadlines"]) == (pytest.approx(18.0), pytest.approx(-18e4))


def test_a_gang_runs_whole_or_not_at_all():
    gangs = SiteSpec((), gpu_mw=4.0, training_slots=1, gang_mw=(4.0,), inference_usd_per_mwh=(900.0,))
    job = Training("j", 6.0, 0, 4, 4.0, 5_000.0)
    plan = ai([20.0] * 4, [[0.0, 1.0, 4.0, 4.0]], [job], site=gangs)
    assert plan.training_mw[0].round(6).tolist() == [4, 4, 0, 0]
    assert plan.duality_gap < 1e-6
    parts = ai(
        [20.0] * 4,
        [[0.0, 1.0, 4.0, 4.0]],
        [job],
        site=SiteSpec((), gpu_mw=4.0, training_slots=1, inference_usd_per_mwh=(900.0,)),
    )
    assert parts.net_usd > plan.net_usd, "without integers the programme promises more than can be had"


def test_what_comes_on_is_loaded_anew():
    site = SiteSpec((), gpu_mw=4.0, inference_usd_per_mwh=(60.0,), reload_usd_per_mw=100.0)
    plan = solve(site, Horizon.of(np.array([20.0, 20.0]), 1.0, demand_mw=np.array([[4.0, 4.0]])), [])
    assert plan.inference_mw.sum() == pytest.approx(0.0), "two hours of 40 $ do not pay for a load of 100 $"
    warm = solve(site, Horizon.of(np.array([20.0, 20.0]), 1.0, demand_mw=np.array([[4.0, 4.0]])), [], ai_mw=4.0)
    assert warm.inference_mw[0].tolist() == pytest.approx([4.0, 4.0])


def test_the_next_solve_changes_numbers_and_nothing_else():
    spec = SiteSpec(
        (group(wake_usd=20.0), group("b", usd=80.0, asleep_mw=0.05)), feeder_caps_mw={"": 15.0}, reserves=("RRS",)
    )
    random, hours = np.random.default_rng(1), np.full(24, 0.25)
    kept = SiteProgramme(spec, hours)
    for _ in range(4):
        horizon = Horizon.of(
            random.normal(60, 30, 24), 0.25, cap_mw=random.uniform(12, 18), pue=random.uniform(1.0, 1.2),
            healthy=random.uniform(5, 10, (2, 24)).round(), mcpc_usd_per_mw_h=random.uniform(0, 20, (1, 24)),
        )  # fmt: skip
        start = Start(np.array([5.0, 5.0]))
        assert kept.solve(horizon, start).net_usd == pytest.approx(
            SiteProgramme(spec, hours).solve(horizon, start).net_usd, rel=1e-9
        )


def test_windows_earn_what_one_programme_does():
    random = np.random.default_rng(2)
    prices = 50 + 40 * np.sin(np.arange(24 * 6) / 4) + random.normal(0, 25, 24 * 6)
    spec = SiteSpec((group(wake_usd=25.0), group("b", usd=80.0, wake_usd=40.0)), reserves=("RRS",), gpu_mw=2.0, training_slots=2,
                    inference_usd_per_mwh=(300.0,), reload_usd_per_mw=20.0)  # fmt: skip
    jobs = (Training("j", 20.0, 10, 90, 2.0, 1e4), Training("k", 4.0, 100, 120, 1.0, 1e4))
    horizon = Horizon.of(prices, 1.0, cap_mw=18.0, mcpc_usd_per_mw_h=random.uniform(0, 15, (1, len(prices))), training=jobs,
                         demand_mw=np.full((1, len(prices)), 1.0))  # fmt: skip
    whole = solve(spec, horizon)
    done = []
    parts = solve_long(spec, horizon, Start(np.array([10.0, 10.0])), 72.0, 24.0, lambda at, of: done.append((at, of)))
    assert parts.net_usd <= whole.net_usd + 1e-6
    assert parts.net_usd == pytest.approx(whole.net_usd, rel=2e-3)
    assert parts.short_training_mwh.max() == pytest.approx(0.0, abs=1e-6)
    assert done[-1] == (144, 144)
    no_jobs = Horizon.of(
        prices, 1.0, cap_mw=18.0, mcpc_usd_per_mw_h=horizon.mcpc_usd_per_mw_h, demand_mw=horizon.demand_mw
    )
    start = Start(np.array([10.0, 10.0]))
    assert solve_long(spec, no_jobs, start, 72.0, 24.0).net_usd == pytest.approx(solve(spec, no_jobs).net_usd, rel=1e-9)


def test_reserves_are_by_the_hour():
    assert hours_of_reserve(np.array([0.25] * 6 + [1.0] * 2)).tolist() == [0, 0, 0, 0, 1, 1, 1, 2]


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("price_usd_per_mwh of interval 1 is nan", {"prices": [1.0, np.nan]}),
        ("hours of interval 0 is 0", {"prices": [1.0], "hours": 0.0}),
        ("mcpc of RRS has 1 values for 2 intervals", {"prices": [1.0, 2.0], "mcpc_usd_per_mw_h": np.array([[1.0]])}),
        ("2 jobs of training at once, the facility has 0", {"prices": [1.0], "training": (Training("j", 1, 0, 1, 1, 1),) * 2}),
        ("devices awake of 2 groups, the facility has 1", {"prices": [1.0], "awake": [1.0, 1.0]}),
    ],
)  # fmt: skip
def test_numbers_that_are_none_are_named_with_their_row(words, change):
    with pytest.raises(ConfigError, match=words):
        one(
            site=SiteSpec((group(),), reserves=("RRS",)),
            **({"mcpc_usd_per_mw_h": np.zeros((1, len(change["prices"])))} | change),
        )


def test_a_missing_index_is_named():
    with pytest.raises(ConfigError, match="no values of hashprice"):
        one([1.0], site=SiteSpec((Group("a", 1.0, (FULL,), index="hashprice"),)))


@pytest.mark.parametrize(
    ("words", "site", "more"),
    [
        (r"interval 1: 12.00 MW \(sold.*load that can be on, 10.00", None, {"floor_mw": np.array([0.0, 12.0])}),
        (r"12.00 MW \(sold as reserve\).*8.00", None, {"floor_mw": 12.0, "cap_mw": 8.0}),
        (r"10.00 MW \(all asleep\) are above the site's limit, 4.00", SiteSpec((group(asleep_mw=1.0),)), {"cap_mw": 4.0}),
        ("feeder f1's limit", SiteSpec((group(asleep_mw=1.0, feeder="f1"),), feeder_caps_mw={"f1": 5.0}), {}),
        ("the ramp does not reach", SiteSpec((group(),), ramp_mw_per_h=1.0), {"cap_mw": 2.0, "load_mw": 10.0}),
    ],
)  # fmt: skip
def test_a_limit_that_cannot_be_held_is_named(words, site, more):
    with pytest.raises(InfeasibleError, match=words):
        one([20.0, 20.0], site=site, **more)
