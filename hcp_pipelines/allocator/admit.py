"""Whether the owner of a facility takes a policy: what it knows, put to `policy.admission`; the answer as a reason."""

import math
from datetime import datetime

import numpy as np

from hcp_pipelines.allocator.decide import InForce, Limits
from hcp_pipelines.allocator.market import MarketBook
from hcp_pipelines.allocator.owner import Owner
from hcp_pipelines.domain.ticks import Stream
from hcp_pipelines.policy.admission import Admission, AdmissionContext, Admitted, NeedsApproval, admit
from hcp_pipelines.settings import Settings


def reason_of(admission: Admission | str) -> str:
    """The word as a reason; empty for a yes."""
    match admission:
        case str():
            return admission
        case Admitted():
            return ""
        case NeedsApproval(jump, limit):
            return f"jump: it moves {jump:.1f} MW at once, the limit is {limit:.1f} MW: an operator has to approve it"
        case refused:
            return f"{refused.code}: {refused.reason}"


def judge(
    owner: Owner, candidate: InForce, digest: str, book: MarketBook, now: datetime, settings: Settings
) -> Admission | str:
    """The admission's word on a policy; a text where it does not even fit the inventory. What an operator approved may jump."""
    site = owner.site
    if candidate.compiled.group_ids != site.shape.group_ids:
        return f"groups: it knows {candidate.compiled.group_ids}, the inventory {site.shape.group_ids}"
    is_predecessors = owner.in_force is None and candidate.policy.basis_tick_id == owner.following.newest_basis
    is_approved = str(candidate.policy_id) in owner.approved.policies
    context = AdmissionContext(
        now=now,
        facility_id=site.facility_id,
        inventory_generation=site.generation,
        obligations_version=site.obligations_version,
        basis_tick_id_in_force=owner.following.newest_basis - is_predecessors,  # that one is taken again
        site_cap_mw=site.capacity_mw,
        feeder_caps_mw=site.feeder_caps_mw,
        max_input_age_s=_max_ages_s(candidate, owner.following.limits),
        armed_floor_mw=owner.obligations.floor_mw(),
        max_policy_jump_mw=math.inf if is_approved else settings.max_policy_jump_mw,
        jump_mw=jump_mw(owner, candidate, book, now),
        digest=digest,
        fresh_at=candidate.policy.solved_at if is_predecessors or is_approved else None,  # it was judged when it came
    )
    return admit(candidate.policy, context)


def _max_ages_s(candidate: InForce, limits: Limits) -> dict[str, float]:
    """By stream that the policy rests on, simulated seconds."""
    ages = {Stream.POWER_RT_LMP.value: limits.power_staleness_s}
    if candidate.rests_on_bitcoin:
        ages[Stream.BTC_USD.value] = limits.bitcoin_staleness_s
    return ages


def jump_mw(owner: Owner, candidate: InForce, book: MarketBook, now: datetime) -> float:
    """MW that the policy would move at the present tick, against what the devices do now."""
    found = owner.preview(candidate, book, now)
    if found is None:
        return 0.0
    change = (found.targets - owner.present()) * owner.site.shape.power_mw
    return float(np.abs(change.sum(axis=1)).sum())
