"""What the endpoints share: settings, clock, connections, accounts, limits. Made by the service, held by the app."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from fastapi import Request
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from hcp_pipelines.api.fanout import AT_ONCE, Fanout
from hcp_pipelines.api.limits import Buckets, Limit, Taken
from hcp_pipelines.api.log_ins import LogIns
from hcp_pipelines.api.places import Places
from hcp_pipelines.api.seen import Seen
from hcp_pipelines.api.submitting import Submitting
from hcp_pipelines.api.tokens import SigningKeys
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect_async
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.workloads import store
from hcp_pipelines.workloads.classifier.model import Classifier
from hcp_pipelines.workloads.routing.scoring import Estimates

if TYPE_CHECKING:
    from hcp_pipelines.api.known import KnownAccounts

_LIMITS = "select tier, per_minute, burst from request_limits"
CONNECTION_WITHIN_S = 10.0
MOST_BOOKING = 2
MOST_STREAMS, MOST_STREAMS_OF_ONE = 500, 10
Answer = TypeVar("Answer")


@dataclass
class Api:
    """One for a process."""

    settings: Settings
    clock: SystemClock
    log: Any
    pool: AsyncConnectionPool
    blocking_pool: ConnectionPool  # for what is written once, for commands and for us
    keys: SigningKeys
    pepper: bytes  # under which digests are made of what nobody may guess
    accounts: "KnownAccounts"
    classifier: Classifier | None = None  # rules serve without one
    buckets: Buckets = field(default_factory=Buckets)
    limits: dict[str, Limit] = field(default_factory=dict)
    streams: Places = field(default_factory=lambda: Places(MOST_STREAMS, MOST_STREAMS_OF_ONE))
    seen: Seen = field(default_factory=Seen)
    log_ins: LogIns = field(init=False)
    fanout: Fanout = field(init=False)
    submitting: Submitting = field(init=False)
    _booking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_BOOKING))
    _checking: asyncio.Task[None] | None = None
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """What stands on the rest of it."""
        self.log_ins = LogIns(self.buckets)
        self.submitting = Submitting(self.connection, self.clock.now, Estimates(self.settings.routing_base_latency_ms))
        self.fanout = Fanout(self._events_after, self.last_event, self.log)

    async def read_limits(self) -> None:
        """Take the tiers' limits as they are in Postgres now."""
        async with self.connection() as connection:
            rows = await (await connection.execute(_LIMITS)).fetchall()
        self.limits = {tier: Limit(per_minute, burst) for tier, per_minute, burst in rows}

    def take(self, name: str, tier: str, tokens: int = 1) -> Taken:
        """Take from a bucket of a tier's size."""
        return self.buckets.take(name, self.limits[tier], self.clock.monotonic_s(), tokens)

    def connection(
        self, within_s: float = CONNECTION_WITHIN_S
    ) -> contextlib.AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        """A connection of the pool; PoolTimeout where none is free, or to be had, within so long."""
        return self.pool.connection(within_s)

    def let_go_of_dead(self) -> None:
        """One connection was dead: the others probably are, after Postgres was started anew."""
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self.pool.check())

    async def blocking(self, work: Callable[[psycopg.Connection[Any]], Answer]) -> Answer:
        """Work with a blocking connection, in a thread."""

        def with_connection() -> Answer:
            with self.blocking_pool.connection() as connection:
                return work(connection)

        return await asyncio.to_thread(with_connection)

    @contextlib.asynccontextmanager
    async def as_scheduler(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A connection that may book devices: for what operators do by hand, few at a time."""
        async with self._booking, await connect_async(self.settings, Role.SCHEDULER) as connection:
            yield connection

    async def last_event(self) -> int:
        """The id behind which events of workloads are yet to come."""
        async with self.connection() as connection:
            return await store.last_event(connection)

    async def _events_after(self, event_id: int) -> list[store.Event]:
        async with self.connection() as connection:
            return await store.events_after(connection, event_id, None, AT_ONCE)

    async def fetch(self, statement: Any, values: Any = ()) -> list[tuple[Any, ...]]:
        """All rows of a statement that reads."""
        async with self.connection() as connection:
            return await (await connection.execute(statement, values)).fetchall()


def api_of(request: Request) -> Api:
    """The one that the app holds."""
    api: Api = request.app.state.api
    return api
