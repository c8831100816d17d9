"""What the devices did by steps of a history, as a schedule that can be settled. Who switched when is in `moves.py`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from hcp_pipelines.domain.modes import STATE_COUNT
from hcp_pipelines.forecasting.hours import HOUR_US
from hcp_pipelines.optimizer.backtest.replay.fleet import Fleet, Schedule
from hcp_pipelines.optimizer.backtest.replay.history import STEP_H, History
from hcp_pipelines.optimizer.backtest.replay.moves import Taken, Walk
from hcp_pipelines.optimizer.backtest.series import Ints

STEP_US = round(STEP_H * HOUR_US)


@dataclass(frozen=True)
class Realised:
    """The mix `[g, s]` as the window began, what was done in it, and how many devices no row ever names."""

    start: Ints
    schedule: Schedule
    unnamed: int


def realised(journal: pl.DataFrame, fleet: Fleet, first_slots: Mapping[str, int], history: History) -> Realised:
    """The schedule of a facility's journal (rows as `Walk` wants them) over the steps of a history."""
    walk = Walk(journal, fleet, first_slots)
    tally = _Tally.of(fleet, history, walk.mix())
    for taken in walk.taken():
        tally.book(taken)
    return tally.finished(walk.unnamed)


def reasons_of(journal: pl.DataFrame, since: datetime) -> list[str]:
    """A line a reason: how many devices the journal says were told to switch from an instant on, and by how many MW."""
    told = journal.filter((pl.col("event") == "commanded") & (pl.col("simulated_at") >= since))
    by_reason = told.group_by("reason").agg(pl.col("devices").sum(), pl.col("mw_delta").sum()).sort("devices", "reason")
    return [
        f"journal: {devices} devices told to switch for {reason}, {mw:+.2f} MW"
        for reason, devices, mw in by_reason.reverse().iter_rows()
    ]


@dataclass
class _Tally:
    """Devices by step, group and state as switches come in, in the order of time."""

    fleet: Fleet
    history: History
    changes: npt.NDArray[np.float64]  # [t, g, s] of the mix as each step begins; weights of parts of steps apart
    parts: npt.NDArray[np.float64]
    wakes: npt.NDArray[np.float64]
    switches: npt.NDArray[np.float64]
    start: Ints

    @classmethod
    def of(cls, fleet: Fleet, history: History, start: Ints) -> "_Tally":
        steps, groups = len(history), len(fleet.groups)
        shape = (steps, groups, STATE_COUNT)
        flat = np.zeros((steps, groups))
        return cls(fleet, history, np.zeros(shape), np.zeros(shape), flat, flat.copy(), start)

    def book(self, taken: Taken) -> None:
        """One switch; before the window it only says where it began."""
        step = int(np.searchsorted(self.history.starts_us, taken.at_us, side="right")) - 1
        g, devices = taken.group, len(taken.slots)
        if step < 0:
            self.start[g, taken.from_state] -= devices
            self.start[g, taken.to_state] += devices
            return
        left = max(0.0, 1.0 - (taken.at_us - int(self.history.starts_us[step])) / STEP_US)
        for of, sign in ((taken.from_state, -1), (taken.to_state, 1)):
            self.parts[step, g, of] += sign * devices * left
            if step + 1 < len(self.history):
                self.changes[step + 1, g, of] += sign * devices
        earns = self.fleet.earns[g]
        self.wakes[step, g] += devices * bool(earns[taken.to_state] and not earns[taken.from_state])
        self.switches[step, g] += devices

    def finished(self, unnamed: int) -> Realised:
        """The schedule."""
        counts = self.start[None] + self.changes.cumsum(axis=0) + self.parts
        return Realised(self.start, Schedule(counts, self.wakes, self.switches), unnamed)
