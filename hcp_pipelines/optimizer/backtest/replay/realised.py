"""What the devices did, from the journal: who was told what and took it, what failed, what was found otherwise.

A switch counts from the gateway's ack; of devices that refused or failed it is not known which, so the last of a command's slots
stand for them. Where devices were before the journal first names them is the state it then says they came from.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from hcp_pipelines.domain.modes import STATE_COUNT
from hcp_pipelines.forecasting.hours import HOUR_US
from hcp_pipelines.optimizer.backtest.replay.fleet import Fleet, Schedule
from hcp_pipelines.optimizer.backtest.replay.history import STEP_H, History
from hcp_pipelines.optimizer.backtest.series import Ints
from hcp_pipelines.wire.slots import decode_slots

STEP_US = round(STEP_H * HOUR_US)
Slots = npt.NDArray[np.uint32]
States = npt.NDArray[np.int8]
UNKNOWN = -1
NAMING = ("commanded", "observed")  # events whose rows name slots


@dataclass(frozen=True)
class Realised:
    """The mix `[g, s]` as the window began, what was done in it, and how many devices no row ever names."""

    start: Ints
    schedule: Schedule
    unnamed: int


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


def realised(journal: pl.DataFrame, fleet: Fleet, first_slots: Mapping[str, int], history: History) -> Realised:
    """The schedule of a facility's journal: all its rows of one generation up to the window's end, in order of their ids.

    Args:
        journal: `event`, `command_id`, `assignment`, `from_state`, `to_state`, `devices`, `deferred`, `failed`, `slots`, and
            `simulated_at` (a datetime).
        fleet: the facility.
        first_slots: by group, its first slot.
        history: the window's steps.
    """
    group_of = _group_of(fleet, first_slots)
    instants = journal.with_columns(at_us=pl.col("simulated_at").dt.timestamp("us"))
    rows = [_Row(*row) for row in instants.select(_Row._fields).iter_rows()]
    named = _Named({row.key: row.slots or b"" for row in rows if row.event in NAMING}, len(group_of))
    states, unnamed = _before(rows, named, fleet, group_of)
    tally = _Tally.of(fleet, history, group_of, states)
    for move in _moves(sorted(rows, key=lambda row: row.at_us), named):
        tally.take(move)
    return tally.finished(unnamed)


def reasons_of(journal: pl.DataFrame, since: datetime) -> list[str]:
    """A line a reason: how many devices the journal says were told to switch from an instant on, and by how many MW."""
    told = journal.filter((pl.col("event") == "commanded") & (pl.col("simulated_at") >= since))
    by_reason = told.group_by("reason").agg(pl.col("devices").sum(), pl.col("mw_delta").sum()).sort("devices", "reason")
    return [
        f"journal: {devices} devices told to switch for {reason}, {mw:+.2f} MW"
        for reason, devices, mw in by_reason.reverse().iter_rows()
    ]


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
            yield _Move(row.at_us, slots, row.to_state)
        elif row.event == "acked":
            yield _Move(row.at_us, slots[: row.devices + (row.deferred or 0)], row.to_state)
        elif row.event == "settled" and row.failed and row.from_state is not None:
            yield _Move(row.at_us, slots[-row.failed :], row.from_state)


@dataclass
class _Tally:
    """Devices by step, group and state as moves come in, in the order of time."""

    fleet: Fleet
    history: History
    group_of: Ints
    states: States
    changes: npt.NDArray[np.float64]  # [t, g, s] of the mix as each step begins; weights of parts of steps apart
    parts: npt.NDArray[np.float64]
    wakes: npt.NDArray[np.float64]
    switches: npt.NDArray[np.float64]
    start: Ints

    @classmethod
    def of(cls, fleet: Fleet, history: History, group_of: Ints, states: States) -> "_Tally":
        steps, groups = len(history), len(fleet.groups)
        shape = (steps, groups, STATE_COUNT)
        start = np.zeros(shape[1:], dtype=np.int64)
        there = group_of != UNKNOWN
        np.add.at(start, (group_of[there], states[there].astype(np.int64)), 1)
        flat = np.zeros((steps, groups))
        return cls(fleet, history, group_of, states, np.zeros(shape), np.zeros(shape), flat, flat.copy(), start)

    def take(self, move: _Move) -> None:
        """One move: devices that are there already are none of it."""
        slots = move.slots[(self.states[move.slots] != move.to_state) & (self.group_of[move.slots] != UNKNOWN)]
        groups, old = self.group_of[slots], self.states[slots].astype(np.int64)
        self.states[slots] = move.to_state
        step = int(np.searchsorted(self.history.starts_us, move.at_us, side="right")) - 1
        for (g, state), devices in _counted(groups, old):
            if step < 0:
                self.start[g, state] -= devices
                self.start[g, move.to_state] += devices
                continue
            self._book(step, move, g, state, devices)

    def _book(self, step: int, move: _Move, g: int, state: int, devices: int) -> None:
        left = max(0.0, 1.0 - (move.at_us - int(self.history.starts_us[step])) / STEP_US)
        for of, sign in ((state, -1), (move.to_state, 1)):
            self.parts[step, g, of] += sign * devices * left
            if step + 1 < len(self.history):
                self.changes[step + 1, g, of] += sign * devices
        earns = self.fleet.earns[g]
        self.wakes[step, g] += devices * bool(earns[move.to_state] and not earns[state])
        self.switches[step, g] += devices

    def finished(self, unnamed: int) -> Realised:
        """The schedule."""
        counts = self.start[None] + self.changes.cumsum(axis=0) + self.parts
        return Realised(self.start, Schedule(counts, self.wakes, self.switches), unnamed)


def _counted(groups: Ints, states: Ints) -> Iterator[tuple[tuple[int, int], int]]:
    keys, counts = np.unique(groups * STATE_COUNT + states, return_counts=True)
    for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
        yield divmod(key, STATE_COUNT), count
