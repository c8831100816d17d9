"""What is handed in to the queue and what is answered: plain values."""

from dataclasses import dataclass
from uuid import UUID

from hcp_pipelines.domain.workloads import WorkloadState, WorkloadType
from hcp_pipelines.workloads.spec import Classified, WorkloadSpec


@dataclass(frozen=True, slots=True)
class By:
    """Who asks, and by which request, for the audit log."""

    actor: str = ""
    request_id: str = ""


NOBODY = By()


@dataclass(frozen=True, slots=True)
class Submitted:
    """Work in the queue: `queue_position` counts what waits at its priority or above it, itself included; of a repeat it is 0.

    Its class is that under which it was taken, of a repeat the first one's.
    """

    workload_id: UUID
    status: WorkloadState
    priority: int
    queue_position: int
    is_repeat: bool
    type: WorkloadType
    confidence: float
    reasons: tuple[str, ...]
    is_flagged: bool


@dataclass(frozen=True, slots=True)
class Submission:
    """What a customer asks for, its class, and who asks."""

    spec: WorkloadSpec
    classified: Classified
    idempotency_key: str | None = None
    by: By = NOBODY
