"""Evaluate a policy: state and indices → targets. Pure; the same code for allocator, gateway, preview and back-test.

target = clip(present, U(price), D(price)) per ladder step, with the guard's word; fitting it into feeders, site and
floor is `merit.py`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from hcp_pipelines.domain.modes import ReasonCode
from hcp_pipelines.policy.arrays import CompiledPolicy, Floats, Ints
from hcp_pipelines.policy.guard import GuardState, step
from hcp_pipelines.policy.merit import Choice, Strikes, choose, levels_of

EXCHANGES_MAX = 4


@dataclass(frozen=True)
class Evaluation:
    """What the policy asks for: devices by group and state, and why."""

    targets: Ints  # [g, s]
    guard: GuardState
    reasons: tuple[ReasonCode, ...]  # [g]
    binding: tuple[str, ...]
    needs_resolve: tuple[str, ...]


def evaluate(
    compiled: CompiledPolicy,
    present: Ints,
    decision_price: float,
    indices: Mapping[str, float],
    at: datetime,
    guard: GuardState,
    elapsed_h: float = 0.0,
) -> Evaluation:
    """Targets for `present[g, s]` commandable devices at a decision price in $/MWh.

    Devices in states off their group's ladder stay out of it. `elapsed_h` is the time since the last evaluation, which
    the guard books; accounts of another policy are taken over block by block.

    Raises:
        ValueError: a price or index that is not finite.
    """
    if not math.isfinite(decision_price) or not all(math.isfinite(v) for v in indices.values()):
        raise ValueError(f"decision price {decision_price!r}, indices {dict(indices)!r}: not finite")
    price = decision_price + compiled.adders_at(at.timestamp())
    values = compiled.index_values(indices)
    on = compiled.on_slope * values[compiled.block_index] + compiled.on_offset
    off = np.maximum(compiled.off_slope * values[compiled.block_index] + compiled.off_offset, on)
    must, may = price < on, price <= off
    levels = levels_of(compiled, present)
    margins = margins_of(compiled, values, price)
    verdict = step(compiled, guard.carried_to(compiled), margins, _share_on(compiled, levels), elapsed_h, must, may)
    strikes = Strikes(on, off, verdict.must, verdict.may)
    choice = _settled(compiled, present, levels, strikes)
    guarded = set(compiled.block_group[(verdict.must != must) | (verdict.may != may)].tolist())
    reasons = tuple(ReasonCode.GUARD if g in guarded else ReasonCode.ECONOMICS for g in range(len(compiled.group_ids)))
    return Evaluation(choice.targets, verdict.state, reasons, choice.binding, _moved(compiled, indices))


def _settled(compiled: CompiledPolicy, present: Ints, levels: list[list[int]], strikes: Strikes) -> Choice:
    """The choice that asks for nothing more once it is carried out.

    Under a limit, who has just been taken may be worth a step that somebody else was given: its price was that of waking then.
    """
    choice = choose(compiled, present, levels, strikes)
    for _ in range(EXCHANGES_MAX if choice.binding else 0):
        better = choose(compiled, choice.targets, levels_of(compiled, choice.targets), strikes)
        if np.array_equal(better.targets, choice.targets):
            break
        choice = better
    return choice


def margins_of(compiled: CompiledPolicy, values: Floats, price: float) -> Floats:
    """$/MWh that each block earns above the price: by the work behind it, else by the ladder's revenues."""
    revenue = compiled.revenue_slope * values[compiled.revenue_index] + compiled.revenue_offset
    high, low = (revenue[compiled.block_group, s] for s in (compiled.block_to_state, compiled.block_from_state))
    margins = (high - low) / np.maximum(compiled.block_mw_per_device, 1e-12) - price
    worth = compiled.worth_slope * values[compiled.block_index] + compiled.worth_offset
    return np.where(np.isnan(worth), _pooled(compiled, margins.tolist()), worth - price)


def _pooled(compiled: CompiledPolicy, margins: list[float]) -> Floats:
    """Where a step earns more than the one below it, both count with their common margin, as their strikes do.

    One can't be had alone, and the guard must not put the lower one to sleep under a profitable upper one.
    """
    for steps, mw in zip(compiled.plain.blocks_of_step, compiled.plain.step_mw, strict=True):
        pools: list[tuple[float, float, tuple[int, ...]]] = []  # (MW, $/h, blocks) of one device
        for blocks, each in zip(steps[1:], mw[1:], strict=True):
            if not blocks or each <= 0:
                continue
            pools.append((each, each * margins[blocks[0]], blocks))
            while len(pools) > 1 and pools[-1][1] * pools[-2][0] > pools[-2][1] * pools[-1][0]:
                upper, lower = pools.pop(), pools.pop()
                pools.append((lower[0] + upper[0], lower[1] + upper[1], lower[2] + upper[2]))
        for each, usd, blocks in pools:
            for b in blocks:
                margins[b] = usd / each
    return np.array(margins)


def _share_on(compiled: CompiledPolicy, levels: list[list[int]]) -> Floats:
    """Per block, the share of its step's devices that are on; of work, of its own: the first ones are the first block's."""
    plain, shares = compiled.plain, []
    for b, (g, k) in enumerate(zip(compiled.block_group.tolist(), compiled.block_step.tolist(), strict=True)):
        if plain.has_work[g]:
            on = levels[g][k] - plain.block_begin[b]
            shares.append(min(max(on / plain.block_devices[b], 0.0), 1.0))
        else:
            shares.append(levels[g][k] / max(levels[g][0], 1))
    return np.array(shares, dtype=np.float64)


def _moved(compiled: CompiledPolicy, indices: Mapping[str, float]) -> tuple[str, ...]:
    """Indices that have left the band in which the policy's strikes hold."""
    anchor, bounds = compiled.policy.anchor.indices, compiled.policy.resolve.relative
    moved = []
    for name, bound in bounds.items():
        was, now = anchor.get(name), indices.get(name)
        if was is not None and now is not None and abs(now - was) > bound * abs(was):
            moved.append(name)
    return tuple(moved)
