"""Whose work comes next: weighted fair queuing by GPU-time, as pure arithmetic on what is given. No SQL and no clock here.

Each customer has a counter: the GPU-seconds it was charged, over the weight of its tier and of the level that the work waits at.
Whoever has the lowest goes next; within a customer the levels take turns in the same way. Who comes back is lifted to the lowest
of those who wait, so that nobody saves up, and brings along what it had used above that, which fades while it is away. Two
customers that wait all along differ by at most the largest charge, so their service by at most twice that.
Source: Sheng et al., Fairness in Serving Large Language Models (OSDI 2024), virtual token counter.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

LEAST_CHARGE_GPU_S = 1.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """Work that waits and may be claimed; `gpu_s` is what it is charged with, `since` when it began to wait."""

    workload_id: UUID
    level: int
    gpu_type: str
    gpu_count: int
    gpu_s: float
    since: datetime


@dataclass(slots=True)
class Share:
    """What has been used, over the weight, by a customer or a level of one."""

    used: float = 0.0
    is_backlogged: bool = False
    left_at: datetime | None = None


@dataclass(slots=True)
class Customer:
    """A customer that waits. `candidates` by level, in the customer's own order; None where they have not been read."""

    customer_id: UUID
    weight: float
    share: Share
    gpus_left: int
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
class Picked:
    """The outcome of a round: in order, and for whom GPUs are kept free, by type; `unread`: who has to be read to go on."""

    chosen: tuple[tuple[UUID, Candidate], ...]
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
        self._customers = customers

    def pick(self, limit: int) -> Picked:
        """Up to `limit` pieces of work; fewer where no more fits, or where the next customer's work has not been read."""
        heap = [(c.share.used, str(c.customer_id), c) for c in self._customers if c.share.is_backlogged]
        heapq.heapify(heap)
        chosen: list[tuple[UUID, Candidate]] = []
        while heap and len(chosen) < limit:
            _, name, customer = heapq.heappop(heap)
            if customer.candidates is None:
                return Picked(tuple(chosen), self._held_for, unread=True)
            candidate = self._next_of(customer)
            if candidate is None:
                continue
            self._take(customer, candidate)
            chosen.append((customer.customer_id, candidate))
            if any(customer.candidates.values()):
                heapq.heappush(heap, (customer.share.used, name, customer))
            elif customer.has_more:
                break  # it may still be the next: a further claim reads on
        return Picked(tuple(chosen), self._held_for, unread=False)

    def _next_of(self, customer: Customer) -> Candidate | None:
        assert customer.candidates is not None
        for level in sorted(customer.candidates, key=lambda level: (customer.levels[level].used, level)):
            for candidate in customer.candidates[level]:
                if candidate.gpu_count <= customer.gpus_left and self._fits(candidate):
                    return candidate
        return None

    def _fits(self, candidate: Candidate) -> bool:
        """Whether it fits; if not, and it has waited long enough, what there is of its GPUs is kept for it."""
        kind = candidate.gpu_type
        if kind in self._held_for:
            return False
        if candidate.gpu_count <= self._free.get(kind, 0):
            return True
        has_waited_s = (self._now - candidate.since).total_seconds()
        if has_waited_s >= self._rules.hold_after_s and candidate.gpu_count <= self._most.get(kind, 0):
            self._held_for[kind] = candidate.workload_id
        return False

    def _take(self, customer: Customer, candidate: Candidate) -> None:
        assert customer.candidates is not None
        customer.candidates[candidate.level].remove(candidate)
        customer.gpus_left -= candidate.gpu_count
        self._free[candidate.gpu_type] -= candidate.gpu_count
        charge(customer, candidate.level, candidate.gpu_s, self._rules)


def charge(customer: Customer, level: int, gpu_s: float, rules: Rules) -> None:
    """Add GPU-seconds to what a customer, and within it a level, has used; negative ones are given back."""
    weighted = gpu_s / rules.level_weights[level]
    customer.share.used += weighted / customer.weight
    customer.levels[level].used += weighted
