"""Workloads (WL-33 … WL-39): submit, read, list, cancel, the queue's depth. Customers see their own.

Of others' they don't even learn that they exist. The queue decides what is taken; here is only who asks for whom.
"""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response

from hcp_pipelines.api import metrics
from hcp_pipelines.api.idempotency import IdempotencyKey
from hcp_pipelines.api.paging import key_of, page
from hcp_pipelines.api.principals import Everybody, Principal, Submitting
from hcp_pipelines.api.problems import ProblemError, not_found, request_id_of
from hcp_pipelines.api.routes.workload_shapes import (
    Asked,
    Depth,
    Depths,
    Status,
    Submission,
    Workloads,
    WorkloadShown,
    shown,
)
from hcp_pipelines.api.state import Api, api_of
from hcp_pipelines.domain.workloads import Tier
from hcp_pipelines.workloads import store
from hcp_pipelines.workloads.classifier.classify import classify
from hcp_pipelines.workloads.errors import QueueError
from hcp_pipelines.workloads.said import misspelt_in, nonsense_in
from hcp_pipelines.workloads.spec import WorkloadSpec

router = APIRouter(prefix="/api/v1/workloads", tags=["workloads"])
WorkloadId = Annotated[UUID, Path(examples=["9d3c1b0a-7f5e-4d2c-8b1a-0f9e8d7c6b5a"])]
OfCustomer = Annotated[
    UUID | None,
    Query(description="Whose; operators and admins say it.", examples=["7b0e1c1e-6a0e-4c5e-9d55-0d4f5f6a7b8c"]),
]
_TIER = "select tier from customers where id = %s"


@router.post("/submit", status_code=202, response_model=Submission)
async def submit(
    body: WorkloadSpec,
    principal: Submitting,
    request: Request,
    customer_id: OfCustomer = None,
    key: IdempotencyKey = None,
) -> Response:
    """Take work into the queue. 422: this fleet could never run it, and why; 429: the quota; 503: the queue is full.

    The same `Idempotency-Key` with the same body again answers with the first submission as it is by now.
    """
    if (wrong := nonsense_in(body.sla_parameters)) is not None:
        raise ProblemError(400, f"body.{wrong}")
    api = api_of(request)
    customer, tier = await _on_behalf(api, principal, customer_id)
    classified, by = classify(body, api.classifier), store.By(principal.name, request_id_of(request))
    try:
        made = await api.submitting.submit(customer, tier, store.Submission(body, classified, key, by))
    except QueueError:
        metrics.REQUESTS.labels(classified.type.value, "refused").inc()
        raise
    metrics.REQUESTS.labels(made.type.value, "repeated" if made.is_repeat else "accepted").inc()
    answer = Submission(
        workload_id=made.workload_id,
        status=made.status,
        priority=made.priority,
        queue_position=made.queue_position,
        workload_type=made.type,
        confidence=made.confidence,
        reasons=[*made.reasons, *misspelt_in(body.sla_parameters)],
        is_flagged=made.is_flagged,
    )
    headers = {"Idempotent-Replayed": "true"} if made.is_repeat else None
    return Response(
        answer.model_dump_json(), 202, headers, "application/json"
    )  # as it is: else it is validated once more


@router.get("")
async def list_workloads(principal: Everybody, request: Request, asked: Annotated[Asked, Query()]) -> Workloads:
    """Workloads, newest first; a customer's own."""
    owner, limit = principal.customer_id or asked.customer_id, asked.limit
    filters = store.Filters(
        owner, asked.status, asked.type, asked.priority, asked.submitted_from, asked.submitted_until
    )
    number = key_of(asked.after, (int,))[0] if asked.after else None
    async with api_of(request).connection() as connection:
        found = await store.listed(connection, filters, number, limit + 1)
    items, more = page(found, limit, lambda one: [one.number])
    return Workloads(items=[shown(one) for one in items], next=more)


@router.get("/queue/depth")
async def depth(_: Everybody, request: Request) -> Depths:
    """How much waits at each priority, 1 the most urgent; what waiting has lifted counts where it is now."""
    async with api_of(request).connection() as connection:
        found = await store.depths(connection)
    items = [Depth(priority=level, waiting=waiting) for level, waiting in sorted(found.items())]
    return Depths(items=items, waiting=sum(found.values()))


@router.get("/{workload_id}")
async def one_workload(workload_id: WorkloadId, principal: Everybody, request: Request) -> WorkloadShown:
    """One workload."""
    return shown(await _read(api_of(request), workload_id, principal))


@router.get("/{workload_id}/status")
async def status_of(workload_id: WorkloadId, principal: Everybody, request: Request) -> Status:
    """Its state alone."""
    return Status.of(await _read(api_of(request), workload_id, principal))


@router.put("/{workload_id}/cancel")
async def cancel(workload_id: WorkloadId, principal: Submitting, request: Request) -> Status:
    """Cancel what is not over; 409 where it is."""
    api = api_of(request)
    async with api.connection() as connection:
        await store.cancel(
            connection,
            workload_id,
            principal.customer_id,
            now=api.clock.now(),
            actor=principal.name,
            reason="by the API",
            request_id=request_id_of(request),
        )
    return Status.of(await _read(api, workload_id, principal))


async def _read(api: Api, workload_id: UUID, principal: Principal) -> store.Workload:
    async with api.connection() as connection:
        return await store.read(connection, workload_id, principal.customer_id)


async def _on_behalf(api: Api, principal: Principal, customer_id: UUID | None) -> tuple[UUID, Tier]:
    """Whose work it is, and their tier.

    Raises:
        ProblemError: another customer's, none, or nobody named.
    """
    if principal.customer_id is not None:
        if customer_id not in (None, principal.customer_id):
            raise ProblemError(403, "query.customer_id: that is another customer")
        return principal.customer_id, Tier(principal.tier)
    if customer_id is None:
        raise ProblemError(400, f"query.customer_id: say whose work it is; {principal.name} is {principal.role}")
    rows = await api.fetch(_TIER, (customer_id,))
    if not rows:
        raise not_found(f"customer {customer_id}", "GET /api/v1/customers lists those there are")
    return customer_id, Tier(rows[0][0])
