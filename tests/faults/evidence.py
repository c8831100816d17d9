"""What the checker's parts share: violations, and a gateway's log read as changes of what each device should do."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

from tests.faults.records import Change, Entry, Facility, Group, Journal, Run, Slots

EXEMPT = frozenset(
    {"lockout", "local_safety", "shed_by_relay", "emergency_stop", "operator_curtailment", "grid_deployment"}
)
MADE_UP_BELOW = 1 << 64  # a reference below it is the number of a log entry: the gateway's own doing


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """Something that may never be."""

    at_s: float
    invariant: str
    facility_id: str
    text: str

    def __str__(self) -> str:
        return f"{self.at_s:8.2f} s  {self.facility_id}: {self.invariant}: {self.text}"


@dataclass(frozen=True, slots=True)
class Order:
    """Devices that a gateway took on to bring into a state, in the order of its log."""

    at_s: float
    seq: int
    ref: str
    assignment: int
    epoch: int  # 0: its own doing
    reason: str
    state: int
    slots: Slots
    before: Slots  # the states they were last told


class Site:
    """One facility's evidence."""

    def __init__(self, facility: Facility, run: Run) -> None:
        self.facility, self.run, self.id = facility, run, facility.facility_id
        self.entries = sorted((e for e in run.entries if e.facility_id == self.id), key=lambda e: e.seq)
        self.journal = [j for j in run.journal if j.facility_id == self.id]
        self.group_of: dict[int, Group] = {s: g for g in facility.groups for s in g.slots}
        self.lowest = {g.group_id: min(g.power_mw, key=lambda s: g.power_mw[s]) for g in facility.groups}

    def is_lowest(self, slot: int, state: int) -> bool:
        """Whether a state is the least that a slot can be in."""
        group = self.group_of[slot]
        return group.power_mw[state] <= group.power_mw[self.lowest[group.group_id]]

    def mw(self, slot: int, state: int) -> float:
        """All-in MW."""
        return self.group_of[slot].power_mw.get(state, 0.0)

    @cached_property
    def void(self) -> frozenset[str]:
        """Commands that were stored after their deadline."""
        return frozenset(e.command_id for e in self.entries if e.kind == "expired")

    @cached_property
    def orders(self) -> list[Order]:
        """All that the gateway took on."""
        told = {slot: self.lowest[g.group_id] for slot, g in self.group_of.items()}
        found: list[Order] = []
        commands: dict[str, Entry] = {}
        for entry in self.entries:
            for ref, assignment, epoch, reason, state, slots in _taken(entry, commands, self.void):
                before = tuple(told[s] for s in slots)
                found.append(Order(entry.at_s, entry.seq, ref, assignment, epoch, reason, state, slots, before))
                told |= dict.fromkeys(slots, state)
        return found

    @cached_property
    def commanded(self) -> dict[tuple[str, int], Journal]:
        """Journal rows of commands."""
        return {(j.command_id, j.assignment): j for j in self.journal if j.event == "commanded"}

    @cached_property
    def changes(self) -> list[Change]:
        """What devices did."""
        return sorted((c for c in self.run.changes if c.facility_id == self.id), key=lambda c: c.at_s)

    @cached_property
    def _drawn(self) -> dict[int, tuple[list[float], list[int]]]:
        found: dict[int, tuple[list[float], list[int]]] = defaultdict(lambda: ([], []))
        for change in self.changes:
            for slot in change.slots:
                found[slot][0].append(change.at_s)
                found[slot][1].append(change.state)
        return found

    def drawn(self, slot: int, at_s: float) -> int:
        """The state whose power a device draws at an instant."""
        times, states = self._drawn[slot]
        place = bisect_right(times, at_s)
        return states[place - 1] if place else self.lowest[self.group_of[slot].group_id]

    @cached_property
    def faulty(self) -> frozenset[int]:
        """Slots that may disobey."""
        return frozenset(s for f in self.run.finals if f.facility_id == self.id for s in f.is_faulty)


Taken = tuple[str, int, int, str, int, Slots]


def _taken(entry: Entry, commands: dict[str, Entry], void: frozenset[str]) -> Iterator[Taken]:
    """What an entry means for devices: (reference, assignment, epoch, reason, state, slots)."""
    if entry.kind == "command":
        commands[entry.command_id] = entry
    elif entry.kind == "ack" and entry.command_id not in void and entry.command_id in commands:
        command = commands[entry.command_id]
        states = {assignment: state for assignment, state, _ in command.parts}
        for assignment, _, slots in entry.parts:
            if slots:
                yield entry.command_id, assignment, command.epoch, command.reason, states[assignment], slots
    elif entry.kind == "local" and entry.slots:
        yield str(UUID(int=entry.seq)), 0, 0, entry.reason, entry.state, entry.slots
