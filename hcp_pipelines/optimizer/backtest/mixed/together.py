"""Perfect foresight of a mixed facility whose limits or ramps bind: one linear programme of all load, window by window.

Where nothing binds `foresight.py` is exact and needs no solver. Windows end with a local day, so that no daily job lies across
two; of four days three are kept, and a job that lies in no window is not planned. A share of a group may run: thousands of
devices are no integers.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from hcp_pipelines.optimizer.backtest.case import Course
from hcp_pipelines.optimizer.backtest.mixed import limits
from hcp_pipelines.optimizer.backtest.mixed.site import ECO_HASH, ECO_POWER
from hcp_pipelines.optimizer.backtest.mixed.world import Actions, World
from hcp_pipelines.optimizer.backtest.series import Floats
from hcp_pipelines.optimizer.programme import Group, Horizon, Mode, Plan, SiteProgramme, SiteSpec, Start, Training

WINDOW_DAYS, KEPT_DAYS = 4, 3
DONE = 1e-9


def foresee_together(world: World) -> Actions:
    """What earns most under the limits, knowing everything.

    Raises:
        InfeasibleError: AI work alone is above the limit.
    """
    mw = np.array([[group.mw] for group in world.site.groups])
    groups, n = len(world.site.groups), len(world)
    devices, sold = np.zeros((2 * groups, n)), np.zeros(len(world.mcpc))
    inference, training = np.zeros_like(world.inference.mw), np.zeros((len(world.jobs), n))
    start = Start(limits.starting(world.site) * mw[:, 0])  # what comes before the first interval bounds no ramp
    for hours, kept in _windows(world):
        rows = _rows(world, hours)
        jobs = _jobs(world, rows)
        plan = _solved(world, rows, jobs, start)
        steps = _rows(world, kept)
        own = slice(0, steps.stop - steps.start)
        devices[:, steps], inference[:, steps] = plan.devices[:, own], plan.inference_mw[:, own]
        sold[kept] = plan.reserve_mw[0, : kept.stop - kept.start]
        for row, (j, _) in zip(plan.training_mw, jobs, strict=False):
            training[j, steps] += row[own]
        awake = plan.devices[:, own.stop - 1].reshape(groups, 2).sum(axis=1)
        start = Start(awake, load_mw=float(plan.load_mw[own.stop - 1]))
    eco, full = (devices[k::2] / mw for k in range(2))
    share = sold / mw.sum()
    return Actions(_clean(full), _clean(eco), np.tile(share, (groups, 1)), inference, training)


def _windows(world: World) -> Iterator[tuple[slice, slice]]:
    """(hours of a window, hours of it that are kept), by local days."""
    _, first = np.unique(world.day, return_index=True)
    starts = [*first.tolist(), len(world.mcpc)]
    for n in range(0, len(starts) - 1, KEPT_DAYS):
        begin, end = starts[n], starts[min(n + WINDOW_DAYS, len(starts) - 1)]
        kept = starts[min(n + KEPT_DAYS, len(starts) - 1)]
        yield slice(begin, end), slice(begin, kept)


def _rows(world: World, hours: slice) -> slice:
    return slice(hours.start * world.steps, hours.stop * world.steps)


def _jobs(world: World, rows: slice) -> list[tuple[int, Training]]:
    """Jobs whose time lies wholly in a window, in its intervals, by deadline; with the slot of each."""
    inside = [
        (j, replace(job, release=job.release - rows.start, deadline=job.deadline - rows.start))
        for j, jobs in enumerate(world.jobs)
        for job in jobs
        if rows.start <= job.release and job.deadline <= rows.stop
    ]
    return sorted(inside, key=lambda each: each[1].deadline)


def _solved(world: World, rows: slice, jobs: list[tuple[int, Training]], start: Start) -> Plan:
    groups = tuple(_group(world, g) for g in range(len(world.site.groups)))
    spec = SiteSpec(
        groups,
        {name: limit for name, limit in world.site.feeder_limits_mw.items() if np.isfinite(limit)},
        ramp_mw_per_h=world.site.ramp_up_mw_per_h,
        ramp_down_mw_per_h=world.site.ramp_down_mw_per_h,
        reserves=("best",),
        gpu_mw=world.site.most_ai_mw,
        inference_usd_per_mwh=tuple(world.inference.usd_per_mwh.tolist()),
        training_slots=len(jobs),
    )
    hours = np.full(rows.stop - rows.start, world.step_h)
    horizon = Horizon.of(
        world.settled_price[rows],
        world.step_h,
        world.site.limit_mw,
        adder_usd_per_mwh=np.repeat(world.charge, world.steps)[rows],
        indices={f"g{g}": case.settled.revenue_usd_per_mwh[rows] for g, case in enumerate(world.cases)},
        mcpc_usd_per_mw_h=np.repeat(world.mcpc, world.steps)[None, rows],
        demand_mw=world.inference.mw[:, rows],
        training=tuple(job for _, job in jobs),
    )
    return SiteProgramme(spec, hours).solve(horizon, start)


def _group(world: World, g: int) -> Group:
    """Megawatts of a group as devices; its wake cost is affine in its revenue."""
    group, (slope, fixed) = world.site.groups[g], _wake(world.cases[g].settled)
    modes = (Mode("eco", ECO_POWER, ECO_HASH), Mode("full", 1.0, 1.0))
    return Group(group.name, group.mw, modes, f"g{g}", feeder=group.feeder, wake_usd_per_index=slope, wake_usd=fixed)


def _wake(course: Course) -> tuple[float, float]:
    """(slope, offset) of a wake's cost over revenue."""
    revenue, wake = course.revenue_usd_per_mwh, course.wake_usd
    low, high = int(revenue.argmin()), int(revenue.argmax())
    spread = float(revenue[high] - revenue[low])
    slope = float(wake[high] - wake[low]) / spread if spread > DONE else 0.0
    return slope, float(wake[low]) - slope * float(revenue[low])


def _clean(share: Floats) -> Floats:
    """Without the solver's crumbs."""
    return np.where(share < DONE, 0.0, np.minimum(share, 1.0))
