"""Why work is where it is, or nowhere yet (WL-24, WL-31): the scheduler's decisions on one workload, as who asks may be told.

A customer reads its own, and of other customers, staff and policies nothing: their words are classed (`workloads.decisions`).
"""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from hcp_pipelines.api.paging import After, key_of, page
from hcp_pipelines.api.principals import Everybody
from hcp_pipelines.api.routes.allocations import Allocation
from hcp_pipelines.api.routes.workload_shapes import ID
from hcp_pipelines.api.routes.workloads import WorkloadId
from hcp_pipelines.api.state import api_of
from hcp_pipelines.domain.workloads import WorkloadState
from hcp_pipelines.workloads import store
from hcp_pipelines.workloads.decisions import Decision, decisions_of, devices_of

router = APIRouter(prefix="/api/v1/workloads", tags=["workloads"])
MOST = 50
Limit = Annotated[int, Query(ge=1, le=MOST, description="How many, the newest of them.", examples=[3])]


class Verdict(BaseModel):
    """What was found of one group: a score, or why it would not do."""

    group: str = Field(examples=["hou-1/h100"])
    score: float | None = Field(examples=[71.3], description="Null: it would not do.")
    why_not: str = Field(examples=[""], description="Empty: it would do.")


class Cloud(BaseModel):
    """A public cloud that would do in place of a group that has room. It is told, and never carried out."""

    provider: str = Field(examples=["market"])
    region: str = Field(examples=[""], description="Empty where the price is no region's.")
    usd: float = Field(ge=0, examples=[148.2], description="The rent of all GPUs for the estimated duration.")
    done_at: datetime | None = Field(examples=["2026-01-05T16:10:00Z"], description="World time.")


class WorkloadDecision(BaseModel):
    """One decision. `cost_usd_per_hour` is the energy of all devices; of an overflow the rent."""

    decided_at: datetime = Field(examples=["2026-01-05T12:01:00Z"], description="World time.")
    outcome: Literal["placed", "none", "overflow"] = Field(
        examples=["placed"], description="overflow: no place; a cloud would do."
    )
    facility_id: str | None = Field(examples=["hou-1"])
    group_id: str | None = Field(examples=["h100"])
    devices: int = Field(ge=1, examples=[2], description="That are needed, all at once.")
    target_resources: list[str] = Field(examples=[["hou-1/000220", "hou-1/000221"]], description="Those it came to.")
    cost_usd_per_hour: float | None = Field(examples=[0.08])
    latency_ms: float | None = Field(examples=[5.0])
    score: float | None = Field(examples=[71.3], description="0 to 100.")
    confidence: float | None = Field(examples=[0.7], description="0 to 1: the share of the score that rests on facts.")
    reason: str = Field(examples=["Latency: 5ms, Cost: $0.08/hr, Utilization: 12.5%"])
    groups: list[Verdict] = Field(description="Every group that was looked at, the best first.")
    cloud: Cloud | None = Field(examples=[None])

    @classmethod
    def of(cls, decision: Decision, devices: list[str]) -> Self:
        """Of a decision and the devices that it came to."""
        cloud = None
        if decision.cloud_usd is not None:
            cloud = Cloud(
                provider=decision.cloud_provider or "",
                region=decision.cloud_region or "",
                usd=decision.cloud_usd,
                done_at=decision.cloud_done_at,
            )
        own = {name: getattr(decision, name) for name in _PLAIN}
        verdicts = [Verdict(**one) for one in decision.by_group()]
        return cls(**own, target_resources=devices, groups=verdicts, cloud=cloud)


_PLAIN = (
    "decided_at", "outcome", "facility_id", "group_id", "devices", "cost_usd_per_hour", "latency_ms", "score", "confidence",
    "reason",
)  # fmt: skip


class WorkloadDecisions(BaseModel):
    """A workload's state and what was decided of it, newest first; nothing yet: it has not been its turn."""

    workload_id: UUID = Field(examples=[ID])
    status: WorkloadState = Field(examples=["scheduled"])
    is_waiting: bool = Field(examples=[False], description="Whether it stands in the queue.")
    reason: str = Field(examples=[""], description="Of the last transition.")
    items: list[WorkloadDecision]
    next: str | None = Field(examples=["WzEyOF0"])


class WorkloadAllocations(BaseModel):
    """The devices that work has and has had, newest first."""

    items: list[Allocation]


@router.get("/{workload_id}/allocations")
async def allocations(
    workload_id: WorkloadId, principal: Everybody, request: Request, limit: Limit = 3
) -> WorkloadAllocations:
    """Which devices it was given, from when to when, what they were used and what that cost; in the end all add up."""
    async with api_of(request).connection() as connection:
        await store.read(connection, workload_id, principal.customer_id)
        found = await store.allocations_of(connection, workload_id, limit)
    return WorkloadAllocations(items=[Allocation.of(one) for one in found])


@router.get("/{workload_id}/decisions")
async def decisions(
    workload_id: WorkloadId, principal: Everybody, request: Request, limit: Limit = 3, after: After = None
) -> WorkloadDecisions:
    """Why it was sent where it is and why not elsewhere, or why it has no place yet; a cloud that would do is told, not used."""
    before = key_of(after, (int,))[0] if after else None
    async with api_of(request).connection() as connection:
        found = await store.read(connection, workload_id, principal.customer_id)
        rows, more = page(await decisions_of(connection, workload_id, limit + 1, before), limit, lambda one: [one.id])
        told = rows if principal.customer_id is None else [one.for_customer() for one in rows]
        items = [WorkloadDecision.of(one, await devices_of(connection, one)) for one in told]
    return WorkloadDecisions(
        workload_id=workload_id, status=found.status, is_waiting=found.is_waiting, reason=found.reason, items=items, next=more
    )  # fmt: skip
