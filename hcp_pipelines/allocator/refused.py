"""A batch that Postgres refuses for its data: taken apart, until every good row is stored and each bad one is known. Pure.

A bad row is kept in `audit_log` with the reason, as an alert; what it came from is in the gateway's log still.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any

import psycopg

from hcp_pipelines.allocator.journal import AuditRow, Batch

# The row is bad, not the connection; an aborted pipeline is what is behind such a row.
UNFIT = (
    psycopg.DataError, psycopg.IntegrityError, psycopg.errors.PipelineAborted, ValueError, TypeError, OverflowError,
)  # fmt: skip
ACTION = "alert.journal_refused"
TEXT_MAX = 500
_KINDS = (
    "outcomes",
    "observations",
    "history",
    "papers",
    "desired",
    "saved",
    "audits",
    "memories",
)  # in the order in which they are written

Row = tuple[str, Any]  # its kind, and the row


class Pieces:
    """What is to be written, oldest first; each row once, and a gateway's cursor behind all rows that it covers."""

    def __init__(self) -> None:
        self._pieces: deque[Batch] = deque()

    @property
    def first(self) -> Batch | None:
        """What is written next; None when all is."""
        return self._pieces[0] if self._pieces else None

    def add(self, batch: Batch) -> None:
        """To be written behind the others."""
        if len(batch) or batch.cursors:
            self._pieces.append(batch)

    def stored(self) -> None:
        """The first is written."""
        self._pieces.popleft()

    def refused(self, reason: str, name: str) -> Row | None:
        """The first can't be written: in two halves, or, where it is one row, as what is kept of it. That row, if so."""
        piece = self._pieces.popleft()
        rows = rows_of(piece)
        if len(rows) > 1:
            half = len(rows) // 2
            self._pieces.extendleft([batch_of(rows[half:], piece.cursors), batch_of(rows[:half], {})])
            return None
        bad = rows[0] if rows else ("cursors", piece.cursors)
        kept = [("audits", kept_of(bad, reason, name))] if rows and not _is_kept(bad) else []
        if kept or (rows and piece.cursors):
            self._pieces.appendleft(batch_of(kept, piece.cursors))
        return bad


def rows_of(batch: Batch) -> list[Row]:
    """Every row with its kind, in the order in which they are written."""
    rows: list[Row] = []
    for kind in _KINDS:
        part = getattr(batch, kind)
        rows += [(kind, row) for row in (part.values() if isinstance(part, dict) else part)]
    return rows


def batch_of(rows: Iterable[Row], cursors: dict[str, int]) -> Batch:
    """The batch of some rows."""
    batch = Batch(cursors=dict(cursors))
    for kind, row in rows:
        if kind == "memories":
            batch.memories[row.facility_id] = row
        else:
            getattr(batch, kind).append(row)
    return batch


def kept_of(bad: Row, reason: str, name: str) -> AuditRow:
    """What is kept of a row: in printable ASCII and bounded, so that this is not refused as well."""
    kind, row = bad
    subject = str(getattr(row, "facility_id", "") or getattr(row, "subject", "") or kind)
    said = {"kind": kind, "reason": _plain(reason), "row": _plain(repr(row))}
    return AuditRow(name, ACTION, _plain(subject), said)


def _is_kept(bad: Row) -> bool:
    return isinstance(bad[1], AuditRow) and bad[1].action == ACTION


def _plain(text: str) -> str:
    return ascii(text)[1:-1][:TEXT_MAX]
