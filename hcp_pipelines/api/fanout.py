"""Events of workloads for all streams at once: one LISTEN, one query a wake-up, and a bounded buffer for each who reads.

Whoever joins hears what comes after; what was before they ask for themselves (`streams`). Who falls behind is late, and told so.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
from psycopg_pool import PoolTimeout

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.storage.notify import Listener, Notification
from hcp_pipelines.workloads.store import Event

WORKLOADS, ACCOUNTS = "hcp_workload", "hcp_account"
AT_ONCE = 200  # events of a query
HELD = 1000  # events that wait for one who reads
BREATH_S = 0.05  # between two looks, however much happens
Read = Callable[[int], Awaitable[Sequence[Event]]]


@dataclass(eq=False)
class Place:
    """Somebody's place: what has come for them, and what else they should know."""

    customer_id: UUID | None
    account: frozenset[str]  # as notifications name it, its key included
    events: deque[Event] = field(default_factory=deque)
    is_late: bool = False  # more has come than is held: what is held is not all
    is_doubtful: bool = False  # the account has changed
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, event: Event) -> None:
        """An event, if it is for them."""
        if self.is_late or self.customer_id not in (None, event.customer_id):
            return
        if len(self.events) >= HELD:
            self.is_late = True
            self.events.clear()
        else:
            self.events.append(event if self.customer_id is None else event.for_customer())
        self.wake()

    def wake(self) -> None:
        """Something is to be seen."""
        self._woken.set()

    async def wait(self, within_s: float) -> None:
        """Until something is to be seen, or so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), within_s)
        self._woken.clear()


class Fanout:
    """The streams' places. `read` gives the events behind one, `last` the newest one's id."""

    def __init__(self, read: Read, last: Callable[[], Awaitable[int]], log: Any) -> None:
        self._read, self._last, self._log = read, last, log
        self._places: set[Place] = set()
        self._lock = asyncio.Lock()
        self._position: int | None = None  # where nobody listens there is none

    async def join(self, customer_id: UUID | None, account: frozenset[str]) -> Place:
        """A place at which everything from now on is heard."""
        async with self._lock:
            if self._position is None:
                self._position = await self._last()
            place = Place(customer_id, account)
            self._places.add(place)
        return place

    def leave(self, place: Place) -> None:
        """Hear no more."""
        self._places.discard(place)
        if not self._places:
            self._position = None

    async def follow(self, listener: Listener, stop: asyncio.Event) -> None:
        """Hand out what comes until told to stop; then wake everybody, who see it."""
        async with listener:
            while not stop.is_set():
                self._doubt(await listener.wait())
                try:
                    await self.hand_out()
                except (psycopg.Error, PoolTimeout, StorageError) as error:
                    self._log.warning("events wait for Postgres", error=str(error).strip())
                await asyncio.sleep(BREATH_S)
        for place in self._places:
            place.wake()

    async def hand_out(self) -> None:
        """All that is new, to whom it is for."""
        async with self._lock:
            is_more = True
            while is_more and self._position is not None:
                found = await self._read(self._position)
                for event in found:
                    for place in self._places:
                        place.hear(event)
                if found and self._position is not None:
                    self._position = found[-1].id
                is_more = len(found) >= AT_ONCE

    def _doubt(self, told: Sequence[Notification]) -> None:
        changed = {one.payload for one in told if one.channel == ACCOUNTS}
        for place in self._places:
            if changed & place.account:
                place.is_doubtful = True
                place.wake()
