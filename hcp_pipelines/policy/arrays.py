"""A policy compiled to numpy arrays once, at its arrival, so that a tick costs only arithmetic. No decisions here."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hcp_pipelines.domain.modes import STATE_COUNT
from hcp_pipelines.policy.schema import Policy

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class CompiledPolicy:
    """Arrays of one policy: `[g]` groups, `[b]` blocks in rising merit order, `[g, s]` group × state code."""

    policy: Policy
    group_ids: tuple[str, ...]
    index_names: tuple[str, ...]
    ladders: tuple[tuple[int, ...], ...]
    power_mw: Floats  # [g, s] all-in MW of one device
    revenue_slope: Floats  # [g, s] $/h of one device, per unit of its index
    revenue_offset: Floats  # [g, s]
    revenue_index: Ints  # [g, s]
    group_devices: Ints  # [g]
    feeder_of_group: Ints  # [g]
    feeder_ids: tuple[str, ...]
    feeder_caps_mw: Floats  # [f], inf where there is none
    is_sheddable: Bools  # [g]
    block_group: Ints
    block_step: Ints  # position on the ladder that the block leads to
    block_devices: Floats
    block_mw_per_device: Floats
    block_index: Ints
    off_slope: Floats
    off_offset: Floats
    on_slope: Floats
    on_offset: Floats
    wake_cost_usd_per_mw: Floats
    cap_mw: float
    floor_mw: float
    adder_start_s: Floats
    adder_end_s: Floats
    adder_usd_per_mwh: Floats

    def adders_at(self, at_s: float) -> float:
        """$/MWh added to the decision price at a Unix instant."""
        active = (self.adder_start_s <= at_s) & (at_s < self.adder_end_s)
        return float(self.adder_usd_per_mwh[active].sum())

    def index_values(self, indices: "dict[str, float]") -> Floats:
        """Values in the order of `index_names`; an index that is not known keeps its value at the anchor."""
        anchor = self.policy.anchor.indices
        return np.array([indices.get(name, anchor.get(name, 0.0)) for name in self.index_names])

    def revenue_usd_per_hour(self, indices: "dict[str, float]") -> Floats:
        """[g, s] revenue of one device in each state, $/h."""
        values: Floats = self.revenue_slope * self.index_values(indices)[self.revenue_index] + self.revenue_offset
        return values


def compile_policy(policy: Policy) -> CompiledPolicy:
    """The arrays of a policy."""
    groups = policy.groups
    names = sorted({"none", *(b.index for b in policy.blocks), *(s.index for g in groups for s in g.ladder)})
    number = {name: n for n, name in enumerate(names)}
    group_number = {g.group_id: n for n, g in enumerate(groups)}
    feeders = sorted({g.feeder_id for g in groups})
    shape = (len(groups), STATE_COUNT)
    power, slope, offset, index = np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=np.int64)
    for g, group in enumerate(groups):
        for step in group.ladder:
            power[g, step.state] = step.power_kw / 1000
            slope[g, step.state] = step.revenue_usd_per_device_hour.slope
            offset[g, step.state] = step.revenue_usd_per_device_hour.offset
            index[g, step.state] = number[step.index]
    blocks = sorted(policy.blocks, key=lambda b: b.order)
    ladders = tuple(tuple(int(s.state) for s in g.ladder) for g in groups)
    couplings = policy.couplings
    sheddable = set(couplings.sheddable) or {g.group_id for g in groups}
    return CompiledPolicy(
        policy=policy,
        group_ids=tuple(group_number),
        index_names=tuple(names),
        ladders=ladders,
        power_mw=power,
        revenue_slope=slope,
        revenue_offset=offset,
        revenue_index=index,
        group_devices=np.array([g.devices for g in groups], dtype=np.int64),
        feeder_of_group=np.array([feeders.index(g.feeder_id) for g in groups], dtype=np.int64),
        feeder_ids=tuple(feeders),
        feeder_caps_mw=np.array([couplings.feeder_caps_mw.get(f, np.inf) for f in feeders]),
        is_sheddable=np.array([g.group_id in sheddable for g in groups], dtype=bool),
        block_group=np.array([group_number[b.group_id] for b in blocks], dtype=np.int64),
        block_step=np.array([ladders[group_number[b.group_id]].index(b.to_state) for b in blocks], dtype=np.int64),
        block_devices=np.array([float(b.devices) for b in blocks]),
        block_mw_per_device=np.array([b.mw / b.devices for b in blocks]),
        block_index=np.array([number[b.index] for b in blocks], dtype=np.int64),
        off_slope=np.array([b.off.slope for b in blocks]),
        off_offset=np.array([b.off.offset for b in blocks]),
        on_slope=np.array([b.on.slope for b in blocks]),
        on_offset=np.array([b.on.offset for b in blocks]),
        wake_cost_usd_per_mw=np.array([b.wake_cost_usd_per_mw for b in blocks]),
        cap_mw=couplings.cap_mw,
        floor_mw=couplings.floor_mw,
        adder_start_s=np.array([a.start.timestamp() for a in policy.adders]),
        adder_end_s=np.array([a.end.timestamp() for a in policy.adders]),
        adder_usd_per_mwh=np.array([a.usd_per_mwh for a in policy.adders]),
    )
