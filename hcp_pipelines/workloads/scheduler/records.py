"""From a claim and its route to what is kept of them: need, held work, placement, decision. Plain conversions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from hcp_pipelines.domain.workloads import WorkloadState
from hcp_pipelines.markets.cloud import CloudOffer
from hcp_pipelines.workloads.binding import Placement
from hcp_pipelines.workloads.claiming import Claimed
from hcp_pipelines.workloads.decisions import Decision
from hcp_pipelines.workloads.routing.needs import Need, place_of
from hcp_pipelines.workloads.routing.overflow import overflow
from hcp_pipelines.workloads.routing.router import Routed, Router, Unplaced
from hcp_pipelines.workloads.runs import runs_of
from hcp_pipelines.workloads.scheduler.held import Held


def need_of(claimed: Claimed) -> Need:
    """What claimed work needs of a place."""
    spec, requirements = claimed.spec, claimed.requirements
    place = place_of(claimed.type, claimed.gpu_type, claimed.gpu_count, claimed.memory_gb, spec, requirements)
    return Need(
        claimed.workload_id, claimed.epoch, place, claimed.priority, claimed.is_interruptible, claimed.deadline_at,
        float(requirements.get("estimated_duration_s") or 0.0), spec.get("checkpoint_interval_s"),
    )  # fmt: skip


def held_of(
    router: Router,
    one: Routed,
    credit_fraction: float,
    saved_s: float,
    checkpoint: str,
    spec: Mapping[str, Any],
    now: datetime,
) -> Held:
    """Work as it is held once it is bound; its weight and desired row are still to come."""
    group, need = router.room.groups[one.group], one.need
    return Held(
        need.workload_id, need.epoch, WorkloadState.SCHEDULED, need.place.type, need.priority, need.place.gpu_count,
        need.is_interruptible, need.deadline_at, one.usd_per_gpu_hour or 0.0, need.duration_s, need.checkpoint_interval_s,
        credit_fraction, now, saved_s, group.facility_id, group.group_id, None, one.slots, int(need.place.state), 0,
        began_s=saved_s, runs=runs_of(spec, checkpoint),
    )  # fmt: skip


def placement_of(router: Router, one: Routed, held: Held) -> Placement:
    """What is to be bound."""
    group = router.room.groups[one.group]
    return Placement(
        held.workload_id, held.epoch, group.facility_id, group.group_id, group.first_slot, group.generation, one.slots,
        held.state, held.desired_priority, one.usd_per_gpu_hour, one.reason, held.runs,
    )  # fmt: skip


def decided_place(router: Router, one: Routed, now: datetime) -> Decision:
    """The decision for a place."""
    group, need = router.room.groups[one.group], one.need
    return Decision(
        need.workload_id, need.epoch, "placed", group.facility_id, group.group_id, need.place.gpu_count,
        one.cost_usd_per_hour, one.latency_ms, min(max(one.score, 0.0), 100.0), one.confidence, one.reason,
        one.explanation, now,
    )  # fmt: skip


def decided_against(
    router: Router, one: Unplaced, offers: Sequence[CloudOffer], cloud_start_s: float, now: datetime
) -> Decision:
    """The decision that there is no place now; `overflow` where a cloud would do, which is not carried out."""
    need = one.need
    names = frozenset(g.gpu_type for g in router.room.groups if g.gpu_type and need.place.gpu_type in g.names)
    cloud = overflow(need, names, offers, cloud_start_s, now)
    decision = Decision(
        need.workload_id, need.epoch, "none", None, None, need.place.gpu_count, None, None, None, None, one.reason,
        one.explanation, now,
    )  # fmt: skip
    if cloud is None:
        return decision
    return replace(
        decision, outcome="overflow", reason=f"{one.reason}; {cloud.reason}",
        cost_usd_per_hour=cloud.offer.usd_per_gpu_hour * need.place.gpu_count, cloud_provider=cloud.offer.provider,
        cloud_region=cloud.offer.region, cloud_usd=cloud.usd, cloud_done_at=cloud.done_at,
    )  # fmt: skip
