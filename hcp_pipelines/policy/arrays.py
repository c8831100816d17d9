"""A policy compiled to numpy arrays once, at its arrival, so that a tick costs only arithmetic. No decisions here."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from hcp_pipelines.domain.modes import STATE_COUNT
from hcp_pipelines.policy.schema import Block, Policy

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
    feeder_ids: tuple[str, ...]
    block_group: Ints
    block_step: Ints  # position on the ladder that the block leads to
    block_mw_per_device: Floats
    block_index: Ints
    off_slope: Floats
    off_offset: Floats
    on_slope: Floats
    on_offset: Floats
    wake_cost_usd_per_mw: Floats
    worth_slope: Floats  # $/MWh of the work behind a block, in its index; NaN where its states' revenues hold
    worth_offset: Floats
    cap_mw: float
    floor_mw: float
    adder_start_s: Floats
    adder_end_s: Floats
    adder_usd_per_mwh: Floats
    block_keys: tuple[str, ...]  # names a block across policies: whose account is whose
    block_from_state: Ints
    block_to_state: Ints
    plain: "PlainPolicy"

    def adders_at(self, at_s: float) -> float:
        """$/MWh added to the decision price at a Unix instant."""
        active = (self.adder_start_s <= at_s) & (at_s < self.adder_end_s)
        return float(self.adder_usd_per_mwh[active].sum())

    def index_values(self, indices: Mapping[str, float]) -> Floats:
        """Values in the order of `index_names`; an index that is not known keeps its value at the anchor."""
        anchor = self.policy.anchor.indices
        return np.array([indices.get(name, anchor.get(name, 0.0)) for name in self.index_names])

    def revenue_usd_per_hour(self, indices: Mapping[str, float]) -> Floats:
        """[g, s] revenue of one device in each state, $/h."""
        values: Floats = self.revenue_slope * self.index_values(indices)[self.revenue_index] + self.revenue_offset
        return values


@dataclass(frozen=True)
class PlainPolicy:
    """The same in plain numbers, for the few dozen steps that are walked one by one: numpy is slower there."""

    blocks_of_step: tuple[tuple[tuple[int, ...], ...], ...]  # [g][k], in rising merit order
    block_devices: tuple[int, ...]
    group_devices: tuple[int, ...]
    step_mw: tuple[tuple[float, ...], ...]  # [g][k] MW a device adds when it comes to that position of its ladder
    feeder_of_group: tuple[int, ...]
    feeder_caps_mw: tuple[float, ...]
    is_sheddable: tuple[bool, ...]
    has_work: tuple[bool, ...]  # [g] its blocks count what the queue asks for, however many devices there are
    block_begin: tuple[int, ...]  # devices of its step in the blocks before it


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
    block_group = [group_number[b.group_id] for b in blocks]
    block_step = [ladders[g].index(b.to_state) for g, b in zip(block_group, blocks, strict=True)]
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
        feeder_ids=tuple(feeders),
        block_group=np.array(block_group, dtype=np.int64),
        block_step=np.array(block_step, dtype=np.int64),
        block_mw_per_device=np.array([b.mw / b.devices for b in blocks]),
        block_index=np.array([number[b.index] for b in blocks], dtype=np.int64),
        off_slope=np.array([b.off.slope for b in blocks]),
        off_offset=np.array([b.off.offset for b in blocks]),
        on_slope=np.array([b.on.slope for b in blocks]),
        on_offset=np.array([b.on.offset for b in blocks]),
        wake_cost_usd_per_mw=np.array([b.wake_cost_usd_per_mw for b in blocks]),
        worth_slope=np.array([b.work.worth.slope if b.work else math.nan for b in blocks]),
        worth_offset=np.array([b.work.worth.offset if b.work else math.nan for b in blocks]),
        cap_mw=couplings.cap_mw,
        floor_mw=couplings.floor_mw,
        adder_start_s=np.array([a.start.timestamp() for a in policy.adders]),
        adder_end_s=np.array([a.end.timestamp() for a in policy.adders]),
        adder_usd_per_mwh=np.array([a.usd_per_mwh for a in policy.adders]),
        block_keys=tuple(_block_keys(blocks)),
        block_from_state=np.array([b.from_state for b in blocks], dtype=np.int64),
        block_to_state=np.array([b.to_state for b in blocks], dtype=np.int64),
        plain=_plain(policy, blocks, list(zip(block_group, block_step, strict=True)), feeders, sheddable),
    )


def _block_keys(blocks: Sequence[Block]) -> Iterator[str]:
    """`group/state/n`, the n-th block of its step in merit order."""
    seen: Counter[str] = Counter()
    for block in blocks:
        step = f"{block.group_id}/{block.to_state.label}"
        yield f"{step}/{seen[step]}"
        seen[step] += 1


def _plain(
    policy: Policy, blocks: Sequence[Block], places: list[tuple[int, int]], feeders: list[str], sheddable: set[str]
) -> PlainPolicy:
    groups, caps = policy.groups, policy.couplings.feeder_caps_mw
    return PlainPolicy(
        blocks_of_step=tuple(
            tuple(tuple(b for b, place in enumerate(places) if place == (g, k)) for k in range(len(group.ladder)))
            for g, group in enumerate(groups)
        ),
        block_devices=tuple(b.devices for b in blocks),
        group_devices=tuple(g.devices for g in groups),
        step_mw=tuple(
            tuple((high - low) / 1000 for low, high in pairwise([0.0, *(s.power_kw for s in group.ladder)]))
            for group in groups
        ),
        feeder_of_group=tuple(feeders.index(g.feeder_id) for g in groups),
        feeder_caps_mw=tuple(caps.get(f, math.inf) for f in feeders),
        is_sheddable=tuple(g.group_id in sheddable for g in groups),
        has_work=tuple(any(b.work for b in blocks if b.group_id == g.group_id) for g in groups),
        block_begin=tuple(
            sum(b.devices for b, there in zip(blocks[:n], places, strict=False) if there == place)
            for n, place in enumerate(places)
        ),
    )
