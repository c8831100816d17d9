"""What an allocator keeps in Postgres and reads from it, behind one face: leases, journal, intake, notifications.

The SQL stays with its subject (`lease_table`, `journal`, `standing`, `obligations`, `intake`); here are the connections that it
runs on. Errors are `STORE_ERRORS`: nothing is known then of whether a write was committed.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import psycopg

from hcp_pipelines.allocator.approvals import Approved, Question
from hcp_pipelines.allocator.decide import LastPolicy
from hcp_pipelines.allocator.desired_table import StoredRows, read_desired
from hcp_pipelines.allocator.devices import Switched
from hcp_pipelines.allocator.intake import CHANNELS, POLL_S, Intake, PolicyRow
from hcp_pipelines.allocator.journal import (
    Batch,
    CommandRow,
    expire,
    write_batch,
    write_commands,
)
from hcp_pipelines.allocator.lease_table import LeaseTable, PostgresLeases
from hcp_pipelines.allocator.locks import Ahead, enter_locks
from hcp_pipelines.allocator.market import TickRow
from hcp_pipelines.allocator.memory import Memory
from hcp_pipelines.allocator.obligation_table import Rows, read_obligations, write_obligation
from hcp_pipelines.allocator.predecessors import (
    read_bookings,
    read_cursor,
    read_last_policy,
    read_memory,
    read_switches,
)
from hcp_pipelines.allocator.standing import Standing, read_standing
from hcp_pipelines.allocator.wave import COMMIT_WITHIN_S
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.fleet.inventory import FacilityInventory
from hcp_pipelines.policy.obligations import Obligation, Status
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.notify import Listener, Notification
from hcp_pipelines.storage.postgres import connect_async
from hcp_pipelines.storage.roles import Role

STORE_ERRORS = (psycopg.Error, StorageError, OSError)


@dataclass(frozen=True)
class Usage:
    """What predecessors used up of the ramps' windows, and up to where the gateway's log is in the journal."""

    bookings: Sequence[tuple[float, str, float]]
    journalled_seq: int


@dataclass(frozen=True)
class Legacy:
    """What a new owner goes on from; `closed` commands of predecessors had never left."""

    closed: int
    memory: Memory
    last_policy: LastPolicy
    switches: Sequence[Switched]
    standing: Standing
    obligations: Rows
    desired: StoredRows


class Incoming(Protocol):
    """What comes in: ticks, policies, facilities, and what stands over these (`intake.Intake`)."""

    async def recent(self) -> list[TickRow]:
        """The newest rows of every series, oldest first."""

    async def new_ticks(self, *, looks_back: bool) -> list[TickRow]:
        """Rows since the last call, in order of id; with `looks_back` the last few hundred once more."""

    async def policies(self, facility_ids: Sequence[str]) -> list[PolicyRow]:
        """The newest live policies of some facilities, newest first within each: of the newest tick, not the last to come in."""

    async def inventories(self) -> list[FacilityInventory]:
        """Every facility at its current generation."""

    async def addresses(self) -> dict[str, str]:
        """The gRPC target of each facility's gateway."""

    async def standing(self, facility_ids: Sequence[str]) -> dict[str, Standing]:
        """What stands over some facilities besides their policies."""

    async def obligations(self, facility_ids: Sequence[str]) -> dict[str, Rows]:
        """The obligations of some facilities, with the grid's signals."""

    async def approved(self, facility_ids: Sequence[str]) -> dict[str, Approved]:
        """What somebody has approved for some facilities, and is still good."""

    async def ask(self, facility_id: str, question: Question, asked_by: str) -> None:
        """Put something before an operator."""

    async def record_admission(self, row: PolicyRow, allocator: str, reason: str) -> bool:
        """Keep that a policy is taken (`reason` empty) or refused, and why; whether the allocator owns the facility."""


class Listening(Protocol):
    """Waits for notifications (`storage.notify.Listener`)."""

    async def wait(self) -> list[Notification]:
        """The next batch; empty when it is time to look anyway."""


class Store(Protocol):
    """All of it. Each method raises STORE_ERRORS when the store is away."""

    @property
    def intake(self) -> Incoming:
        """What comes in."""

    @property
    def leases(self) -> LeaseTable:
        """Who owns what."""

    def listen(self) -> AbstractAsyncContextManager[Listening]:
        """Be woken by what comes in."""

    async def write_commands(self, owner: str, rows: Sequence[CommandRow]) -> set[str]:
        """Write commands before they leave, in one commit; the facilities whose lease stood."""

    async def write_outcomes(self, batch: Batch) -> None:
        """Write what comes behind the decision path, in one commit; repeating it changes nothing but history."""

    async def write_obligation(self, owner: str, epoch: int, before: Status, after: Obligation) -> bool:
        """Write what became of an obligation, under a lease that stands; whether it was written."""

    async def read_desired(self, facility_ids: Sequence[str]) -> dict[str, StoredRows]:
        """The desired rows in force of some facilities."""

    async def read_usage(self, facility_id: str, since: datetime) -> Usage:
        """What a successor has to know before it announces."""

    async def take_over(self, facility_id: str, generation: int, now: datetime) -> Legacy:
        """Close what was journalled and never sent, and read what a successor goes on from."""

    async def close_unsent(self, facility_id: str, now: datetime, older_than: timedelta) -> int:
        """Close what was journalled so long ago, real time, and has no ack; how many assignments."""

    async def enter_locks(self, owner: str, epoch: int, ahead: Ahead) -> None:
        """Take into the books what a gateway holds of locks that is not there."""

    async def close(self) -> None:
        """Let go of every connection."""


class PostgresStore:
    """The store in Postgres: a connection each for commands, outcomes, desired rows, what comes in, and leases."""

    def __init__(self, settings: Settings, clock: SystemClock) -> None:
        self._settings, self._clock = settings, clock
        self._leaves_within = timedelta(seconds=COMMIT_WITHIN_S * clock.speed)  # simulated, from its plan on
        self._connections: dict[str, psycopg.AsyncConnection[Any]] = {}
        self._connecting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.intake, self.leases = Intake(settings, clock), PostgresLeases(settings)

    def listen(self) -> Listener:
        """LISTEN on a connection of its own."""
        return Listener(self._settings, Role.ALLOCATOR, CHANNELS, POLL_S)

    async def write_commands(self, owner: str, rows: Sequence[CommandRow]) -> set[str]:
        """See `journal.write_commands`."""
        return await write_commands(await self._connected("commands"), owner, rows)

    async def write_outcomes(self, batch: Batch) -> None:
        """See `journal.write_batch`."""
        await write_batch(await self._connected("outcomes"), batch)

    async def write_obligation(self, owner: str, epoch: int, before: Status, after: Obligation) -> bool:
        """See `obligations.write_obligation`."""
        async with await self._connect() as connection:
            return await write_obligation(connection, owner, epoch, before, after)

    async def read_desired(self, facility_ids: Sequence[str]) -> dict[str, StoredRows]:
        """See `desired_table.read_desired`."""
        connection = await self._connected("desired")
        return await read_desired(connection, facility_ids, self._clock.monotonic_s())

    async def read_usage(self, facility_id: str, since: datetime) -> Usage:
        """Both on one fresh connection: a takeover must not wait behind anything."""
        async with await self._connect() as connection:
            journalled_seq = await read_cursor(
                connection, facility_id
            )  # first: what is journalled meanwhile is replayed
            return Usage(await read_bookings(connection, facility_id, since, self._leaves_within), journalled_seq)

    async def take_over(self, facility_id: str, generation: int, now: datetime) -> Legacy:
        """All on one fresh connection."""
        async with await self._connect() as connection:
            closed = await expire(connection, facility_id, now)
            memory = await read_memory(connection, facility_id)
            last_policy = await read_last_policy(connection, facility_id)
            switches = await read_switches(connection, facility_id, generation, now, self._leaves_within)
            standing = await read_standing(connection, [facility_id], now)
            obligations = await read_obligations(connection, [facility_id])
            desired = await read_desired(connection, [facility_id], self._clock.monotonic_s())
        stands, obliged = standing[facility_id], obligations[facility_id]
        return Legacy(closed, memory, last_policy, switches, stands, obliged, desired[facility_id])

    async def close_unsent(self, facility_id: str, now: datetime, older_than: timedelta) -> int:
        """See `journal.expire`."""
        async with await self._connect() as connection:
            return await expire(connection, facility_id, now, older_than)

    async def enter_locks(self, owner: str, epoch: int, ahead: Ahead) -> None:
        """See `locks.enter_locks`."""
        async with await self._connect() as connection:
            await enter_locks(connection, owner, epoch, ahead)

    async def close(self) -> None:
        """Close what is open."""
        await self.intake.close()
        await self.leases.close()
        for connection in self._connections.values():
            await connection.close()

    async def _connected(self, use: str) -> psycopg.AsyncConnection[Any]:
        async with self._connecting[use]:  # several may want one at once
            connection = self._connections.get(use)
            if connection is None or connection.closed:
                connection = self._connections[use] = await self._connect()
        return connection

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        return await connect_async(self._settings, Role.ALLOCATOR)
