"""Taking work in, or saying at once and why not: quotas, limits of the queue, and what the fleet could never run.

Submissions of one customer come one after the other (`turns.py`), so that its quota is exact and a repeat under the same
idempotency key finds the first; several of them may be one transaction. Limits of the queue as a whole are looked at without a
lock: submissions at the same instant may exceed them by their number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from math import ceil
from typing import Any
from uuid import UUID

from psycopg import AsyncCursor
from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from pydantic import ValidationError

from hcp_pipelines.domain.workloads import Tier, WorkloadState, WorkloadType
from hcp_pipelines.workloads.books import Connection
from hcp_pipelines.workloads.errors import KeyReusedError, NotAdmittedError, QueueError, QueueFullError, QuotaError
from hcp_pipelines.workloads.gpu_types import FLEET, GpuTypes, gpu_types_of, kind_of, sites_of
from hcp_pipelines.workloads.routing.scoring import Estimates
from hcp_pipelines.workloads.spec import Classified, Requirements, WorkloadSpec, priority_of, requirements_of
from hcp_pipelines.workloads.submissions import NOBODY, By, Submission, Submitted
from hcp_pipelines.workloads.turns import turn_of

RETRY_AT_MOST_S = 60
_NO_ID = UUID(int=0)  # until Postgres has given one
ESTIMATES = Estimates()
NO_MINERS = "miners follow their facility's policy and none is left to customers' work: it waits"
_ROOM_FRACTION = 0.01  # of a full level: who was refused comes back when so much of it will have gone

_REPEAT = """
    select w.id, w.status, w.priority, w.type, w.classification, w.is_flagged, w.spec from workloads w cross join queue_rules r
    where w.customer_id = %s and w.idempotency_key = %s and w.created_at > now() - make_interval(secs => r.key_kept_s)
    order by w.number desc limit 1"""
_BOOKS = f"""
    select coalesce(c.max_waiting, t.max_waiting) as quota_waiting, coalesce(c.max_gpus, t.max_gpus) as quota_gpus,
           coalesce(c.max_retries, t.max_retries) as retries, coalesce(c.refused_because, '') as refused_because,
           coalesce(q.waiting, 0) as own_waiting, r.max_waiting, l.max_waiting as level_max_waiting,
           r.level_after_s, r.highest_level, r.hold_after_s,
           exists (select from customers where id = %(customer)s) as is_known,
           (select coalesce(sum(waiting), 0)::bigint from queue_flows where waiting > 0) as waiting,
           (select coalesce(sum(waiting), 0)::bigint from queue_flows where waiting > 0 and level = l.level) as level_waiting,
           (select coalesce(sum(waiting), 0)::bigint from queue_flows where waiting > 0 and level <= l.level) as ahead,
           {FLEET} as fleet
    from tier_quotas t cross join queue_rules r
    join queue_levels l on l.level = %(priority)s
    left join customer_quotas c on c.customer_id = %(customer)s
    left join queue_customers q on q.customer_id = %(customer)s
    where t.tier = %(tier)s"""  # noqa: S608 - of constants
_INSERT = """
    with made as (insert into workloads (
        customer_id, type, priority, level, requirements, sla_parameters, tier, spec, classification, is_flagged, idempotency_key,
        gpu_type, gpu_types, gpu_count, memory_gb, estimated_duration_s, is_interruptible, deadline_at, submitted_at, ages_at,
        start_by, retries_left, actor)
    values (
        %(customer)s, %(type)s, %(priority)s, %(priority)s, %(requirements)s, %(sla)s, %(tier)s, %(spec)s, %(classification)s,
        %(is_flagged)s, %(key)s, %(gpu_type)s, %(gpu_types)s, %(gpu_count)s, %(memory_gb)s, %(duration_s)s,
        %(is_interruptible)s, %(deadline_at)s, %(now)s, %(ages_at)s, %(start_by)s, %(retries)s, %(actor)s)
    returning id),
    noted as (insert into audit_log (actor, action, subject, detail)
        select %(actor)s, 'workload.submit', 'workload/' || id,
               jsonb_build_object('customer_id', %(customer)s::uuid, 'request_id', %(request_id)s::text) from made)
    select id from made"""
_LEFT_LATELY = """
    select count(*) from (select new_status, recorded_at from workload_events order by id desc limit 5000) newest
    where new_status = 'scheduled' and recorded_at > now() - interval '60 seconds'"""


@dataclass(frozen=True, slots=True)
class _Books:
    quota_waiting: int
    quota_gpus: int
    retries: int
    refused_because: str
    own_waiting: int
    max_waiting: int
    level_max_waiting: int
    level_after_s: float
    highest_level: int
    hold_after_s: float
    is_known: bool
    waiting: int
    level_waiting: int
    ahead: int
    fleet: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """What Postgres has been asked of a submission; answers are read in this order."""

    repeats: AsyncCursor[tuple[Any, ...]] | None
    books: AsyncCursor[_Books]


async def submit(
    connection: Connection,
    customer_id: UUID,
    tier: Tier,
    spec: WorkloadSpec,
    classified: Classified,
    idempotency_key: str | None = None,
    *,
    now: datetime,
    by: By = NOBODY,
) -> Submitted:
    """Take work into the queue; `now` is world time. The same key again gives the first one's answer, as it is by now.

    A key is kept for `key_kept_s` of `queue_rules`, real time; then it is as good as new.

    Raises:
        KeyReusedError: the key came with another specification.
        NotAdmittedError: this fleet could never run it, not by its deadline or not so near, nothing is taken of this customer,
            or it asks for more GPUs than it may hold: no waiting helps.
        QuotaError: the customer has as much in the queue as it may.
        QueueFullError: the queue, or its level, is full, or too many submissions of this customer are under way.
    """
    one = Submission(spec, classified, idempotency_key, by)
    [answer] = await submit_all(connection, customer_id, tier, [one], now=now)
    if isinstance(answer, QueueError):
        raise answer
    return answer


async def submit_all(
    connection: Connection, customer_id: UUID, tier: Tier, many: Sequence[Submission], *, now: datetime,
    estimates: Estimates = ESTIMATES,
) -> list[Submitted | QueueError]:  # fmt: skip
    """One customer's submissions, one after the other as `submit`, in one transaction: what came of each, in order.

    `estimates` are the router's, by which it judges latency.

    Raises:
        QueueFullError: too many submissions of this customer are under way: none of these is taken.
    """
    answers = list[Submitted | QueueError]()
    made = dict[int, AsyncCursor[tuple[Any, ...]]]()
    async with turn_of(connection, customer_id, lambda: _ask(connection, customer_id, tier, many[0])) as first:
        for n, one in enumerate(many):
            asked = await _ask(connection, customer_id, tier, one) if n else first
            try:
                answer, values = await _judge(connection, customer_id, tier, one, asked, now, estimates)
            except QueueError as error:
                answers.append(error)
                continue
            if values:
                made[n] = await connection.execute(_INSERT, values, prepare=True)
            answers.append(answer)
    for n, cursor in made.items():
        row, answer_of_n = await cursor.fetchone(), answers[n]
        assert row is not None
        assert isinstance(answer_of_n, Submitted)
        answers[n] = replace(answer_of_n, workload_id=row[0])
    return answers


async def _ask(connection: Connection, customer_id: UUID, tier: Tier, one: Submission) -> _Asked:
    values = {
        "customer": customer_id, "tier": tier.value, "priority": priority_of(one.classified, tier),
        "kind": kind_of(one.classified.type),
    }  # fmt: skip
    books = connection.cursor(row_factory=class_row(_Books))
    await books.execute(_BOOKS, values, prepare=True)
    repeats = None
    if one.idempotency_key is not None:
        repeats = await connection.execute(_REPEAT, (customer_id, one.idempotency_key), prepare=True)
    return _Asked(repeats, books)


async def _judge(
    connection: Connection, customer_id: UUID, tier: Tier, one: Submission, asked: _Asked, now: datetime,
    estimates: Estimates,
) -> tuple[Submitted, dict[str, Any]]:  # fmt: skip
    """The answer, and the row to be written, whose id is the answer's; of a repeat there is none.

    Raises:
        QueueError: it is not taken.
    """
    spec, classified, key = one.spec, _truthful(one.classified), one.idempotency_key
    priority, needs = priority_of(classified, tier), requirements_of(spec, classified.type)
    if key is not None and asked.repeats is not None:
        repeat = _repeat(await asked.repeats.fetchone(), key, spec)
        if repeat is not None:
            return repeat, {}
    books = await asked.books.fetchone()
    assert books is not None  # each tier and level has its row, by the migration
    if not books.is_known:
        raise NotAdmittedError(f"there is no customer {customer_id}")
    _check_quota(books, needs)
    _check_deadline(spec, needs, now)
    gpus = gpu_types_of(sites_of(books.fleet), spec, classified.type, needs, estimates)
    await _check_room(connection, books, priority)
    values = _row(spec, classified, needs, gpus, books, priority, now)
    values |= {
        "customer": customer_id, "tier": tier.value, "key": key, "actor": one.by.actor, "request_id": one.by.request_id,
    }  # fmt: skip
    what = classified.type, classified.confidence, classified.reasons, classified.is_flagged
    return Submitted(_NO_ID, WorkloadState.QUEUED, priority, books.ahead + 1, False, *what), values


def _truthful(classified: Classified) -> Classified:
    """With what its customer should know beforehand: a facility file can leave GPUs to the scheduler, and no miners."""
    if classified.type is not WorkloadType.BITCOIN_MINING:
        return classified
    return replace(classified, reasons=(*classified.reasons, NO_MINERS))


def _repeat(row: tuple[Any, ...] | None, key: str, spec: WorkloadSpec) -> Submitted | None:
    if row is None:
        return None
    workload_id, status, priority, kind, found, is_flagged, stored = row
    if not _is_same(stored, spec):
        raise KeyReusedError(f"idempotency key {key[:40]!r} came with another request before: take a new one")
    what = WorkloadType(kind), float(found["confidence"]), tuple(found["reasons"]), is_flagged
    return Submitted(workload_id, WorkloadState(status), priority, 0, True, *what)


def _is_same(stored: Mapping[str, Any], spec: WorkloadSpec) -> bool:
    """Whether a stored specification says the same, read as one: JSON of the database writes numbers in its own way."""
    try:
        return _plain(WorkloadSpec.model_validate(stored)) == _plain(spec)
    except ValidationError:
        return False


def _check_quota(books: _Books, needs: Requirements) -> None:
    if books.refused_because:
        raise NotAdmittedError(f"nothing is taken of this customer: {books.refused_because}")
    if needs.gpu_count > books.quota_gpus:
        raise NotAdmittedError(
            f"{needs.gpu_count} GPUs are asked for, this customer may hold {books.quota_gpus} at a time: ask for fewer"
        )
    if books.own_waiting >= books.quota_waiting:
        raise QuotaError(
            f"{books.own_waiting} pieces of work of this customer wait, the limit is {books.quota_waiting}"
        )


def _check_deadline(spec: WorkloadSpec, needs: Requirements, now: datetime) -> None:
    if spec.deadline_at is not None and now + timedelta(seconds=needs.estimated_duration_s) > spec.deadline_at:
        raise NotAdmittedError(
            f"deadline {spec.deadline_at:%Y-%m-%d %H:%M:%S%z} can't be met: it is {now:%Y-%m-%d %H:%M:%S%z}, "
            f"and the work takes {needs.estimated_duration_s:g} s"
        )


async def _check_room(connection: Connection, books: _Books, priority: int) -> None:
    """WL-14: a full queue refuses, and says when to come again, by how fast it has been emptied lately."""
    full = [
        (
            f"the queue holds {books.waiting} of {books.max_waiting}",
            books.waiting >= books.max_waiting,
            books.max_waiting,
        ),
        (
            f"priority {priority} holds {books.level_waiting} of {books.level_max_waiting}",
            books.level_waiting >= books.level_max_waiting,
            books.level_max_waiting,
        ),
    ]
    for what, is_full, limit in full:
        if is_full:
            row = await (await connection.execute(_LEFT_LATELY)).fetchone()
            left_per_s = row[0] / 60 if row else 0.0
            wait_s = ceil(limit * _ROOM_FRACTION / left_per_s) if left_per_s else RETRY_AT_MOST_S
            raise QueueFullError(f"queue is full: {what}", min(max(wait_s, 1), RETRY_AT_MOST_S))


def _row(
    spec: WorkloadSpec,
    classified: Classified,
    needs: Requirements,
    gpus: GpuTypes,
    books: _Books,
    priority: int,
    now: datetime,
) -> dict[str, Any]:
    duration = timedelta(seconds=needs.estimated_duration_s)
    start_by = now + timedelta(seconds=books.hold_after_s)
    if spec.deadline_at is not None:
        start_by = min(start_by, spec.deadline_at - duration)
    return {
        "type": classified.type.value, "priority": priority, "spec": Jsonb(_plain(spec)),
        "requirements": Jsonb(asdict(needs) | {"gpu_type": gpus.name}), "sla": Jsonb(dict(spec.sla_parameters)),
        "classification": Jsonb({"confidence": classified.confidence, "reasons": list(classified.reasons)}),
        "is_flagged": classified.is_flagged, "gpu_type": gpus.name, "gpu_types": gpus.any_of,
        "gpu_count": needs.gpu_count, "memory_gb": needs.memory_gb, "duration_s": needs.estimated_duration_s,
        "is_interruptible": needs.is_interruptible,
        "deadline_at": spec.deadline_at, "now": now, "start_by": start_by, "retries": books.retries,
        "ages_at": now + timedelta(seconds=books.level_after_s) if priority > books.highest_level else None,
    }  # fmt: skip


def _plain(spec: WorkloadSpec) -> dict[str, Any]:
    """As it is stored and compared: only what was said."""
    return spec.model_dump(mode="json", exclude_unset=True)
