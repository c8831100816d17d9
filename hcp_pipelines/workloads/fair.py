"""Whose work comes next: weighted fair queuing by GPU-time, as pure arithmetic on what is given. No SQL and no clock here.

Each customer has a counter for each type of GPU: the GPU-seconds of it that it was charged, over the weight of its tier and of
the level that the work waits at. Of each type whoever has the lowest goes next, and the types take turns; within a customer the
levels take turns in the same way. Who comes back is lifted to the lowest of those who wait for the type, so that nobody saves up,
and brings along what it had used above that, which fades while it is away. Who was passed by, because nothing of it fits, is
lifted to the last that went instead: so no counter that stands still is one that others are lifted to, or saved up for later. Two
customers that wait all along, and whose work could go, differ by at most the largest charge, so their service by twice that.
Source: Sheng et al., Fairness in Serving Large Language Models (OSDI 2024), virtual token counter; Goyal et al., Start-time Fair
Queuing (SIGCOMM 1996), virtual time.
"""

import heapq
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

LEAST_CHARGE_GPU_S = 1.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """Work that waits and may be claimed, on any of `gpu_types`; it is charged with `gpu_s`, and waits since `since`."""

    workload_id: UUID
    level: int
    gpu_types: Collection[str]
    gpu_count: int
    gpu_s: float
    since: datetime


@dataclass(slots=True)
class Share:
    """What has been used, over the weight, by a customer of a type of GPU, or by a level of one."""

    used: float = 0.0
    is_backlogged: bool = False
    left_at: datetime | None = None


@dataclass(slots=True)
class Customer:
    """A customer that waits, its shares by type. `candidates` by level, in its own order; None where they have not been read."""

    customer_id: UUID
    weight: float
    gpus_left: int
    shares: dict[str, Share] = field(default_factory=dict)
    levels: dict[int, Share] = field(default_factory=dict)
    candidates: dict[int, list[Candidate]] | None = None
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """The weights of the levels, seconds of waiting after which smaller work no longer passes by, half-life of old debts."""

    level_weights: Mapping[int, float]
    hold_after_s: float
    half_life_s: float


@dataclass(frozen=True, slots=True)
class Choice:
    """Work that goes next, and the type of GPU that it goes to."""

    customer_id: UUID
    candidate: Candidate
    gpu_type: str


@dataclass(frozen=True, slots=True)
class Picked:
    """The outcome of a round: in order, and for whom GPUs are kept free, by type; `unread`: who has to be read to go on."""

    chosen: tuple[Choice, ...]
    held_for: Mapping[str, UUID]
    unread: bool


def join(shares: Iterable[Share], present: Sequence[Share], now: datetime, half_life_s: float) -> None:
    """Lift those that come back, `shares`, to the lowest of those that are `present`, or to the last that has left.

    What one had used above that fades by half in each half-life of its absence.
    """
    waiting = [share.used for share in present if share.is_backlogged]
    back = [share for share in shares if not share.is_backlogged]
    if waiting:
        floor = min(waiting)
    else:
        gone = [share for share in present if share.left_at is not None]
        floor = max(gone, key=lambda share: share.left_at or now).used if gone else 0.0
    for share in back:
        away_s = (now - share.left_at).total_seconds() if share.left_at else 0.0
        share.used = floor + max(share.used - floor, 0.0) * 0.5 ** (max(away_s, 0.0) / half_life_s)
        share.is_backlogged = True


def leave(share: Share, now: datetime) -> None:
    """Note that nothing waits any more."""
    if share.is_backlogged:
        share.is_backlogged, share.left_at = False, now


def lift(shares: Iterable[Share], reached: float) -> None:
    """Those who were passed by save nothing up: they go on from what was reached without them."""
    for share in shares:
        share.used = max(share.used, reached)


class _Pool:
    """Who waits for one type of GPU, the lowest counter first; who was passed by, and the counter of the last that went."""

    def __init__(self, gpu_type: str, customers: Iterable[Customer]) -> None:
        self.gpu_type = gpu_type
        self.passed: list[Share] = []
        self.reached: float | None = None
        self.heap: list[tuple[float, str, Customer]] = []
        for customer in customers:
            share = customer.shares.get(gpu_type)
            if share is not None and share.is_backlogged:
                self.heap.append((share.used, str(customer.customer_id), customer))
        heapq.heapify(self.heap)

    def pop(self) -> Customer:
        return heapq.heappop(self.heap)[2]

    def push(self, customer: Customer) -> None:
        heapq.heappush(self.heap, (customer.shares[self.gpu_type].used, str(customer.customer_id), customer))


class _UnreadError(Exception):
    """The next customer's work has not been read."""


class Round:
    """One round of picks; changes the customers' shares, room and candidates."""

    def __init__(
        self,
        customers: Sequence[Customer],
        rules: Rules,
        free: Mapping[str, int],
        most: Mapping[str, int],
        now: datetime,
    ) -> None:
        self._rules, self._now = rules, now
        self._free, self._most = dict(free), most
        self._held_for: dict[str, UUID] = {}
        self._pools = [_Pool(gpu_type, customers) for gpu_type in sorted(free)]

    def pick(self, limit: int) -> Picked:
        """Up to `limit` pieces of work; fewer where no more fits, or where the next customer's work has not been read."""
        chosen: list[Choice] = []
        turns = deque(self._pools)
        try:
            while turns and len(chosen) < limit:
                pool = turns.popleft()
                choice = self._next_in(pool)
                if choice is not None:
                    chosen.append(choice)
                    turns.append(pool)
        except _UnreadError:
            return Picked(tuple(chosen), self._held_for, unread=True)
        for pool in self._pools:
            if pool.reached is not None:
                lift(pool.passed, pool.reached)
        return Picked(tuple(chosen), self._held_for, unread=False)

    def _next_in(self, pool: _Pool) -> Choice | None:
        """The next of one type; None: nothing that waits for it fits any more."""
        kind = pool.gpu_type
        while pool.heap and self._free[kind] > 0 and kind not in self._held_for:
            customer = pool.pop()
            if customer.candidates is None:
                raise _UnreadError
            candidate = self._next_of(customer, kind)
            if candidate is None:
                pool.passed.append(customer.shares[kind])
                continue
            pool.reached = customer.shares[kind].used
            self._take(customer, candidate, kind)
            if any(kind in each.gpu_types for kept in customer.candidates.values() for each in kept):
                pool.push(customer)
            elif customer.has_more:
                pool.heap.clear()  # it may still be the next: a further claim reads on
            return Choice(customer.customer_id, candidate, kind)
        return None

    def _next_of(self, customer: Customer, kind: str) -> Candidate | None:
        assert customer.candidates is not None
        passed: list[Share] = []
        for level in sorted(customer.candidates, key=lambda level: (customer.levels[level].used, level)):
            was_passed = False
            for candidate in customer.candidates[level]:
                if kind not in candidate.gpu_types:
                    continue
                if candidate.gpu_count <= customer.gpus_left and self._fits(candidate, kind):
                    lift(passed, customer.levels[level].used)
                    return candidate
                was_passed = True
            if was_passed:
                passed.append(customer.levels[level])
        return None

    def _fits(self, candidate: Candidate, kind: str) -> bool:
        """Whether it fits; if not, and it has waited long enough, what there is of its GPUs is kept for it."""
        if kind in self._held_for:
            return False
        if candidate.gpu_count <= self._free[kind]:
            return True
        has_waited_s = (self._now - candidate.since).total_seconds()
        if has_waited_s >= self._rules.hold_after_s and candidate.gpu_count <= self._most.get(kind, 0):
            self._held_for[kind] = candidate.workload_id
        return False

    def _take(self, customer: Customer, candidate: Candidate, kind: str) -> None:
        assert customer.candidates is not None
        customer.candidates[candidate.level].remove(candidate)
        customer.gpus_left -= candidate.gpu_count
        self._free[kind] -= candidate.gpu_count
        charge(customer, kind, candidate.level, candidate.gpu_s, self._rules)


def charge(customer: Customer, gpu_type: str, level: int, gpu_s: float, rules: Rules) -> None:
    """Add GPU-seconds to what a customer, and within it a level, has used of a type; negative ones are given back."""
    weighted = gpu_s / rules.level_weights[level]
    customer.shares[gpu_type].used += weighted / customer.weight
    customer.levels[level].used += weighted
