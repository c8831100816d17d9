"""What comes of a solve: devices by mode, reserves, AI work and dollars, with the gap that proves it the best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hcp_pipelines.optimizer.programme.layout import Layout
from hcp_pipelines.optimizer.programme.numbers import Numbers
from hcp_pipelines.optimizer.programme.spec import Floats, Horizon

_NOTHING = 1e-9


class Solved(Protocol):
    """HiGHS' solution."""

    col_value: Sequence[float]
    col_dual: Sequence[float]
    row_dual: Sequence[float]


@dataclass(frozen=True)
class Plan:
    """Rows over intervals. MW are all-in at the meter for `load_mw`, IT power otherwise; reserves are by hour."""

    devices: Floats  # [p, t] of the spec's pairs
    wakes: Floats  # [g, t]
    sleeps: Floats  # [g, t]
    load_mw: Floats  # [t]
    reserve_mw: Floats  # [s, h]
    short_reserve_mw: Floats  # [t]
    over_mw: Floats  # [t] above demand response's cap
    inference_mw: Floats  # [k, t]
    training_mw: Floats  # [j, t]
    short_training_mwh: Floats  # [j]
    usd: Mapping[str, float]  # by kind; earnings above 0, costs below
    net_usd: float
    duality_gap: float  # relative: 0 proves that nothing earns more
    cap_usd_per_mwh: Floats  # [t] worth of another megawatt of the site's limit

    def awake(self, group_of_pair: np.ndarray, t: int) -> Floats:
        """[g] devices awake in an interval."""
        awake: Floats = np.zeros(len(self.wakes))
        np.add.at(awake, group_of_pair, self.devices[:, t])
        return awake


def plan_of(at: Layout, horizon: Horizon, cost: Floats, solved: Solved, gap: float) -> Plan:
    """The plan that a solution is."""
    value = np.maximum(np.asarray(solved.col_value), 0.0)
    duals = np.asarray(solved.col_dual) if len(solved.col_dual) else np.zeros(at.columns)
    return plan_from(at, horizon, cost, value, gap, np.maximum(-duals[at.load], 0.0) / (at.hours * horizon.pue))


def plan_from(at: Layout, horizon: Horizon, cost: Floats, value: Floats, gap: float, cap_usd_per_mwh: Floats) -> Plan:
    """The plan of a value a column."""
    usd = _dollars(at, cost, value, horizon)
    return Plan(
        devices=value[at.devices],
        wakes=value[at.wakes],
        sleeps=value[at.sleeps],
        load_mw=value[at.load] * horizon.pue,
        reserve_mw=value[at.reserve],
        short_reserve_mw=value[at.short_reserve],
        over_mw=value[at.over] * horizon.pue,
        inference_mw=value[at.inference],
        training_mw=value[at.training],
        short_training_mwh=value[at.short_training],
        usd=usd,
        net_usd=sum(usd.values()),
        duality_gap=gap,
        cap_usd_per_mwh=cap_usd_per_mwh,
    )


def _dollars(at: Layout, cost: Floats, value: Floats, horizon: Horizon) -> dict[str, float]:
    def spent(columns: np.ndarray) -> float:
        return float((cost[columns] * value[columns]).sum())

    peaks = float((at.hours * horizon.pue * horizon.adder_usd_per_mwh * value[at.load]).sum())
    return {
        "revenue": -spent(at.devices),
        "energy": peaks - spent(at.load),
        "adders": -peaks,
        "switching": -spent(at.wakes) - spent(at.sleeps),
        "reserves": -spent(at.reserve),
        "reserve_shortfall": -spent(at.short_reserve),
        "demand_response": -spent(at.over),
        "inference": -spent(at.inference),
        "deadlines": -spent(at.short_training),
        "reloads": -spent(at.ai_rise),
    }


def duality_gap(numbers: Numbers, solved: Solved) -> float:
    """|primal − dual| over the primal's size: both from HiGHS' vectors, put together here."""
    value, column_dual, row_dual = (np.asarray(part) for part in (solved.col_value, solved.col_dual, solved.row_dual))
    primal = float(numbers.cost @ value)
    bound = _held(row_dual, numbers.row_lower, numbers.row_upper) + _held(
        column_dual, np.zeros_like(value), numbers.column_upper
    )
    return abs(primal - bound) / max(1.0, abs(primal))


def _held(dual: Floats, lower: Floats, upper: Floats) -> float:
    bound = np.where(dual > 0, lower, upper)
    matters = np.abs(dual) > _NOTHING
    return float((dual[matters] * bound[matters]).sum())
