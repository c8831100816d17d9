"""Leases: which facilities this allocator owns. Pure choices first, then the keeper; the SQL is in `lease_table.py`.

All instants are the store's own; this side only counts monotonic seconds from *before* each call, so that it stops earlier
than anyone else may start. What an owner does is elsewhere.
"""

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import psycopg
import structlog

from hcp_pipelines.allocator import metrics
from hcp_pipelines.allocator.lease_table import LeaseTable
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import StorageError

TTL_S = 3.0
RENEW_EACH_S = 1.0
MARGIN_S = 0.3  # this side's view of a lease ends so much before Postgres'
ROUND_WITHIN_S = 1.2
WATCH_EACH_S = 0.05


@dataclass(slots=True)
class Lease:
    """Ownership of one facility; `deadline_s` is this process' own monotonic end of it."""

    facility_id: str
    epoch: int
    deadline_s: float

    def holds(self, monotonic_s: float) -> bool:
        """Whether the owner may still act."""
        return monotonic_s < self.deadline_s


def fair_share(facilities: int, alive: int) -> int:
    """Most facilities that one of `alive` allocators should own.

    >>> fair_share(3, 2), fair_share(12, 2), fair_share(2, 0)
    (2, 6, 2)
    """
    return math.ceil(facilities / max(alive, 1))


def preference(name: str, facility_ids: Iterable[str]) -> list[str]:
    """Facilities in this allocator's own order (rendezvous hashing), so that two rarely reach for the same one."""
    return sorted(facility_ids, key=lambda f: hashlib.sha256(f"{name}/{f}".encode()).digest())


def to_take(name: str, free_for_s: dict[str, float], held: int, share: int) -> list[str]:
    """Free facilities to take now: up to the fair share, and whatever nobody has taken for a whole TTL.

    >>> to_take("a", {"x": 0.0, "y": 0.0}, held=1, share=2) in (["x"], ["y"])
    True
    >>> to_take("a", {"x": 3.5}, held=2, share=2)
    ['x']
    """
    ordered = preference(name, free_for_s)
    within = ordered[: max(share - held, 0)]
    return within + [f for f in ordered[len(within) :] if free_for_s[f] >= TTL_S]


def to_release(name: str, held: Sequence[str], share: int) -> list[str]:
    """Facilities beyond the fair share, the least preferred first.

    >>> to_release("a", ["x"], 1)
    []
    """
    return preference(name, held)[share:]


Gained = Callable[[Lease], None]
Lost = Callable[[str], Awaitable[None]]


class LeaseKeeper:
    """Takes, renews, gives up and loses leases; tells of each."""

    def __init__(self, table: LeaseTable, name: str, clock: Clock, gained: Gained, lost: Lost) -> None:
        self._table, self._name, self._clock = table, name, clock
        self._gained, self._lost = gained, lost
        self.held: dict[str, Lease] = {}
        self.total = 0  # facilities that there are
        self.succeeded_at_s = float("-inf")
        self.last_error = ""
        self._free_since_s: dict[str, float] = {}
        self._crowded_rounds = 0
        self._outdated: dict[str, int] = {}  # facilities whose gateway knows a higher epoch than their lease's
        self._log = structlog.get_logger("allocator.leases")

    def outdated(self, lease: Lease, highest: int) -> None:
        """A gateway refuses a lease's epoch, and knows this one: the next round raises the lease above it."""
        if self.held.get(lease.facility_id) is lease:
            self._outdated[lease.facility_id] = highest

    async def run(self) -> None:
        """A round each second, sooner when another's lease is about to end; never ends by itself."""
        while True:
            wait_s = RENEW_EACH_S
            try:
                async with asyncio.timeout(ROUND_WITHIN_S):
                    wait_s = await self._round()
            except (psycopg.Error, StorageError, OSError, TimeoutError) as error:
                await self._failed(error)
                wait_s = 0.25
            await asyncio.sleep(wait_s)

    async def watch(self) -> None:
        """End each lease at this side's deadline, whether Postgres answers or not."""
        while True:
            now_s = self._clock.monotonic_s()
            for facility_id in [f for f, lease in self.held.items() if not lease.holds(now_s)]:
                await self._drop(facility_id, "not renewed in time")
            await asyncio.sleep(WATCH_EACH_S)

    async def give_up(self) -> None:
        """Release everything and say goodbye, so that another may start at once."""
        held = dict(self.held)
        for facility_id in held:
            self.held.pop(facility_id)
            await self._lost(facility_id)
        try:
            async with asyncio.timeout(ROUND_WITHIN_S):
                await self._release(held.values())
                await self._table.beat(self._name, is_alive=False)
        except (psycopg.Error, StorageError, OSError, TimeoutError) as error:
            self._log.warning("leases not given up: they expire", error=str(error))
        await self._table.close()

    # -- one round ----------------------------------------------------------------------------------------------------

    async def _round(self) -> float:
        """Renew, look, take, rebalance; seconds until the next round."""
        before_s = self._clock.monotonic_s()
        await self._table.beat(self._name, is_alive=True)
        await self._outgrow()
        await self._renew()
        ends_in_s = await self._table.ends()
        share = fair_share(len(ends_in_s), await self._table.alive(self._name, TTL_S))
        self.total = len(ends_in_s)
        await self._take(self._note_free(ends_in_s), share)
        await self._rebalance(share)
        self.succeeded_at_s, self.last_error = before_s, ""
        others: list[float] = [s for f, s in ends_in_s.items() if f not in self.held and s > 0]
        return max(0.05, min([RENEW_EACH_S, *(s + 0.02 for s in others)]))

    async def _outgrow(self) -> None:
        """The same owner, a higher epoch: to the gateway a new lease, and so it is here."""
        outdated, self._outdated = self._outdated, {}
        for facility_id, highest in outdated.items():
            lease = self.held.get(facility_id)
            epoch = lease and await self._table.outgrow(self._name, facility_id, lease.epoch, highest)
            if not lease or not epoch or self.held.get(facility_id) is not lease:
                continue
            self._log.error("gateway ahead of the lease", facility_id=facility_id, epoch=lease.epoch, highest=highest)
            await self._lost(facility_id)
            raised = self.held[facility_id] = Lease(facility_id, epoch, lease.deadline_s)
            self._gained(raised)

    async def _renew(self) -> None:
        held = dict(self.held)
        if not held:
            return
        before_s = self._clock.monotonic_s()
        renewed = await self._table.renew(self._name, {f: lease.epoch for f, lease in held.items()}, TTL_S)
        for facility_id, lease in held.items():
            if facility_id in renewed:
                lease.deadline_s = before_s + TTL_S - MARGIN_S
            elif self.held.get(facility_id) is lease:
                await self._drop(facility_id, "taken by another, or expired")

    def _note_free(self, ends_in_s: dict[str, float]) -> dict[str, float]:
        """Free facilities and for how many seconds this side has seen them free."""
        now_s = self._clock.monotonic_s()
        free = [f for f, s in ends_in_s.items() if s <= 0 and f not in self.held]
        self._free_since_s = {f: self._free_since_s.get(f, now_s) for f in free}
        return {f: now_s - since_s for f, since_s in self._free_since_s.items()}

    async def _take(self, free_for_s: dict[str, float], share: int) -> None:
        wanted = to_take(self._name, free_for_s, len(self.held), share)
        if not wanted:
            return
        before_s = self._clock.monotonic_s()
        for facility_id, epoch in await self._table.take(self._name, wanted, TTL_S):
            lease = Lease(facility_id, epoch, before_s + TTL_S - MARGIN_S)
            self.held[facility_id] = lease
            metrics.IS_OWNER.labels(facility_id).set(1)
            self._log.info("lease taken", facility_id=facility_id, epoch=epoch)
            self._gained(lease)

    async def _rebalance(self, share: int) -> None:
        """Give up what is beyond the share, once that has been so for two rounds."""
        excess = to_release(self._name, list(self.held), share)
        self._crowded_rounds = self._crowded_rounds + 1 if excess else 0
        if self._crowded_rounds < 2:
            return
        self._crowded_rounds = 0
        going = [self.held.pop(f) for f in excess]
        for lease in going:
            metrics.IS_OWNER.labels(lease.facility_id).set(0)
            await self._lost(lease.facility_id)
        await self._release(going)
        self._log.info("leases given to another allocator", facilities=excess)

    async def _release(self, leases: Iterable[Lease]) -> None:
        await self._table.release(self._name, [(lease.facility_id, lease.epoch) for lease in leases])

    async def _drop(self, facility_id: str, why: str) -> None:
        self.held.pop(facility_id, None)
        metrics.IS_OWNER.labels(facility_id).set(0)
        metrics.LEASES_LOST.inc()
        self._log.warning("lease lost", facility_id=facility_id, why=why)
        await self._lost(facility_id)

    async def _failed(self, error: Exception) -> None:
        metrics.POSTGRES_ERRORS.labels("leases").inc()
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if reason != self.last_error:
            self._log.warning("leases can't be renewed", error=reason)
        self.last_error = reason
        await self._table.close()
