"""Spells: so many devices of a group in a state from one instant to another, and the switch that brought them there.

Made of the journal (`replay.moves`), window by window; what they earned is in `day.py`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt

from hcp_pipelines.domain.modes import STATE_COUNT
from hcp_pipelines.economics.settlement import INTERVAL_H
from hcp_pipelines.forecasting.hours import HOUR_US, microseconds
from hcp_pipelines.optimizer.backtest.replay.moves import UNKNOWN, Slots, Taken, Walk
from hcp_pipelines.optimizer.backtest.series import Floats, Ints

INTERVAL_US = round(INTERVAL_H * HOUR_US)
STAYED = -1  # in place of a switch: devices are where they were as the window began
Key = tuple[str, int]
_Row = tuple[int, int, int, int, int, int, int]


@dataclass(frozen=True)
class Spells:
    """A row a spell over [from_us, to_us), in the order in which they ended; `switch` is a place in `keys`, or STAYED.

    Spells of one switch that have one `from_us`, `group` and `before` are its devices, by when they went on.
    """

    start_us: int
    end_us: int
    groups: int
    group: Ints
    before: Ints  # the state that the switch took them from
    state: Ints
    from_us: Ints
    to_us: Ints
    devices: Ints
    switch: Ints
    keys: tuple[Key, ...]

    @property
    def starts_us(self) -> Ints:
        """[t] the settlement intervals."""
        return np.arange(self.start_us, self.end_us, INTERVAL_US, dtype=np.int64)

    def device_hours(self) -> Floats:
        """[t, g, s] device-hours in each interval, group and state."""
        return self.hours_of(self.state, self.from_us, self.devices) - self.hours_of(
            self.state, self.to_us, self.devices
        )

    def hours_of(self, state: Ints, since_us: Ints, devices: Ints) -> Floats:
        """[t, g, s] of devices that are in a state from an instant to the window's end, a row a spell."""
        steps = len(self.starts_us)
        begun, part = np.zeros((steps + 1, self.groups, STATE_COUNT)), np.zeros((steps + 1, self.groups, STATE_COUNT))
        step, into_us = np.divmod(since_us - self.start_us, INTERVAL_US)
        np.add.at(part, (step, self.group, state), devices * (1 - into_us / INTERVAL_US))
        np.add.at(begun, (np.minimum(step + 1, steps), self.group, state), devices)
        hours: Floats = (begun.cumsum(axis=0) + part)[:steps] * INTERVAL_H
        return hours

    def stayed(self) -> "Spells":
        """The same window with every device where it was as it began."""
        first = self.switch == STAYED
        chosen = {
            name: getattr(self, name)[first] for name in ("group", "before", "state", "from_us", "devices", "switch")
        }
        return replace(self, **chosen, to_us=np.full(int(first.sum()), self.end_us, dtype=np.int64), keys=())


def spells(walk: Walk, windows: Sequence[tuple[datetime, datetime]]) -> Iterator[Spells]:
    """The spells of windows that follow one another, each from where the devices were as it began."""
    states, taken = walk.states.copy(), walk.taken()
    ahead = next(taken, None)
    for start, end in windows:
        start_us, end_us = microseconds(start), microseconds(end)
        while ahead is not None and ahead.at_us < start_us:
            states[ahead.slots] = ahead.to_state
            ahead = next(taken, None)
        book = _Book.of(walk.group_of, states, start_us)
        while ahead is not None and ahead.at_us < end_us:
            book.take(ahead)
            states[ahead.slots] = ahead.to_state
            ahead = next(taken, None)
        yield book.finished(end_us)


@dataclass
class _Book:
    """What is open: by slot the spell it is in, by spell its facts and how many devices are still in it."""

    start_us: int
    groups: int
    spell_of: npt.NDArray[np.int64]
    facts: list[tuple[int, int, int, int, int]]  # group, before, state, from, switch
    left: list[int]
    rows: list[_Row] = field(default_factory=list)
    switches: dict[Key, int] = field(default_factory=dict)

    @classmethod
    def of(cls, group_of: Ints, states: npt.NDArray[np.int8], start_us: int) -> "_Book":
        there = group_of != UNKNOWN
        kinds, inverse, counts = np.unique(
            group_of[there] * STATE_COUNT + states[there], return_inverse=True, return_counts=True
        )
        spell_of = np.full(len(group_of), UNKNOWN, dtype=np.int64)
        spell_of[there] = inverse
        places = [divmod(kind, STATE_COUNT) for kind in kinds.tolist()]
        facts = [(group, state, state, start_us, STAYED) for group, state in places]
        return cls(start_us, int(group_of.max(initial=-1)) + 1, spell_of, facts, counts.tolist())

    def take(self, taken: Taken) -> None:
        """One switch: it ends the spells that its devices were in."""
        self._end(taken.slots, taken.at_us)
        number = self.switches.setdefault(taken.key, len(self.switches))
        self.spell_of[taken.slots] = len(self.facts)
        self.facts.append((taken.group, taken.from_state, taken.to_state, taken.at_us, number))
        self.left.append(len(taken.slots))

    def _end(self, slots: Slots, at_us: int) -> None:
        ended, counts = np.unique(self.spell_of[slots], return_counts=True)
        for spell, devices in zip(ended.tolist(), counts.tolist(), strict=True):
            self.left[spell] -= devices
            self._write(spell, at_us, devices)

    def _write(self, spell: int, until_us: int, devices: int) -> None:
        group, before, state, from_us, switch = self.facts[spell]
        self.rows.append((group, before, state, from_us, until_us, devices, switch))

    def finished(self, end_us: int) -> Spells:
        """All that are open end with the window."""
        for spell, left in enumerate(self.left):
            if left:
                self._write(spell, end_us, left)
        table = np.array(self.rows, dtype=np.int64).reshape(-1, 7)
        group, before, state, from_us, to_us, devices, switch = table.T
        of = self.start_us, end_us, self.groups
        return Spells(*of, group, before, state, from_us, to_us, devices, switch, tuple(self.switches))
