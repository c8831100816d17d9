"""`hcp bench solve`: how long the linear programme of a facility takes, cold and warm, as a policy, and through a year.

All in one process on one thread; prices are a seeded day's cycle with events. Sites: ten groups for a solve and for the policies,
a mixed one (three miner models with an eco profile, GPUs with inference and training, three reserves) for the year.
"""

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np

from benchmarks.common import about, load_average, percentile, print_figures, rounded
from benchmarks.parts.queue_curve import measure_queue, queued_jobs
from hcp_pipelines.optimizer.programme import Group, Horizon, Mode, Plan, SiteProgramme, SiteSpec, Start, Training
from hcp_pipelines.optimizer.programme.envelopes import levels_around, sweep
from hcp_pipelines.optimizer.programme.spec import Floats
from hcp_pipelines.optimizer.programme.windows import solve_long

TARGET = (
    "48 h of one facility of 10 groups: p50 < 50 ms cold, < 10 ms warm; policies of 12 facilities < 2 s; "
    "a year of mpc < 180 s, of oracle < 60 s, equal to one programme on a month; a queue of 20,000 as value curves < 100 ms"
)
SEED, FACILITIES, LEVELS = 7, 12, 16
STEP_H = 0.25
AHEAD_H = np.r_[np.full(16, STEP_H), np.full(44, 1.0)]  # 48 h: four hours in quarters, the rest by the hour
FINE_H = np.full(192, STEP_H)  # the same 48 h in quarters throughout
YEAR_DAYS, QUICK_DAYS, MONTH_DAYS = 365, 14, 30
RESERVES = ("RRS", "ECRS", "NSPIN")


def miners(name: str, megawatts: float, usd_per_mwh: float, wake_usd: float, feeder: str = "") -> Group:
    """A group of miners of 3.5 kW with an eco profile: 86 % of the coins for 80 % of the power."""
    full = Mode("full", 0.0035, 0.0035 * usd_per_mwh)
    eco = Mode("eco", 0.0028, 0.86 * full.usd_per_hour_per_index)
    return Group(
        name, megawatts / 0.0035, (eco, full), "hashprice", 0.00002, feeder, wake_usd_per_index=0.0, wake_usd=wake_usd * 0.0035,
        min_up_h=0.5, min_down_h=0.5,
    )  # fmt: skip


def ten_groups() -> SiteSpec:
    """Nine groups of miners behind three feeders, and GPUs."""
    groups = tuple(miners(f"m{n}", 10.0, 60.0 + 11 * n, 20.0 + 2 * n, f"f{n % 3}") for n in range(9))
    return SiteSpec(
        groups, {f"f{n}": 28.0 for n in range(3)}, ramp_mw_per_h=900.0, reserves=RESERVES, gpu_mw=10.0, gpu_idle_fraction=0.3,
        inference_usd_per_mwh=(2000.0, 900.0, 400.0), training_slots=2, reload_usd_per_mw=20.0,
    )  # fmt: skip


def mixed() -> SiteSpec:
    """A hundred megawatts of everything."""
    groups = tuple(
        miners(n, mw, usd, c) for n, mw, usd, c in (("a", 30, 118, 30), ("b", 40, 97, 25), ("c", 20, 70, 20))
    )
    return SiteSpec(
        groups, ramp_mw_per_h=900.0, reserves=RESERVES, gpu_mw=15.0, gpu_idle_fraction=0.3,
        inference_usd_per_mwh=(2000.0, 900.0, 400.0), training_slots=2, reload_usd_per_mw=20.0,
    )  # fmt: skip


def prices(steps: int, step_h: float, seed: int = SEED) -> Floats:
    """A day's cycle, noise with an hour's memory, and spells that reach hundreds of dollars, one in nine hours."""
    random, hour = np.random.default_rng(seed), np.arange(steps) * step_h
    noise, spell = np.zeros(steps), np.zeros(steps)
    begins = np.where(random.random(steps) < step_h / 9, random.lognormal(4.0, 1.0, steps), 0.0)
    for n, shock in enumerate(random.normal(0, 14, steps).tolist()):
        noise[n] = 0.8 * noise[n - 1] + shock if n else shock
        spell[n] = max(begins[n], 0.7 * spell[n - 1] if n else 0.0)
    return 35 + 25 * np.sin((hour - 9) * np.pi / 12) + noise + spell


def horizon(spec: SiteSpec, hours: Floats, price: Floats, jobs: tuple[Training, ...] = ()) -> Horizon:
    """Everything a programme takes; reserves are worth most in the evening."""
    begins = np.cumsum(hours) - hours
    evening = np.exp(-(((begins % 24) - 19) ** 2) / 8)
    demand = 2.0 + 1.5 * np.sin((begins - 10) * np.pi / 12)
    return Horizon(
        hours, price, {"hashprice": np.ones(len(hours))}, np.full(len(hours), 95.0),
        1.05 + 0.03 * np.sin((begins - 9) * np.pi / 12),
        np.zeros(len(hours)), np.zeros(len(hours)), np.full(len(hours), np.inf),
        mcpc_usd_per_mw_h=np.array([5 + 20 * evening, 4 + 15 * evening, 3 + 8 * evening]),
        demand_mw=np.array([demand, demand, demand]), training=jobs[: spec.training_slots],
    )  # fmt: skip


def start_of(spec: SiteSpec) -> Start:
    """All miners awake."""
    return Start(np.array([g.devices for g in spec.groups]))


JOBS = (Training("j", 40.0, 4, 40, 6.0, 2_000.0), Training("k", 20.0, 10, 58, 4.0, 2_000.0))


def timed_ms(work: Callable[..., object], *arguments: object) -> float:
    """Milliseconds of a call."""
    began_s = time.perf_counter()
    work(*arguments)
    return (time.perf_counter() - began_s) * 1000


def measure_solve(rounds: int, hours: Floats) -> tuple[float, float]:
    """p50 of a cold solve, building included, and of a warm one at other prices; ms."""
    spec, cold, warm = ten_groups(), [], []
    start = start_of(spec)
    for n in range(rounds):
        ahead = horizon(spec, hours, prices(len(hours), STEP_H, SEED + n), JOBS)
        programme = SiteProgramme(spec, hours)
        cold.append(timed_ms(programme.solve, ahead, start))
        for k in range(4):
            moved = horizon(spec, hours, ahead.price_usd_per_mwh * (1 + 0.02 * (k + 1)) + k, JOBS)
            warm.append(timed_ms(programme.solve, moved, start))
    return percentile(cold, 0.5), percentile(warm, 0.5)


def measure_policies() -> float:
    """Seconds of twelve facilities: built, solved, swept twice over the levels."""
    began_s = time.perf_counter()
    for n in range(FACILITIES):
        spec = ten_groups()
        ahead = horizon(spec, AHEAD_H, prices(len(AHEAD_H), STEP_H, SEED + n), JOBS)
        programme = SiteProgramme(spec, AHEAD_H)
        programme.solve(ahead, start_of(spec))
        worth = [mode.usd_per_hour_per_index / mode.mw for _, mode in spec.pairs if mode.name == "eco"]
        sweep(programme, ahead, levels_around(worth[: LEVELS // 2]))
    return time.perf_counter() - began_s


def measure_mpc(days: int) -> float:
    """Seconds of a step a quarter of an hour: the forecast is what the day's cycle says, the present price is known."""
    spec = mixed()
    steps = round(days * 24 / STEP_H)
    price, programme, start = prices(steps + 192, STEP_H), SiteProgramme(spec, AHEAD_H), start_of(spec)
    cycle = (
        price.reshape(-1, 96).mean(axis=0)
        if len(price) % 96 == 0
        else price[: len(price) // 96 * 96].reshape(-1, 96).mean(axis=0)
    )
    first = (np.cumsum(AHEAD_H) - AHEAD_H) / STEP_H
    began_s = time.perf_counter()
    with click.progressbar(length=steps, label="mpc", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        for t in range(steps):
            ahead = cycle[((t + first) % 96).astype(int)]
            ahead[:4] += (price[t] - cycle[t % 96]) * 0.8 ** np.arange(4)
            plan = programme.solve(horizon(spec, AHEAD_H, ahead), start)
            start = after_first(programme, plan)
            bar.update(1)
    return time.perf_counter() - began_s


def after_first(programme: SiteProgramme, plan: Plan) -> Start:
    """What runs when the first interval ends."""
    ai_mw = float(plan.inference_mw[:, 0].sum() + plan.training_mw[:, 0].sum())
    return Start(plan.awake(programme.layout.group_of_pair, 0), ai_mw, float(plan.load_mw[0]))


def measure_oracle(days: int) -> tuple[float, float]:
    """Seconds of perfect foresight in overlapping windows, and the largest duality gap of a window."""
    spec = mixed()
    hours = np.full(round(days * 24 / STEP_H), STEP_H)
    whole = horizon(spec, hours, prices(len(hours), STEP_H))
    began_s = time.perf_counter()
    with click.progressbar(length=len(hours), label="oracle", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        plan = solve_long(spec, whole, start_of(spec), progress=lambda done, _: bar.update(done - bar.pos))
    return time.perf_counter() - began_s, plan.duality_gap


def windows_against_one(days: int) -> float:
    """How far the windows' dollars are below those of one programme, relative."""
    spec = mixed()
    hours = np.full(round(days * 24 / STEP_H), STEP_H)
    whole = horizon(spec, hours, prices(len(hours), STEP_H))
    one = SiteProgramme(spec, hours, time_limit_s=600.0).solve(whole, start_of(spec)).net_usd
    return (one - solve_long(spec, whole, start_of(spec)).net_usd) / one


def main() -> int:
    """Run it; the exit code is 0 whatever the figures are."""
    parser = argparse.ArgumentParser(prog="hcp bench solve", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="two weeks in place of a year, figures scaled to it; under 60 s"
    )
    parser.add_argument("--json", action="store_true", help="one object on the last line")
    options = parser.parse_args()
    began_s, days = time.monotonic(), QUICK_DAYS if options.quick else YEAR_DAYS
    rounds = 10 if options.quick else 40
    cold_ms, warm_ms = measure_solve(rounds, AHEAD_H)
    fine_cold_ms, fine_warm_ms = measure_solve(max(rounds // 4, 3), FINE_H)
    policies_s = measure_policies()
    queue = measure_queue(rounds)
    mpc_s = measure_mpc(days)
    oracle_s, gap = measure_oracle(days)
    below = windows_against_one(QUICK_DAYS if options.quick else MONTH_DAYS)
    figures: dict[str, Any] = {
        "facility_p50_ms": rounded(cold_ms), "facility_warm_p50_ms": rounded(warm_ms),
        "quarters_p50_ms": rounded(fine_cold_ms), "quarters_warm_p50_ms": rounded(fine_warm_ms),
        "policies_s": rounded(policies_s), "facilities": FACILITIES, "levels": LEVELS,
        "backtest_year_mpc_s": rounded(mpc_s * YEAR_DAYS / days), "backtest_year_oracle_s": rounded(oracle_s * YEAR_DAYS / days),
        "measured_days": days, "oracle_duality_gap": gap, "windows_below_one_programme": below,
        "load_average": load_average(),
    }  # fmt: skip
    figures |= {name: rounded(value) for name, value in queue.items()} | {"queue_jobs": queued_jobs()}
    figures |= about(quick=options.quick, target=TARGET, began_s=began_s)
    print_figures(figures, as_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
