"""Whether a policy may be taken: its basis, its inputs' age, its limits, the size of its jump (DESIGN §6)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from hcp_pipelines.policy.schema import Block, Policy

_SLACK_MW = 1e-6


@dataclass(frozen=True)
class AdmissionContext:
    """What the one who admits knows."""

    now: datetime
    facility_id: str
    inventory_generation: int
    obligations_version: int
    basis_tick_id_in_force: int
    site_cap_mw: float
    feeder_caps_mw: Mapping[str, float] = field(default_factory=dict)
    armed_floor_mw: float = 0.0
    max_input_age_s: Mapping[str, float] = field(default_factory=dict)  # by stream that it rests on
    max_policy_jump_mw: float = float("inf")
    jump_mw: float = 0.0  # change of load that the policy would make at the present tick
    digest: str | None = None  # as published
    fresh_at: datetime | None = None  # instant at which its inputs have to be fresh; None: now


@dataclass(frozen=True)
class Admitted:
    """It may be taken."""


@dataclass(frozen=True)
class Refused:
    """It is not taken; the old one stays."""

    code: str
    reason: str


@dataclass(frozen=True)
class NeedsApproval:
    """It jumps further than may be done without a person."""

    jump_mw: float
    limit_mw: float


Admission = Admitted | Refused | NeedsApproval


def admit(policy: Policy, context: AdmissionContext) -> Admission:
    """Admitted, refused with the first reason found, or waiting for an operator."""
    for check in (_identity, _freshness, _limits, _order):
        refused = check(policy, context)
        if refused is not None:
            return refused
    if context.jump_mw > context.max_policy_jump_mw:
        return NeedsApproval(context.jump_mw, context.max_policy_jump_mw)
    return Admitted()


def _identity(policy: Policy, context: AdmissionContext) -> Refused | None:
    if policy.facility_id != context.facility_id:
        return Refused("facility", f"is of {policy.facility_id}, not of {context.facility_id}")
    if policy.inventory_generation != context.inventory_generation:
        return Refused(
            "generation",
            f"knows inventory generation {policy.inventory_generation}, in force is {context.inventory_generation}",
        )
    if policy.obligations_version != context.obligations_version:
        return Refused(
            "obligations",
            f"knows obligations version {policy.obligations_version}, in force is {context.obligations_version}",
        )
    if context.digest is not None and policy.digest() != context.digest:
        return Refused("digest", "its content is not what was published")
    return None


def _freshness(policy: Policy, context: AdmissionContext) -> Refused | None:
    if policy.basis_tick_id <= context.basis_tick_id_in_force:
        return Refused("basis", f"basis tick {policy.basis_tick_id} is not newer than {context.basis_tick_id_in_force}")
    if policy.is_expired(context.now):
        return Refused("expired", f"expired at {policy.expires_at.isoformat()}, it is {context.now.isoformat()}")
    waited_s = max(((context.fresh_at or context.now) - policy.solved_at).total_seconds(), 0.0)
    for stream, limit_s in context.max_input_age_s.items():
        age_s = policy.input_age_s.get(stream)
        if age_s is None:
            return Refused("stale", f"does not say how old {stream} was when it was solved")
        if age_s + waited_s > limit_s:
            since = f"{age_s:.0f} s old when it was solved, {waited_s:.0f} s before"
            return Refused("stale", f"what it knows of {stream} was {since}; the limit is {limit_s:.0f} s together")
    return None


def _limits(policy: Policy, context: AdmissionContext) -> Refused | None:
    couplings = policy.couplings
    if couplings.cap_mw > context.site_cap_mw + _SLACK_MW:
        return Refused("cap", f"allows {couplings.cap_mw:.2f} MW, the site {context.site_cap_mw:.2f} MW")
    if couplings.floor_mw < context.armed_floor_mw - _SLACK_MW:
        return Refused(
            "floor", f"keeps {couplings.floor_mw:.2f} MW on, armed obligations want {context.armed_floor_mw:.2f} MW"
        )
    used = {group.feeder_id for group in policy.groups}
    for feeder_id, limit_mw in context.feeder_caps_mw.items():
        allowed = couplings.feeder_caps_mw.get(feeder_id, math.inf)
        if feeder_id in used and allowed > limit_mw + _SLACK_MW:
            return Refused("feeder", f"allows {allowed:.2f} MW on feeder {feeder_id}, its limit is {limit_mw:.2f} MW")
    return None


def _order(policy: Policy, _: AdmissionContext) -> Refused | None:
    """Strikes must not rise along a ladder's step in merit order: load would rise with the price within a group."""
    last: dict[tuple[str, int], Block] = {}
    for block in sorted(policy.blocks, key=lambda b: b.order):
        before = last.get((block.group_id, int(block.to_state)))
        index = policy.anchor.indices.get(block.index, 0.0)
        if before is not None and before.on.at(index) < block.on.at(index) - 1e-9:
            return Refused("order", f"blocks of {block.group_id} → {block.to_state.label} are not in merit order")
        last[(block.group_id, int(block.to_state))] = block
    return None
