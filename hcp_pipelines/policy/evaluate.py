"""Evaluate a policy: state and indices → targets. Pure; the same code for allocator, gateway, preview and back-test.

target = clip(present, U(price), D(price)) per ladder step, then the guard, then caps and floor in merit order.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from hcp_pipelines.domain.modes import STATE_COUNT, ReasonCode
from hcp_pipelines.policy.arrays import CompiledPolicy, Floats, Ints
from hcp_pipelines.policy.guard import GuardState, step

_EPSILON_MW = 1e-9


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
    the guard books.

    Raises:
        ValueError: a price or index that is not finite.
    """
    if not math.isfinite(decision_price) or not all(math.isfinite(v) for v in indices.values()):
        raise ValueError(f"decision price {decision_price!r}, indices {dict(indices)!r}: not finite")
    price = decision_price + compiled.adders_at(at.timestamp())
    live = dict(indices)
    counts = _Counts(compiled, present)
    values = compiled.index_values(live)[compiled.block_index]
    must = price < compiled.on_slope * values + compiled.on_offset
    may = price <= compiled.off_slope * values + compiled.off_offset
    state = guard if guard.fits(compiled) else GuardState.empty(compiled)
    verdict = step(compiled, state, _margins(compiled, live, price), counts.share_on(), elapsed_h)
    guarded = _guarded_groups(compiled, must, may, verdict.wake, verdict.sleep)
    counts.clip((must | verdict.wake) & ~verdict.sleep, (may | verdict.wake) & ~verdict.sleep)
    binding = counts.project()
    reasons = tuple(ReasonCode.GUARD if g in guarded else ReasonCode.ECONOMICS for g in range(len(compiled.group_ids)))
    return Evaluation(counts.by_state(), verdict.state, reasons, tuple(binding), _moved(compiled, live))


def _margins(compiled: CompiledPolicy, indices: dict[str, float], price: float) -> Floats:
    """$/MWh that each block earns above the price, from the ladder's revenues."""
    revenue = compiled.revenue_usd_per_hour(indices)
    to_state = np.array(
        [compiled.ladders[g][k] for g, k in zip(compiled.block_group, compiled.block_step, strict=True)], dtype=np.int64
    )
    from_state = np.array(
        [compiled.ladders[g][k - 1] for g, k in zip(compiled.block_group, compiled.block_step, strict=True)],
        dtype=np.int64,
    )
    gain = revenue[compiled.block_group, to_state] - revenue[compiled.block_group, from_state]
    margins: Floats = gain / np.maximum(compiled.block_mw_per_device, 1e-12) - price
    return margins


def _guarded_groups(
    compiled: CompiledPolicy,
    must: "np.ndarray[tuple[int], np.dtype[np.bool_]]",
    may: "np.ndarray[tuple[int], np.dtype[np.bool_]]",
    wake: "np.ndarray[tuple[int], np.dtype[np.bool_]]",
    sleep: "np.ndarray[tuple[int], np.dtype[np.bool_]]",
) -> set[int]:
    return {int(g) for g in compiled.block_group[(wake & ~must) | (sleep & may)]}


def _moved(compiled: CompiledPolicy, indices: dict[str, float]) -> tuple[str, ...]:
    """Indices that have left the band in which the policy's strikes hold."""
    anchor, bounds = compiled.policy.anchor.indices, compiled.policy.resolve.relative
    moved = []
    for name, bound in bounds.items():
        was, now = anchor.get(name), indices.get(name)
        if was and now is not None and abs(now / was - 1) > bound:
            moved.append(name)
    return tuple(moved)


class _Counts:
    """`at_least[g][k]`: devices at ladder position k or above; what clipping and projecting work on."""

    def __init__(self, compiled: CompiledPolicy, present: Ints) -> None:
        self._compiled = compiled
        self.at_least: list[list[int]] = []
        self.total: list[int] = []
        for g, ladder in enumerate(compiled.ladders):
            on_ladder = [int(present[g, s]) for s in ladder]
            self.total.append(sum(on_ladder))
            self.at_least.append([sum(on_ladder[k:]) for k in range(len(ladder))])
        self._present = present

    def share_on(self) -> Floats:
        """Per block, the share of its step's devices that are on now."""
        c = self._compiled
        return np.array(
            [self.at_least[g][k] / max(self.total[g], 1) for g, k in zip(c.block_group, c.block_step, strict=True)],
            dtype=np.float64,
        )

    def clip(
        self, must: "np.ndarray[tuple[int], np.dtype[np.bool_]]", may: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
    ) -> None:
        """Clip each step between what must be on and what may be on, scaled to the devices that can be commanded."""
        c = self._compiled
        for g, ladder in enumerate(c.ladders):
            scale = self.total[g] / max(int(c.group_devices[g]), 1)
            for k in range(1, len(ladder)):
                own = (c.block_group == g) & (c.block_step == k)
                if not own.any():
                    continue
                up = round(float(c.block_devices[own & must].sum()) * scale)
                down = round(float(c.block_devices[own & may].sum()) * scale)
                now = self.at_least[g][k]
                self.at_least[g][k] = min(max(now, min(up, down)), down, self.at_least[g][k - 1])

    def project(self) -> list[str]:
        """Shed the dearest for caps, then switch on the cheapest for the floor; the names of what bound."""
        c, binding = self._compiled, []
        for f, feeder in enumerate(c.feeder_ids):
            mine = np.flatnonzero(c.feeder_of_group == f)
            if self._shed({int(g) for g in mine}, float(c.feeder_caps_mw[f])):
                binding.append(f"feeder {feeder}")
        everything = set(range(len(c.group_ids)))
        if self._shed(everything, c.cap_mw):
            binding.append("cap")
        if c.floor_mw > 0 and self._raise({int(g) for g in np.flatnonzero(c.is_sheddable)}):
            binding.append("floor")
        return binding

    def mw(self, groups: set[int]) -> float:
        """All-in MW of the targets of some groups."""
        counts = self.by_state()
        return float(sum((counts[g] * self._compiled.power_mw[g]).sum() for g in groups))

    def by_state(self) -> Ints:
        """[g, s] devices."""
        out = self._present.copy()
        for g, ladder in enumerate(self._compiled.ladders):
            levels = [*self.at_least[g], 0]
            levels[0] = self.total[g]
            for k, state in enumerate(ladder):
                out[g, state] = levels[k] - levels[k + 1]
        return out

    def _shed(self, groups: set[int], limit_mw: float) -> bool:
        over = self.mw(groups) - limit_mw if math.isfinite(limit_mw) else 0.0
        if over <= _EPSILON_MW:
            return False
        for b in self._blocks(groups, reverse=True):
            g, k, each = b
            above = self.at_least[g][k + 1] if k + 1 < len(self.at_least[g]) else 0
            going = min(self.at_least[g][k] - above, math.ceil(over / each - 1e-9)) if each > 0 else 0
            self.at_least[g][k] -= going
            over -= going * each
            if over <= _EPSILON_MW:
                break
        return True

    def _raise(self, groups: set[int]) -> bool:
        short = self._compiled.floor_mw - self.mw(groups)
        room = self._compiled.cap_mw - self.mw(set(range(len(self.total))))
        if short <= _EPSILON_MW:
            return False
        for g, k, each in self._blocks(groups, reverse=False):
            if each <= 0 or short <= _EPSILON_MW:
                continue
            most = min(self.at_least[g][k - 1] - self.at_least[g][k], math.floor(room / each + 1e-9))
            coming = max(min(most, math.ceil(short / each - 1e-9)), 0)
            self.at_least[g][k] += coming
            short, room = short - coming * each, room - coming * each
        return True

    def _blocks(self, groups: set[int], *, reverse: bool) -> list[tuple[int, int, float]]:
        """(group, step, MW a device) in merit order; a step's own order is that of its blocks."""
        c = self._compiled
        order = range(len(c.block_group))
        chosen = [n for n in (reversed(order) if reverse else order) if int(c.block_group[n]) in groups]
        return [(int(c.block_group[n]), int(c.block_step[n]), float(c.block_mw_per_device[n])) for n in chosen]


def counts_of(states: "np.ndarray[tuple[int], np.dtype[np.uint8]]", group_of_slot: Ints, groups: int) -> Ints:
    """[g, s] devices per group and state of a slot array; states beyond the vocabulary are left out."""
    known = states < STATE_COUNT
    flat = np.bincount(group_of_slot[known] * STATE_COUNT + states[known], minlength=groups * STATE_COUNT)
    counts: Ints = flat.reshape(groups, STATE_COUNT).astype(np.int64)
    return counts
