"""The fitted numbers: the file is what the traces say, and as near to their held-out ends as docs/workloads.md tells."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml

from simulators.workloads import fitted
from simulators.workloads.arrivals import Calendar, Process
from simulators.workloads.distributions import Gaps, ks_distance
from simulators.workloads.fit import fit
from simulators.workloads.fit_arrivals import dispersion, fit_arrivals, over_mean
from simulators.workloads.fitted import Arrivals

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
DAY_S = 86_400
with_traces = pytest.mark.skipif(not (SHARED / "traces").is_dir(), reason="the traces are not beside the project")


@cache
def refit():
    return fit(SHARED, fitted.load().fitted_on)


def flattened(value, name=""):
    if isinstance(value, dict):
        return {key: each for k, v in value.items() for key, each in flattened(v, f"{name}/{k}").items()}
    if isinstance(value, list):
        return {key: each for k, v in enumerate(value) for key, each in flattened(v, f"{name}/{k}").items()}
    return {name: value}


@pytest.mark.shared_data
@with_traces
def test_the_file_is_what_the_traces_say():
    ours, again = (flattened(each.model_dump(mode="json")) for each in (fitted.load(), refit()))
    assert set(ours) == set(again)
    for name, value in ours.items():
        if isinstance(value, float):
            assert again[name] == pytest.approx(value, rel=0.01, abs=0.003), name
        else:
            assert again[name] == value, name


@pytest.mark.shared_data
@with_traces
@pytest.mark.parametrize("name", ["chat", "code", "recommender", "images", "jobs", "training"])
def test_a_fit_is_about_as_near_to_the_held_out_end_as_the_trace_is_to_itself(name):
    good = refit().families[name].goodness
    assert good.gaps_ks <= good.gaps_ks_of_trace + 0.05
    for quantity, distance in good.sizes_ks.items():
        assert distance <= good.sizes_ks_of_trace[quantity] + 0.03, quantity
    assert 0.4 * good.dispersion_trace < good.dispersion_made < 1.5 * good.dispersion_trace


def test_the_file_holds_no_trace():
    """Numbers alone: less than a hundredth of the arrivals that they were fitted to."""
    numbers = len(flattened(yaml.safe_load(fitted.PATH.read_text())))
    rows = sum(each.fitted_rows + each.held_out_rows for each in fitted.load().families.values())
    assert numbers < 0.01 * rows


def test_the_page_tells_the_figures_of_the_file():
    page = (Path(__file__).resolve().parents[2] / "docs" / "workloads.md").read_text()
    numbers = fitted.load()
    for name, family in numbers.families.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| {name} |"))
        good = family.goodness
        assert f"| {family.fitted_rows:,}, {family.held_out_rows:,} |" in row
        assert f"| {good.gaps_ks:.3f} / {good.gaps_ks_of_trace:.3f} |" in row
        for quantity in family.sizes:
            assert f"{good.sizes_ks[quantity]:.3f} / {good.sizes_ks_of_trace[quantity]:.3f}" in row
        assert f"| {good.dispersion_trace:.1f}, {good.dispersion_made:.1f} |" in row
        assert all(f"{each.tail_index:.2f}" in row for each in family.sizes.values())
    prices = numbers.prices
    row = next(line for line in page.splitlines() if line.startswith("| | 1."))
    told = [float(cell) for cell in row.strip("| ").split(" | ")]
    gpus = [prices.on_demand_usd_per_gpu_hour[gpu] for gpu in ("A100_80GB", "H100_80GB", "H200_141GB", "B200_180GB")]
    assert told == [*gpus, *prices.share_by_class.values(), *prices.share_by_tier.values()]


def test_a_process_that_is_known_is_found_again():
    hours = tuple((1 + 0.6 * np.sin(np.arange(24) / 24 * 2 * np.pi)).tolist())
    gaps = Gaps(together=0.1, weights=(0.3, 0.7), means=(0.2, 1.501587))
    true = Arrivals(gaps=gaps, window_s=3600, wander=0.6, wander_tau_s=9000.0)
    times = Process(11, "known", true, 0.02, Calendar(hours)).within(0.0, 30.0 * DAY_S)
    found = fit_arrivals(times, 3600)
    assert found.wander == pytest.approx(0.6, abs=0.1)
    assert found.wander_tau_s == pytest.approx(9000.0, rel=0.4)
    assert found.gaps.together == pytest.approx(0.1, abs=0.01)
    assert found.gaps.variance == pytest.approx(gaps.variance, rel=0.25)
    assert found.profile is not None
    assert np.corrcoef(found.profile, hours)[0, 1] > 0.95
    again = Process(12, "again", found, 0.02, Calendar(found.profile)).within(0.0, 30.0 * DAY_S)
    assert ks_distance(over_mean(again), over_mean(times)) < 0.03
    assert dispersion(again, 3600) == pytest.approx(dispersion(times, 3600), rel=0.35)


def test_a_trace_of_half_an_hour_says_nothing_of_the_day():
    times = np.cumsum(np.random.default_rng(1).exponential(0.2, 9000))
    found = fit_arrivals(times, 60)
    assert found.profile is None
    assert found.wander < 0.1  # Poisson's counts vary by themselves
    assert found.gaps.variance == pytest.approx(1.0, abs=0.1)
