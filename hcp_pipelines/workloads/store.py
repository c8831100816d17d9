"""The queue's whole face: what the API and the scheduler call, on a connection in autocommit mode. What does it is beside this.

Every function is a transaction of its own. `now` is world time, always given; leases and what a caller waits for are real time.
"""

from hcp_pipelines.workloads.admission import submit, submit_all
from hcp_pipelines.workloads.allocations import (
    Allocation,
    Checkpoint,
    allocate,
    allocations_of,
    checkpoint,
    last_checkpoint,
    release,
)
from hcp_pipelines.workloads.claiming import Claimed, age, claim, unclaim
from hcp_pipelines.workloads.errors import (
    AllocationError,
    KeyReusedError,
    LeaseLostError,
    NotAdmittedError,
    QueueError,
    QueueFullError,
    QuotaError,
    TransitionError,
    UnknownWorkloadError,
)
from hcp_pipelines.workloads.lifecycle import (
    Binding,
    Reaped,
    cancel,
    complete,
    fail,
    pause,
    reap,
    renew,
    requeue,
    resume,
    schedule,
    start,
)
from hcp_pipelines.workloads.reading import Event, Filters, Workload, depths, events_after, last_event, listed, read
from hcp_pipelines.workloads.submissions import By, Submission, Submitted

__all__ = [
    "Allocation", "AllocationError", "Binding", "By", "Checkpoint", "Claimed", "Event", "Filters", "KeyReusedError",
    "LeaseLostError", "NotAdmittedError", "QueueError", "QueueFullError", "QuotaError", "Reaped", "Submission", "Submitted",
    "TransitionError",
    "UnknownWorkloadError", "Workload", "age", "allocate", "allocations_of", "cancel", "checkpoint", "claim", "complete",
    "depths", "events_after", "fail", "last_checkpoint", "last_event", "listed", "pause", "read", "reap", "release", "renew",
    "requeue", "resume", "schedule", "start", "submit", "submit_all", "unclaim",
]  # fmt: skip
