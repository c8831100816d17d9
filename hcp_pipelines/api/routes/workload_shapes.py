"""What the endpoints of workloads answer."""

from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field

from hcp_pipelines.api.paging import MOST
from hcp_pipelines.domain.workloads import WorkloadState, WorkloadType
from hcp_pipelines.workloads.store import Workload

ID = "9d3c1b0a-7f5e-4d2c-8b1a-0f9e8d7c6b5a"


class Asked(BaseModel):
    """Which workloads, and which page of them."""

    customer_id: UUID | None = Field(default=None, description="Of staff: whose.")
    status: WorkloadState | None = Field(default=None, examples=["queued"])
    type: WorkloadType | None = Field(default=None, examples=["model_training"])
    priority: int | None = Field(default=None, ge=1, le=10, examples=[6])
    submitted_from: AwareDatetime | None = Field(default=None, description="World time.")
    submitted_until: AwareDatetime | None = Field(default=None, description="World time, exclusive.")
    limit: int = Field(default=50, ge=1, le=MOST)
    after: str | None = Field(default=None, max_length=500, description="`next` of the page before.")


class Submission(BaseModel):
    """WL-33. `queue_position` counts what waits at its priority or above it, itself included; 0 of a repeat."""

    workload_id: UUID = Field(examples=[ID])
    status: WorkloadState = Field(examples=["queued"])
    priority: int = Field(ge=1, le=10, examples=[6])
    queue_position: int = Field(ge=0, examples=[3])
    workload_type: WorkloadType = Field(examples=["ai_inference_batch"], description="Stated, or inferred.")
    confidence: float = Field(ge=0, le=1, examples=[0.75])
    reasons: list[str] = Field(examples=[["no latency is asked for: a batch"]])
    is_flagged: bool = Field(examples=[False], description="The class is doubtful, and somebody should look.")


class WorkloadShown(BaseModel):
    """A workload as it stands. Instants are world time."""

    workload_id: UUID = Field(examples=[ID])
    number: int = Field(examples=[128], description="Counts submissions.")
    customer_id: UUID = Field(examples=["7b0e1c1e-6a0e-4c5e-9d55-0d4f5f6a7b8c"])
    type: WorkloadType = Field(examples=["ai_inference_batch"])
    tier: str = Field(examples=["pro"])
    priority: int = Field(examples=[6])
    level: int = Field(examples=[5], description="The priority, less what waiting has lifted it.")
    status: WorkloadState = Field(examples=["queued"])
    reason: str = Field(examples=[""], description="Of the last transition.")
    requirements: dict[str, Any] = Field(examples=[{"gpu_type": "H100", "gpu_count": 8}])
    spec: dict[str, Any] = Field(examples=[{"model_name": "llama-3-70b", "gpu_count": 8}], description="As asked for.")
    classification: dict[str, Any] = Field(examples=[{"confidence": 0.75}])
    submitted_at: datetime = Field(examples=["2026-01-05T12:00:00Z"])
    scheduled_at: datetime | None = Field(examples=[None])
    started_at: datetime | None = Field(examples=[None])
    completed_at: datetime | None = Field(examples=[None])
    deadline_at: datetime | None = Field(examples=["2026-01-06T12:00:00Z"])
    actual_duration_s: float = Field(examples=[0.0], description="Of all its runs.")
    used_gpu_s: float = Field(examples=[0.0])
    cost: float | None = Field(
        examples=[None],
        description="An estimate in USD, no bill: GPU-hours of all runs, lost time too, at their places' rates, 0 where none "
        "was agreed. Null until it has run.",
    )
    facility_id: str | None = Field(examples=[None])
    retries_left: int = Field(examples=[3])
    result: dict[str, Any] | None = Field(examples=[None])


class Workloads(BaseModel):
    """Newest first."""

    items: list[WorkloadShown]
    next: str | None = Field(examples=["WzEyOF0"])


class Status(BaseModel):
    """WL-35."""

    workload_id: UUID = Field(examples=[ID])
    status: WorkloadState = Field(examples=["running"])
    reason: str = Field(examples=[""])
    changed_at: datetime = Field(examples=["2026-01-05T12:03:00Z"])

    @classmethod
    def of(cls, found: Workload) -> Self:
        """Of a workload."""
        return cls(workload_id=found.workload_id, status=found.status, reason=found.reason, changed_at=found.changed_at)


class Depth(BaseModel):
    """What waits at a priority."""

    priority: int = Field(ge=1, le=10, examples=[6])
    waiting: int = Field(ge=0, examples=[41])


class Depths(BaseModel):
    """WL-37, most urgent first."""

    items: list[Depth]
    waiting: int = Field(ge=0, examples=[120], description="In all.")


class StateChanged(BaseModel):
    """WL-21: the data of an event `workload.state.changed`."""

    workload_id: UUID = Field(examples=[ID])
    old_state: WorkloadState | None = Field(examples=["queued"], description="Null: submitted.")
    new_state: WorkloadState = Field(examples=["scheduled"])
    is_waiting: bool = Field(examples=[False], description="Whether it stands in the queue.")
    reason: str = Field(examples=[""])
    actor: str = Field(examples=["scheduler"])
    timestamp: datetime = Field(examples=["2026-01-05T12:01:00Z"], description="World time.")


def shown(found: Workload) -> WorkloadShown:
    """A workload in this shape."""
    values = {name: getattr(found, name) for name in WorkloadShown.model_fields if name != "cost"}
    return WorkloadShown(**values, cost=None if found.cost is None else float(found.cost))
