"""What the scheduler holds: work with a place, from its desired devices to its end, and when something is due for each.

Everything here can be read again from Postgres (`read_held`), so that whoever takes over goes on where the other was.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import numpy as np

from hcp_pipelines.domain.workloads import WorkloadState, WorkloadType
from hcp_pipelines.economics.preemption import lost_progress_gpu_s, preemption_cost_usd, reload_s
from hcp_pipelines.workloads.binding import slots_of_bytes
from hcp_pipelines.workloads.claiming import Connection
from hcp_pipelines.workloads.routing.giving_way import Candidate
from hcp_pipelines.workloads.routing.packing import Ints
from hcp_pipelines.workloads.runs import NOTHING_SAID, Runs
from hcp_pipelines.workloads.scheduler.priority import priority_of

_HELD = """
    select w.id, w.lease_epoch, w.status, w.type, w.priority, w.gpu_count, w.is_interruptible, w.deadline_at,
           coalesce(w.usd_per_gpu_hour, 0)::float8, w.estimated_duration_s, (w.spec ->> 'checkpoint_interval_s')::float8,
           t.credit_fraction, coalesce(w.running_since, w.scheduled_at), coalesce(c.progress_s, 0),
           coalesce(b.progress_s, 0),
           w.facility_id, w.placement ->> 'group_id', d.id, d.slots, d.state, d.priority, d.lapsed_s,
           o.tells_saved, w.status = 'paused' and w.reason = %s, coalesce(e.ran_s, 0),
           d.model, d.weights_gib, d.gpus_each, d.load, d.checkpoint
    from workloads w join tier_quotas t on t.tier = w.tier
    left join lateral (
        select id, slots, state, priority, extract(epoch from clock_timestamp() - valid_until)::float8 as lapsed_s,
               model, weights_gib, gpus_each, load, checkpoint
        from desired_state where workload_id = w.id and lease_epoch = w.lease_epoch and superseded_by is null
        order by id desc limit 1) d on true
    left join lateral (
        select tells_saved from desired_outcomes where desired_state_id = d.id
        order by owner_epoch desc, id desc limit 1) o on true
    left join lateral (
        select sum(extract(epoch from ends_at - occurred_at))::float8 as ran_s from (
            select new_status, occurred_at, lead(occurred_at) over (order by id) as ends_at from workload_events
            where workload_id = w.id and lease_epoch = w.lease_epoch) as steps
        where new_status = 'running') e on true  -- of this run, before what interrupted it
    left join lateral (
        select progress_s from workload_checkpoints where workload_id = w.id order by id desc limit 1) c on true
    left join lateral (
        select progress_s from workload_checkpoints where workload_id = w.id and lease_epoch < w.lease_epoch
            order by id desc limit 1) b on true
    where w.lease_owner = %s and w.queued_at is null"""
_BROKEN = """
    select a.workload_id, min(r.id) from allocations a join resources r on r.id = a.resource_id
    where a.released_at is null and (r.status <> 'allocated' or r.metadata ->> 'presence' = 'vanished')
        and a.workload_id = any(%s)
    group by a.workload_id"""

_ASLEEP = """
    select w.id, d.facility_id, d.group_id, d.slots
    from workloads w join lateral (
        select facility_id, group_id, slots from desired_state where workload_id = w.id order by id desc limit 1) d on true
    where w.status = 'paused' and w.queued_at is not null and w.lease_owner is null
    order by w.queued_at desc limit %s"""

SILENT = "its facility's gateway is not heard of: nobody knows whether it runs"
SHORTEST_INTERVAL_S = 60.0  # world time: checkpoints are not noted more often, whatever is asked for


@dataclass(slots=True)
class Held:
    """One piece of work with a place. `saved_s` is what its last checkpoint holds, and where its present run began from."""

    workload_id: UUID
    epoch: int
    status: WorkloadState
    type: WorkloadType
    priority: int
    gpu_count: int
    is_interruptible: bool
    deadline_at: datetime | None
    usd_per_gpu_hour: float
    duration_s: float
    interval_s: float | None
    credit_fraction: float  # of its price, owed where it is interrupted though it may not be, or misses its deadline
    since: datetime  # it runs, or was scheduled; world time
    saved_s: float
    facility_id: str
    group_id: str
    desired_id: int | None
    slots: Ints
    state: int
    desired_priority: int
    runs: Runs = NOTHING_SAID
    began_s: float = 0.0  # progress with which the present run began
    tells_saved: bool = False  # whether its devices' driver says what becomes of it once it stands still
    dead: Ints | None = None  # of its devices those for whose sake it was turned down
    is_silent: bool = False  # its gateway is not heard of: nobody knows whether it runs, and its clock stands
    lapsed_s: float = 0.0  # real seconds since its desired row has run out; 0 while it stands
    heard: tuple[int, int] = (0, 0)  # of the owner: its epoch and the outcome's id

    @property
    def at_fault(self) -> Ints:
        """The devices that are left alone for a while: those that are why, all of them where nobody said which."""
        return self.slots if self.dead is None else self.dead

    def progress_s(self, now: datetime) -> float:
        """Seconds of running so far that count; what a lost run had beyond its checkpoint doesn't."""
        if self.status is not WorkloadState.RUNNING:
            return self.began_s
        return self.began_s + max((now - self.since).total_seconds(), 0.0)

    @property
    def due_at(self) -> datetime:
        """When it is done if it goes on running."""
        return self.since + timedelta(seconds=max(self.duration_s - self.began_s, 0.0))

    @property
    def covered_at(self) -> datetime:
        """The earliest end of its present run: before it, it had not run for as long as its last checkpoint says."""
        return self.since + timedelta(seconds=max(self.saved_s - self.began_s, 0.0))

    def checkpoint_at(self) -> datetime | None:
        """When the next checkpoint is due; None: it takes none before its end."""
        if not self.interval_s:
            return None
        at = self.since + timedelta(seconds=self.saved_s + max(self.interval_s, SHORTEST_INTERVAL_S) - self.began_s)
        return at if at < self.due_at else None

    def owes_usd(self, now: datetime) -> float:
        """What its contract asks for if its devices are taken away now: it may not be interrupted, or misses its deadline so."""
        done_at = now + timedelta(seconds=max(self.duration_s - self.progress_s(now), 0.0) + reload_s(self.type))
        owes = not self.is_interruptible or (self.deadline_at is not None and done_at > self.deadline_at)
        price_usd = self.usd_per_gpu_hour * self.gpu_count * self.duration_s / 3600
        return self.credit_fraction * price_usd if owes else 0.0


def preemption_usd(works: Sequence[Held], now: datetime) -> list[float]:
    """What it costs to take each one's devices away now."""
    columns = [
        (
            lost_progress_gpu_s(one.progress_s(now), one.saved_s, one.gpu_count), one.usd_per_gpu_hour, reload_s(one.type),
            one.owes_usd(now), float(one.gpu_count),
        )
        for one in works
    ]  # fmt: skip
    if not columns:
        return []
    lost, rate, reload, owed, gpus = np.array(columns).T
    found: list[float] = preemption_cost_usd(lost, rate, reload, owed, gpus).tolist()
    return found


def weights(works: Sequence[Held], now: datetime) -> list[int]:
    """The priority with which each one's devices are desired."""
    return [
        priority_of(usd / one.gpu_count, is_interruptible=one.is_interruptible)
        for one, usd in zip(works, preemption_usd(works, now), strict=True)
    ]


def candidates(works: Sequence[Held], now: datetime) -> list[Candidate]:
    """As those that might give way."""
    return [
        Candidate(one.workload_id, one.priority, one.state, one.slots, usd)
        for one, usd in zip(works, preemption_usd(works, now), strict=True)
    ]


@dataclass
class Book:
    """All that is held, by workload and by desired row; what is due comes off two heaps, of which entries may be outdated."""

    held: dict[UUID, Held] = field(default_factory=dict)
    by_row: dict[int, UUID] = field(default_factory=dict)
    _due: list[tuple[datetime, int, UUID]] = field(default_factory=list)
    _checkpoints: list[tuple[datetime, int, UUID]] = field(default_factory=list)

    def put(self, one: Held) -> None:
        """Begin to hold, or note that it has changed."""
        self.held[one.workload_id] = one
        if one.desired_id is not None:
            self.by_row[one.desired_id] = one.workload_id
        if one.status is WorkloadState.RUNNING:
            heapq.heappush(self._due, (one.due_at, one.epoch, one.workload_id))
            self._await_checkpoint(one)

    def clear(self) -> None:
        """Begin anew."""
        self.held.clear()
        self.by_row.clear()
        self._due.clear()
        self._checkpoints.clear()

    def drop(self, workload_id: UUID) -> Held | None:
        """Let go of it."""
        one = self.held.pop(workload_id, None)
        if one is not None and one.desired_id is not None:
            self.by_row.pop(one.desired_id, None)
        return one

    def put_rows(self, rows: Mapping[UUID, int]) -> None:
        """Other rows desire the same from now on."""
        for workload_id, row in rows.items():
            one = self.held[workload_id]
            if one.desired_id is not None:
                self.by_row.pop(one.desired_id, None)
            one.desired_id, self.by_row[row] = row, workload_id

    def of_row(self, desired_id: int) -> Held | None:
        """Whose desired row it is; None: nobody's any more."""
        workload_id = self.by_row.get(desired_id)
        return None if workload_id is None else self.held.get(workload_id)

    def done(self, now: datetime) -> Iterator[Held]:
        """Whose time is over; each once."""
        yield from self._come_due(self._due, now)

    def checkpoints(self, now: datetime) -> Iterator[Held]:
        """Who is to be saved; `saved` has to be told what came of it, else it is not asked for again."""
        yield from self._come_due(self._checkpoints, now)

    def saved(self, one: Held, progress_s: float) -> None:
        """A checkpoint holds so many seconds."""
        one.saved_s = progress_s
        self._await_checkpoint(one)

    def with_status(self, status: WorkloadState) -> list[Held]:
        """All in one state."""
        return [one for one in self.held.values() if one.status is status]

    def next_at(self) -> datetime | None:
        """When something comes due next, if nothing changes."""
        return min((heap[0][0] for heap in (self._due, self._checkpoints) if heap), default=None)

    def _await_checkpoint(self, one: Held) -> None:
        at = one.checkpoint_at()
        if at is not None:
            heapq.heappush(self._checkpoints, (at, one.epoch, one.workload_id))

    def _come_due(self, heap: list[tuple[datetime, int, UUID]], now: datetime) -> Iterator[Held]:
        while heap and heap[0][0] <= now:
            _, epoch, workload_id = heapq.heappop(heap)
            one = self.held.get(workload_id)
            if one is not None and one.epoch == epoch and one.status is WorkloadState.RUNNING:
                yield one


async def read_held(connection: Connection, holder: str) -> list[Held]:
    """All that a holder has; also that whose desired row has run out."""
    found = []
    for row in await (await connection.execute(_HELD, (SILENT, holder))).fetchall():
        (workload_id, epoch, status, kind, priority, gpus, is_interruptible, deadline_at, rate, duration_s, interval_s, credit,
         since, saved_s, began_s, facility_id, group_id, desired_id, slots, state, weight, lapsed_s, tells_saved, is_silent,
         ran_s, *runs) = row  # fmt: skip
        one = Held(
            workload_id, epoch, WorkloadState(status), WorkloadType(kind), priority, gpus, is_interruptible, deadline_at,
            rate, duration_s, interval_s, credit, since, saved_s, facility_id, group_id, desired_id,
            slots_of_bytes(slots or b""), state or 0, weight or 0, NOTHING_SAID if desired_id is None else Runs(*runs),
            began_s=began_s + ran_s, tells_saved=bool(tells_saved), is_silent=bool(is_silent), lapsed_s=max(lapsed_s or 0.0, 0.0),
        )  # fmt: skip
        found.append(one)
    return found


async def read_broken(connection: Connection, held: Iterable[UUID]) -> dict[UUID, str]:
    """Whose devices have failed or vanished since they were allocated, with the first of them."""
    return dict(await (await connection.execute(_BROKEN, (list(held),))).fetchall())


async def read_asleep(connection: Connection, most: int) -> dict[UUID, tuple[tuple[str, str], Ints]]:
    """Where work that waits again was at work last, by facility and group with the slots: the newest so many."""
    rows = await (await connection.execute(_ASLEEP, (most,))).fetchall()
    return {row[0]: ((row[1], row[2]), slots_of_bytes(row[3])) for row in reversed(rows)}
