"""The hourly past of a fleet: what it says is what the world's own site does, and the same arguments make the same file."""

import numpy as np
import polars as pl
import pytest

from simulators import faults as f
from simulators.fault_schedule import FaultSchedule
from simulators.fleet_history import heat_waves
from simulators.fleet_history.__main__ import main
from simulators.fleet_history.history import Past
from simulators.fleet_history.outages import Outages
from simulators.fleet_history.sites import sites
from simulators.scenarios import scenario_named
from simulators.weather import Weather
from tests.support.world import (
    BATCH,
    EVERY_GPU,
    EVERY_MINER,
    FIRST_GPU,
    FULL,
    MINERS,
    T0,
    make_site,
    script,
    site_config,
    typical,
)

DAYS, SEED = 4, 7
START_S, END_S = int(T0), int(T0) + DAYS * 86_400
JULY_S = 1_719_792_000  # 2024-07-01


def history_of(the_script):
    config = site_config()
    outdoor_c = heat_waves.temperatures(Weather(SEED, the_script), config.settlement_point, START_S, END_S)
    return Outages(config, FaultSchedule(config, 0, SEED, the_script), SEED).between(START_S, END_S, outdoor_c)


def of_site(the_script, share, per_hour=4):
    """Device-hours by hour and group, as a site has them that is told to work all the time."""
    site, found = make_site(the_script, seed=SEED), []
    for n in range(DAYS * 24 * per_hour):
        at_s = START_S + (n + 0.5) * 3600 / per_hour
        site.set_state(FULL, EVERY_MINER, at_s)
        site.set_state(BATCH, EVERY_GPU, at_s)
        able = np.asarray(share(site, at_s + 240.0))
        found.append([able[:MINERS].sum(), able[FIRST_GPU:].sum()])
    return np.array(found).reshape(DAYS * 24, per_hour, 2).mean(axis=1)


def drawn(site, at_s):
    return site.power_w(at_s) / np.maximum(site._tables.power_w.max(axis=0), 1)


def healthy(site, at_s):
    """What devices do of what they could, none where nobody can speak to them or gives them work."""
    hashed = site.hashrate_th_per_s(at_s) / np.maximum(site._tables.hash_th_per_s.max(axis=0), 1)
    has_error = site.faults.mask(f.ECC, at_s) | site.faults.mask(f.NVLINK, at_s)
    return np.where(site._tables.is_gpu, drawn(site, at_s), hashed) * site.reachable * ~has_error


def test_faults_take_what_they_take_of_a_site():
    the_script = typical(factor=30.0, fault_shifts=[])
    told, seen = history_of(the_script), of_site(the_script, healthy)
    lost = np.array([MINERS, 64]) - seen
    assert lost.mean(axis=0).min() > 2  # there is something to agree on
    assert np.abs(told.available_h - seen).mean(axis=0) / lost.mean(axis=0) == pytest.approx([0, 0], abs=0.08)
    assert np.corrcoef(told.available_h[:, 0], seen[:, 0])[0, 1] > 0.97
    assert np.corrcoef(told.available_h[:, 1], seen[:, 1])[0, 1] > 0.97
    assert told.failures.sum(axis=0).min() > 0


def test_heat_takes_back_what_it_takes_of_a_site():
    the_script = script(weather=[{"from_h": 0, "until_h": 96, "shift_celsius": 38}])
    told = history_of(the_script)
    full = make_site().config
    seen = of_site(the_script, drawn)
    assert seen[:, 0].min() < 0.98 * full.groups[0].devices
    assert np.abs(told.available_h - seen).max(axis=0) / [MINERS, 64] == pytest.approx([0, 0], abs=0.02)


def test_recorded_hot_days_are_found_and_drawn_weeks_are_as_the_scenario_has_them():
    hours = np.arange(100 * 24)
    degrees = 30.0 + 3.0 * np.sin(hours * 2 * np.pi / 24) + 6.0 * ((hours // 24 >= 40) & (hours // 24 < 48))
    assert heat_waves.recorded(degrees, 0) == [(40 * 86_400.0, 48 * 86_400.0)]
    weeks = [
        week
        for seed in range(40)
        for week in heat_waves.drawn(seed, "HB_WEST", JULY_S - 180 * 86_400, JULY_S + 180 * 86_400)
    ]
    assert 1.5 < len(weeks) / 40 < 3.5
    of_scenario = scenario_named("heat-wave").fault_shifts
    shifts = heat_waves.script_of(weeks[:1], JULY_S - 180 * 86_400, JULY_S + 180 * 86_400, is_recorded=False).scenario
    assert [(s.factor, s.kinds) for s in shifts.fault_shifts] == [(s.factor, s.kinds) for s in of_scenario]
    assert shifts.weather[0].shift_celsius == scenario_named("heat-wave").weather[0].shift_celsius


def test_a_file_is_a_function_of_its_arguments(tmp_path):
    asked = ["--from", "2024-07-01", "--to", "2024-07-03", "--facilities", "2", "--devices", "96"]
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main([*asked, "--seed", seed, "--out", str(tmp_path / f"{name}.parquet")]) == 0
    one, two, other = (pl.read_parquet(tmp_path / f"{name}.parquet") for name in "abc")
    assert one.equals(two)
    assert not one.equals(other)
    assert len(one) == 2 * 4 * 48
    assert one.select(
        (pl.col("available_h") <= pl.col("installed")).all() & (pl.col("in_use_h") <= pl.col("available_h")).all()
    ).item()
    assert one.select((pl.col("known_at") > pl.col("start_at")).all()).item()


def test_a_past_is_the_same_whatever_its_length():
    config = tuple(sites(1, 96))
    short, long = (next(Past(config, JULY_S, JULY_S + days * 86_400, SEED).rows()) for days in (1, 2))
    first = long.filter(pl.col("start_at") < long["start_at"].min() + pl.duration(days=1))
    columns = ["group_id", "failures", "outdoor_celsius"]
    assert short.select(columns).equals(first.select(columns))


def test_a_folder_that_is_none_is_told(tmp_path, capsys):
    asked = [
        "--from",
        "2024-07-01",
        "--to",
        "2024-07-02",
        "--recorded",
        str(tmp_path),
        "--out",
        str(tmp_path / "a.parquet"),
    ]
    assert main(asked) == 2
    assert "no parquet file" in capsys.readouterr().err


def test_hot_weeks_one_after_the_other_are_no_hotter_for_the_draw_of_faults():
    def most(*spans):
        shifts = [{"from_h": a, "until_h": b, "factor": 8, "kinds": ["throttled"]} for a, b in spans]
        return script(fault_shifts=shifts).most_fault_factor("throttled")

    assert most() == 1
    assert most((0, 20), (20, 40), (50, 60)) == 8
    assert most((0, 20), (10, 40)) == 64
