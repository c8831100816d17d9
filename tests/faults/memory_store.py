"""An in-memory store in place of Postgres, with what its SQL promises, and the ways in which a database is lost.

Statements travel, are committed in the store's own time whether or not their client still runs, and answer: each of the three
can fail by itself, so that a client may not know whether it was committed.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import psycopg

from hcp_pipelines.allocator.approvals import Approved, Question
from hcp_pipelines.allocator.devices import Switched
from hcp_pipelines.allocator.intake import LOOK_BACK_IDS, POLICIES_LOOKED_AT, POLL_S, RECENT_PER_SERIES, PolicyRow
from hcp_pipelines.allocator.journal import Batch, CommandRow, Observation, Outcome
from hcp_pipelines.allocator.market import TickRow
from hcp_pipelines.allocator.obligations import Rows
from hcp_pipelines.allocator.predecessors import SWITCHES_COUNT
from hcp_pipelines.allocator.standing import Standing, Timed
from hcp_pipelines.allocator.store import Legacy, Usage
from hcp_pipelines.fleet.inventory import FacilityInventory
from hcp_pipelines.policy.obligations import Obligation, Signals, Status
from hcp_pipelines.storage.notify import Notification
from hcp_pipelines.wire.slots import decode_slots
from tests.faults.records import Admission, Journal, Span
from tests.faults.virtual import ProcessClock, VirtualLoop, current, real_s

T = TypeVar("T")
ACTIVE = (Status.AWARDED, Status.ARMED, Status.DEPLOYED, Status.RECOVERING)


class Lease:
    """A row of `facility_leases`."""

    def __init__(self) -> None:
        self.owner, self.epoch, self.from_s, self.expires_s = "", 0, 0.0, 0.0


class Database:
    """The tables, and what is wrong with the server."""

    def __init__(self, loop: VirtualLoop, seed: str, inventories: Sequence[FacilityInventory], address: dict[str, str]):
        self.loop, self.random = loop, random.Random(seed)
        self.inventories, self.address = list(inventories), address
        self.is_down, self.hangs = False, False
        self.reply_lost = self.request_lost = self.deaf = 0.0  # probabilities
        self.commit_late_s = 0.0  # the most by which the answer to a wave's commit is late
        self.leases = {i.facility_id: Lease() for i in inventories}
        self.alive: dict[str, tuple[bool, float]] = {}
        self.commanded: dict[tuple[str, int], CommandRow] = {}
        self.open: dict[str, set[tuple[str, int]]] = {i.facility_id: set() for i in inventories}
        self.events: set[tuple[str, int, str]] = set()
        self.bookings: dict[str, list[tuple[float, str, float]]] = {i.facility_id: [] for i in inventories}
        self.cursors: dict[str, int] = {}
        self.memories: dict[str, tuple[int, dict[str, Any]]] = {}
        self.ticks: list[TickRow] = []
        self.policies: dict[str, list[PolicyRow]] = {i.facility_id: [] for i in inventories}
        self.standing: dict[str, Standing] = {i.facility_id: Standing() for i in inventories}
        self.obligations: dict[int, Obligation] = {}
        self.signals: dict[int, Signals] = {}
        self.listeners: list[asyncio.Queue[str]] = []
        self.journal: list[Journal] = []
        self.spans: list[Span] = []
        self.admissions: list[Admission] = []
        self._hung: list[Callable[[], None]] = []
        self._armed_s: dict[int, float] = {}
        self.owner_of: dict[str, str] = {}

    # -- statements ---------------------------------------------------------------------------------------------------

    async def run(self, apply: Callable[[], T], late_s: float = 0.0) -> T:
        """Have `apply` committed at the server, and answered so many seconds late."""
        answer: asyncio.Future[T] = self.loop.create_future()
        is_lost = self.random.random() < self.request_lost

        def arrive() -> None:
            if self.hangs:
                self._hung.append(arrive)
            elif self.is_down or is_lost:
                self._fail(answer, "server closed the connection unexpectedly")
            else:
                self._commit(answer, apply, late_s)

        self.loop.later(self._latency_s(), arrive)
        return await answer

    def _commit(self, answer: "asyncio.Future[T]", apply: Callable[[], T], late_s: float) -> None:
        try:
            found = apply()
        except psycopg.Error as error:
            self._later(answer, partial(answer.set_exception, error))
            return
        if self.random.random() < self.reply_lost:
            self._fail(answer, "connection lost after the commit")
        else:
            self._later(answer, lambda: answer.set_result(found), late_s)

    def _fail(self, answer: "asyncio.Future[Any]", why: str) -> None:
        self._later(answer, lambda: answer.set_exception(psycopg.OperationalError(why)))

    def _later(self, answer: "asyncio.Future[Any]", settle: Callable[[], None], late_s: float = 0.0) -> None:
        def reply() -> None:
            if self.hangs:
                self._hung.append(reply)
            elif not answer.done():
                settle()

        self.loop.later(late_s + self._latency_s(), reply)

    def _latency_s(self) -> float:
        return 0.0003 + self.random.random() ** 4 * 0.02

    def go_on(self) -> None:
        """A server that hung carries out what it was asked, late."""
        self.hangs = False
        hung, self._hung = self._hung, []
        for call in hung:
            self.loop.later(self._latency_s(), call)

    def notify(self, channel: str) -> None:
        """Wake who listens; a notification may be lost."""
        for queue in self.listeners:
            if not self.is_down and self.random.random() >= self.deaf:
                self.loop.later(self._latency_s(), queue.put_nowait, channel)

    # -- leases -------------------------------------------------------------------------------------------------------

    def ends(self) -> dict[str, float]:
        """Seconds until each lease ends."""
        return {f: max(lease.expires_s - self.loop.now_s, -3600.0) for f, lease in sorted(self.leases.items())}

    def renew(self, name: str, held: Mapping[str, int], ttl_s: float) -> set[str]:
        """As the statement does."""
        renewed = {f for f, epoch in held.items() if self.stands(f, name, epoch)}
        for facility_id in renewed:
            self.leases[facility_id].expires_s = self.loop.now_s + ttl_s
        return renewed

    def take(self, name: str, facility_ids: Iterable[str], ttl_s: float) -> list[tuple[str, int]]:
        """As the statement does."""
        taken = []
        for facility_id in facility_ids:
            lease = self.leases[facility_id]
            if lease.expires_s <= self.loop.now_s:
                self._note_lease(facility_id)
                lease.owner, lease.epoch, lease.from_s = name, lease.epoch + 1, self.loop.now_s
                lease.expires_s = self.loop.now_s + ttl_s
                taken.append((facility_id, lease.epoch))
        return taken

    def release(self, name: str, held: Iterable[tuple[str, int]]) -> None:
        """As the statement does."""
        for facility_id, epoch in held:
            lease = self.leases[facility_id]
            if lease.owner == name and lease.epoch == epoch:
                lease.expires_s = min(lease.expires_s, self.loop.now_s)

    def stands(self, facility_id: str, owner: str, epoch: int) -> bool:
        """Whether a lease is good now."""
        lease = self.leases[facility_id]
        return lease.owner == owner and lease.epoch == epoch and lease.expires_s > self.loop.now_s

    def admit(self, facility_id: str, owner: str, taken: Admission | None) -> bool:
        """As the statement does; the checker is told of what was taken."""
        lease = self.leases[facility_id]
        is_owner = lease.owner == owner and lease.expires_s > self.loop.now_s
        if is_owner and taken is not None:
            self.admissions.append(replace(taken, at_s=self.loop.now_s))
        return is_owner

    def _note_lease(self, facility_id: str) -> None:
        lease = self.leases[facility_id]
        if lease.epoch:
            self.spans.append(Span("lease", facility_id, lease.from_s, lease.expires_s, lease.owner, lease.epoch))

    def finish(self) -> None:
        """The run is over: the leases that stand count as well."""
        for facility_id in self.leases:
            self._note_lease(facility_id)
        for number in list(self._armed_s):
            self._note_armed(number, self.obligations[number].facility_id, self.obligations[number].mw)

    # -- journal ------------------------------------------------------------------------------------------------------

    def write_commands(self, owner: str, rows: Sequence[CommandRow]) -> set[str]:
        """Those whose lease stands."""
        stood = set()
        for row in rows:
            if self.stands(row.facility_id, owner, row.epoch):
                stood.add(row.facility_id)
                self._command(owner, row)
        return stood

    def _command(self, owner: str, row: CommandRow) -> None:
        key = (str(row.command_id), row.assignment)
        if key in self.commanded:
            raise psycopg.errors.UniqueViolation(f"switch_journal: {key}")
        self.commanded[key] = row
        self.open[row.facility_id].add(key)
        self.owner_of[key[0]] = owner
        self._book(row.facility_id, row.simulated_at, row.feeder_id, row.mw_delta)
        self.journal.append(
            Journal(
                self.loop.now_s, "commanded", row.facility_id, owner, row.epoch, *key, row.group_id, row.from_state,
                row.to_state, tuple(decode_slots(row.slots, 1 << 20).tolist()), row.devices, row.reason, row.mw_delta,
            )
        )  # fmt: skip

    def _book(self, facility_id: str, at: datetime, feeder_id: str, mw: float) -> None:
        if mw:
            self.bookings[facility_id].append((at.timestamp(), feeder_id, mw))

    def write_outcomes(self, batch: Batch) -> None:
        """All of it, or nothing."""
        for outcome in batch.outcomes:
            self._outcome(outcome)
        for observation in batch.observations:
            self._observe(observation)
        for facility_id, memory in batch.memories.items():
            if self.memories.get(facility_id, (0, {}))[0] <= memory.epoch:
                self.memories[facility_id] = (memory.epoch, memory.memory)
        for facility_id, seq in batch.cursors.items():
            self.cursors[facility_id] = max(seq, self.cursors.get(facility_id, 0))

    def _is_new(self, command_id: str, assignment: int, event: str) -> bool:
        key = (command_id, assignment, event)
        if key in self.events:
            return False
        self.events.add(key)
        return True

    def _outcome(self, o: Outcome) -> None:
        command = self.commanded.get((o.command_id, o.assignment))
        if command is None or not self._is_new(o.command_id, o.assignment, o.event):
            return
        if o.event in ("acked", "expired"):
            self.open[command.facility_id].discard((o.command_id, o.assignment))
        self._append(command, o.event, o.devices, o.refused, o.deferred, o.failed, o.superseded)

    def _append(self, c: CommandRow, event: str, devices: int, *counts: int) -> None:
        owner = self.owner_of[str(c.command_id)]
        self.journal.append(
            Journal(
                self.loop.now_s, event, c.facility_id, owner, c.epoch, str(c.command_id), c.assignment, c.group_id,
                c.from_state, c.to_state, (), devices, c.reason, 0.0, *counts,
            )
        )  # fmt: skip

    def _observe(self, o: Observation) -> None:
        if not self._is_new(str(o.event_id), o.assignment, "observed"):
            return
        self._book(o.facility_id, o.simulated_at, o.feeder_id, o.mw_delta)
        self.journal.append(
            Journal(
                self.loop.now_s, "observed", o.facility_id, o.owner, o.epoch, str(o.event_id), o.assignment, o.group_id,
                o.from_state, o.to_state, tuple(decode_slots(o.slots, 1 << 20).tolist()), o.devices, o.reason, o.mw_delta,
            )
        )  # fmt: skip

    def expire(self, facility_id: str) -> int:
        """Close what has no ack."""
        closed = sorted(self.open[facility_id])
        for key in closed:
            self._is_new(*key, "expired")
            self._append(self.commanded[key], "expired", 0)
        self.open[facility_id].clear()
        return len(closed)

    def bookings_of(self, facility_id: str, since: datetime) -> list[tuple[float, str, float]]:
        """What used up the ramps."""
        return sorted((b for b in self.bookings[facility_id] if b[0] > since.timestamp()), key=lambda b: b[0])

    def switches(self, facility_id: str, generation: int, since: datetime) -> list[Switched]:
        """What was commanded and may have left."""
        rows = (
            row
            for key, row in self.commanded.items()
            if row.facility_id == facility_id and row.generation == generation and (*key, "expired") not in self.events
        )
        found = [r for r in rows if r.simulated_at > since and r.mw_delta]
        return [
            Switched(r.simulated_at.timestamp(), r.from_state, r.mw_delta, r.slots)
            for r in sorted(found, key=lambda r: r.simulated_at)
        ]

    # -- what stands --------------------------------------------------------------------------------------------------

    def standing_of(self, facility_ids: Iterable[str], now: datetime) -> dict[str, Standing]:
        """What stands and has not ended."""
        found = {}
        for facility_id in facility_ids:
            standing = self.standing[facility_id]
            timed = tuple(t for t in standing.timed if t.valid_until is None or t.valid_until > now)
            found[facility_id] = replace(standing, timed=timed)
        return found

    def order(self, facility_id: str, timed: Timed) -> None:
        """An operator's override, curtailment or stop."""
        standing = self.standing[facility_id]
        self.standing[facility_id] = replace(standing, timed=(*standing.timed, timed))
        self.notify("hcp_directive")

    def rows_of(self, facility_ids: Iterable[str]) -> dict[str, Rows]:
        """The obligations that are under way."""
        active = [o for o in self.obligations.values() if o.status in ACTIVE]
        return {f: Rows(tuple(o for o in active if o.facility_id == f), dict(self.signals), None) for f in facility_ids}

    def write_obligation(self, owner: str, epoch: int, before: Status, after: Obligation) -> bool:
        """Under a lease that stands, and if nobody else was faster."""
        stored = self.obligations[after.obligation_id]
        if stored.status is not before or not self.stands(after.facility_id, owner, epoch):
            return False
        self.obligations[after.obligation_id] = after
        number, facility_id = after.obligation_id, after.facility_id
        if after.status is Status.ARMED and before is not Status.ARMED:
            self._armed_s[number] = self.loop.now_s
        elif before is Status.ARMED and after.status is not Status.ARMED:
            self._note_armed(number, facility_id, after.mw)
        return True

    def _note_armed(self, number: int, facility_id: str, mw: float) -> None:
        since_s, signals = self._armed_s.pop(number, self.loop.now_s), self.signals.get(number, Signals())
        ends_s = [real_s(self.obligations[number].end_s), self.loop.now_s]
        ends_s += [] if signals.deploy_at_s is None else [real_s(signals.deploy_at_s)]
        self.spans.append(Span("obligation", facility_id, since_s, min(ends_s), mw=mw))

    def newest(self, facility_id: str) -> list[PolicyRow]:
        """The live policies of the newest ticks, newest first."""
        known = sorted(self.policies[facility_id], key=lambda p: -int(p.body["basis_tick_id"]))
        return known[:POLICIES_LOOKED_AT]

    def put_tick(self, stream: str, series: str, at: datetime, value: float) -> None:
        """A value of the market, committed now."""
        self.ticks.append(TickRow(len(self.ticks) + 1, stream, series, at, value, "good"))
        self.notify("hcp_tick")


class MemoryIntake:
    """`allocator.store.Incoming` of one allocator process."""

    def __init__(self, database: Database, clock: ProcessClock) -> None:
        self._db, self._clock, self._last_id = database, clock, 0

    async def recent(self) -> list[TickRow]:
        """The newest of every series."""

        def read() -> list[TickRow]:
            by_series: dict[tuple[str, str], list[TickRow]] = {}
            for tick in self._db.ticks:
                by_series.setdefault((tick.stream, tick.series), []).append(tick)
            newest = [t for ticks in by_series.values() for t in ticks[-RECENT_PER_SERIES:]]
            return sorted(newest, key=lambda t: t.id)

        ticks = await self._db.run(read)
        self._last_id = max((t.id for t in ticks), default=0)
        return ticks

    async def new_ticks(self, *, looks_back: bool) -> list[TickRow]:
        """Since the last call."""
        after = max(self._last_id - LOOK_BACK_IDS, 0) if looks_back else self._last_id
        rows = await self._db.run(lambda: self._db.ticks[after:])
        if rows:
            self._last_id = max(self._last_id, rows[-1].id)
        return rows

    async def policies(self, facility_ids: Sequence[str]) -> list[PolicyRow]:
        """The newest first."""
        ids = sorted(facility_ids)
        return await self._db.run(lambda: [p for f in ids for p in self._db.newest(f)])

    async def inventories(self) -> list[FacilityInventory]:
        """Every facility."""
        return await self._db.run(lambda: list(self._db.inventories))

    async def addresses(self) -> dict[str, str]:
        """By facility."""
        return await self._db.run(lambda: dict(self._db.address))

    async def standing(self, facility_ids: Sequence[str]) -> dict[str, Standing]:
        """Locks and directives."""
        now = self._clock.now()
        return await self._db.run(lambda: self._db.standing_of(facility_ids, now))

    async def obligations(self, facility_ids: Sequence[str]) -> dict[str, Rows]:
        """With their signals."""
        return await self._db.run(lambda: self._db.rows_of(facility_ids))

    async def approved(self, facility_ids: Sequence[str]) -> dict[str, Approved]:
        """Nothing: every facility is in `auto`."""
        return {facility_id: Approved() for facility_id in facility_ids}

    async def ask(self, facility_id: str, question: Question, asked_by: str) -> None:
        """Nobody answers."""

    async def record_admission(self, row: PolicyRow, allocator: str, reason: str) -> bool:
        """Kept for the checker, if it was taken by an owner."""
        process = current()
        taken = Admission(
            self._db.loop.now_s,
            row.facility_id,
            f"{allocator}/{id_of(process)}",
            row.policy_id,
            row.body["basis_tick_id"],
        )
        return await self._db.run(lambda: self._db.admit(row.facility_id, allocator, None if reason else taken))


def id_of(process: object) -> str:
    """Which incarnation it is."""
    return str(getattr(process, "number", 0))


class MemoryLeases:
    """`allocator.lease_table.LeaseTable`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def beat(self, name: str, *, is_alive: bool) -> None:
        """Kept with the server's instant."""
        await self._db.run(lambda: self._db.alive.update({name: (is_alive, self._db.loop.now_s)}))

    async def ends(self) -> dict[str, float]:
        """Of every facility."""
        return await self._db.run(self._db.ends)

    async def alive(self, name: str, within_s: float) -> int:
        """This one counted."""

        def count() -> int:
            since_s = self._db.loop.now_s - within_s
            return sum(is_alive and (n == name or at_s > since_s) for n, (is_alive, at_s) in self._db.alive.items())

        return await self._db.run(count)

    async def renew(self, name: str, held: Mapping[str, int], ttl_s: float) -> set[str]:
        """One statement."""
        return await self._db.run(lambda: self._db.renew(name, held, ttl_s))

    async def take(self, name: str, facility_ids: Sequence[str], ttl_s: float) -> list[tuple[str, int]]:
        """One statement."""
        return await self._db.run(lambda: self._db.take(name, facility_ids, ttl_s))

    async def release(self, name: str, held: Iterable[tuple[str, int]]) -> None:
        """One statement."""
        leases = list(held)
        await self._db.run(lambda: self._db.release(name, leases))

    async def close(self) -> None:
        """There is no connection."""


class MemoryListener:
    """`allocator.store.Listening`."""

    def __init__(self, queue: "asyncio.Queue[str]") -> None:
        self._queue = queue

    async def wait(self) -> list[Notification]:
        """What has come, or nothing after a while."""
        try:
            async with asyncio.timeout(POLL_S):
                found = [await self._queue.get()]
        except TimeoutError:
            return []
        while not self._queue.empty():
            found.append(self._queue.get_nowait())
        return [Notification(channel, "") for channel in found]


class MemoryStore:
    """`allocator.store.Store` of one allocator process."""

    def __init__(self, database: Database, clock: ProcessClock) -> None:
        self._db = database
        self.intake, self.leases = MemoryIntake(database, clock), MemoryLeases(database)

    @contextlib.asynccontextmanager
    async def listen(self) -> AsyncIterator[MemoryListener]:
        """Until the process dies or stops."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._db.listeners.append(queue)
        current().on_death.append(lambda: self._db.listeners.remove(queue))
        yield MemoryListener(queue)

    async def write_commands(self, owner: str, rows: Sequence[CommandRow]) -> set[str]:
        """In one commit."""
        late_s = self._db.random.random() * self._db.commit_late_s
        return await self._db.run(lambda: self._db.write_commands(owner, rows), late_s)

    async def write_outcomes(self, batch: Batch) -> None:
        """In one commit."""
        await self._db.run(lambda: self._db.write_outcomes(batch))

    async def write_obligation(self, owner: str, epoch: int, before: Status, after: Obligation) -> bool:
        """One statement."""
        return await self._db.run(lambda: self._db.write_obligation(owner, epoch, before, after))

    async def read_usage(self, facility_id: str, since: datetime) -> Usage:
        """Two statements, in the order of the real ones."""
        journalled_seq = await self._db.run(lambda: self._db.cursors.get(facility_id, 0))
        return Usage(await self._db.run(lambda: self._db.bookings_of(facility_id, since)), journalled_seq)

    async def take_over(self, facility_id: str, generation: int, now: datetime) -> Legacy:
        """Several statements, each by itself."""
        closed = await self._db.run(lambda: self._db.expire(facility_id))
        memory = await self._db.run(lambda: self._db.memories.get(facility_id, (0, {}))[1])
        taken = await self._db.run(lambda: [a for a in self._db.admissions if a.facility_id == facility_id])
        newest_basis = taken[-1].basis_tick_id if taken else 0
        switches = await self._db.run(lambda: self._db.switches(facility_id, generation, now - SWITCHES_COUNT))
        standing = await self._db.run(lambda: self._db.standing_of([facility_id], now)[facility_id])
        obligations = await self._db.run(lambda: self._db.rows_of([facility_id])[facility_id])
        return Legacy(closed, memory, newest_basis, switches, standing, obligations)

    async def close(self) -> None:
        """There is no connection."""
