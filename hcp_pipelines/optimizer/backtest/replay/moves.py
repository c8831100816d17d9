"""What the devices did, from the journal: who was told what and took it, what failed, what was found otherwise.

A switch counts from the gateway's ack; of devices that refused or failed it is not known which, so the last of a command's slots
stand for them. Where devices were before the journal first names them is the state it then says they came from.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from hcp_pipelines.domain.modes import STATE_COUNT
from hcp_pipelines.optimizer.backtest.replay.fleet import Fleet
from hcp_pipelines.optimizer.backtest.series import Ints
from hcp_pipelines.wire.slots import decode_slots

Slots = npt.NDArray[np.uint32]
States = npt.NDArray[np.int8]
UNKNOWN = -1
NAMING = ("commanded", "observed")  # events whose rows name slots


class _Row(NamedTuple):
    """A row of the journal."""

    event: str
    command_id: str
    assignment: int
    from_state: int | None
    to_state: int
    devices: int
    deferred: int | None
    failed: int | None
    slots: bytes | None
    at_us: int

    @property
    def key(self) -> tuple[str, int]:
        """Whose it is: rows of one assignment of one command share it."""
        return self.command_id, self.assignment


@dataclass(frozen=True)
class _Move:
    at_us: int
    key: tuple[str, int]
    slots: Slots
    to_state: int


@dataclass(frozen=True)
class _Named:
    """The slots that rows name, by assignment: bitmaps until they are asked for, since a year's are gigabytes as numbers."""

    bitmaps: Mapping[tuple[str, int], bytes]
    slots: int

    def of(self, row: _Row) -> Slots | None:
        """The slots that a row is about; None where no row names them."""
        bitmap = self.bitmaps.get(row.key)
        return None if bitmap is None else decode_slots(bitmap, self.slots)


@dataclass(frozen=True)
class Taken:
    """Devices of one group that one switch took from one state to another; `key` is its command and assignment."""

    at_us: int
    key: tuple[str, int]
    group: int
    from_state: int
    to_state: int
    slots: Slots


class Walk:
    """The devices of a facility along its journal: where each was before it, and every switch in the order of time."""

    def __init__(self, journal: pl.DataFrame, fleet: Fleet, first_slots: Mapping[str, int]) -> None:
        """All rows of one generation up to some instant, in order of their ids.

        Args:
            journal: `event`, `command_id`, `assignment`, `from_state`, `to_state`, `devices`, `deferred`, `failed`, `slots`, and
                `simulated_at` (a datetime).
            fleet: the facility.
            first_slots: by group, its first slot.
        """
        self.group_of = _group_of(fleet, first_slots)
        instants = journal.with_columns(at_us=pl.col("simulated_at").dt.timestamp("us"))
        self._rows = [_Row(*row) for row in instants.select(_Row._fields).iter_rows()]
        bitmaps = {row.key: row.slots or b"" for row in self._rows if row.event in NAMING}
        self._named = _Named(bitmaps, len(self.group_of))
        self.states, self.unnamed = _before(self._rows, self._named, fleet, self.group_of)
        self._groups = len(fleet.groups)

    def mix(self) -> Ints:
        """[g, s] devices now: before the journal, until switches are taken."""
        found = np.zeros((self._groups, STATE_COUNT), dtype=np.int64)
        there = self.group_of != UNKNOWN
        np.add.at(found, (self.group_of[there], self.states[there].astype(np.int64)), 1)
        return found

    def taken(self) -> Iterator[Taken]:
        """Every switch by group and state left, once; devices that are there already are none of it."""
        for move in _moves(sorted(self._rows, key=lambda row: row.at_us), self._named):
            yield from self._take(move)

    def _take(self, move: _Move) -> Iterator[Taken]:
        slots = move.slots[(self.states[move.slots] != move.to_state) & (self.group_of[move.slots] != UNKNOWN)]
        kinds = self.group_of[slots] * STATE_COUNT + self.states[slots]
        self.states[slots] = move.to_state
        for kind in np.unique(kinds).tolist():
            group, state = divmod(kind, STATE_COUNT)
            yield Taken(move.at_us, move.key, group, state, move.to_state, slots[kinds == kind])


def _group_of(fleet: Fleet, first_slots: Mapping[str, int]) -> Ints:
    """By slot its group; -1 where there is none."""
    ends = [first_slots[group.group_id] + group.devices for group in fleet.groups]
    group_of = np.full(max(ends, default=0), UNKNOWN, dtype=np.int64)
    for g, group in enumerate(fleet.groups):
        group_of[first_slots[group.group_id] : ends[g]] = g
    return group_of


def _before(rows: list[_Row], named: _Named, fleet: Fleet, group_of: Ints) -> tuple[States, int]:
    """Each slot's state before all rows; those that none names run, in their group's highest state."""
    states = np.full(len(group_of), UNKNOWN, dtype=np.int8)
    for row in rows:
        if row.event in NAMING and row.from_state is not None:
            slots = named.of(row)
            assert slots is not None
            states[slots[states[slots] == UNKNOWN]] = row.from_state
    unknown = (states == UNKNOWN) & (group_of != UNKNOWN)
    top = np.array([group.ladder[-1].state for group in fleet.groups], dtype=np.int8)
    states[unknown] = top[group_of[unknown]]
    return states, int(unknown.sum())


def _moves(rows: list[_Row], named: _Named) -> Iterator[_Move]:
    for row in rows:
        slots = named.of(row) if row.event in ("observed", "acked") or row.failed else None
        if slots is None:
            continue
        if row.event == "observed":
            yield _Move(row.at_us, row.key, slots, row.to_state)
        elif row.event == "acked":
            yield _Move(row.at_us, row.key, slots[: row.devices + (row.deferred or 0)], row.to_state)
        elif row.event == "settled" and row.failed and row.from_state is not None:
            yield _Move(row.at_us, row.key, slots[-row.failed :], row.from_state)
