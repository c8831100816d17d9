"""Energy, hashes and heat of simulated devices: conserved, monotone, and the same however often anybody looks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from simulators import faults, work
from simulators.models import gpu_model, miner_model
from simulators.weather import Weather, climate_of
from tests.support.world import (
    ASLEEP,
    BATCH,
    ECO,
    EVERY_GPU,
    EVERY_MINER,
    FIRST_GPU,
    FULL,
    GPUS,
    IDLE,
    MINERS,
    T0,
    make_site,
    script,
    site_config,
    typical,
)

HOT = script(weather=[{"from_h": 0, "until_h": 100, "shift_celsius": 40}])


def act(site, kind, first, at_s):
    """One of the things that can happen to some devices."""
    some = BitMap(range(first, first + 40)) & (EVERY_MINER | EVERY_GPU)
    if kind in (ASLEEP, ECO, FULL, IDLE, BATCH):
        site.set_state(kind, some, at_s)
    elif kind == "limit":
        site.limit(some & EVERY_MINER, 2000.0 + first, at_s)
    elif kind == "no limit":
        site.limit(some, None, at_s)
    elif kind.startswith("-"):
        site.lift((kind[1:],), some, at_s)
    else:
        site.impose(kind, some, at_s)


KINDS = [ASLEEP, ECO, FULL, IDLE, BATCH, "limit", "no limit"]
KINDS += [each for fault in faults.FAULTS if fault != faults.XID for each in (fault, f"-{fault}")]
ACTIONS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, FIRST_GPU + GPUS), st.floats(0.0, 400.0)), min_size=1, max_size=12
)


@settings(max_examples=60, deadline=None)
@given(ACTIONS)
def test_the_meter_is_the_integral_of_power_whatever_happens(actions):
    site, at_s, sampled_j = make_site(HOT), T0, 0.0
    for kind, first, pause_s in actions:
        act(site, kind, first, at_s)
        steps = np.linspace(at_s, at_s + pause_s, 40)
        watts = np.array([site.site_power_w(float(each)) for each in steps])
        sampled_j += float(((watts[1:] + watts[:-1]) / 2 * np.diff(steps)).sum())
        at_s += pause_s
    devices_wh = float(site.energy_j(at_s).sum()) * site.config.pue / 3600
    assert site.energy_wh == pytest.approx(devices_wh, rel=1e-9)
    assert site.energy_wh == pytest.approx(sampled_j / 3600, rel=0.02, abs=200)


@settings(max_examples=40, deadline=None)
@given(ACTIONS, st.lists(st.floats(0.0, 1.0), max_size=5))
def test_a_reading_is_the_same_however_often_anybody_looked(actions, looks):
    seldom, often = make_site(typical(20)), make_site(typical(20))
    at_s = T0
    for kind, first, pause_s in actions:
        for site in (seldom, often):
            act(site, kind, first, at_s)
        for share in sorted(looks):
            often.miner(first % MINERS, at_s + share * pause_s)
            often.power_w(at_s + share * pause_s)
        at_s += pause_s
    for slot in range(0, MINERS, 37):
        assert seldom.miner(slot, at_s) == often.miner(slot, at_s)
    for slot in range(FIRST_GPU, FIRST_GPU + GPUS, 7):
        assert seldom.gpu(slot, at_s) == often.gpu(slot, at_s)
    assert seldom.energy_wh == pytest.approx(often.energy_wh, rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(ACTIONS)
def test_counters_never_fall(actions):
    site, at_s = make_site(typical(20)), T0
    before = [0.0] * 6
    for kind, first, pause_s in actions:
        act(site, kind, first, at_s)
        for share in (0.3, 0.7, 1.0):
            one, card = site.miner(5, at_s + share * pause_s), site.gpu(FIRST_GPU + 3, at_s + share * pause_s)
            now = [one.accepted_shares, one.rejected_shares, one.hardware_errors, card.energy_j, site.energy_wh]
            now.append(float(site.hashed_th(at_s + share * pause_s).sum()))
            assert all(later >= earlier for earlier, later in zip(before, now, strict=True))
            before = now
        at_s += pause_s


def test_shares_are_the_integral_of_the_true_hashrate():
    site = make_site()
    site.set_state(FULL, EVERY_MINER, T0)
    instants = T0 + np.linspace(0, 900, 451)
    rates = np.array([site.miner(7, float(at_s)).hashrate_th_per_s for at_s in instants])
    hashed_th = float(((rates[1:] + rates[:-1]) / 2 * np.diff(instants)).sum())
    assert site.hashed_th(T0 + 900)[7] == pytest.approx(hashed_th, rel=1e-3)
    later = site.miner(7, T0 + 7 * 86_400)
    shares = float(site.hashed_th(T0 + 7 * 86_400)[7]) / work.TH_PER_SHARE
    assert later.accepted_shares + later.rejected_shares == int(shares)
    assert 0.001 < later.rejected_shares / later.accepted_shares < 0.007
    assert 50 < later.hardware_errors < 1000


def test_a_miner_wakes_with_its_power_and_stops_hashing_the_moment_it_is_sent_to_sleep():
    site = make_site()
    site.set_state(FULL, EVERY_MINER, T0)
    half, full = site.miner(3, T0 + 120), site.miner(3, T0 + 240)
    assert half.hashrate_th_per_s == pytest.approx(full.hashrate_th_per_s / 2, rel=1e-3)
    assert (
        full.hashrate_th_per_s
        == pytest.approx(full.nominal_hashrate_th_per_s, rel=1e-6)
        == pytest.approx(200, rel=0.05)
    )
    assert full.power_w / full.hashrate_th_per_s == pytest.approx(17.5, rel=0.1)
    assert sum(full.board_hashrates_th_per_s) == pytest.approx(full.hashrate_th_per_s)
    site.set_state(ASLEEP, EVERY_MINER, T0 + 300)
    falling, asleep = site.miner(3, T0 + 310), site.miner(3, T0 + 320)
    assert (falling.hashrate_th_per_s, asleep.hashrate_th_per_s, asleep.power_w) == (0.0, 0.0, 25.0)
    assert 1500 < falling.power_w < 2000
    assert asleep.fan_rpm == (0, 0, 0, 0)
    assert asleep.uptime_s == 320.0
    site.set_state(ECO, EVERY_MINER, T0 + 1000)
    assert site.miner(3, T0 + 1500).uptime_s == 500.0


def test_a_ladder_without_hashrates_hashes_by_the_models_efficiency():
    states = [{"state": 0, "power_w": 25.0}, {"state": 3, "power_w": 3645.0, "ramp_up_s": 0}]
    group = {"group": "xp", "kind": "ASIC", "model": "S21 XP", "first_slot": 0, "devices": 200, "states": states}
    site = make_site(config=site_config(groups=[group]))
    site.set_state(FULL, BitMap(range(200)), T0)
    assert site.hashrate_th_per_s(T0 + 10).mean() == pytest.approx(270, rel=0.01)


def test_a_power_limit_slows_a_miner_along_its_ladder():
    site = make_site()
    site.set_state(FULL, EVERY_MINER, T0)
    free = site.miner(1, T0 + 1000)
    assert list(site.limit(BitMap([1, 2]), 3150.0, T0 + 1000)) == [1, 2]
    limited = site.miner(1, T0 + 2000)
    assert limited.power_w == pytest.approx(3150.0)
    assert 172 < limited.hashrate_th_per_s < free.hashrate_th_per_s
    assert limited.power_w / limited.hashrate_th_per_s < free.power_w / free.hashrate_th_per_s
    site.limit(BitMap([1]), 1400.0, T0 + 2000)
    low = site.miner(1, T0 + 3000)
    assert (low.power_w, low.state) == (1400.0, FULL)
    assert 70 < low.hashrate_th_per_s < 100
    site.limit(BitMap([1]), None, T0 + 3000)
    assert site.miner(1, T0 + 4000).hashrate_th_per_s == pytest.approx(free.hashrate_th_per_s)


def test_chips_warm_up_over_minutes_and_fans_hold_them_where_they_can():
    site, model = make_site(), miner_model("S21")
    site.set_state(FULL, EVERY_MINER, T0)
    start, warming, warm = (site.miner(9, T0 + after_s) for after_s in (0, 240, 3600))
    assert start.chip_temperature_c == pytest.approx(start.ambient_c, abs=1.5)
    assert start.chip_temperature_c + 20 < warming.chip_temperature_c < warm.chip_temperature_c - 3
    assert warm.chip_temperature_c == pytest.approx(model.chip_target_c, abs=0.5)
    assert warm.ambient_c < warm.board_temperature_c < warm.chip_temperature_c
    hot = make_site(HOT)
    hot.set_state(FULL, EVERY_MINER, T0)
    scorched = hot.miner(9, T0 + 3600)
    assert scorched.ambient_c > 45
    assert min(scorched.fan_rpm) > 1.5 * max(warm.fan_rpm)
    assert scorched.chip_temperature_c == pytest.approx(model.slowdown_c, abs=1.0)
    assert scorched.power_w < warm.power_w - 50
    assert scorched.hashrate_th_per_s < warm.hashrate_th_per_s


def test_a_gpus_figures_are_fractions_and_those_of_the_plan():
    site, model = make_site(), gpu_model("H100 SXM5")
    idle = [site.gpu(slot, T0 + 600) for slot in EVERY_GPU]
    assert {one.sm_clock_mhz for one in idle} == {model.idle_mhz}
    assert all(0 <= one.utilization_fraction <= 0.05 for one in idle)
    assert np.mean([one.power_w for one in idle]) == pytest.approx(0.15 * model.power_w, rel=0.05)
    site.set_state(BATCH, EVERY_GPU, T0 + 600)
    busy = [site.gpu(slot, T0 + 1200) for slot in EVERY_GPU]
    assert all(0.85 <= one.utilization_fraction <= 0.99 for one in busy)
    assert all(0.8 * model.power_w <= one.power_w <= 0.98 * model.power_w for one in busy)
    assert all(0.69 <= one.memory_used_mib / one.memory_total_mib <= 0.95 for one in busy)
    assert {one.sm_clock_mhz for one in busy} == {1980.0}
    assert not any(one.is_throttled for one in busy)
    warmer = busy[0].temperature_c - idle[0].temperature_c
    assert 15 < warmer < 40


def test_a_boards_energy_is_the_integral_of_its_power():
    site, slot = make_site(), FIRST_GPU
    site.set_state(BATCH, EVERY_GPU, T0 + 50)
    site.set_state(IDLE, EVERY_GPU, T0 + 200)
    instants = T0 + np.linspace(0, 300, 1201)
    fresh = make_site()
    watts = []
    for at_s in instants:
        if at_s == T0 + 50:
            fresh.set_state(BATCH, EVERY_GPU, at_s)
        if at_s == T0 + 200:
            fresh.set_state(IDLE, EVERY_GPU, at_s)
        watts.append(fresh.gpu(slot, float(at_s)).power_w)
    sampled_j = float((np.array(watts[1:]) + np.array(watts[:-1])).sum() / 2 * 0.25)
    assert site.gpu(slot, T0 + 300).energy_j == pytest.approx(sampled_j, rel=1e-3)


def test_a_cap_takes_power_and_clock_and_its_limit_is_none():
    site = make_site()
    site.set_state(BATCH, EVERY_GPU, T0)
    free = site.gpu(FIRST_GPU, T0 + 600)
    site.limit(BitMap([FIRST_GPU]), 400.0, T0 + 600)
    capped = site.gpu(FIRST_GPU, T0 + 900)
    assert (capped.power_w, capped.power_cap_w) == (pytest.approx(400.0), pytest.approx(400.0))
    assert capped.sm_clock_mhz == pytest.approx(free.sm_clock_mhz * (400 / free.power_w) ** (1 / 3), rel=0.1)
    assert capped.temperature_c < free.temperature_c - 10
    site.limit(BitMap([FIRST_GPU]), 700.0, T0 + 900)
    assert site.gpu(FIRST_GPU, T0 + 1500).power_w == pytest.approx(free.power_w)


def test_the_other_kind_of_device_and_an_empty_slot_are_refused():
    site = make_site()
    for take, slot in (
        (site.miner, FIRST_GPU),
        (site.gpu, 0),
        (site.miner, MINERS),
        (site.miner, -1),
        (site.gpu, 10_000),
    ):
        with pytest.raises(KeyError):
            take(slot, T0)


@pytest.mark.parametrize(("point", "january", "july"), [("HB_HOUSTON", 11.5, 28.9), ("HB_HUBAVG", 7.6, 28.8)])
def test_weather_is_that_of_its_place_and_season(point, january, july):
    weather = Weather(7)
    days = np.array([[weather.hourly(point, 20_089 + 365 * year + day) for day in range(365)] for year in range(12)])
    mean = days.mean(axis=(0, 2))
    assert mean[:31].mean() == pytest.approx(january, abs=3.0)
    assert mean[181:212].mean() == pytest.approx(july, abs=3.0)
    hottest_h = days.mean(axis=(0, 1)).argmax()
    assert hottest_h in (20, 21, 22)  # UTC: mid-afternoon
    assert climate_of(point).daily_c * 1.5 < np.ptp(days.mean(axis=(0, 1))) < climate_of(point).daily_c * 2.2


def test_weather_is_continuous_and_any_hour_can_be_asked_for_first():
    weather, other = Weather(7), Weather(7)
    late_first = other.temperature_c("HB_WEST", T0 + 9 * 86_400 + 1234)
    course = [weather.temperature_c("HB_WEST", T0 + minute * 60) for minute in range(3 * 1440)]
    assert np.abs(np.diff(course)).max() < 0.2
    assert weather.temperature_c("HB_WEST", T0 + 9 * 86_400 + 1234) == late_first
    assert Weather(8).temperature_c("HB_WEST", T0) != course[0]
