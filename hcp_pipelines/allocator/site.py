"""A facility as its owner sees it: slots, power, ramp limits, fallback plan. Built from the inventory; no state here.

The portfolio's ramp is shared out to the facilities by capacity, so that it holds whoever owns what and survives failover
without anybody asking anybody (ADR 6).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hcp_pipelines.domain.modes import STATE_COUNT, ControlMode, DeviceState, DispatchRegime
from hcp_pipelines.fleet.document import Staleness
from hcp_pipelines.fleet.inventory import FacilityInventory
from hcp_pipelines.fleet.ramps import ramp_limits
from hcp_pipelines.policy.arrays import Floats
from hcp_pipelines.policy.schema import RampLimit
from hcp_pipelines.policy.waves import FacilityShape


@dataclass(frozen=True)
class Site:
    """What holds of a facility until a new facility file is applied."""

    facility_id: str
    generation: int
    document_version: int
    obligations_version: int
    settlement_point: str
    control_mode: ControlMode
    dispatch_regime: DispatchRegime
    capacity_mw: float
    feeder_caps_mw: Mapping[str, float]
    fallback: Mapping[str, DeviceState]
    group_types: tuple[str, ...]
    shape: FacilityShape
    settle_s: Floats  # [g, s] simulated seconds a device may take to arrive
    fall_s: Floats  # [g, s] simulated seconds it usually takes to arrive from above
    ramps: tuple[RampLimit, ...]
    address: str  # gRPC target of the gateway
    staleness: Staleness  # its own limits for old prices
    scheduled: tuple[int, ...]  # groups in which desired rows say what devices do

    @property
    def ramp_window_s(self) -> float:
        """The longest of the ramps' windows, simulated seconds."""
        return max((r.window_s for r in self.ramps), default=0.0)


def site_of(inventory: FacilityInventory, portfolio_mw: float, address: str) -> Site:
    """The site of an inventory; `portfolio_mw` is the capacity of all facilities together."""
    groups = inventory.groups
    power, settle, fall = (np.zeros((len(groups), STATE_COUNT)) for _ in range(3))
    group_of_slot = np.full(inventory.slots, -1, dtype=np.int64)
    for g, group in enumerate(groups):
        group_of_slot[group.first_slot : group.first_slot + group.devices] = g
        for step in group.ladder:
            power[g, step.state] = step.power_kw * inventory.pue / 1000
            settle[g, step.state], fall[g, step.state] = step.settle_s, group.fall_s(step)
    shape = FacilityShape(
        facility_id=inventory.facility_id,
        generation=inventory.generation,
        group_ids=tuple(g.group_id for g in groups),
        feeder_of_group=tuple(g.feeder_id for g in groups),
        ladders=tuple(tuple(int(s.state) for s in g.ladder) for g in groups),
        group_of_slot=group_of_slot,
        power_mw=power,
    )
    return Site(
        facility_id=inventory.facility_id,
        generation=inventory.generation,
        document_version=inventory.document_version,
        obligations_version=inventory.obligations_version,
        settlement_point=inventory.settlement_point,
        control_mode=inventory.control_mode,
        dispatch_regime=inventory.dispatch_regime,
        capacity_mw=inventory.capacity_mw,
        feeder_caps_mw=inventory.feeder_limits_mw,
        fallback=inventory.fallback,
        group_types=tuple(g.type.value for g in groups),
        shape=shape,
        settle_s=settle,
        fall_s=fall,
        ramps=ramp_limits(inventory.ramps, inventory.capacity_mw / portfolio_mw),
        address=address,
        staleness=inventory.staleness,
        scheduled=tuple(n for n, group in enumerate(groups) if group.group_id in inventory.scheduled),
    )
