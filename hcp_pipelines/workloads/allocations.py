"""Devices for work, all of them or none (EX-01…EX-05), and the checkpoints from which work goes on.

Postgres lets a device be allocated once at a time, writes the events, and releases everything when the work is no longer held, so
that neither a dead node nor a dead scheduler keeps devices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from hcp_pipelines.workloads.claiming import Connection
from hcp_pipelines.workloads.errors import AllocationError, LeaseLostError

_HELD = """
    select id from workloads where id = %s and lease_epoch = %s and num_nonnulls(lease_owner) = 1 for no key update"""
_AVAILABLE = """
    select id from resources where id = any(%s) and status = 'available' and coalesce(metadata ->> 'presence', '') <> 'vanished'
    order by id for no key update"""
_HEADER = "insert into allocation_headers (workload_id, lease_epoch) values (%s, %s) returning id"
_LINES = """
    insert into allocations (header_id, workload_id, resource_id) select %s, %s, unnest(%s::text[])"""
_MARK = "update resources set status = 'allocated', updated_at = now() where id = any(%s)"
_ACTIVATE = "update allocation_headers set status = 'active' where id = %s"
_END = "update allocation_headers set status = %s, reason = %s where id = %s returning id"
_READ = """
    select h.id as allocation_id, h.workload_id, h.status, h.created_at as allocated_at, h.lease_epoch as epoch, h.reason,
           case when h.status in ('released', 'failed') then h.updated_at end as released_at,
           lines.resource_ids, lines.cost, lines.used_gpu_s
    from allocation_headers h cross join lateral (
        select coalesce(array_agg(a.resource_id order by a.resource_id), '{}') as resource_ids, sum(a.cost) as cost,
               sum((a.usage_metrics ->> 'gpu_s')::float8) as used_gpu_s
        from allocations a where a.header_id = h.id) lines
    where h.workload_id = %s order by h.created_at desc, h.id limit %s"""
_CHECKPOINT = """
    insert into workload_checkpoints (workload_id, lease_epoch, location, progress_s, detail, taken_at)
    select id, lease_epoch, %(location)s, %(progress_s)s, %(detail)s, %(now)s from workloads
    where id = %(id)s and lease_epoch = %(epoch)s and num_nonnulls(lease_owner) = 1 and status in ('running', 'paused')
    returning id"""
_LAST_CHECKPOINT = """
    select workload_id, lease_epoch as epoch, location, progress_s, detail, taken_at from workload_checkpoints
    where workload_id = %s order by id desc limit 1"""


@dataclass(frozen=True, slots=True)
class Allocation:
    """Devices that a workload has, or has had: pending, active, released or failed (EX-02, EX-03).

    `cost` in dollars and `used_gpu_s` are told once it is over (BL-03).
    """

    allocation_id: UUID
    workload_id: UUID
    status: str
    allocated_at: datetime
    epoch: int
    reason: str
    released_at: datetime | None
    resource_ids: Sequence[str]
    cost: Decimal | None
    used_gpu_s: float | None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where work can go on from: `location` for whoever loads it, `progress_s` seconds of running that are in it (EX-24)."""

    workload_id: UUID
    epoch: int
    location: str
    progress_s: float
    detail: Mapping[str, Any]
    taken_at: datetime


async def allocate(connection: Connection, workload_id: UUID, epoch: int, resource_ids: Sequence[str]) -> UUID:
    """Give devices to work that is held under this epoch; the allocation's id.

    Raises:
        LeaseLostError: it isn't held under it (any more).
        AllocationError: some are not available, or it has devices already; then it gets none.
    """
    wanted = sorted(set(resource_ids))
    if not wanted:
        raise AllocationError(f"no device is named for workload {workload_id}")
    async with connection.transaction():
        if await (await connection.execute(_HELD, (workload_id, epoch))).fetchone() is None:
            raise LeaseLostError(f"workload {workload_id} is not held under epoch {epoch}: it gets no devices")
        await _take(connection, wanted)
        try:
            row = await (await connection.execute(_HEADER, (workload_id, epoch))).fetchone()
        except psycopg.errors.UniqueViolation as error:
            raise AllocationError(f"workload {workload_id} has devices already: release them first") from error
        assert row is not None
        await connection.execute(_LINES, (row[0], workload_id, wanted))
        await connection.execute(_ACTIVATE, (row[0],))
    allocation_id: UUID = row[0]
    return allocation_id


async def _take(connection: Connection, wanted: Sequence[str]) -> None:
    """Mark devices, in the order of their ids, so that of several who want the same ones the first gets them."""
    try:
        found = {row[0] for row in await (await connection.execute(_AVAILABLE, (wanted,))).fetchall()}
    except psycopg.errors.DeadlockDetected as error:
        raise AllocationError(f"{wanted[0]} and others are being changed at this moment: try again") from error
    if len(found) < len(wanted):
        first = next(resource_id for resource_id in wanted if resource_id not in found)
        raise AllocationError(
            f"{len(wanted) - len(found)} of {len(wanted)} devices are not available, {first} first: none is allocated"
        )
    await connection.execute(_MARK, (wanted,))


async def release(connection: Connection, allocation_id: UUID, *, reason: str = "", has_failed: bool = False) -> None:
    """Let go of an allocation's devices while the work goes on being held; a failed one says that they could not be used.

    Raises:
        AllocationError: there is none, or "allocation already released".
    """
    try:
        values = ("failed" if has_failed else "released", reason, allocation_id)
        row = await (await connection.execute(_END, values)).fetchone()
    except psycopg.errors.CheckViolation as error:
        raise AllocationError(f"{error.diag.message_primary}: {allocation_id}") from error
    if row is None:
        raise AllocationError(f"there is no allocation {allocation_id}")


async def allocations_of(connection: Connection, workload_id: UUID, limit: int = 10) -> list[Allocation]:
    """A workload's allocations, newest first."""
    async with connection.cursor(row_factory=class_row(Allocation)) as cursor:
        await cursor.execute(_READ, (workload_id, limit))
        return await cursor.fetchall()


async def checkpoint(
    connection: Connection,
    workload_id: UUID,
    epoch: int,
    *,
    now: datetime,
    location: str,
    progress_s: float,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Note a checkpoint that is stored; to lose nothing it is taken when the work stands still (ER-44).

    Raises:
        LeaseLostError: the work does not run, or pause, under this epoch.
    """
    values = {
        "id": workload_id, "epoch": epoch, "location": location, "progress_s": progress_s, "detail": Jsonb(dict(detail or {})),
        "now": now,
    }  # fmt: skip
    if await (await connection.execute(_CHECKPOINT, values)).fetchone() is None:
        raise LeaseLostError(f"workload {workload_id} does not run under epoch {epoch}: its checkpoint is not taken")


async def last_checkpoint(connection: Connection, workload_id: UUID) -> Checkpoint | None:
    """From where it goes on; None: from the beginning."""
    async with connection.cursor(row_factory=class_row(Checkpoint)) as cursor:
        await cursor.execute(_LAST_CHECKPOINT, (workload_id,))
        return await cursor.fetchone()
