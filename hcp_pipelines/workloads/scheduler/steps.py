"""What is done to held work, many at a time in one transaction: start, save, end, give back, fail. Each alone may have been lost.

A step and what it means for the devices are one transaction: no crash leaves a piece of work without the one or the other.
No run ends before its last checkpoint, however late its end was heard of: progress that counts is time that was run, and told.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from hcp_pipelines.domain.workloads import WorkloadState
from hcp_pipelines.workloads.allocations import checkpoint
from hcp_pipelines.workloads.binding import take_back
from hcp_pipelines.workloads.claiming import Connection, lock_queue
from hcp_pipelines.workloads.errors import LeaseLostError, TransitionError, UnknownWorkloadError
from hcp_pipelines.workloads.lifecycle import complete, fail, pause, requeue, resume, start
from hcp_pipelines.workloads.scheduler import stops
from hcp_pipelines.workloads.scheduler.held import Held

AT_ONCE = 200  # of a transaction: so many customers' rows are locked no longer than some tens of milliseconds


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whose step was made, and who was not ours any more; of starts and stops the instant that Postgres has for each."""

    done: tuple[Held, ...]
    lost: tuple[Held, ...]
    as_of: Mapping[UUID, datetime] = field(default_factory=dict)


async def start_all(connection: Connection, works: Sequence[tuple[Held, datetime]]) -> Outcome:
    """Their devices are in their states since an instant of world time: scheduled work runs."""
    as_of = {one.workload_id: at for one, at in works}

    async def step(one: Held) -> None:
        now = as_of[one.workload_id]
        as_of[one.workload_id] = await start(
            connection, one.workload_id, one.epoch, now=now, reason="its devices are ready"
        )

    return replace(await _each(connection, [one for one, _ in works], step, ends=False), as_of=as_of)


async def end_all(connection: Connection, works: Sequence[Held]) -> Outcome:
    """They have run for as long as they take: completed, as of the instant at which that was."""

    async def step(one: Held) -> None:
        result = {"progress_s": one.duration_s}
        await complete(connection, one.workload_id, one.epoch, now=max(one.due_at, one.since), result=result)

    return await _each(connection, works, step, ends=True)


async def save_all(connection: Connection, works: Sequence[Held], now: datetime) -> Outcome:
    """Note a checkpoint of running work."""

    async def step(one: Held) -> None:
        await _save(connection, one, now)

    return await _each(connection, works, step, ends=False)


@dataclass(frozen=True, slots=True)
class GivenBack:
    """Who waits again and why; it stood still since an instant of world time, and was saved then or not."""

    held: Held
    reason: str
    since: datetime
    is_saved: bool = True


async def give_back_all(connection: Connection, works: Sequence[GivenBack], saved_within_s: float) -> Outcome:
    """Pre-empted: it stands still, lets its devices go and waits again, at no cost to its retries.

    What runs until the pause is in the checkpoint once its devices have said so (`stops`; EX-22, ER-44): for so many real seconds
    at most it waits for that.
    """
    by_id = {one.held.workload_id: one for one in works}

    async def step(one: Held) -> None:
        given = by_id[one.workload_id]
        at = max(given.since, one.covered_at)
        wait_s = 0.0
        if one.status is WorkloadState.RUNNING:
            await pause(connection, one.workload_id, one.epoch, now=at, reason=given.reason)
        if (
            one.status in (WorkloadState.RUNNING, WorkloadState.PAUSED)
            and given.is_saved
            and one.desired_id is not None
        ):
            wait_s = await stops.note(connection, one, at, saved_within_s)
        await requeue(connection, one.workload_id, one.epoch, now=at, reason=given.reason, wait_s=wait_s)

    return await _each(connection, [one.held for one in works], step, ends=True)


async def fail_all(
    connection: Connection,
    works: Sequence[tuple[Held, str]],
    now: datetime,
    wait_s: float = 0.0,
    *,
    may_retry: bool = True,
) -> Outcome:
    """It could not start, or its devices are gone: back to the queue for a retry while it has some; what was saved is kept."""
    why = {one.workload_id: reason for one, reason in works}

    async def step(one: Held) -> None:
        reason, at = why[one.workload_id], max(now, one.covered_at)
        await fail(connection, one.workload_id, one.epoch, now=at, reason=reason, may_retry=may_retry, wait_s=wait_s)

    return await _each(connection, [one for one, _ in works], step, ends=True)


async def fail_unreadable(connection: Connection, works: Sequence[tuple[Held, str]], now: datetime) -> Outcome:
    """Its checkpoint can't be loaded: a retry while it has some, from the one before, or from its beginning."""
    why = {one.workload_id: reason for one, reason in works}

    async def step(one: Held) -> None:
        await fail(connection, one.workload_id, one.epoch, now=now, reason=why[one.workload_id])
        await stops.go_back(connection, one, now)

    return await _each(connection, [one for one, _ in works], step, ends=True)


async def let_go(connection: Connection, works: Iterable[Held]) -> None:
    """What they desired is desired no longer: they were cancelled, or are somebody else's."""
    rows = [one.desired_id for one in works if one.desired_id is not None]
    if rows:
        await take_back(connection, rows)


async def stand_still_all(connection: Connection, works: Sequence[tuple[Held, datetime]], reason: str) -> Outcome:
    """Nobody knows since an instant whether they run: their clocks stand, and they keep their devices."""
    as_of = {one.workload_id: max(at, one.covered_at) for one, at in works}

    async def step(one: Held) -> None:
        now = as_of[one.workload_id]
        as_of[one.workload_id] = await pause(connection, one.workload_id, one.epoch, now=now, reason=reason)

    return replace(await _each(connection, [one for one, _ in works], step, ends=False), as_of=as_of)


async def go_on_all(connection: Connection, works: Sequence[tuple[Held, datetime]]) -> Outcome:
    """They run, as is known again since an instant."""
    as_of = {one.workload_id: at for one, at in works}

    async def step(one: Held) -> None:
        now = as_of[one.workload_id]
        as_of[one.workload_id] = await resume(
            connection, one.workload_id, one.epoch, now=now, reason="its devices are heard again"
        )

    return replace(await _each(connection, [one for one, _ in works], step, ends=False), as_of=as_of)


async def _save(connection: Connection, one: Held, now: datetime) -> None:
    progress_s = min(one.progress_s(now), one.duration_s)
    location = f"{one.facility_id}/{one.group_id}/{one.workload_id}/{one.epoch}"
    await checkpoint(connection, one.workload_id, one.epoch, now=now, location=location, progress_s=progress_s)


async def _each(
    connection: Connection, works: Sequence[Held], step: Callable[[Held], Awaitable[None]], *, ends: bool
) -> Outcome:
    done, lost = list[Held](), list[Held]()
    works = sorted(
        works, key=lambda one: one.workload_id
    )  # as all do who change many: none waits for another in a circle
    for first in range(0, len(works), AT_ONCE):
        async with connection.transaction():
            await lock_queue(connection)
            some = works[first : first + AT_ONCE]
            made = [await _try(connection, one, step) for one in some]
            done += [one for one, is_made in zip(some, made, strict=True) if is_made]
            lost += [one for one, is_made in zip(some, made, strict=True) if not is_made]
            gone = some if ends else [one for one, is_made in zip(some, made, strict=True) if not is_made]
            await let_go(connection, gone)
    return Outcome(tuple(done), tuple(lost))


async def _try(connection: Connection, one: Held, step: Callable[[Held], Awaitable[None]]) -> bool:
    """Whether the step was made; in a savepoint, so that one that was not does not undo the others'."""
    try:
        async with connection.transaction():
            await step(one)
    except (LeaseLostError, TransitionError, UnknownWorkloadError):
        return False
    return True
