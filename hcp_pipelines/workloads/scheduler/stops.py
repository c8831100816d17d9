"""What is lost as running work is told to stand still: noted then, and settled by what its devices' gateway tells of it.

What devices have kept becomes a checkpoint, from which the work goes on. What they could not keep, or say nothing of in time, is
lost back to the checkpoint before. A gateway that let go of work by itself, before its owner could say so, has told of it before
the stop: that counts where no later word comes in time, and no progress beyond it. Where no driver can tell
(`desired_outcomes.tells_saved`) nothing is waited for, and what was not confirmed is lost like everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import numpy as np
from psycopg.types.json import Jsonb

from hcp_pipelines.wire.slots import decode_slots
from hcp_pipelines.workloads.binding import slots_of_bytes
from hcp_pipelines.workloads.claiming import Connection, lock_queue
from hcp_pipelines.workloads.scheduler import metrics
from hcp_pipelines.workloads.scheduler.held import Held

SLOTS_MOST = 1_000_000
_NOTE = """
    insert into work_stops (workload_id, lease_epoch, facility_id, first_slot, slots, gpu_count, progress_s, saved_s, stopped_at,
        running_since, began_s, due_at, outcome)
    select d.workload_id, d.lease_epoch, d.facility_id, g.first_slot, d.slots, %(gpus)s, %(progress_s)s, %(saved_s)s, %(at)s,
        %(since)s, %(began_s)s, clock_timestamp() + make_interval(secs => %(wait_s)s), 'awaited'
    from desired_state d join device_groups g on g.facility_id = d.facility_id and g.group_id = d.group_id
        and g.generation = d.generation
    where d.id = %(row)s
    on conflict (workload_id, lease_epoch) do nothing"""
_AWAITED = """
    select s.workload_id, s.lease_epoch, s.first_slot, s.slots, s.gpu_count, s.progress_s, s.saved_s, s.stopped_at,
           s.running_since, s.began_s, s.due_at <= clock_timestamp(), r.slots, r.checkpoint, r.problem, r.simulated_at
    from work_stops s left join lateral (
        select array_agg(slots) as slots, array_agg(checkpoint) as checkpoint, array_agg(problem) as problem,
               array_agg(simulated_at) as simulated_at
        from (
            select * from saved_work
            where workload_id = s.workload_id and facility_id = s.facility_id and simulated_at >= s.running_since
            order by simulated_at < s.stopped_at, case when simulated_at < s.stopped_at then -id else id end) told
        ) r on true  -- since the stop in line; behind those the ones before it, the last of them first
    where s.outcome = 'awaited' order by s.workload_id"""
_KEEP = """
    insert into workload_checkpoints (workload_id, lease_epoch, location, progress_s, detail, taken_at)
    select id, lease_epoch, %(location)s, %(progress_s)s, %(detail)s, %(at)s from workloads
    where id = %(id)s and lease_epoch = %(epoch)s and lease_owner is null and num_nonnulls(queued_at) = 1
    returning id"""
_WAKE = """
    update workloads set lease_expires_at = now()
    where id = %(id)s and lease_epoch = %(epoch)s and lease_owner is null and num_nonnulls(queued_at) = 1"""
_SETTLE = """
    update work_stops set outcome = %(outcome)s, problem = %(problem)s, lost_gpu_s = %(lost_gpu_s)s,
        progress_s = %(progress_s)s, id = nextval('work_stops_settled')
    where workload_id = %(id)s and lease_epoch = %(epoch)s"""


_GO_BACK = """
    with offered as (
        select detail ->> 'checkpoint' as name from workload_checkpoints
        where workload_id = %(id)s and detail ->> 'checkpoint' <> '' order by id desc limit 1)
    insert into workload_checkpoints (workload_id, lease_epoch, location, progress_s, detail, taken_at)
    select w.id, w.lease_epoch, coalesce(c.location, w.id || '/none'), coalesce(c.progress_s, 0),
           jsonb_build_object('checkpoint', coalesce(c.detail ->> 'checkpoint', ''), 'unreadable', f.name), %(at)s
    from workloads w cross join offered f left join lateral (
        select location, progress_s, detail from workload_checkpoints o
        where workload_id = w.id and detail ->> 'checkpoint' not in ('', f.name) and not exists (
            select from workload_checkpoints where workload_id = w.id and detail ->> 'unreadable' = o.detail ->> 'checkpoint')
        order by id desc limit 1) c on true
    where w.id = %(id)s and w.lease_epoch = %(epoch)s and w.lease_owner is null and num_nonnulls(w.queued_at) = 1"""


class Outcome(StrEnum):
    """What became of work's progress as it was told to stand still."""

    AWAITED = "awaited"
    KEPT = "kept"
    NOT_KEPT = "not_kept"
    UNTOLD = "untold"


@dataclass(frozen=True, slots=True)
class Told:
    """What gateways have told of a stop: of which slots, in that order, under which name, why not, and as of when."""

    slots: Sequence[bytes]
    checkpoints: Sequence[str]
    problems: Sequence[str]
    instants: Sequence[datetime]

    def since(self, stopped_at: datetime) -> "Told":
        """What was told of the stop itself: it stands first."""
        count = sum(at >= stopped_at for at in self.instants)
        return Told(self.slots[:count], self.checkpoints[:count], self.problems[:count], self.instants[:count])


@dataclass(frozen=True, slots=True)
class Found:
    """What became of it; `as_of` is the first instant of the words that say so."""

    outcome: Outcome
    checkpoint: str = ""
    problem: str = ""
    as_of: datetime | None = None


NOTHING_TOLD = Told((), (), (), ())


async def note(connection: Connection, one: Held, at: datetime, within_s: float) -> float:
    """Running work stands still; for how many real seconds it is awaited that what it has done is kept: none if nobody tells."""
    wait_s = within_s if one.tells_saved else 0.0
    values = {
        "row": one.desired_id, "gpus": one.gpu_count, "progress_s": min(one.progress_s(at), one.duration_s),
        "saved_s": one.saved_s, "at": at, "since": one.since, "began_s": one.began_s, "wait_s": wait_s,
    }  # fmt: skip
    await connection.execute(_NOTE, values, prepare=True)
    return wait_s


async def go_back(connection: Connection, one: Held, at: datetime) -> None:
    """Work that waits again goes on from a checkpoint before its last, which can't be loaded and is not given to it again."""
    await connection.execute(_GO_BACK, {"id": one.workload_id, "epoch": one.epoch, "at": at})


async def settle(connection: Connection) -> int:
    """Settle what is awaited and told, or due; how many."""
    rows = await (await connection.execute(_AWAITED, prepare=True)).fetchall()
    decided = [(row, found) for row in rows if (found := _decided(row)) is not None]
    if not decided:
        return 0
    async with connection.transaction():
        await lock_queue(connection)
        for row, found in decided:
            await _settle(connection, row, found)
    return len(decided)


def outcome_of(wanted: Sequence[int], told: Told, *, is_due: bool) -> Found:
    """What became of work on some slots of a facility.

    All of its devices have to have kept it: the last name told is that of all. One that has not is enough to lose it.
    """
    missing, name, as_of = set(wanted), "", list[datetime]()
    for payload, checkpoint, problem, at in zip(
        told.slots, told.checkpoints, told.problems, told.instants, strict=True
    ):
        slots = missing.intersection(decode_slots(payload, SLOTS_MOST).tolist())
        if slots and problem:
            return Found(Outcome.NOT_KEPT, "", problem, at)
        if slots:
            missing, name = missing - slots, checkpoint or name
            as_of.append(at)
    if not missing:
        return Found(Outcome.KEPT, name, "", min(as_of))
    problem = f"{len(missing)} of its {len(wanted)} devices did not say in time that they have kept it"
    return Found(Outcome.UNTOLD, "", problem) if is_due else Found(Outcome.AWAITED)


def _decided(row: Sequence[Any]) -> Found | None:
    first_slot, slots, stopped_at, is_due = row[2], row[3], row[7], row[10]
    told = NOTHING_TOLD if row[11] is None else Told(*row[11:])
    wanted = (slots_of_bytes(slots) + np.int64(first_slot)).tolist()
    found = outcome_of(wanted, told.since(stopped_at), is_due=False)
    if found.outcome is Outcome.AWAITED and is_due:
        found = outcome_of(wanted, told, is_due=True)
    return None if found.outcome is Outcome.AWAITED else found


async def _settle(connection: Connection, row: Sequence[Any], found: Found) -> None:
    workload_id: UUID = row[0]
    epoch, gpu_count, progress_s, saved_s, at, since, began_s = row[1], *row[4:10]
    outcome, problem = found.outcome, found.problem
    if found.as_of is not None and found.as_of < at:
        at, progress_s = found.as_of, min(progress_s, began_s + (found.as_of - since).total_seconds())
    values = {"id": workload_id, "epoch": epoch, "progress_s": progress_s, "at": at}
    if outcome is Outcome.KEPT:
        location = found.checkpoint or f"{workload_id}/{epoch}"
        kept = values | {"location": location, "detail": Jsonb({"checkpoint": found.checkpoint})}
        if await (await connection.execute(_KEEP, kept)).fetchone() is None:
            outcome, problem = Outcome.UNTOLD, "it was told once the work was over, or at work again"
    lost_gpu_s = 0.0 if outcome is Outcome.KEPT else max(progress_s - saved_s, 0.0) * gpu_count
    await connection.execute(_SETTLE, values | {"outcome": outcome, "problem": problem[:500], "lost_gpu_s": lost_gpu_s})
    await connection.execute(_WAKE, values)
    metrics.STOPS.labels(outcome.value).inc()
    metrics.LOST_GPU_SECONDS.inc(lost_gpu_s)
