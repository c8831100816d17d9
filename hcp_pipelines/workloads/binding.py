"""Binding claimed work to devices, hundreds at once: allocation, desired state and place are one transaction, or none of them is.

Whoever is killed in the middle leaves claims that expire, and nothing else. Where work goes is decided before (`routing/`).
Devices that somebody else took meanwhile cost that one piece of work its place, not the others theirs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from hcp_pipelines.workloads.claiming import Connection
from hcp_pipelines.workloads.lifecycle import Binding, schedule
from hcp_pipelines.workloads.runs import NOTHING_SAID, Runs

Slots = npt.NDArray[np.int64]
ACTOR = "scheduler"

_STANDING = """
    select w.id from workloads w join unnest(%b::uuid[], %b::bigint[]) as t (id, epoch) on w.id = t.id
    where w.lease_epoch = t.epoch and num_nonnulls(w.lease_owner, w.queued_at) = 2
    order by w.id for no key update of w skip locked"""
_AVAILABLE = """
    select id from resources where id = any(string_to_array(%b, ',')) and status = 'available'
        and coalesce(metadata ->> 'presence', '') <> 'vanished'
    order by id for no key update skip locked"""
_HEADERS = """
    insert into allocation_headers (workload_id, lease_epoch) select * from unnest(%b::uuid[], %b::bigint[])
    returning workload_id, id"""
_LINES = """
    insert into allocations (header_id, workload_id, resource_id)
    select header_id, workload_id, unnest(string_to_array(devices, ','))
    from unnest(%b::uuid[], %b::uuid[], %b::text[]) as t (header_id, workload_id, devices)"""
_MARK = "update resources set status = 'allocated', updated_at = now() where id = any(string_to_array(%b, ','))"
_ACTIVATE = "update allocation_headers set status = 'active' where id = any(%b)"
_DESIRE = """
    insert into desired_state (
        facility_id, group_id, state, slots, generation, priority, reason, actor, workload_id, lease_epoch, order_index,
        model, weights_gib, gpus_each, load, checkpoint, valid_until)
    select d.*, clock_timestamp() + make_interval(secs => %s)
    from unnest(%b::text[], %b::text[], %b::smallint[], %b::bytea[], %b::bigint[], %b::smallint[], %b::text[], %b::text[],
                %b::uuid[], %b::bigint[], %b::integer[], %b::text[], %b::float8[], %b::smallint[], %b::text[], %b::text[]) as d
    returning id, workload_id"""
_STAND = """
    select id from desired_state where id = any(%b) and superseded_by is null and valid_until > clock_timestamp()
    order by id for no key update"""
_RENEW = """
    with standing as (
        select id from desired_state where id = any(%b) and superseded_by is null and valid_until > clock_timestamp()
        order by id for no key update)
    update desired_state d set valid_until = clock_timestamp() + make_interval(secs => %s)
    from standing where d.id = standing.id returning d.id"""
_TAKE_BACK = """
    with standing as (
        select id from desired_state where id = any(%b) and superseded_by is null and valid_until > clock_timestamp()
        order by id for no key update)
    update desired_state d set valid_until = clock_timestamp() from standing where d.id = standing.id"""
_SUPERSEDE = """
    update desired_state d set superseded_by = t.new from unnest(%s::bigint[], %s::bigint[]) as t (old, new)
    where d.id = t.old and d.superseded_by is null"""


@dataclass(frozen=True, slots=True)
class Placement:
    """Claimed work with the devices that it gets: `slots` are numbers within the group, ascending; `first_slot` is its first."""

    workload_id: UUID
    epoch: int
    facility_id: str
    group_id: str
    first_slot: int
    generation: int
    slots: Slots
    state: int
    priority: int  # 0–100: what is desired less is turned down first
    usd_per_gpu_hour: float | None
    reason: str
    runs: Runs = NOTHING_SAID

    @property
    def resource_ids(self) -> list[str]:
        """The devices' names in the inventory, which have no comma: many go to Postgres as one text."""
        return [f"{self.facility_id}/{slot + self.first_slot:06d}" for slot in self.slots.tolist()]


async def bind(
    connection: Connection, holder: str, placements: Sequence[Placement], *, now: datetime, lease_s: float
) -> dict[UUID, int]:
    """Give claimed work its devices, desire their state and schedule it; the desired row of each that was bound.

    Those are left out whose claim stands no longer, or of whose devices one is not available. The queue is locked for the last of
    it alone (`schedule`): meanwhile others may claim.
    """
    async with connection.transaction():
        standing = await _ids(connection, _STANDING, [p.workload_id for p in placements], [p.epoch for p in placements])
        there = [(p, p.resource_ids) for p in placements if p.workload_id in standing]
        wanted = [resource_id for _, ids in there for resource_id in ids]
        available = await _ids(connection, _AVAILABLE, ",".join(wanted))
        bound = [(p, ids) for p, ids in there if available.issuperset(ids)]
        if not bound:
            return {}
        await _allocate(connection, bound)
        rows = await _desire(connection, [p for p, _ in bound], lease_s)
        bindings = [_binding(p, holder) for p, _ in bound]
        await schedule(connection, bindings, now=now, actor=ACTOR, lease_s=lease_s)
    return rows


async def renew_desired(connection: Connection, rows: Iterable[int], lease_s: float) -> set[int]:
    """Hold on to desired rows; those that stood and do so for as long again."""
    return await _ids(connection, _RENEW, list(rows), lease_s)


async def desire_anew(
    connection: Connection, changes: Sequence[tuple[int, Placement]], lease_s: float
) -> dict[UUID, int]:
    """Put rows with another priority in place of those that stand (row, what is desired from now on); the new rows."""
    async with connection.transaction():
        standing = await _ids(connection, _STAND, [row for row, _ in changes])
        kept = [(row, placement) for row, placement in changes if row in standing]
        rows = await _desire(connection, [placement for _, placement in kept], lease_s)
        old, new = [row for row, _ in kept], [rows[placement.workload_id] for _, placement in kept]
        await connection.execute(_SUPERSEDE, (old, new), prepare=True)
    return rows


async def take_back(connection: Connection, rows: Iterable[int]) -> None:
    """Desire this no longer: the owner lets the devices rest, or gives them to whoever is next."""
    await connection.execute(_TAKE_BACK, (list(rows),), prepare=True)


def slots_as_bytes(slots: Slots) -> bytes:
    """As `desired_state` keeps them: ascending, four bytes each, little-endian.

    >>> slots_as_bytes(np.array([1, 256])).hex()
    '0100000000010000'
    """
    return slots.astype("<u4").tobytes()


def slots_of_bytes(payload: bytes) -> Slots:
    """The other way round.

    >>> slots_of_bytes(bytes.fromhex('0100000000010000')).tolist()
    [1, 256]
    """
    return np.frombuffer(payload, dtype="<u4").astype(np.int64)


async def _allocate(connection: Connection, bound: Sequence[tuple[Placement, list[str]]]) -> None:
    ids, epochs = [p.workload_id for p, _ in bound], [p.epoch for p, _ in bound]
    found = await (await connection.execute(_HEADERS, (ids, epochs), prepare=True)).fetchall()
    headers: dict[UUID, UUID] = {row[0]: row[1] for row in found}
    of_work = [headers[workload_id] for workload_id in ids]
    devices = [",".join(names) for _, names in bound]
    await connection.execute(_LINES, (of_work, ids, devices), prepare=True)
    await connection.execute(_MARK, (",".join(devices),), prepare=True)
    await connection.execute(_ACTIVATE, (list(headers.values()),), prepare=True)


async def _desire(connection: Connection, bound: Sequence[Placement], lease_s: float) -> dict[UUID, int]:
    columns: list[Any] = [
        [p.facility_id for p in bound], [p.group_id for p in bound], [p.state for p in bound],
        [slots_as_bytes(p.slots) for p in bound], [p.generation for p in bound], [p.priority for p in bound],
        [f"workload {p.workload_id}" for p in bound], [ACTOR] * len(bound), [p.workload_id for p in bound],
        [p.epoch for p in bound], list(range(len(bound))), [p.runs.model for p in bound],
        [p.runs.weights_gib for p in bound], [p.runs.gpus_each for p in bound], [p.runs.load for p in bound],
        [p.runs.checkpoint for p in bound],
    ]  # fmt: skip
    found = await (await connection.execute(_DESIRE, (lease_s, *columns), prepare=True)).fetchall()
    return {row[1]: row[0] for row in found}


def _binding(placement: Placement, holder: str) -> Binding:
    place = {"group_id": placement.group_id, "devices": len(placement.slots)}
    return Binding(
        placement.workload_id, placement.epoch, holder, placement.facility_id, place, placement.usd_per_gpu_hour,
        placement.reason,
    )  # fmt: skip


async def _ids(connection: Connection, statement: str, *values: Any) -> set[Any]:
    return {row[0] for row in await (await connection.execute(statement, values, prepare=True)).fetchall()}
