"""Ladder steps as economic quantities: revenue per index point, power, wake cost, and the strikes that follow. Pure.

A step's revenue and wake cost are linear in the group's index plus a constant, so its strikes are affine in it.
"""

from dataclasses import dataclass
from itertools import pairwise

from hcp_pipelines.domain.modes import DeviceState, ResourceType
from hcp_pipelines.economics import gpu, mining, switching
from hcp_pipelines.optimizer.band import PLAIN, Band
from hcp_pipelines.optimizer.inputs import GroupInputs, SiteInputs, StateInputs
from hcp_pipelines.policy.schema import Affine

INTERVAL_H = 0.25
MERIT_EPSILON_USD_PER_MWH = 1e-4  # breaks ties between equal groups (OPTIMIZER §3.4)


@dataclass(frozen=True, slots=True)
class Step:
    """One ladder step of one device: what it adds. `wake` is in $ per device, affine in the index."""

    group: GroupInputs
    from_state: DeviceState
    to_state: DeviceState
    kw: float
    usd_per_hour_per_index: float
    value: Affine  # revenue per MWh of all-in power, affine in the index, adders taken off
    wake: Affine

    @property
    def mw(self) -> float:
        """MW of the step for the whole group."""
        return self.kw * self.group.devices / 1000

    def worth_at(self, index: float) -> float:
        """$/MWh, for the merit order."""
        return self.value.at(index)

    def strikes(self, rank: int, band: Band[float] = PLAIN) -> tuple[Affine, Affine]:
        """(on, off) strikes in $/MWh; `rank` is the merit order, best first.

        The band around r with c per MW of the step; without a wake cost both are r.
        """
        per_usd, nudge = 1000 / self.kw / INTERVAL_H, -MERIT_EPSILON_USD_PER_MWH * rank
        slopes = band.around(self.value.slope, self.wake.slope * per_usd)
        offsets = band.around(self.value.offset + nudge, self.wake.offset * per_usd)
        on, off = (Affine(slope=slope, offset=offset) for slope, offset in zip(slopes, offsets, strict=True))
        return on, off

    def wake_usd_per_mw(self, index: float) -> float:
        """Cost of one wake per all-in MW of the step: the guard's account."""
        return max(0.0, self.wake.at(index) * 1000 / self.kw)


def revenue_per_index(group: GroupInputs, state: StateInputs, site: SiteInputs) -> float:
    """$/h of one device in a state, per unit of its index ($/PH/day of hashprice, or $/GPU-hour)."""
    if group.type is ResourceType.GPU:
        fraction = site.gpu_rate_fraction.get(state.state, 1.0)
        return gpu.revenue_usd_per_hour(1.0, site.gpu_utilization, fraction) if _serves(state.state) else 0.0
    return mining.revenue_usd_per_hour(state.hash_rate_th_per_s, 1.0, site.pool_fee_fraction)


def steps_of(group: GroupInputs, site: SiteInputs, index: float) -> list[Step]:
    """The steps of a group's ladder, lowest first, with values that never rise up the ladder (else steps are pooled)."""
    top = group.ladder[-1]
    steps: list[Step] = []
    for low, high in pairwise(group.ladder):
        low_revenue, high_revenue = (revenue_per_index(group, s, site) for s in (low, high))
        wakes = low_revenue == 0 and high_revenue > 0
        steps.append(
            _step(group, low, high, high_revenue - low_revenue, _wake(group, top, site) if wakes else Affine(), site)
        )
    return _pooled(steps, index)


def _step(
    group: GroupInputs, low: StateInputs, high: StateInputs, revenue: float, wake: Affine, site: SiteInputs
) -> Step:
    kw = high.power_kw - low.power_kw
    value = Affine(
        slope=revenue * 1000 / kw, offset=0.0 - site.adders_usd_per_mwh
    )  # not -0.0, which jsonb does not keep
    return Step(group, low.state, high.state, kw, revenue, value, wake)


def _wake(group: GroupInputs, top: StateInputs, site: SiteInputs) -> Affine:
    """Dollars of waking one device to its highest state, affine in the index."""
    cost = switching.switch_cost(group.type, group.ladder[0].state, top.state, top.hash_rate_th_per_s)
    return Affine(slope=revenue_per_index(group, top, site) * cost.minutes / 60, offset=cost.fixed_usd)


def _pooled(steps: list[Step], index: float) -> list[Step]:
    """Where a step is worth more than the one below it, both get their common value: one can't be had alone."""
    pools: list[list[Step]] = []
    for step in steps:
        pools.append([step])
        while len(pools) > 1 and _worth(pools[-1]).at(index) > _worth(pools[-2]).at(index):
            pools[-2:] = [pools[-2] + pools[-1]]
    out: list[Step] = []
    for pool in pools:
        value, wake_per_kw = _worth(pool), sum(s.wake.slope for s in pool) / sum(s.kw for s in pool)
        fixed_per_kw = sum(s.wake.offset for s in pool) / sum(s.kw for s in pool)
        for s in pool:
            wake = Affine(slope=wake_per_kw * s.kw, offset=fixed_per_kw * s.kw)
            out.append(Step(s.group, s.from_state, s.to_state, s.kw, s.usd_per_hour_per_index, value, wake))
    return out


def _worth(pool: list[Step]) -> Affine:
    """Value of a pool of steps, weighted by power."""
    kw = sum(s.kw for s in pool)
    return Affine(
        slope=sum(s.usd_per_hour_per_index for s in pool) * 1000 / kw,
        offset=sum(s.value.offset * s.kw for s in pool) / kw,
    )


def _serves(state: DeviceState) -> bool:
    return state in (DeviceState.INFERENCE_BATCH, DeviceState.INFERENCE_REALTIME, DeviceState.TRAINING)
