"""A typed client of the HTTP API (docs/api.md), for programs that submit work and follow it. Synchronous.

Retries, idempotency keys, pages and broken streams are its business. It shares no code with the server: what both mean by a
workload is held together by tests against `/openapi.json`.
"""

from hcp_pipelines.client.client import Client, read_key
from hcp_pipelines.client.errors import ApiError, ApiReplyError, ApiUnreachableError, ClientError
from hcp_pipelines.client.shapes import (
    Allocation,
    Cloud,
    Decision,
    Decisions,
    Depth,
    Depths,
    FieldProblem,
    StateChanged,
    Status,
    Submission,
    Verdict,
    Workload,
    WorkloadSpec,
)

__all__ = [
    "Allocation", "ApiError", "ApiReplyError", "ApiUnreachableError", "Client", "ClientError", "Cloud", "Decision", "Decisions",
    "Depth", "Depths", "FieldProblem", "StateChanged", "Status", "Submission", "Verdict", "Workload", "WorkloadSpec", "read_key",
]  # fmt: skip
