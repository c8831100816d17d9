"""The id up to which a table is complete: no row with a lower id can appear any more.

Identity ids are handed out before the commit, so that a row may become visible after rows with higher ids (two allocators
write the journal at once). Whoever inserts holds the table's RowExclusiveLock from before it gets an id until its
transaction has ended. So: read the newest visible id, *then* who holds that lock; once these have all ended, every id up
to the one read is either visible or will never be used. In the usual case nobody holds it and nothing is waited for.

Why not by xmin < pg_snapshot_xmin(): a transaction may have its id of the row before it has a transaction id; xmin is 32
bits against the snapshot's 64; and the snapshot's xmin is held back by writers of every table in every database.
Why not a trailing window against an anti-join: however wide, a transaction can be held open for longer.
The price: a transaction that stays open after an insert holds the copy of that one table back; /healthz then says so.
"""

from dataclasses import dataclass, replace
from typing import Protocol


class Writers(Protocol):
    """What the horizon asks of the source."""

    def newest_id(self, table: str) -> int:
        """The highest visible id; 0 without rows."""
        ...

    def writers(self, table: str) -> frozenset[str]:
        """The transactions that may be inserting into the table at this moment."""
        ...


@dataclass(frozen=True, slots=True)
class Mark:
    """An id, when it was read (real monotonic seconds), and the writers that must end before it is complete."""

    id: int
    read_s: float
    writers: frozenset[str]


class Horizon:
    """The horizon of one table; remembers between calls for whom it waits."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._mark: Mark | None = None

    @property
    def waits_for(self) -> frozenset[str]:
        """The transactions that hold the copy back."""
        return self._mark.writers if self._mark else frozenset()

    def complete(self, source: Writers, now_s: float) -> Mark | None:
        """The mark up to which all rows are there, or None while a writer of that time is still under way."""
        if self._mark is None:
            newest = source.newest_id(self._table)  # before the writers, or one may start and end in between
            self._mark = Mark(newest, now_s, source.writers(self._table))
        elif self._mark.writers:
            self._mark = replace(self._mark, writers=self._mark.writers & source.writers(self._table))
        if self._mark.writers:
            return None
        mark, self._mark = self._mark, None
        return mark
