"""Which minutes and hours are to be rolled up, and since which batch. Pure.

A bucket is dirty from the batch that brought rows of it until a roll-up that read it after that batch. A roll-up writes down the
number up to which every batch is rolled up, so that after a restart the batches behind it say what is dirty.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    first_batch: int
    last_batch: int
    rows: int
    noted_s: float


@dataclass(frozen=True, slots=True)
class Due:
    """Buckets [first, last] without a gap, to be rolled up together from what batches up to `upto` brought."""

    first: int
    last: int
    upto: int

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last


class Dirty:
    """Buckets by their number: Unix minutes, or hours. May be used by several threads."""

    def __init__(self, quiet_s: float, over_s: float) -> None:
        """`quiet_s`: so long has a bucket had nothing when it is due, if a later one has begun; `over_s`: if none has."""
        self._quiet_s, self._over_s = quiet_s, over_s
        self._lock = threading.Lock()
        self._buckets: dict[int, _Bucket] = {}
        self._newest = self._last_batch = 0

    def note(self, rows: Mapping[int, int], batch: int, now_s: float) -> None:
        """A batch brought rows of these buckets, and is committed."""
        with self._lock:
            self._last_batch = max(self._last_batch, batch)
            self._newest = max([self._newest, *rows])
            for number, count in rows.items():
                one = self._buckets.setdefault(number, _Bucket(batch, batch, 0, now_s))
                one.last_batch, one.rows, one.noted_s = max(one.last_batch, batch), one.rows + count, now_s

    def due(self, now_s: float, rows_max: int, all_before: int | None = None) -> Due | None:
        """The newest that are due: a run without a gap, of so many rows at most or a single one; None if nothing is.

        Who brings old ones, be it without end, makes the others' new ones wait for one run at most.

        `all_before`: those below it, quiet or not, and no others.
        """
        with self._lock:
            if all_before is None:
                due = [number for number, one in self._buckets.items() if self._is_due(number, one, now_s)]
            else:
                due = [number for number in self._buckets if number < all_before]
            if not due:
                return None
            last, *older = sorted(due, reverse=True)
            first, rows = last, self._buckets[last].rows
            for number in older:
                rows += self._buckets[number].rows
                if number != first - 1 or rows > rows_max:
                    break
                first = number
            return Due(first, last, self._last_batch)

    def rolled_up_to(self, done: Due) -> int:
        """Up to this one every batch is rolled up, once `done` is."""
        with self._lock:
            waiting = [
                max(one.first_batch, done.upto + 1) if number in done else one.first_batch
                for number, one in self._buckets.items()
                if number not in done or one.last_batch > done.upto
            ]
            return min(waiting, default=self._last_batch + 1) - 1

    def done(self, done: Due) -> None:
        """They are rolled up; what a later batch brought to them meanwhile is dirty still."""
        with self._lock:
            for number in [n for n in self._buckets if n in done]:
                one = self._buckets[number]
                if one.last_batch <= done.upto:
                    del self._buckets[number]
                else:
                    one.first_batch = max(one.first_batch, done.upto + 1)

    def has_any(self, first: int, last: int) -> bool:
        """Whether one of [first, last] is dirty."""
        with self._lock:
            return any(first <= number <= last for number in self._buckets)

    def _is_due(self, number: int, one: _Bucket, now_s: float) -> bool:
        return now_s - one.noted_s >= (self._quiet_s if number < self._newest else self._over_s)
