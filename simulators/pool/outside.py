"""Workers that really hash: what each has handed in, and its hashrate, by the wall clock, since that is what they hash by."""

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from simulators.clock import Clock
from simulators.pool.shares import Ruling, Verdict
from simulators.pool.work import HASHES_PER_DIFFICULTY

MOST_WORKERS: Final = 4096
_BUCKET_S: Final = 60
_DAY_S: Final = 86_400
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9._-]{1,64})?")


@dataclass(slots=True)
class Worker:
    """One worker's shares; `claimed_hashes_per_s` is what it says that it does (V2), of which nothing is credited."""

    name: str
    began_s: float
    valid: int = 0
    stale: int = 0
    rejected: int = 0
    last_share_s: float | None = None
    claimed_hashes_per_s: float = 0.0
    difficulty_sum: float = 0.0
    _buckets: deque[tuple[int, float]] = field(
        default_factory=deque
    )  # (number of the minute, difficulty of its shares)

    def credit(self, difficulty: float, now_s: float) -> None:
        """A valid share."""
        self.valid += 1
        self.last_share_s = now_s
        self.difficulty_sum += difficulty
        number = int(now_s // _BUCKET_S)
        if self._buckets and self._buckets[-1][0] == number:
            difficulty += self._buckets.pop()[1]
        self._buckets.append((number, difficulty))
        while self._buckets[0][0] <= number - _DAY_S // _BUCKET_S:
            self._buckets.popleft()

    def hashes_per_s(self, span_s: float, now_s: float) -> float:
        """Credited work of the last span, in whole minutes, or of the worker's whole life where that is shorter."""
        first = int((now_s - span_s) // _BUCKET_S)
        elapsed_s = min(now_s - first * _BUCKET_S, now_s - self.began_s)
        return self.difficulty_of(span_s, now_s) * HASHES_PER_DIFFICULTY / max(elapsed_s, 1.0)

    def difficulty_of(self, span_s: float, now_s: float) -> float:
        """Difficulty of the valid shares of the last span, in whole minutes."""
        first = int((now_s - span_s) // _BUCKET_S)
        return sum(difficulty for number, difficulty in self._buckets if number >= first)


class OutsideWorkers:
    """All of them by name."""

    def __init__(self, account: str | None, clock: Clock) -> None:
        """`account`: the only one that may work here; None: any."""
        self._account = account
        self._clock = clock
        self.workers: dict[str, Worker] = {}

    def refusal(self, name: str) -> str:
        """Why a worker may not work here; empty: it may."""
        if not _NAME.fullmatch(name):
            return "a worker's name is ACCOUNT or ACCOUNT.WORKER, of letters, digits, '.', '_' and '-'"
        if self._account is not None and name.partition(".")[0] != self._account:
            return f"there is no such account; this pool has {self._account}"
        if name not in self.workers and len(self.workers) >= MOST_WORKERS and self._unproductive() is None:
            return f"there are {MOST_WORKERS} workers, which is the most"
        return ""

    def _unproductive(self) -> str | None:
        """Who has been here longest without a valid share."""
        return next((one.name for one in self.workers.values() if not one.valid), None)

    def of(self, account: str) -> dict[str, Worker]:
        """The workers of one account."""
        return {name: one for name, one in list(self.workers.items()) if name.partition(".")[0] == account}

    def enter(self, name: str) -> Worker:
        """A worker that may work here; where there are too many, in the place of one that has found nothing."""
        if name not in self.workers and len(self.workers) >= MOST_WORKERS:
            self.workers.pop(self._unproductive() or next(iter(self.workers)))
        return self.workers.setdefault(name, Worker(name, self._clock.real_s()))

    def book(self, name: str, ruling: Ruling) -> None:
        """What became of a worker's share."""
        worker = self.enter(name)
        if ruling.verdict is Verdict.VALID:
            worker.credit(ruling.difficulty, self._clock.real_s())
        elif ruling.verdict is Verdict.STALE:
            worker.stale += 1
        else:
            worker.rejected += 1
