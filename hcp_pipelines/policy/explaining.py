"""Why a policy asks for what it asks for: blocks in merit order, what binds and what that costs, and which price would change it.

Everything is told by the evaluation that decides: the answer at other prices and without limits is evaluated, not argued. Pure.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np

from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.policy.arrays import CompiledPolicy, Floats, Ints
from hcp_pipelines.policy.evaluate import Evaluation, evaluate, margins_of
from hcp_pipelines.policy.explaining_work import Served, served
from hcp_pipelines.policy.guard import GuardState
from hcp_pipelines.policy.merit import on_by_block

STEP_USD_PER_MWH = 0.01  # beyond a strike, to see what changes there
CHANGES_LOOKED_AT = 60  # strikes on each side of the price


@dataclass(frozen=True, slots=True)
class BlockWord:
    """A block at the present price. Strikes, worth and margin in $/MWh of all-in power; MW of the whole block."""

    group_id: str
    feeder_id: str
    from_state: str
    to_state: str
    mw: float
    devices: int
    on_now: int
    on_then: int
    on_usd_per_mwh: float
    off_usd_per_mwh: float
    worth_usd_per_mwh: float
    margin_usd_per_mwh: float
    word: str
    forgone_usd_per_mw: float
    lost_usd_per_mw: float
    wake_usd_per_mw: float
    is_distrusted: bool
    workload_type: str = ""
    work: str = ""  # of the queue, in words


@dataclass(frozen=True, slots=True)
class Change:
    """The nearest price at which the answer is another one, and what goes then."""

    price_usd_per_mwh: float
    mw: float
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """What is asked for and why; `price_usd_per_mwh` is the decision price, `adder_usd_per_mwh` what is added to it now."""

    facility_id: str
    settlement_point: str
    price_usd_per_mwh: float
    adder_usd_per_mwh: float
    indices: Mapping[str, float]
    anchor_indices: Mapping[str, float]
    blocks: tuple[BlockWord, ...]
    mw_now: float
    mw_then: float
    usd_per_hour_now: float
    usd_per_hour_then: float
    binding: tuple[str, ...]
    shadow_usd_per_mwh: float  # what another megawatt of the limit that binds would earn; 0 where none does
    rises_at: Change | None  # when the price falls
    falls_at: Change | None  # when the price rises
    needs_resolve: tuple[str, ...]
    solved_at: datetime
    expires_at: datetime
    input_age_s: Mapping[str, float]
    strikes_from: str
    room_by: str = ""  # whose word the room for work to come is
    work: Served | None = None  # of the queue, where it says what groups are worth

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def explain(
    compiled: CompiledPolicy, present: Ints, price: float, indices: Mapping[str, float], at: datetime, guard: GuardState
) -> Explanation:
    """The explanation at a decision price, for devices by group and state as they are.

    Raises:
        ValueError: a price or index that is not finite.
    """

    def asked(at_price: float, policy: CompiledPolicy = compiled) -> Evaluation:
        return evaluate(policy, present, at_price, indices, at, guard)

    found = asked(price)
    free = asked(price, _without_limits(compiled))
    adder = compiled.adders_at(at.timestamp())
    words = _words(compiled, present, price + adder, indices, guard, found, free)
    value = compiled.revenue_usd_per_hour(indices) - price * compiled.power_mw
    policy = compiled.policy
    rises, falls = (_nearest(words, found.targets, (price, adder), sign, asked, compiled) for sign in (-1, 1))
    return Explanation(
        facility_id=policy.facility_id,
        settlement_point=policy.settlement_point,
        price_usd_per_mwh=price,
        adder_usd_per_mwh=adder,
        indices={name: indices.get(name, policy.anchor.indices[name]) for name in policy.anchor.indices},
        anchor_indices=dict(policy.anchor.indices),
        blocks=words,
        mw_now=_mw(compiled, present),
        mw_then=_mw(compiled, found.targets),
        usd_per_hour_now=float((present * value).sum()),
        usd_per_hour_then=float((found.targets * value).sum()),
        binding=found.binding,
        shadow_usd_per_mwh=_shadow(words, found, free, compiled),
        rises_at=rises,
        falls_at=falls,
        needs_resolve=found.needs_resolve,
        solved_at=policy.solved_at,
        expires_at=policy.expires_at,
        input_age_s=dict(policy.input_age_s),
        strikes_from=policy.strikes_from.words if policy.strikes_from else "",
        room_by=policy.expected.words if policy.expected else "",
        work=served(policy, words, price, adder),
    )


def _without_limits(compiled: CompiledPolicy) -> CompiledPolicy:
    """The same policy on a site without limits and without obligations."""
    plain = dataclasses.replace(compiled.plain, feeder_caps_mw=tuple(math.inf for _ in compiled.feeder_ids))
    return dataclasses.replace(compiled, plain=plain, cap_mw=math.inf, floor_mw=0.0)


def _words(
    compiled: CompiledPolicy,
    present: Ints,
    price: float,
    indices: Mapping[str, float],
    guard: GuardState,
    found: Evaluation,
    free: Evaluation,
) -> tuple[BlockWord, ...]:
    values = compiled.index_values(indices)
    on = compiled.on_slope * values[compiled.block_index] + compiled.on_offset
    off = np.maximum(compiled.off_slope * values[compiled.block_index] + compiled.off_offset, on)
    margins = margins_of(compiled, values, price)
    now, then, wanted = (on_by_block(compiled, counts) for counts in (present, found.targets, free.targets))
    accounts = guard.carried_to(compiled)
    feeder_of = [compiled.feeder_ids[f] for f in compiled.plain.feeder_of_group]
    words, blocks = [], sorted(compiled.policy.blocks, key=lambda block: block.order)
    for b, g in enumerate(compiled.block_group.tolist()):
        devices = min(compiled.plain.block_devices[b], int(present[g].sum()))
        work = blocks[b].work
        words.append(
            BlockWord(
                group_id=compiled.group_ids[g],
                feeder_id=feeder_of[g],
                from_state=DeviceState(int(compiled.block_from_state[b])).label,
                to_state=DeviceState(int(compiled.block_to_state[b])).label,
                mw=float(compiled.block_mw_per_device[b] * devices),
                devices=devices,
                on_now=now[b],
                on_then=then[b],
                on_usd_per_mwh=float(on[b]),
                off_usd_per_mwh=float(off[b]),
                worth_usd_per_mwh=float(margins[b] + price),
                margin_usd_per_mwh=float(margins[b]),
                word=_word(price, (float(on[b]), float(off[b])), (now[b], then[b], wanted[b]), found.binding),
                forgone_usd_per_mw=float(accounts["forgone_usd_per_mw"][b]),
                lost_usd_per_mw=float(accounts["lost_usd_per_mw"][b]),
                wake_usd_per_mw=float(compiled.wake_cost_usd_per_mw[b]),
                is_distrusted=bool(accounts["is_distrusted"][b]),
                workload_type=work.workload_type if work else "",
                work=work.words if work else "",
            )
        )
    return tuple(words)


def _word(price: float, strikes: tuple[float, float], counts: tuple[int, int, int], binding: Sequence[str]) -> str:
    on, off = strikes
    now, then, wanted = counts
    limits = " and ".join(binding)
    if then < wanted:
        return f"{wanted - then} wanted and not on: {limits}"
    if then > wanted:
        return f"{then - wanted} on for the floor alone"
    if price < on:
        return "on: the price is below its on-strike" if then else "wanted below what it stands on"
    if price > off:
        return "off: the price is above its off-strike" if not then else "on: the guard, or the step above it"
    if now == then:
        return "stays as it is: inside its band"
    return "the guard overrules its band"


def _shadow(words: Sequence[BlockWord], found: Evaluation, free: Evaluation, compiled: CompiledPolicy) -> float:
    """The margin of the best that is wanted and not on, or what the worst costs that is on for the floor alone."""
    then, wanted = (on_by_block(compiled, e.targets) for e in (found, free))
    kept_out = [w.margin_usd_per_mwh for w, a, b in zip(words, then, wanted, strict=True) if a < b]
    kept_on = [-w.margin_usd_per_mwh for w, a, b in zip(words, then, wanted, strict=True) if a > b]
    return max([0.0, *kept_out, *kept_on]) if found.binding else 0.0


def _nearest(
    words: Sequence[BlockWord],
    now: Ints,
    price_and_adder: tuple[float, float],
    sign: int,
    asked: Callable[[float], Evaluation],
    compiled: CompiledPolicy,
) -> Change | None:
    """The first strike on a side of the price behind which the answer differs from `now`, the one at the price."""
    price, adder = price_and_adder
    strikes = sorted(
        {s - adder for w in words for s in (w.on_usd_per_mwh, w.off_usd_per_mwh) if sign * (s - adder - price) >= 0}
    )
    for strike in (strikes if sign > 0 else strikes[::-1])[:CHANGES_LOOKED_AT]:
        then = asked(strike + sign * STEP_USD_PER_MWH).targets
        if not np.array_equal(then, now):
            moved = tuple(compiled.group_ids[g] for g in np.flatnonzero((then != now).any(axis=1)))
            return Change(float(strike), _mw(compiled, then) - _mw(compiled, now), moved)
    return None


def at_anchor(compiled: CompiledPolicy) -> Explanation:
    """The explanation of a policy as it was solved: its own price, indices and devices, nothing on the guard's accounts."""
    anchor = compiled.policy.anchor
    present = np.zeros(compiled.power_mw.shape, dtype=np.int64)
    for g, group_id in enumerate(compiled.group_ids):
        for label, devices in anchor.devices_by_state.get(group_id, {}).items():
            present[g, DeviceState[label.upper()]] = devices
    price = anchor.decision_price_usd_per_mwh
    return explain(compiled, present, price, anchor.indices, compiled.policy.solved_at, GuardState.empty(compiled))


def _mw(compiled: CompiledPolicy, counts: Ints | Floats) -> float:
    return float((counts * compiled.power_mw).sum())
