"""What can be said against a request of the queue, split by what the caller will do (domain/errors.py).

QueueError
├── QueueFullError        try again after `retry_after_s` (503)
├── QuotaError            finish or cancel something first, or buy more (429)
├── NotAdmittedError      ask for something else (422)
├── KeyReusedError        the idempotency key was another request's (422)
├── UnknownWorkloadError  no such workload, or another customer's (404)
├── TransitionError       it is in another state (409)
├── AllocationError       devices are not to be had, or were let go already: route anew
└── LeaseLostError        somebody else has it by now: stop working on it (409)
"""

from hcp_pipelines.domain.errors import HcpError


class QueueError(HcpError):
    """Base of what the queue refuses."""


class QueueFullError(QueueError):
    """The queue, or this level of it, holds as much as it may."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QuotaError(QueueError):
    """The customer has as much as tier or contract allow."""


class NotAdmittedError(QueueError):
    """It could not be run here: said at once rather than after hours of waiting."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class KeyReusedError(QueueError):
    """Another request came under this idempotency key."""


class UnknownWorkloadError(QueueError):
    """There is no such workload, or not for this customer."""


class TransitionError(QueueError):
    """The state that it is in does not lead there."""


class AllocationError(QueueError):
    """These devices can't be allocated, or released."""


class LeaseLostError(QueueError):
    """The epoch is an older one's: the work went back to the queue, or to somebody else."""
