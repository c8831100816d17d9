"""An in-memory store in place of Postgres: the faces that an allocator sees (`allocator.store.Store`), over one `Database`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from hcp_pipelines.allocator.approvals import Approved, Question
from hcp_pipelines.allocator.decide import NO_POLICY, LastPolicy
from hcp_pipelines.allocator.desired_table import StoredRows
from hcp_pipelines.allocator.intake import LOOK_BACK_IDS, POLL_S, RECENT_PER_SERIES, PolicyRow
from hcp_pipelines.allocator.journal import Batch, CommandRow
from hcp_pipelines.allocator.locks import Ahead
from hcp_pipelines.allocator.market import TickRow
from hcp_pipelines.allocator.obligations import Rows
from hcp_pipelines.allocator.predecessors import SWITCHES_COUNT
from hcp_pipelines.allocator.standing import Standing
from hcp_pipelines.allocator.store import Legacy, Usage
from hcp_pipelines.fleet.inventory import FacilityInventory
from hcp_pipelines.policy.obligations import Obligation, Status
from hcp_pipelines.storage.notify import Notification
from tests.faults.memory_database import Database
from tests.faults.records import Admission
from tests.faults.virtual import ProcessClock, current, real_s, simulated_s


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
            real_s(datetime.fromisoformat(row.body["expires_at"]).timestamp()),
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

    async def outgrow(self, name: str, facility_id: str, epoch: int, highest: int) -> int | None:
        """One statement."""
        return await self._db.run(lambda: self._db.outgrow(name, facility_id, epoch, highest))

    async def release(self, name: str, held: Iterable[tuple[str, int]]) -> None:
        """One statement."""
        leases = list(held)
        await self._db.run(lambda: self._db.release(name, leases))

    async def close_unsent(self, facility_id: str, now: datetime, older_than: timedelta) -> int:
        """One statement."""
        return await self._db.run(lambda: self._db.expire(facility_id, older_than.total_seconds()))

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
        return [Notification(channel, payload) for channel, _, payload in (text.partition("/") for text in found)]


class MemoryStore:
    """`allocator.store.Store` of one allocator process."""

    def __init__(self, database: Database, clock: ProcessClock) -> None:
        self._db, self._clock = database, clock
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
        is_unheard = self._db.random.random() < self._db.commit_unheard
        return await self._db.run(lambda: self._db.write_commands(owner, rows), late_s, is_unheard=is_unheard)

    async def write_outcomes(self, batch: Batch) -> None:
        """In one commit."""
        await self._db.run(lambda: self._db.write_outcomes(batch))

    async def write_obligation(self, owner: str, epoch: int, before: Status, after: Obligation) -> bool:
        """One statement."""
        return await self._db.run(lambda: self._db.write_obligation(owner, epoch, before, after))

    async def read_desired(self, facility_ids: Sequence[str]) -> dict[str, StoredRows]:
        """One statement."""
        asked_s = self._clock.monotonic_s()
        found = await self._db.run(lambda: self._db.desires.in_force(facility_ids, self._db.loop.now_s))
        return {facility_id: _since(rows, asked_s) for facility_id, rows in found.items()}

    async def read_usage(self, facility_id: str, since: datetime) -> Usage:
        """Two statements, in the order of the real ones."""
        journalled_seq = await self._db.run(lambda: self._db.cursors.get(facility_id, 0))
        return Usage(await self._db.run(lambda: self._db.bookings_of(facility_id, since)), journalled_seq)

    async def take_over(self, facility_id: str, generation: int, now: datetime) -> Legacy:
        """Several statements, each by itself."""
        closed = await self._db.run(lambda: self._db.expire(facility_id))
        memory = await self._db.run(lambda: self._db.memories.get(facility_id, (0, {}))[1])
        taken = await self._db.run(lambda: [a for a in self._db.admissions if a.facility_id == facility_id])
        last = LastPolicy(taken[-1].basis_tick_id, simulated_s(taken[-1].expires_s)) if taken else NO_POLICY
        switches = await self._db.run(lambda: self._db.switches(facility_id, generation, now - SWITCHES_COUNT))
        standing = await self._db.run(lambda: self._db.standing_of([facility_id], now)[facility_id])
        asked_s, one = self._clock.monotonic_s(), [facility_id]
        obligations, desired = await self._db.run(
            lambda: (
                self._db.rows_of(one)[facility_id],
                self._db.desires.in_force(one, self._db.loop.now_s)[facility_id],
            )
        )
        return Legacy(closed, memory, last, switches, standing, obligations, _since(desired, asked_s))

    async def close_unsent(self, facility_id: str, now: datetime, older_than: timedelta) -> int:
        """One statement."""
        return await self._db.run(lambda: self._db.expire(facility_id, older_than.total_seconds()))

    async def enter_locks(self, owner: str, epoch: int, ahead: Ahead) -> None:
        """Two statements, in one commit."""
        await self._db.run(lambda: self._db.enter_locks(owner, epoch, ahead))

    async def close(self) -> None:
        """There is no connection."""


def _since(rows: StoredRows, asked_s: float) -> StoredRows:
    """Rows whose leases last from an instant on."""
    return replace(rows, ends_at_s=[asked_s + s for s in rows.ends_at_s])
