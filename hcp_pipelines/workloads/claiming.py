"""Claiming what comes next, exactly: the rules of `fair.py` over what stands in Postgres.

Claims come one after the other (an advisory lock, held for some milliseconds), so the shares hold however many schedulers claim
at once. Rows are locked one by one and skipped where a cancellation has them. A claim is a lease on work that goes on waiting:
the states change when it has a place (`lifecycle.schedule`). Each function is a transaction; none belongs into a larger one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from hcp_pipelines.domain.workloads import WorkloadState, WorkloadType
from hcp_pipelines.workloads.books import Connection, customers_of, load, read_more, write
from hcp_pipelines.workloads.fair import Picked, Round

__all__ = ["QUEUE_LOCK", "Claimed", "Connection", "age", "claim", "lock_queue", "unclaim"]

QUEUE_LOCK = 4_852_044
FIRST_CUSTOMERS = 4  # of whom work is read at least, for each that is to be picked half of one
TYPICAL_FOR_S = 300.0  # real: then what work of each class takes is measured anew

_AGE = """
    update workloads w set level = w.level - 1, ages_at = case
        when w.level - 1 > r.highest_level then w.ages_at + make_interval(secs => r.level_after_s) end
    from queue_rules r
    where w.id in (
        select id from workloads where queued_at is not null and ages_at <= %s and lease_owner is null
        order by ages_at limit %s for no key update skip locked)
    returning w.id"""
_LOCK = """
    select id from workloads where id = any(%s) and num_nonnulls(queued_at) = 1 and lease_owner is null
    for no key update skip locked"""
_TAKE = """
    update workloads w set lease_owner = %(scheduler)s, lease_epoch = w.lease_epoch + 1,
        lease_expires_at = now() + make_interval(secs => %(lease_s)s), charged_gpu_s = w.used_gpu_s + t.gpu_s,
        gpu_type = t.gpu_type
    from unnest(%(ids)s::uuid[], %(charges)s::float8[], %(types)s::text[]) as t (id, gpu_s, gpu_type) where w.id = t.id
    returning w.id as workload_id, w.customer_id, w.lease_epoch as epoch, w.status, w.type, w.priority, w.level, w.gpu_type,
        w.gpu_count, w.memory_gb, w.is_interruptible, w.deadline_at, w.requirements, w.spec"""
_UNCLAIM = """
    with standing as (
        select w.id from workloads w join unnest(%(ids)s::uuid[], %(epochs)s::bigint[]) as t (id, epoch) on w.id = t.id
        where w.lease_epoch = t.epoch and num_nonnulls(w.lease_owner, w.queued_at) = 2
        order by w.id for no key update of w skip locked)
    update workloads w set lease_owner = null, lease_expires_at = now() + make_interval(secs => %(wait_s)s), reason = %(reason)s
    from standing where w.id = standing.id returning w.id"""


@dataclass(frozen=True, slots=True)
class Claimed:
    """Work that this scheduler has to find a place for, or give back; `epoch` fences whatever is done to it."""

    workload_id: UUID
    customer_id: UUID
    epoch: int
    status: WorkloadState
    type: WorkloadType
    priority: int
    level: int
    gpu_type: str
    gpu_count: int
    memory_gb: float | None
    is_interruptible: bool
    deadline_at: datetime | None
    requirements: Mapping[str, Any]
    spec: Mapping[str, Any]


async def age(connection: Connection, *, now: datetime, limit: int = 500) -> int:
    """Lift what has waited long enough by a level (`queue_rules`), up to `limit` at a time; how many were.

    What work of each class takes (`queue_typical`) is kept up with here, too.
    """
    async with connection.transaction():
        await lock_queue(connection)
        await connection.execute("select measure_typical(%s)", (TYPICAL_FOR_S,))
        return len(await (await connection.execute(_AGE, (now, limit))).fetchall())


async def claim(
    connection: Connection,
    scheduler: str,
    gpus_free: Mapping[str, int],
    limit: int,
    *,
    now: datetime,
    gpus_most: Mapping[str, int] | None = None,
    lease_s: float = 30.0,
) -> list[Claimed]:
    """What comes next and fits, in order, at most `limit`; charged to its customers' shares at once.

    `gpus_free` are the GPUs to be had by the fleet's names of their types (`gpu_types.py`), `gpus_most` those that could ever be:
    for work that has waited long, GPUs are kept until there are enough. What names no type is given one. Fewer than `limit`
    doesn't say that nothing more would fit: claim again until none comes.
    """
    async with connection.transaction():
        await lock_queue(connection)
        books = await load(connection, [kind for kind, free in gpus_free.items() if free > 0], limit)
        most = gpus_free if gpus_most is None else gpus_most
        lost: set[UUID] = set()
        while True:
            customers = customers_of(books, lost, now)
            picked = Round(customers, books.rules, gpus_free, most, now).pick(limit)
            if picked.unread:
                await read_more(connection, customers, books, max(FIRST_CUSTOMERS, limit // 2), now)
                continue
            wanted = [choice.candidate.workload_id for choice in picked.chosen]
            locked = {row[0] for row in await (await connection.execute(_LOCK, (wanted,), prepare=True)).fetchall()}
            if len(locked) == len(wanted):
                break
            lost |= set(wanted) - locked  # cancelled, or being cancelled: the round is played without them
        claimed = await _take(connection, scheduler, picked, lease_s)
        await write(connection, customers, books)
    return claimed


async def unclaim(
    connection: Connection, claims: Sequence[tuple[UUID, int]], *, wait_s: float = 0.0, reason: str = ""
) -> list[UUID]:
    """Give claims (id, epoch) back uncharged; none of them is claimed within `wait_s` real seconds. Those that still stood.

    What is being bound or cancelled at this moment is let alone: who does that holds the row, and waits for the queue's lock.
    """
    values = {"ids": [c[0] for c in claims], "epochs": [c[1] for c in claims], "wait_s": wait_s, "reason": reason}
    async with connection.transaction():
        await lock_queue(connection)
        return [row[0] for row in await (await connection.execute(_UNCLAIM, values)).fetchall()]


async def lock_queue(connection: Connection) -> None:
    """Whoever changes several customers' rows at once does so alone: no two wait for each other."""
    await connection.execute("select pg_advisory_xact_lock(%s)", (QUEUE_LOCK,))


async def _take(connection: Connection, scheduler: str, picked: Picked, lease_s: float) -> list[Claimed]:
    if not picked.chosen:
        return []
    values = {
        "scheduler": scheduler, "lease_s": lease_s, "ids": [c.candidate.workload_id for c in picked.chosen],
        "charges": [c.candidate.gpu_s for c in picked.chosen], "types": [c.gpu_type for c in picked.chosen],
    }  # fmt: skip
    async with connection.cursor(row_factory=class_row(Claimed)) as cursor:
        await cursor.execute(_TAKE, values, prepare=True)
        taken = {one.workload_id: one for one in await cursor.fetchall()}
    return [
        replace(one, status=WorkloadState(one.status), type=WorkloadType(one.type))
        for one in (taken[choice.candidate.workload_id] for choice in picked.chosen)
    ]
