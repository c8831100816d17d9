"""Rows of memory that GPUs' boards have remapped, as their InfoROM counts them: what mends a board takes nothing off.

Which XID and which fault costs a row is here; when they happen, in `fault_state`.
"""

from typing import Final, NamedTuple

import numpy as np

from simulators.faults import ECC
from simulators.streams import BoolArray, IntArray

FAILURE_XID: Final = 64
ROW_XIDS: Final = frozenset({48, 63, FAILURE_XID, 94, 95})  # each marks a row for remapping

RowsState = dict[str, np.ndarray]  # arrays by name, as they stand in the state file


class Rows(NamedTuple):
    """Of one board, since it was made."""

    uncorrectable: int = 0
    correctable: int = 0
    has_failed: bool = False


NO_ROWS: Final = Rows()


class MemoryRows:
    """The remapped rows of one site's GPUs, by slot; nothing is kept of a board that has none."""

    def __init__(self) -> None:
        self._rows: dict[int, Rows] = {}

    def of(self, slot: int) -> Rows:
        """Those of one board."""
        return self._rows.get(slot, NO_ROWS)

    def note(self, kind: str, xid: int, slots: IntArray) -> None:
        """Something has begun at some GPUs: a fault of a kind, an XID (0: none)."""
        if xid not in ROW_XIDS and kind != ECC:
            return
        for slot in slots.tolist():
            before = self.of(slot)
            self._rows[slot] = Rows(
                before.uncorrectable + (xid in ROW_XIDS),
                before.correctable + (kind == ECC),
                before.has_failed or xid == FAILURE_XID,
            )

    def save(self) -> RowsState:
        """All of them."""
        figures = np.array(list(self._rows.values()), dtype=np.int64).reshape(-1, len(NO_ROWS))
        return {"row_slot": np.array(list(self._rows), dtype=np.int64), "row_figures": figures}

    def restore(self, state: RowsState, kept: BoolArray) -> None:
        """Take over those of the devices that are kept."""
        pairs = zip(state["row_slot"].tolist(), state["row_figures"].tolist(), strict=True)
        self._rows = {
            slot: Rows(uncorrectable, correctable, bool(has_failed))
            for slot, (uncorrectable, correctable, has_failed) in pairs
            if slot < len(kept) and kept[slot]
        }
