"""Columns and rows of a facility's programme, numbered once; the matrix depends on the spec and on the hours alone.

Prices, indices, healthy counts, limits and the start enter by costs and bounds, so that a solve changes numbers in place.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hcp_pipelines.optimizer.programme.spec import Floats, SiteSpec

Ints = npt.NDArray[np.int32]


def hours_of_reserve(hours: Floats) -> npt.NDArray[np.int64]:
    """[t] the number of the hour that an interval begins in: a reserve is sold by the hour."""
    begins = np.r_[0.0, np.cumsum(hours)[:-1]]
    _, number = np.unique(np.floor(begins + 1e-9), return_inverse=True)
    return number.astype(np.int64)


@dataclass
class Matrix:
    """Entries of a sparse matrix by row, as HiGHS takes them."""

    rows: list[npt.NDArray[np.int64]]
    columns: list[npt.NDArray[np.int64]]
    values: list[Floats]

    def add(self, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], values: float | Floats) -> None:
        """Entries; all three of one shape, or a single value."""
        self.rows.append(np.ravel(rows))
        self.columns.append(np.ravel(columns))
        self.values.append(np.broadcast_to(values, np.shape(rows)).ravel().astype(float))

    def by_row(self, rows: int) -> tuple[Ints, Ints, Floats]:
        """(starts, columns, values)."""
        row, column = np.concatenate(self.rows), np.concatenate(self.columns)
        value: Floats = np.concatenate(self.values)
        order = np.lexsort((column, row))
        starts = np.searchsorted(row[order], np.arange(rows + 1))
        return starts.astype(np.int32), column[order].astype(np.int32), value[order]


class Layout:
    """Numbers of columns and rows as arrays over what they are of; the last axis is the interval."""

    def __init__(self, spec: SiteSpec, hours: Floats) -> None:
        self.spec, self.hours = spec, hours
        n, groups, pairs = len(hours), len(spec.groups), len(spec.pairs)
        self.hour = hours_of_reserve(hours)
        hour_count = int(self.hour.max()) + 1
        take = _Numbers()
        self.devices, self.wakes, self.sleeps = take(pairs, n), take(groups, n), take(groups, n)
        self.load, self.over, self.short_reserve = take(n), take(n), take(n)
        self.reserve = take(len(spec.reserves), hour_count)
        self.inference, self.training = take(len(spec.inference_usd_per_mwh), n), take(spec.training_slots, n)
        self.short_training, self.ai_rise = take(spec.training_slots), take(n)
        self.gangs = take(len(spec.gang_mw), n)
        self.columns = take.count
        row = _Numbers()
        self.balance, self.healthy, self.turns = row(n), row(groups, n), row(groups, n)
        self.up_groups = [g for g, group in enumerate(spec.groups) if group.min_up_h > 0]
        self.down_groups = [g for g, group in enumerate(spec.groups) if group.min_down_h > 0]
        self.min_up, self.min_down = row(len(self.up_groups), n), row(len(self.down_groups), n)
        self.feeders = list(spec.feeder_caps_mw)
        self.feeder, self.ramp, self.reserve_on = row(len(self.feeders), n), row(n), row(n)
        self.reserve_most, self.response, self.ai_room, self.ai_turn = row(hour_count), row(n), row(n), row(n)
        self.work, self.gang_whole = row(spec.training_slots), row(len(spec.gang_mw), n)
        self.rows = row.count
        self.group_of_pair = np.array([g for g, _ in spec.pairs], dtype=np.int64)
        self.added_mw = np.array([mode.mw - spec.groups[g].asleep_mw for g, mode in spec.pairs])

    def matrix(self) -> Matrix:
        """All entries."""
        entries = Matrix([], [], [])
        for part in (self._power, self._awake, self._dwell, self._feeders, self._reserves, self._ai):
            part(entries)
        return entries

    def _power(self, m: Matrix) -> None:
        """Load = asleep + what devices and AI work add; its change; demand response."""
        m.add(self.balance, self.load, 1.0)
        for p, added_mw in enumerate(self.added_mw):
            m.add(self.balance, self.devices[p], -added_mw)
        for ai in (*self.inference, *self.training):
            m.add(self.balance, ai, -(1.0 - self.spec.gpu_idle_fraction))
        m.add(self.ramp, self.load, 1.0)
        m.add(self.ramp[1:], self.load[:-1], -1.0)
        m.add(self.response, self.load, 1.0)
        m.add(self.response, self.over, -1.0)

    def _awake(self, m: Matrix) -> None:
        """Awake devices are at most the healthy ones, and change by wakes and sleeps alone."""
        for p, g in enumerate(self.group_of_pair):
            m.add(self.healthy[g], self.devices[p], 1.0)
            m.add(self.turns[g], self.devices[p], 1.0)
            m.add(self.turns[g][1:], self.devices[p][:-1], -1.0)
        for g in range(len(self.spec.groups)):
            m.add(self.turns[g], self.wakes[g], -1.0)
            m.add(self.turns[g], self.sleeps[g], 1.0)

    def _dwell(self, m: Matrix) -> None:
        """Minimum up and down: what was woken within the time is still awake, what was put to sleep still asleep."""
        ends = np.cumsum(self.hours)
        for groups, rows, moves, sign, name in (
            (self.up_groups, self.min_up, self.wakes, -1.0, "min_up_h"),
            (self.down_groups, self.min_down, self.sleeps, 1.0, "min_down_h"),
        ):
            for n, g in enumerate(groups):
                within_h = getattr(self.spec.groups[g], name)
                first = np.searchsorted(ends, ends - within_h + 1e-9, side="right")
                t, tau = _pairs(first)
                m.add(rows[n][t], moves[g][tau], 1.0)
                for p in np.flatnonzero(self.group_of_pair == g):
                    m.add(rows[n], self.devices[p], sign)

    def _feeders(self, m: Matrix) -> None:
        for f, name in enumerate(self.feeders):
            for p, g in enumerate(self.group_of_pair):
                if self.spec.groups[g].feeder == name:
                    m.add(self.feeder[f], self.devices[p], self.added_mw[p])

    def _reserves(self, m: Matrix) -> None:
        """Load that can be shed is on for what is sold; what lacks is paid for."""
        for p, (g, mode) in enumerate(self.spec.pairs):
            if self.spec.groups[g].is_sheddable:
                m.add(self.reserve_on, self.devices[p], mode.mw)
        m.add(self.reserve_on, self.short_reserve, 1.0)
        for product in self.reserve:
            m.add(self.reserve_on, product[self.hour], -1.0)
            m.add(self.reserve_most, product, 1.0)

    def _ai(self, m: Matrix) -> None:
        """GPUs hold what runs on them; what comes on is loaded anew; training is done by its deadline or paid for."""
        for ai in (*self.inference, *self.training):
            m.add(self.ai_room, ai, 1.0)
            m.add(self.ai_turn, ai, 1.0)
            m.add(self.ai_turn[1:], ai[:-1], -1.0)
        m.add(self.ai_turn, self.ai_rise, -1.0)
        for j, job in enumerate(self.training):
            m.add(np.full(len(job), self.work[j]), job, self.hours)
        m.add(self.work, self.short_training, 1.0)
        for j, gang_mw in enumerate(self.spec.gang_mw):
            m.add(self.gang_whole[j], self.training[j], 1.0)
            m.add(self.gang_whole[j], self.gangs[j], -gang_mw)


class _Numbers:
    """Hands out consecutive numbers in arrays of a shape."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *shape: int) -> npt.NDArray[np.int64]:
        size = int(np.prod(shape))
        numbers = np.arange(self.count, self.count + size, dtype=np.int64).reshape(shape)
        self.count += size
        return numbers


def _pairs(first: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(t, tau) for every tau from first[t] to t."""
    t = np.arange(len(first))
    counts = t - first + 1
    rows = np.repeat(t, counts)
    offset = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, np.repeat(first, counts) + offset
