"""When which unit breaks, for how long: drawn for each unit and day from a stream of its own, with what the scenario scripts.

A function of seed, scenario and the site's layout alone: any day can be made at any time, before or after any other. A unit has
at most one fault of a class begin on a day, which at the rates of `hazards` is all but exact. What faults do is elsewhere.
"""

from collections.abc import Iterator
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from simulators.fault_log import FaultLog, gpu_slots
from simulators.hazards import LONGEST_DAYS, Hazard, hazards_of
from simulators.power_plant.topology import Topology
from simulators.scenarios import ScriptedFault
from simulators.script import Script
from simulators.settings import GroupConfig, SiteConfig
from simulators.streams import DAY_S, FloatArray, IntArray, uniforms

# Runs of slots that break together where `world.yaml` has no topology: PDUs of 140 and 40 kW, racks (containers) of miners.
UNIT_DEVICES = {"node": {"GPU": 8}, "pdu": {"ASIC": 40, "GPU": 32}, "rack": {"ASIC": 320, "GPU": 64}}
_LOOPS_PER_GROUP = 4


class Incident(NamedTuple):
    """One fault of one unit: [start, end), and the slots it reaches."""

    start_s: float
    end_s: float
    kind: str
    unit: str
    slots: IntArray
    xid: int = 0


class Unit(NamedTuple):
    """A run (or several) of slots that can break together."""

    name: str
    kind: str  # ASIC, GPU, or both: ""
    slots: IntArray


class FaultSchedule:
    """The incidents of one site, a day at a time."""

    def __init__(self, config: SiteConfig, number: int, seed: int, script: Script, log: FaultLog | None = None) -> None:
        self._config = config
        self._log = log
        self._number = number
        self._seed = seed
        self._script = script
        self._hazards: dict[str, list[Hazard]] = {}
        for hazard in hazards_of(script.scenario.faults):
            if log is None or hazard.unit not in ("gpu", "node"):
                self._hazards.setdefault(hazard.unit, []).append(hazard)
        self._units = lru_cache(maxsize=16)(self._make_units)
        self.of_day = lru_cache(maxsize=8)(self._of_day)

    @property
    def is_empty(self) -> bool:
        """Whether nothing can ever happen here."""
        events = (event for event in self._script.scenario.events if event.site in (None, self._number))
        return not self._hazards and self._log is None and not any(events)

    def between(self, first_s: float, last_s: float) -> list[Incident]:
        """Incidents that begin in [first, last), in order."""
        if self.is_empty:
            return []
        days = range(int(first_s // DAY_S), int(-(-last_s // DAY_S)))
        return [each for day in days for each in self.of_day(day) if first_s <= each.start_s < last_s]

    def lasting(self, at_s: float) -> list[Incident]:
        """Incidents that began before an instant and end after it."""
        return [each for each in self.between(at_s - LONGEST_DAYS * DAY_S, at_s) if each.end_s > at_s]

    def _of_day(self, day: int) -> tuple[Incident, ...]:
        found = [each for unit in self._hazards for each in self._drawn(unit, day)]
        found += self._scripted(day)
        found += self._recorded(day)
        return tuple(sorted(found, key=lambda each: (each.start_s, each.kind, each.unit)))

    def _drawn(self, unit: str, day: int) -> Iterator[Incident]:
        """Faults of one class of units that begin on a day."""
        hazards = self._hazards[unit]
        members = self._units(unit)
        most = np.array([row.per_day * self._script.most_fault_factor(row.kind) for row in hazards])
        numbers = self._numbers(unit)
        draws = self._stream(unit, day, numbers, "whether")
        hit = np.flatnonzero(draws < -np.expm1(-most.sum()))
        which = np.searchsorted(
            np.cumsum(most) / most.sum(), self._stream(unit, day, numbers[hit], "which"), side="right"
        )
        starts_s = (day + self._stream(unit, day, numbers[hit], "when")) * DAY_S
        kept = self._stream(unit, day, numbers[hit], "kept")
        length = self._stream(unit, day, numbers[hit], "length")
        for n, member in enumerate(hit.tolist()):
            row = hazards[min(int(which[n]), len(hazards) - 1)]
            factor = float(self._script.fault_factor(row.kind, starts_s[n : n + 1])[0])
            if kept[n] * self._script.most_fault_factor(row.kind) < factor:
                start_s = round(float(starts_s[n]), 3)
                end_s = start_s + _length_s(row, float(length[n]))
                name, slots = self._named(unit, members, member)
                yield Incident(start_s, end_s, row.kind, name, slots, row.xid)

    def _stream(self, unit: str, day: int, numbers: IntArray, what: str) -> FloatArray:
        return uniforms(self._seed, numbers, "faults", self._config.site, unit, day, what)

    def _numbers(self, unit: str) -> IntArray:
        if unit in ("miner", "gpu"):
            return self._slots_of("ASIC" if unit == "miner" else "GPU")
        return np.arange(len(self._units(unit)), dtype=np.int64)

    def _named(self, unit: str, members: tuple[Unit, ...], number: int) -> tuple[str, IntArray]:
        if unit in ("miner", "gpu"):
            slot = int(self._numbers(unit)[number])
            return f"slot/{slot}", np.array([slot])
        return members[number].name, members[number].slots

    def _scripted(self, day: int) -> Iterator[Incident]:
        """What the scenario scripts to begin on a day; an event's spread may carry its units into the next one."""
        first_s, last_s = day * DAY_S, (day + 1) * DAY_S
        for number, event, due_s in self._script.events_between(first_s - DAY_S, last_s):
            if event.site not in (None, self._number):
                continue
            units = [unit for unit in self._units(event.unit) if event.devices in (None, unit.kind)]
            numbers = np.arange(len(units), dtype=np.int64)
            key = ("script", self._config.site, number, int(due_s))
            chosen = np.argsort(uniforms(self._seed, numbers, *key, "which"))[: _count(event, len(units))]
            delays_s = uniforms(self._seed, numbers, *key, "when") * event.spread_minutes * 60.0
            for n in np.sort(chosen).tolist():
                start_s = round(due_s + float(delays_s[n]), 3)
                if first_s <= start_s < last_s:
                    end_s, unit = start_s + event.minutes * 60.0, units[n]
                    yield Incident(start_s, end_s, event.kind, unit.name, unit.slots, event.code)

    def _recorded(self, day: int) -> Iterator[Incident]:
        """What the recorded log has for the GPU nodes on a day, counted from the world's beginning."""
        if self._log is None:
            return
        nodes = [unit for unit in self._units("node") if unit.kind == "GPU"]
        origin_s = self._script.origin_s
        span_s = (max(0.0, day * DAY_S - origin_s), (day + 1) * DAY_S - origin_s)
        for fault in self._log.between(len(nodes), *span_s, self._seed, self._config.site):
            length_s = min(fault.end_s - fault.start_s, LONGEST_DAYS * DAY_S)
            start_s = round(origin_s + fault.start_s, 3)
            unit = nodes[fault.node]
            slots = gpu_slots(unit.slots, fault.gpu)
            name = unit.name if fault.gpu is None else f"slot/{int(slots[0])}"
            yield Incident(start_s, start_s + length_s, fault.kind, name, slots, fault.xid)

    def _slots_of(self, kind: str) -> IntArray:
        groups = [group for group in self._config.groups if group.kind == kind]
        return np.concatenate([_slots(group) for group in groups] or [np.zeros(0, dtype=np.int64)])

    def _make_units(self, unit: str) -> tuple[Unit, ...]:
        """Every unit of a class: as `world.yaml` draws them, else runs of slots of one group."""
        if unit in ("miner", "gpu"):
            return ()
        if unit == "site":
            kinds = {group.kind for group in self._config.groups}
            everyone = np.concatenate([_slots(group) for group in self._config.groups])
            return (Unit("site", kinds.pop() if len(kinds) == 1 else "", everyone),)
        if unit == "device":
            return tuple(
                Unit(f"slot/{slot}", group.kind, np.array([slot]))
                for group in self._config.groups
                for slot in _slots(group)
            )
        drawn = Topology(self._config).of_kind(unit) if unit in ("pdu", "rack", "cooling_loop") else []
        if drawn:
            return tuple(Unit(f"{unit}/{point.name}", self._kind_at(point.slots), point.slots) for point in drawn)
        return tuple(each for group in self._config.groups for each in _runs(unit, group))

    def _kind_at(self, slots: IntArray) -> str:
        kinds = {group.kind for group in self._config.groups if np.isin(_slots(group), slots).any()}
        return kinds.pop() if len(kinds) == 1 else ""


def _runs(unit: str, group: GroupConfig) -> Iterator[Unit]:
    size = -(-group.devices // _LOOPS_PER_GROUP) if unit == "cooling_loop" else UNIT_DEVICES[unit].get(group.kind, 0)
    for number, first in enumerate(range(group.first_slot, group.end_slot, size) if size else ()):
        slots = np.arange(first, min(first + size, group.end_slot), dtype=np.int64)
        yield Unit(f"{unit}/{group.group}/{number}", group.kind, slots)


def _slots(group: GroupConfig) -> IntArray:
    return np.arange(group.first_slot, group.end_slot, dtype=np.int64)


def _count(event: ScriptedFault, units: int) -> int:
    """How many units an event reaches; never none of a share that is not none."""
    return min(units, max(1, round(event.fraction * units))) if event.fraction > 0 else 0


def _length_s(row: Hazard, draw: float) -> float:
    normal = NormalDist().inv_cdf(min(max(draw, 1e-9), 1.0 - 1e-9))
    hours = row.median_h * float(np.exp(row.sigma * normal))
    return round(min(hours * 3600.0, LONGEST_DAYS * DAY_S), 3)
