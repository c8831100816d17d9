"""What is asked of the API and what it answers, as typed values.

Limits are the API's to judge; fields that a newer API adds are left aside.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from hcp_pipelines.domain.workloads import WorkloadState, WorkloadType


class WorkloadSpec(BaseModel):
    """One piece of work. What isn't said takes the default of its class, which the API infers where none is stated."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())

    workload_type: WorkloadType | None = None
    gpu_type: str | None = None
    gpu_count: int = 1
    memory_gb: float | None = None
    max_latency_ms: float | None = None
    estimated_duration_s: float | None = None
    interruptible: bool | None = None
    model_name: str | None = None
    batch_size: int | None = None
    is_training: bool = False
    deadline_at: AwareDatetime | None = None
    max_usd_per_gpu_hour: float | None = None
    checkpoint_interval_s: float | None = None
    priority: int | None = None
    sla_parameters: dict[str, bool | float | str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)


class Answer(BaseModel):
    """Base of what the API answers."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Submission(Answer):
    """What became of a submission. `is_repeat`: the idempotency key was known, this is the first submission as it is by now."""

    workload_id: UUID
    status: WorkloadState
    priority: int
    queue_position: int
    workload_type: WorkloadType
    confidence: float
    reasons: tuple[str, ...]
    is_flagged: bool
    is_repeat: bool = False


class Workload(Answer):
    """A workload as it stands; instants are world time, `cost` is an estimate in USD, None until it has run."""

    workload_id: UUID
    number: int
    customer_id: UUID
    type: WorkloadType
    tier: str
    priority: int
    level: int
    status: WorkloadState
    reason: str
    requirements: dict[str, Any]
    spec: dict[str, Any]
    classification: dict[str, Any]
    submitted_at: datetime
    scheduled_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    deadline_at: datetime | None
    actual_duration_s: float
    used_gpu_s: float
    cost: float | None
    facility_id: str | None
    retries_left: int
    result: dict[str, Any] | None


class Status(Answer):
    """The state of a workload alone."""

    workload_id: UUID
    status: WorkloadState
    reason: str
    changed_at: datetime


class Verdict(Answer):
    """What was found of one group: a score, or why it would not do."""

    group: str
    score: float | None
    why_not: str


class Cloud(Answer):
    """A public cloud that would do; nobody rents it."""

    provider: str
    region: str
    usd: float
    done_at: datetime | None


class Decision(Answer):
    """Why work went where it is, or nowhere: each group's verdict, the best first. Instants are world time."""

    decided_at: datetime
    outcome: str
    facility_id: str | None
    group_id: str | None
    devices: int
    target_resources: tuple[str, ...]
    cost_usd_per_hour: float | None
    latency_ms: float | None
    score: float | None
    confidence: float | None
    reason: str
    groups: tuple[Verdict, ...]
    cloud: Cloud | None


class Decisions(Answer):
    """The decisions on a workload, newest first."""

    workload_id: UUID
    status: WorkloadState
    is_waiting: bool
    reason: str
    items: tuple[Decision, ...]
    next: str | None


class Allocation(Answer):
    """Devices that work has or has had; `cost` in USD and `used_gpu_s` are None until it is over."""

    allocation_id: UUID
    workload_id: UUID
    resource_ids: tuple[str, ...]
    allocated_at: datetime
    released_at: datetime | None
    status: str
    reason: str
    cost: float | None
    used_gpu_s: float | None


class Allocations(Answer):
    """The newest of them first."""

    items: tuple[Allocation, ...]


class Depth(Answer):
    """What waits at a priority."""

    priority: int
    waiting: int


class Depths(Answer):
    """The queue's depth by priority, most urgent first; `waiting` in all."""

    items: tuple[Depth, ...]
    waiting: int


class StateChanged(Answer):
    """A transition. `event_id` goes on behind it; None where the state was read and not told, as at the begin of a watch."""

    event_id: int | None = None
    workload_id: UUID
    old_state: WorkloadState | None
    new_state: WorkloadState
    is_waiting: bool | None
    reason: str
    actor: str
    timestamp: datetime


class FieldProblem(Answer):
    """What is wrong with one part of a request."""

    where: str
    message: str


class Problem(Answer):
    """The body of a refusal."""

    title: str
    detail: str = ""
    request_id: str = ""
    errors: tuple[FieldProblem, ...] = ()
