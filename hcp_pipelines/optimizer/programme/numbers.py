"""Costs and bounds of a programme from what is known of the hours ahead. Which column is what is in `layout.py`."""

from dataclasses import dataclass

import numpy as np

from hcp_pipelines.optimizer.programme.layout import Layout
from hcp_pipelines.optimizer.programme.refusals import healthy_of
from hcp_pipelines.optimizer.programme.spec import Floats, Horizon, Start

MERIT_USD_PER_MWH = 1e-4  # a rank: breaks ties between equal groups (OPTIMIZER §3.4)


@dataclass(frozen=True)
class Numbers:
    """Costs, column bounds and row bounds."""

    cost: Floats
    column_upper: Floats
    row_lower: Floats
    row_upper: Floats


def numbers_of(at: Layout, horizon: Horizon, start: Start) -> Numbers:
    """All of them."""
    healthy = healthy_of(at.spec, horizon)
    return Numbers(costs_of(at, horizon), _uppers(at, horizon, healthy), *_rows(at, horizon, start, healthy))


def power_cost(at: Layout, horizon: Horizon) -> Floats:
    """[t] $ of an IT megawatt through an interval."""
    return at.hours * horizon.pue * (horizon.price_usd_per_mwh + horizon.adder_usd_per_mwh)


def costs_of(at: Layout, horizon: Horizon) -> Floats:
    """[columns] dollars of one of each."""
    spec, hours, cost = at.spec, at.hours, np.zeros(at.columns)
    for p, (g, mode) in enumerate(spec.pairs):
        earns = mode.usd_per_hour_per_index * horizon.index(spec.groups[g].index) + mode.usd_per_hour
        cost[at.devices[p]] = -hours * (earns - MERIT_USD_PER_MWH * p * mode.mw)
    for g, group in enumerate(spec.groups):
        cost[at.wakes[g]] = group.wake_usd_per_index * horizon.index(group.index) + group.wake_usd
        cost[at.sleeps[g]] = group.sleep_usd
    cost[at.load] = power_cost(at, horizon)
    cost[at.over] = hours * horizon.pue * horizon.response_usd_per_mwh
    cost[at.short_reserve] = hours * spec.shortfall_usd_per_mwh
    for s in range(len(spec.reserves)):
        cost[at.reserve[s]] = -np.bincount(at.hour, weights=hours * horizon.mcpc_usd_per_mw_h[s])
    for k, value in enumerate(spec.inference_usd_per_mwh):
        cost[at.inference[k]] = -hours * value
    for j, job in enumerate(horizon.training):
        cost[at.short_training[j]] = job.penalty_usd_per_mwh
    cost[at.ai_rise] = spec.reload_usd_per_mw
    return cost


def _uppers(at: Layout, horizon: Horizon, healthy: Floats) -> Floats:
    upper = np.full(at.columns, np.inf)
    upper[at.load] = horizon.cap_mw / horizon.pue
    upper[at.training], upper[at.gangs] = 0.0, 1.0
    most = np.maximum(healthy.max(axis=1, initial=0.0), [g.devices for g in at.spec.groups])
    upper[at.wakes] = upper[at.sleeps] = most[:, None]
    if len(at.inference):
        upper[at.inference] = horizon.demand_mw
    for j, job in enumerate(horizon.training):
        upper[at.training[j][job.release : job.deadline]] = job.most_mw
    return upper


def _rows(at: Layout, horizon: Horizon, start: Start, healthy: Floats) -> tuple[Floats, Floats]:
    spec, lower, upper = at.spec, np.full(at.rows, -np.inf), np.full(at.rows, np.inf)
    asleep = np.array([g.asleep_mw for g in spec.groups])
    lower[at.balance] = upper[at.balance] = asleep @ healthy + spec.gpu_idle_fraction * spec.gpu_mw
    upper[at.healthy] = healthy
    lower[at.turns] = upper[at.turns] = 0.0
    lower[at.turns[:, 0]] = upper[at.turns[:, 0]] = start.awake
    for n, g in enumerate(at.up_groups):
        upper[at.min_up[n]] = _lost(at, start.awake[g], healthy[g], spec.groups[g].min_up_h)
    for n, g in enumerate(at.down_groups):
        upper[at.min_down[n]] = healthy[g] + _lost(at, start.awake[g], healthy[g], spec.groups[g].min_down_h)
    for f, name in enumerate(at.feeders):
        here = np.array([group.asleep_mw if group.feeder == name else 0.0 for group in spec.groups])
        upper[at.feeder[f]] = spec.feeder_caps_mw[name] / horizon.pue - here @ healthy
    lower[at.ramp], upper[at.ramp] = _ramp(at, horizon, start)
    lower[at.reserve_on] = horizon.floor_mw
    upper[at.reserve_most] = spec.reserve_most_mw
    upper[at.response] = horizon.response_cap_mw / horizon.pue
    upper[at.ai_room] = spec.gpu_mw
    upper[at.ai_turn] = 0.0
    upper[at.ai_turn[0]] = start.ai_mw
    lower[at.work] = 0.0
    lower[at.gang_whole] = upper[at.gang_whole] = 0.0
    for j, job in enumerate(horizon.training):
        lower[at.work[j]] = job.work_mwh
    return lower, upper


def _lost(at: Layout, awake: float, healthy: Floats, within_h: float) -> Floats:
    """[t] devices that fell out within a time: those have gone to sleep whatever the minimum."""
    ends = np.cumsum(at.hours)
    first = np.searchsorted(ends, ends - within_h + 1e-9, side="right")
    had = np.r_[max(awake, healthy[0]), healthy]
    return np.array([had[begin : t + 2].max() - healthy[t] for t, begin in enumerate(first.tolist())])


def _ramp(at: Layout, horizon: Horizon, start: Start) -> tuple[Floats, Floats]:
    per_h = at.spec.ramp_mw_per_h, at.spec.ramp_down_mw_per_h
    up, down = ((per_h[0] if each is None else each) * at.hours / horizon.pue for each in per_h)
    lower, upper = -down, up
    begins = np.inf if start.load_mw is None else start.load_mw / horizon.pue[0]
    lower[0], upper[0] = (-np.inf, np.inf) if np.isinf(begins) else (begins - down[0], begins + up[0])
    return lower, upper
