"""What a new policy asks for at the instant it was solved at: recorded in its anchor, and compared at admission.

Strikes, then feeder and site caps and the floor in merit order, as `policy/evaluate.py` does it for the live loop, in plain
Python and without the guard, which has no memory yet when a policy is made.
"""

import math
from collections.abc import Mapping, Sequence

from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.policy.schema import Block, Couplings, PolicyGroup

Counts = dict[DeviceState, int]


def target_counts(
    groups: Sequence[PolicyGroup],
    blocks: Sequence[Block],
    couplings: Couplings,
    present: Mapping[str, Counts],
    price: float,
    indices: Mapping[str, float],
) -> dict[str, Counts]:
    """Devices by group and state, from those present, at a decision price in $/MWh."""
    on = _switched_on(groups, blocks, present, price, indices)
    base_mw = {g.group_id: g.ladder[0].power_kw * g.devices / 1000 for g in groups}
    feeder_of = {g.group_id: g.feeder_id for g in groups}
    for feeder, cap_mw in couplings.feeder_caps_mw.items():
        mine = [g.group_id for g in groups if feeder_of[g.group_id] == feeder]
        _shed([b for b in blocks if b.group_id in mine], on, cap_mw - sum(base_mw[g] for g in mine))
    _shed(blocks, on, couplings.cap_mw - sum(base_mw.values()))
    _fill(blocks, on, couplings.floor_mw - sum(base_mw.values()))
    return {g.group_id: _by_state(g, on) for g in groups}


def _key(block: Block) -> tuple[str, DeviceState]:
    return block.group_id, block.to_state


def _switched_on(
    groups: Sequence[PolicyGroup],
    blocks: Sequence[Block],
    present: Mapping[str, Counts],
    price: float,
    indices: Mapping[str, float],
) -> dict[tuple[str, DeviceState], int]:
    """Devices at or above each step: all below its on-strike, none above its off-strike, else as they are."""
    by_key = {_key(b): b for b in blocks}
    on: dict[tuple[str, DeviceState], int] = {}
    for group in groups:
        below = group.devices
        for n, step in enumerate(group.ladder[1:], start=1):
            block = by_key[group.group_id, step.state]
            index = indices[block.index]
            now = sum(present[group.group_id].get(s.state, 0) for s in group.ladder[n:])
            wanted = block.devices if price < block.on.at(index) else 0 if price > block.off.at(index) else now
            below = on[_key(block)] = min(below, wanted)
    return on


def _shed(blocks: Sequence[Block], on: dict[tuple[str, DeviceState], int], room_mw: float) -> None:
    """Take steps off, last in merit order first, until the rest fits."""
    excess_mw = sum(on[_key(b)] * b.mw / b.devices for b in blocks) - room_mw
    for block in sorted(blocks, key=lambda b: -b.order):
        if excess_mw <= 1e-9:
            return
        off = min(on[_key(block)], math.ceil(excess_mw / (block.mw / block.devices) - 1e-9))
        on[_key(block)] -= off
        excess_mw -= off * block.mw / block.devices


def _fill(blocks: Sequence[Block], on: dict[tuple[str, DeviceState], int], wanted_mw: float) -> None:
    """Put steps on, first in merit order first, until the load is there."""
    short_mw = wanted_mw - sum(on[_key(b)] * b.mw / b.devices for b in blocks)
    for block in sorted(blocks, key=lambda b: b.order):
        if short_mw <= 1e-9:
            return
        more = min(block.devices - on[_key(block)], math.ceil(short_mw / (block.mw / block.devices) - 1e-9))
        on[_key(block)] += more
        short_mw -= more * block.mw / block.devices


def _by_state(group: PolicyGroup, on: Mapping[tuple[str, DeviceState], int]) -> Counts:
    at_or_above = [group.devices, *(on[group.group_id, s.state] for s in group.ladder[1:]), 0]
    return {s.state: at_or_above[n] - at_or_above[n + 1] for n, s in enumerate(group.ladder)}
