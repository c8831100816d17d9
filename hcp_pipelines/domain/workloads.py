"""What customers' work can be, and the states it passes through. Who waits for whom is decided in `workloads/`."""

from collections.abc import Mapping
from enum import StrEnum


class WorkloadType(StrEnum):
    """The four classes of work (WL-01)."""

    AI_INFERENCE_REALTIME = "ai_inference_realtime"
    AI_INFERENCE_BATCH = "ai_inference_batch"
    BITCOIN_MINING = "bitcoin_mining"
    MODEL_TRAINING = "model_training"


class Tier(StrEnum):
    """What a customer has subscribed to."""

    FREE = "free"
    PRO = "pro"
    ENTERPRISE = "enterprise"


class WorkloadState(StrEnum):
    """Where a workload is in its life (WL-18); a paused one either holds its GPUs or waits in the queue again."""

    QUEUED = "queued"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing comes after it."""
        return not TRANSITIONS[self]


_S = WorkloadState
# The same table stands in Postgres (trigger of `workloads`), which refuses everything else. From WL-19; a start that fails, and
# work that was pre-empted or lost its node, go on from ER-26's two additions: scheduled to failed, paused to scheduled.
TRANSITIONS: Mapping[WorkloadState, frozenset[WorkloadState]] = {
    _S.QUEUED: frozenset({_S.SCHEDULED, _S.CANCELLED}),
    _S.SCHEDULED: frozenset({_S.RUNNING, _S.CANCELLED, _S.QUEUED, _S.FAILED}),
    _S.RUNNING: frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED, _S.PAUSED}),
    _S.PAUSED: frozenset({_S.RUNNING, _S.CANCELLED, _S.SCHEDULED}),
    _S.COMPLETED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}
