"""What faults and heat leave of a site's devices by the hour: the incidents of the schedule laid over hours and slots.

The same kinds, shares and temperatures as in `devices` and `heat`, at whole hours instead of instants: what befalls a device
within an hour counts by its share of that hour. A test runs a `Site` beside it.
"""

from typing import Final, NamedTuple

import numpy as np

from simulators import faults as f
from simulators.devices import BOOT_S, DEAF, STOPPED, THROTTLED_SHARE
from simulators.fault_schedule import FaultSchedule, Incident
from simulators.hazards import LONGEST_DAYS
from simulators.heat import GPU_HALL_C, LOOP_RISE_C, LOOP_TAU_S
from simulators.settings import SiteConfig
from simulators.streams import DAY_S, FloatArray, IntArray
from simulators.tables import Tables

HOUR_S: Final = 3600
# A GPU with a memory or link error runs on, but nobody gives it work before it was reset.
OUT: Final = frozenset({*DEAF, *STOPPED, f.POWER_LOST, f.ECC, f.NVLINK})
_DAYS_AT_ONCE: Final = 28


class Hours(NamedTuple):
    """By hour and group: device-hours that are healthy and available, devices that failed, and the hottest chip at work, °C."""

    available_h: FloatArray
    failures: IntArray
    hottest_c: FloatArray


class Outages:
    """The past of one site's devices."""

    def __init__(self, config: SiteConfig, schedule: FaultSchedule, seed: int) -> None:
        self._schedule = schedule
        self._tables = Tables(config, seed)
        self._groups = [slice(group.first_slot, group.end_slot) for group in config.groups]
        self._boot_s = np.where(self._tables.is_gpu, BOOT_S["GPU"], BOOT_S["ASIC"])

    def between(self, start_s: int, end_s: int, ambient_c: FloatArray) -> Hours:
        """Hours from a midnight to a midnight; `ambient_c` at the start of each, and in the middle halfway to the next."""
        middle_c = (ambient_c + np.r_[ambient_c[1:], ambient_c[-1:]]) / 2
        parts = []
        for first_s in range(start_s, end_s, _DAYS_AT_ONCE * DAY_S):
            last_s = min(first_s + _DAYS_AT_ONCE * DAY_S, end_s)
            rows = slice((first_s - start_s) // HOUR_S, (last_s - start_s) // HOUR_S)
            parts.append(self._part(first_s, last_s, middle_c[rows]))
        return Hours(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _part(self, start_s: int, end_s: int, ambient_c: FloatArray) -> Hours:
        hours, slots = (end_s - start_s) // HOUR_S, len(self._tables.is_gpu)
        lost, kept, warm_c = np.zeros((hours, slots)), np.ones((hours, slots)), np.zeros((hours, slots))
        failures = np.zeros((hours, slots), dtype=np.int64)
        for each in self._schedule.between(start_s - LONGEST_DAYS * DAY_S, end_s):
            if each.kind in OUT:
                self._lose(lost, each, start_s)
                if each.start_s >= start_s:
                    failures[int((each.start_s - start_s) // HOUR_S), each.slots] += 1
            elif each.kind == f.BOARD_DROPOUT:
                _keep(kept, each, start_s, 1.0 - 1.0 / self._tables.boards[each.slots])
            elif each.kind == f.THROTTLED:
                _keep(kept, each, start_s, self._throttled(each.slots))
            elif each.kind == f.COOLING_LOST:
                _warm(warm_c, each, start_s)
        return self._summed(np.clip(1.0 - lost, 0.0, 1.0) * kept, failures, ambient_c, warm_c)

    def _lose(self, lost: FloatArray, each: Incident, start_s: int) -> None:
        """Outages of one device add up, at most to the hour; who was dark boots."""
        after_s = self._boot_s[each.slots].max() if each.kind in (f.POWER_LOST, f.NODE_LOST) else 0.0
        rows, shares = _shares(each.start_s, each.end_s + after_s, start_s, len(lost))
        lost[rows, each.slots[:, None]] += shares

    def _throttled(self, slots: IntArray) -> FloatArray:
        """Of the power above idle a share is left: of all power, that and the idle power."""
        full_w, idle_w = self._tables.power_w[:, slots].max(axis=0), self._tables.idle_w[slots]
        return np.asarray((idle_w + (full_w - idle_w) * THROTTLED_SHARE) / full_w, dtype=np.float64)

    def _summed(self, able: FloatArray, failures: IntArray, ambient_c: FloatArray, warm_c: FloatArray) -> Hours:
        tables = self._tables
        hall_c = np.where(tables.is_gpu, np.maximum(ambient_c[:, None], GPU_HALL_C), ambient_c[:, None])
        inlet_c = hall_c + warm_c
        full_w = tables.power_w.max(axis=0).astype(np.float64)
        rise_c = tables.rise_per_w * full_w
        spare_c = np.maximum(tables.hot_c - inlet_c, 0.0)
        able *= np.minimum(1.0, spare_c / np.maximum(rise_c, 1e-9))
        hottest_c = np.minimum(inlet_c + rise_c, np.maximum(tables.hot_c, inlet_c))
        return Hours(
            np.stack([able[:, group].sum(axis=1) for group in self._groups], axis=1),
            np.stack([failures[:, group].sum(axis=1) for group in self._groups], axis=1),
            np.stack([hottest_c[:, group].max(axis=1) for group in self._groups], axis=1),
        )


def _shares(from_s: float, to_s: float, start_s: int, hours: int) -> tuple[IntArray, FloatArray]:
    """The hours that an interval touches, and its share of each."""
    first = max(0, int((from_s - start_s) // HOUR_S))
    last = min(hours, int(-(-(to_s - start_s) // HOUR_S)))
    rows = np.arange(first, max(first, last), dtype=np.int64)
    starts_s = start_s + rows * HOUR_S
    return rows, np.clip((np.minimum(to_s, starts_s + HOUR_S) - np.maximum(from_s, starts_s)) / HOUR_S, 0.0, 1.0)


def _keep(kept: FloatArray, each: Incident, start_s: int, share: FloatArray) -> None:
    """A derate; of two of the same kind that overlap the stronger holds, as a device has a fault or has it not."""
    rows, shares = _shares(each.start_s, each.end_s, start_s, len(kept))
    left = 1.0 - shares * (1.0 - share)[:, None]
    kept[rows, each.slots[:, None]] = np.minimum(kept[rows, each.slots[:, None]], left)


def _warm(warm_c: FloatArray, each: Incident, start_s: int) -> None:
    """A loop that stands still, in the middle of each hour: warming while it lasts, cooling for two hours after it."""
    rows, _ = _shares(each.start_s, each.end_s + 2 * HOUR_S, start_s, len(warm_c))
    age_s = np.maximum(start_s + (rows + 0.5) * HOUR_S - each.start_s, 0.0)
    lasted_s = np.minimum(age_s, each.end_s - each.start_s)
    rise_c = LOOP_RISE_C * -np.expm1(-lasted_s / LOOP_TAU_S) * np.exp(-(age_s - lasted_s) / LOOP_TAU_S)
    warm_c[rows, each.slots[:, None]] = np.maximum(warm_c[rows, each.slots[:, None]], rise_c)
