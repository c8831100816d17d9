"""Which device of a site has which fault now: what the schedule brings, what is imposed, what is mended.

The site moves it through time (`next_s`, `happen`) and acts on what changes; everybody else asks. No physics here.
"""

import heapq
from collections.abc import Callable, Iterable
from math import inf
from typing import NamedTuple

import numpy as np

from simulators.fault_schedule import FaultSchedule, Incident
from simulators.faults import FAULTS, XID
from simulators.memory_rows import MemoryRows, Rows
from simulators.streams import DAY_S, BoolArray, FloatArray, IntArray

FaultState = dict[str, np.ndarray]  # arrays by name, as they stand in the state file

_NEVER_S = -1e15
_NO_KIND, _NO_SLOT, _NO_TIME = np.zeros(0, dtype=np.uint8), np.zeros(0, dtype=np.int64), np.zeros(0)


def _nothing(_at_s: float) -> None:
    """Until the site takes the faults over, nobody has to be moved first."""


class _Due(NamedTuple):
    """Something that begins or ends, in the order it is carried out."""

    at_s: float
    number: int
    incident: Incident
    is_end: bool


class Faults:
    """The faults of one site's devices as time goes on: what the schedule brings, what is imposed, what is mended.

    The site moves it (`happen`); everybody else asks.
    """

    def __init__(self, devices: int, schedule: FaultSchedule | None, at_s: float) -> None:
        self._devices = devices
        self._schedule = None if schedule is None or schedule.is_empty else schedule
        self._until_s: dict[str, FloatArray] = {}
        self._since_s: dict[str, FloatArray] = {}
        self._xids: dict[int, int] = {}
        self._rows = MemoryRows()
        self._due: list[_Due] = []
        self._number = 0
        self._known_until_s = at_s
        self.at_s = at_s
        self.before: Callable[[float], None] = _nothing
        self._struck: list[tuple[IntArray, int]] = []
        for incident in self._schedule.lasting(at_s) if self._schedule else ():
            self._begin(incident)
        self._read_a_day()

    @property
    def next_s(self) -> float:
        """The next instant at which a fault begins or ends."""
        return min(self._due[0].at_s if self._due else inf, self._known_until_s if self._schedule else inf)

    def happen(self, at_s: float) -> dict[str, IntArray]:
        """Carry out what is due by an instant; the slots each kind has begun or ended at."""
        self.at_s = max(self.at_s, at_s)
        touched: dict[str, list[IntArray]] = {}
        if self._known_until_s <= at_s:
            self._read_a_day()
        while self._due and self._due[0].at_s <= at_s:
            due = heapq.heappop(self._due)
            slots = self._ending(due) if due.is_end else due.incident.slots
            if not due.is_end:
                self._begin(due.incident)
            touched.setdefault(due.incident.kind, []).append(slots)
        return {kind: np.unique(np.concatenate(slots)) for kind, slots in touched.items()}

    def take_struck(self) -> list[tuple[IntArray, int]]:
        """Which GPUs an XID has hit, and which, since this was asked for last."""
        struck, self._struck = self._struck, []
        return struck

    def at(self, slot: int, at_s: float) -> frozenset[str]:
        """Names of the faults a device has at an instant."""
        self.before(at_s)
        if not 0 <= slot < self._devices:
            return frozenset()
        return frozenset(kind for kind, until_s in self._until_s.items() if until_s[slot] > self.at_s)

    def mask(self, kind: str, at_s: float) -> BoolArray:
        """Which devices of the site have a fault at an instant."""
        self.before(at_s)
        until_s = self._until_s.get(kind)
        return np.zeros(self._devices, dtype=np.bool_) if until_s is None else until_s > self.at_s

    def xid(self, slot: int, at_s: float) -> int:
        """The last XID of a GPU since its last reset; 0: none."""
        self.before(at_s)
        return self._xids.get(slot, 0)

    def rows(self, slot: int, at_s: float) -> Rows:
        """The rows of memory that a GPU's board has remapped."""
        self.before(at_s)
        return self._rows.of(slot)

    def has(self, kind: str, index: IntArray) -> BoolArray | None:
        """Which of some devices have a fault now; None: this kind has never occurred here."""
        until_s = self._until_s.get(kind)
        return None if until_s is None else until_s[index] > self.at_s

    def any_of(self, kinds: Iterable[str], index: IntArray) -> BoolArray:
        """Which of some devices have one of several faults now."""
        found = np.zeros(len(index), dtype=np.bool_)
        for kind in kinds:
            if (mask := self.has(kind, index)) is not None:
                found |= mask
        return found

    def ages_s(self, kind: str, index: IntArray) -> tuple[FloatArray, FloatArray] | None:
        """Seconds since a fault last began at some devices, and how long it lasted until now or its end."""
        if kind not in self._until_s:
            return None
        since_s, until_s = self._since_s[kind][index], self._until_s[kind][index]
        return self.at_s - since_s, np.minimum(until_s, self.at_s) - since_s

    def impose(self, kind: str, index: IntArray, at_s: float, until_s: float = inf, xid: int = 0) -> None:
        """Give some devices a fault that is not in the schedule, until it is lifted or its time is over."""
        self._begin(Incident(at_s, until_s, kind, "imposed", index, xid))

    def lift(self, kind: str, index: IntArray, at_s: float) -> IntArray:
        """End a fault of some devices, whatever brought it; who had it. Lifting `xid` forgets the last XID."""
        if kind == XID:
            for slot in index.tolist():
                self._xids.pop(slot, None)
        had = self.has(kind, index)
        if had is None:
            return index[:0]
        self._until_s[kind][index[had]] = at_s
        return index[had]

    def save(self) -> FaultState:
        """What lasts now."""
        rows = [(FAULTS.index(kind), np.flatnonzero(until_s > self.at_s)) for kind, until_s in self._until_s.items()]
        return {
            "fault_kind": np.concatenate(
                [np.full(len(slots), kind, dtype=np.uint8) for kind, slots in rows] or [_NO_KIND]
            ),
            "fault_slot": np.concatenate([slots for _, slots in rows] or [_NO_SLOT]),
            "fault_since_s": np.concatenate([self._since_s[FAULTS[kind]][slots] for kind, slots in rows] or [_NO_TIME]),
            "fault_until_s": np.concatenate([self._until_s[FAULTS[kind]][slots] for kind, slots in rows] or [_NO_TIME]),
            "xid_slot": np.array(list(self._xids), dtype=np.int64),
            "xid_code": np.array(list(self._xids.values()), dtype=np.int64),
            **self._rows.save(),
        }

    def restore(self, state: FaultState, at_s: float, kept: BoolArray) -> None:
        """Take over what lasted at an instant, of the devices that are kept; what was mended stays mended."""
        self.at_s, self._known_until_s, self._due = at_s, at_s, []
        self._until_s, self._since_s = {}, {}
        xids = zip(state["xid_slot"].tolist(), state["xid_code"].tolist(), strict=True)
        self._xids = {slot: code for slot, code in xids if slot < len(kept) and kept[slot]}
        is_here = state["fault_slot"] < len(kept)
        is_here[is_here] = kept[state["fault_slot"][is_here]]
        slots = state["fault_slot"][is_here]
        rows = np.stack([state["fault_kind"].astype(np.float64), state["fault_since_s"], state["fault_until_s"]])
        rows = rows[:, is_here]
        for kind, since_s, until_s in np.unique(rows, axis=1).T.tolist():
            same = (rows == np.array([[kind], [since_s], [until_s]])).all(axis=0)
            self._begin(Incident(since_s, until_s, FAULTS[int(kind)], "restored", slots[same]))
        self._rows.restore(state, kept)
        for incident in self._schedule.lasting(at_s) if self._schedule and not kept.all() else ():
            self._begin(incident._replace(slots=incident.slots[~kept[incident.slots]]))
        if self._schedule:
            self._read_a_day()

    def _begin(self, incident: Incident) -> None:
        kind, slots = incident.kind, incident.slots
        self._rows.note(kind, incident.xid, slots)
        if incident.xid:
            self._xids.update(dict.fromkeys(slots.tolist(), incident.xid))
            self._struck.append((slots, incident.xid))
        if kind == XID:
            return
        if kind not in self._until_s:
            self._until_s[kind] = np.full(self._devices, _NEVER_S)
            self._since_s[kind] = np.full(self._devices, _NEVER_S)
        until_s = self._until_s[kind]
        fresh = slots[until_s[slots] <= incident.start_s]
        self._since_s[kind][fresh] = incident.start_s
        until_s[slots] = np.maximum(until_s[slots], incident.end_s)
        if incident.end_s < inf:
            self._push(incident.end_s, incident, is_end=True)

    def _ending(self, due: _Due) -> IntArray:
        """Where a fault ends now: not where it was mended before, or another one lasts longer."""
        slots = due.incident.slots
        return np.asarray(slots[self._until_s[due.incident.kind][slots] == due.at_s])

    def _read_a_day(self) -> None:
        """Take what the schedule brings until the next midnight."""
        if self._schedule is None:
            return
        ends_s = (self._known_until_s // DAY_S + 1) * DAY_S
        for incident in self._schedule.between(self._known_until_s, ends_s):
            self._push(incident.start_s, incident, is_end=False)
        self._known_until_s = ends_s

    def _push(self, at_s: float, incident: Incident, *, is_end: bool) -> None:
        self._number += 1
        heapq.heappush(self._due, _Due(at_s, self._number, incident, is_end))
