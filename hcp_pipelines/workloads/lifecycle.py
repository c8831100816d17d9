"""The steps of a workload's life. Postgres refuses what the table of transitions hasn't, and writes the event of each step.

Whoever holds work names the epoch under which it does: once the work went back to the queue, or to somebody else, nothing under
the old epoch counts any more. So work ends once, however often a node says so. `now` is world time, leases are Postgres' own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from hcp_pipelines.domain.workloads import WorkloadState
from hcp_pipelines.workloads.claiming import Connection, lock_queue
from hcp_pipelines.workloads.errors import LeaseLostError, TransitionError, UnknownWorkloadError

_STATE = WorkloadState
# Work is found by its id: `num_nonnulls` keeps the partial indices of what waits or is held out of plans, which by old statistics
# are empty and once filled would be read from end to end for each step.
_SCHEDULE = """
    update workloads w set status = 'scheduled', queued_at = null, ages_at = null, changed_at = %(now)s, lease_owner = b.holder,
        lease_expires_at = now() + make_interval(secs => %(lease_s)s), facility_id = b.facility_id, placement = b.placement,
        usd_per_gpu_hour = b.usd_per_gpu_hour, reason = b.reason, actor = %(actor)s
    from unnest(%(ids)s::uuid[], %(epochs)s::bigint[], %(holders)s::text[], %(facilities)s::text[], %(placements)s::jsonb[],
                %(rates)s::numeric[], %(reasons)s::text[])
        as b (id, epoch, holder, facility_id, placement, usd_per_gpu_hour, reason)
    where w.id = b.id and w.lease_epoch = b.epoch and num_nonnulls(w.lease_owner, w.queued_at) = 2
    returning w.id"""
_MOVE = """
    update workloads set status = %(to)s, changed_at = %(now)s, reason = %(reason)s, actor = coalesce(lease_owner, actor),
        result = coalesce(%(result)s, result)
    where id = %(id)s and lease_epoch = %(epoch)s and num_nonnulls(lease_owner) = 1 and (queued_at is null or status = 'queued')
        and status <> %(to)s
    returning changed_at"""
_TO_QUEUE = """
    update workloads w set
        status = case w.status when 'scheduled' then 'queued' when 'running' then 'paused' else w.status end,
        queued_at = %(now)s, changed_at = %(now)s, reason = %(reason)s, actor = w.lease_owner,
        ages_at = case when w.level > r.highest_level then %(now)s + make_interval(secs => r.level_after_s) end,
        lease_owner = null, lease_expires_at = now() + make_interval(secs => %(wait_s)s),
        retries_left = w.retries_left - (%(is_failure)s and w.status <> 'paused')::integer
    from queue_rules r
    where w.id = %(id)s and w.lease_epoch = %(epoch)s and num_nonnulls(w.lease_owner) = 1 and w.queued_at is null
        and (not %(is_failure)s or w.retries_left > 0 or w.status = 'paused')
    returning w.status"""
_RENEW = """
    with held as (
        select id from workloads where lease_owner = %(holder)s and queued_at is null order by id for no key update)
    update workloads w set lease_expires_at = now() + make_interval(secs => %(lease_s)s),
        charged_gpu_s = greatest(w.charged_gpu_s,
            w.used_gpu_s + coalesce(greatest(extract(epoch from %(now)s - w.running_since), 0) * w.gpu_count, 0))
    from held where w.id = held.id returning w.id, w.lease_epoch"""
_EXPIRED = """
    select id, lease_epoch, lease_owner, queued_at is not null from workloads
    where lease_owner is not null and lease_expires_at <= now() order by lease_expires_at limit %s
    for no key update skip locked"""
_NOT_IN_TABLE = "invalid state transition"
_LOOK = "select status, lease_epoch, lease_owner, changed_at from workloads where id = %s"
_DROP_CLAIM = "update workloads set lease_owner = null where id = %s and lease_epoch = %s"


@dataclass(frozen=True, slots=True)
class Binding:
    """Where claimed work goes: who holds it from now on and renews the lease (a node, a gateway), where, at which rate."""

    workload_id: UUID
    epoch: int
    holder: str
    facility_id: str | None = None
    placement: Mapping[str, Any] = field(default_factory=dict)
    usd_per_gpu_hour: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reaped:
    """Work whose holder was heard of no more, and what it is now; `was_claim`: it had not left the queue."""

    workload_id: UUID
    holder: str
    was_claim: bool
    status: WorkloadState


async def schedule(
    connection: Connection, bindings: Sequence[Binding], *, now: datetime, actor: str, lease_s: float = 30.0
) -> list[UUID]:
    """Give claimed work its places; those whose claims still stood, the others were cancelled or have expired."""
    values = {
        "now": now, "lease_s": lease_s, "actor": actor, "ids": [b.workload_id for b in bindings],
        "epochs": [b.epoch for b in bindings], "holders": [b.holder for b in bindings],
        "facilities": [b.facility_id for b in bindings], "placements": [Jsonb(dict(b.placement)) for b in bindings],
        "rates": [b.usd_per_gpu_hour for b in bindings], "reasons": [b.reason for b in bindings],
    }  # fmt: skip
    async with connection.transaction():
        await lock_queue(connection)
        return [row[0] for row in await (await connection.execute(_SCHEDULE, values)).fetchall()]


async def start(connection: Connection, workload_id: UUID, epoch: int, *, now: datetime, reason: str = "") -> datetime:
    """Scheduled work runs; since when, which is `now` or later: no step is before the one before it, whoever's clock made that.

    Saying so again changes nothing, as with every step of a holder.

    Raises:
        UnknownWorkloadError, TransitionError, LeaseLostError: as every step of a holder.
    """
    return await _move(connection, workload_id, epoch, _STATE.RUNNING, now, reason)


async def pause(connection: Connection, workload_id: UUID, epoch: int, *, now: datetime, reason: str) -> datetime:
    """Running work stands still and keeps its GPUs; since when, and raises, as `start`."""
    return await _move(connection, workload_id, epoch, _STATE.PAUSED, now, reason)


async def resume(connection: Connection, workload_id: UUID, epoch: int, *, now: datetime, reason: str = "") -> datetime:
    """Paused work that has kept its GPUs runs on; since when, and raises, as `start`."""
    return await _move(connection, workload_id, epoch, _STATE.RUNNING, now, reason)


async def complete(
    connection: Connection, workload_id: UUID, epoch: int, *, now: datetime, result: Mapping[str, Any] | None = None
) -> bool:
    """Running work is done, once; False where it was already under this epoch, and the first result stands. Raises as `start`."""
    try:
        await _move(connection, workload_id, epoch, _STATE.COMPLETED, now, "", result or {})
    except TransitionError:
        if (await _look(connection, workload_id))[:3] == (_STATE.COMPLETED, epoch, None):
            return False
        raise
    return True


async def fail(
    connection: Connection,
    workload_id: UUID,
    epoch: int,
    *,
    now: datetime,
    reason: str,
    may_retry: bool = True,
    wait_s: float = 0.0,
) -> WorkloadState:
    """Work could not start, or broke off: back to the queue while it has retries (after `wait_s` real seconds), else failed.

    Scheduled work is queued again; running work waits as paused, to go on from its checkpoint. Its state from now on. Raises as
    `start`.
    """
    if may_retry:
        status = await _to_queue(connection, workload_id, epoch, now, reason, wait_s, is_failure=True)
        if status is not None:
            return status
    await _move(connection, workload_id, epoch, _STATE.FAILED, now, reason)
    return _STATE.FAILED


async def requeue(
    connection: Connection, workload_id: UUID, epoch: int, *, now: datetime, reason: str, wait_s: float = 0.0
) -> WorkloadState:
    """Give up the GPUs and wait again: pre-empted work, at no cost to its retries. Its state from now on. Raises as `start`."""
    status = await _to_queue(connection, workload_id, epoch, now, reason, wait_s, is_failure=False)
    if status is None:
        raise await _refusal(connection, workload_id, epoch, _STATE.QUEUED)
    return status


async def cancel(
    connection: Connection,
    workload_id: UUID,
    customer_id: UUID | None,
    *,
    now: datetime,
    actor: str,
    reason: str = "",
    request_id: str = "",
) -> None:
    """Cancel whatever is not over; of this customer's alone where one is given. What is cancelled already stays as it was.

    Raises:
        UnknownWorkloadError: there is none, or it is another customer's.
        TransitionError: it is over already.
    """
    values = (workload_id, customer_id, now, actor, reason, request_id)
    try:
        row = await (await connection.execute("select cancel_workload(%s, %s, %s, %s, %s, %s)", values)).fetchone()
    except psycopg.errors.CheckViolation as error:
        if not _is_of_table(error):
            raise
        raise TransitionError(f"{error.diag.message_primary}: workload {workload_id}") from error
    if row is None or not row[0]:
        raise UnknownWorkloadError(f"there is no workload {workload_id}")


async def renew(connection: Connection, holder: str, *, now: datetime, lease_s: float = 30.0) -> list[tuple[UUID, int]]:
    """Hold on to all that `holder` has, and charge what has run longer than it was estimated; (id, epoch) of each.

    A holder stops what is not among them. What has expired and was not taken away yet goes on.
    """
    values = {"holder": holder, "now": now, "lease_s": lease_s}
    return [(row[0], row[1]) for row in await (await connection.execute(_RENEW, values)).fetchall()]


async def reap(connection: Connection, *, now: datetime, limit: int = 500) -> list[Reaped]:
    """Take work back from holders that have not renewed their leases: to the queue, or failed where its retries are used up."""
    reaped = []
    async with connection.transaction():
        await lock_queue(connection)
        for workload_id, epoch, holder, is_claim in await (await connection.execute(_EXPIRED, (limit,))).fetchall():
            if is_claim:
                await connection.execute(_DROP_CLAIM, (workload_id, epoch))
                found = await _look(connection, workload_id)
                status = found[0]
            else:
                status = await fail(
                    connection, workload_id, epoch, now=now, reason="its holder was not heard of any more"
                )
            reaped.append(Reaped(workload_id, holder, is_claim, status))
    return reaped


async def _to_queue(
    connection: Connection,
    workload_id: UUID,
    epoch: int,
    now: datetime,
    reason: str,
    wait_s: float,
    *,
    is_failure: bool,
) -> WorkloadState | None:
    """The state in which it waits; None where it isn't this epoch's, or has no retries left."""
    values = {
        "id": workload_id, "epoch": epoch, "now": now, "reason": reason, "wait_s": wait_s, "is_failure": is_failure,
    }  # fmt: skip
    row = await (await connection.execute(_TO_QUEUE, values)).fetchone()
    return WorkloadState(row[0]) if row else None


async def _move(
    connection: Connection,
    workload_id: UUID,
    epoch: int,
    to: WorkloadState,
    now: datetime,
    reason: str,
    result: Mapping[str, Any] | None = None,
) -> datetime:
    """Make the step; the instant that Postgres has for it."""
    values = {
        "id": workload_id, "epoch": epoch, "to": to, "now": now, "reason": reason,
        "result": None if result is None else Jsonb(dict(result)),
    }  # fmt: skip
    try:
        row = await (await connection.execute(_MOVE, values)).fetchone()
    except psycopg.errors.CheckViolation as error:
        if not _is_of_table(error):
            raise
        raise TransitionError(f"{error.diag.message_primary}: workload {workload_id}") from error
    if row is None:
        status, current, holder, changed_at = await _look(connection, workload_id)
        if (status, current) != (to, epoch) or holder is None:
            raise await _refusal(connection, workload_id, epoch, to)
        return changed_at
    as_of: datetime = row[0]
    return as_of


async def _look(connection: Connection, workload_id: UUID) -> tuple[WorkloadState, int, str | None, datetime]:
    row = await (await connection.execute(_LOOK, (workload_id,))).fetchone()
    if row is None:
        raise UnknownWorkloadError(f"there is no workload {workload_id}")
    return WorkloadState(row[0]), row[1], row[2], row[3]


def _is_of_table(error: psycopg.errors.CheckViolation) -> bool:
    """Whether it is the table of transitions that refused; any other check that fails is our own fault, and stays what it is."""
    return (error.diag.message_primary or "").startswith(_NOT_IN_TABLE)


async def _refusal(
    connection: Connection, workload_id: UUID, epoch: int, to: WorkloadState
) -> TransitionError | LeaseLostError:
    """Why a step was not made."""
    status, current, holder, _ = await _look(connection, workload_id)
    if status.is_final or (epoch == current and holder is not None):
        return TransitionError(f"invalid state transition from {status} to {to}: workload {workload_id}")
    return LeaseLostError(
        f"workload {workload_id} is {status}, of epoch {current} and {holder or 'nobody'}: {epoch} lost it"
    )
