"""What stands in the queue and what has happened: one workload, pages of them, depths, events in an order that loses none."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from hcp_pipelines.domain.workloads import Tier, WorkloadState, WorkloadType
from hcp_pipelines.workloads.claiming import Connection
from hcp_pipelines.workloads.errors import UnknownWorkloadError

_COLUMNS = """
    number, id as workload_id, customer_id, type, tier, priority, level, status, queued_at is not null as is_waiting,
    requirements, spec, sla_parameters, classification, is_flagged, submitted_at, scheduled_at, started_at, completed_at,
    changed_at, updated_at, deadline_at, actual_duration_s, used_gpu_s, cost, facility_id, placement, usd_per_gpu_hour,
    retries_left, lease_epoch as epoch, reason, result"""
# Customers are told what did something, and the names of their own people alone.
_WHO = ", lease_owner as holder, actor"
_WHAT = """,
    case when lease_owner is not null then case when queued_at is null then 'node' else 'scheduler' end end as holder,
    case when actor = '' or exists (select from users u where u.name = w.actor and u.customer_id = w.customer_id) then actor
        when scheduled_at is null or status = 'cancelled' then 'operator'
        when status = 'scheduled' then 'scheduler' else 'node' end as actor"""
_READ = """
    select {} from workloads w where id = %(id)s and (%(customer)s::uuid is null or customer_id = %(customer)s)"""
_LISTED = """
    select {} from workloads w
    where (%(customer_id)s::uuid is null or customer_id = %(customer_id)s)
        and (%(status)s::text is null or status = %(status)s) and (%(type)s::text is null or type = %(type)s)
        and (%(priority)s::integer is null or priority = %(priority)s)
        and (%(submitted_from)s::timestamptz is null or submitted_at >= %(submitted_from)s)
        and (%(submitted_until)s::timestamptz is null or submitted_at < %(submitted_until)s)
        and (%(after)s::bigint is null or number < %(after)s)
    order by number desc limit %(limit)s"""
_DEPTHS = """
    select l.level, coalesce(sum(f.waiting), 0)::bigint
    from queue_levels l left join queue_flows f on f.level = l.level and f.waiting > 0 group by l.level order by l.level"""
_EVENTS = """
    select e.id, e.workload_id, e.customer_id, e.old_status, e.new_status, e.is_waiting, e.reason, e.actor, e.occurred_at,
           e.recorded_at,
           case when e.actor = '' or exists (select from users u where u.name = e.actor and u.customer_id = e.customer_id)
                    then e.actor
                when e.old_status is null or e.new_status = 'cancelled' then 'operator'
                when e.new_status = 'scheduled' then 'scheduler' else 'node' end as told_actor
    from workload_events e
    where e.transaction_id < (select workload_events_horizon()) and (%(customer)s::uuid is null or e.customer_id = %(customer)s)
        and (e.transaction_id, e.id) > (
            coalesce((select transaction_id from workload_events where id = %(after)s), '0'::xid8), %(after)s)
    order by e.transaction_id, e.id limit %(limit)s"""
_LAST_EVENT = """
    select id from workload_events where transaction_id < (select workload_events_horizon())
    order by transaction_id desc, id desc limit 1"""


@dataclass(frozen=True, slots=True)
class Workload:
    """A workload as it stands. `number` counts submissions; `level` is its priority less what waiting has lifted it."""

    number: int
    workload_id: UUID
    customer_id: UUID
    type: WorkloadType
    tier: Tier
    priority: int
    level: int
    status: WorkloadState
    is_waiting: bool
    requirements: Mapping[str, Any]
    spec: Mapping[str, Any]
    sla_parameters: Mapping[str, Any]
    classification: Mapping[str, Any]
    is_flagged: bool
    submitted_at: datetime
    scheduled_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    changed_at: datetime
    updated_at: datetime
    deadline_at: datetime | None
    actual_duration_s: float
    used_gpu_s: float
    cost: Decimal | None
    facility_id: str | None
    placement: Mapping[str, Any]
    usd_per_gpu_hour: Decimal | None
    retries_left: int
    holder: str | None
    epoch: int
    reason: str
    actor: str
    result: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Filters:
    """Which workloads are wanted; None: any. Instants are world time, `[submitted_from, submitted_until)`."""

    customer_id: UUID | None = None
    status: WorkloadState | None = None
    type: WorkloadType | None = None
    priority: int | None = None
    submitted_from: datetime | None = None
    submitted_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """`workload.state.changed`: `old_status` is None at the submission, and equals the new one at a return to the queue alone."""

    id: int
    workload_id: UUID
    customer_id: UUID
    old_status: WorkloadState | None
    new_status: WorkloadState
    is_waiting: bool
    reason: str
    actor: str
    occurred_at: datetime
    recorded_at: datetime
    told_actor: str

    def for_customer(self) -> "Event":
        """As the customer is told: 'operator', 'scheduler' or 'node' where it was none of its own people."""
        return replace(self, actor=self.told_actor)


async def read(connection: Connection, workload_id: UUID, customer_id: UUID | None) -> Workload:
    """One workload; only of this customer where one is given, and then as customers are told: none of our names.

    Raises:
        UnknownWorkloadError: there is none, or it is another customer's: the answer is the same.
    """
    async with connection.cursor(row_factory=class_row(Workload)) as cursor:
        await cursor.execute(
            _READ.format(_columns(customer_id)), {"id": workload_id, "customer": customer_id}, prepare=True
        )
        found = await cursor.fetchone()
    if found is None:
        raise UnknownWorkloadError(f"there is no workload {workload_id}")
    return _typed(found)


async def listed(connection: Connection, filters: Filters, after: int | None, limit: int) -> list[Workload]:
    """A page, newest first: those after the one with the number `after`. Of one customer: as customers are told."""
    values = {name: getattr(filters, name) for name in Filters.__dataclass_fields__} | {"after": after, "limit": limit}
    async with connection.cursor(row_factory=class_row(Workload)) as cursor:
        statement = _LISTED.format(_columns(filters.customer_id))
        await cursor.execute(statement, values, prepare=False)  # planned anew: each set of filters has its own index
        return [_typed(found) for found in await cursor.fetchall()]


async def depths(connection: Connection) -> dict[int, int]:
    """How much waits at each level, 1–10; what waiting has lifted counts where it is now."""
    return dict(await (await connection.execute(_DEPTHS)).fetchall())


async def events_after(connection: Connection, event_id: int, customer_id: UUID | None, limit: int) -> list[Event]:
    """Events that follow one (0: from the beginning), in an order in which none can turn up late; the last one's id goes on.

    Ids are drawn before commits, so this order is that of the transactions, and ids may go back in it. NOTIFY `hcp_workload` says
    that there is something new; it may take until older transactions have ended. Of one customer: as it is told.
    """
    async with connection.cursor(row_factory=class_row(Event)) as cursor:
        await cursor.execute(_EVENTS, {"after": event_id, "customer": customer_id, "limit": limit}, prepare=True)
        found = await cursor.fetchall()
    typed = (
        replace(
            event,
            old_status=None if event.old_status is None else WorkloadState(event.old_status),
            new_status=WorkloadState(event.new_status),
        )
        for event in found
    )
    return [event if customer_id is None else event.for_customer() for event in typed]


async def last_event(connection: Connection) -> int:
    """The id from which `events_after` tells only what comes from now on; 0 before the first event."""
    row = await (await connection.execute(_LAST_EVENT)).fetchone()
    return row[0] if row else 0


def _columns(customer_id: UUID | None) -> str:
    return _COLUMNS + (_WHO if customer_id is None else _WHAT)


def _typed(found: Workload) -> Workload:
    return replace(found, type=WorkloadType(found.type), tier=Tier(found.tier), status=WorkloadState(found.status))
