"""What the checker reads: plain records of what was seen from outside. No code of the platform here, and none that it needs.

Instants (`at_s`) are of one clock that is right: virtual time in the deterministic harness, the machine's on a real platform.
They are real seconds; `speed` says how many simulated ones each stands for. Slots are sorted tuples of whole numbers.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TextIO

Slots = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Limit:
    """MW in a rolling window: of a feeder (its id), `facility`, or `portfolio` (this facility's share)."""

    scope: str
    up_mw: float
    down_mw: float
    window_s: float  # simulated


@dataclass(frozen=True, slots=True)
class Group:
    """Devices of one kind: all-in MW and settling time (simulated seconds) by state, the lowest state first."""

    group_id: str
    feeder_id: str
    slots: Slots
    power_mw: dict[int, float]
    settle_s: dict[int, float]
    is_sheddable: bool
    is_scheduled: bool = False  # its devices work for desired rows alone


@dataclass(frozen=True, slots=True)
class Facility:
    """What a facility is."""

    facility_id: str
    groups: tuple[Group, ...]
    limits: tuple[Limit, ...]
    fallback: dict[str, int]  # group to state
    fallback_after_s: float  # simulated, of a gateway without an owner
    price_staleness_s: float
    hold_s: float
    min_up_s: float
    min_down_s: float


@dataclass(frozen=True, slots=True)
class Journal:
    """One row of the switch journal, in order of its writing; `at_s` is the instant of the commit."""

    at_s: float
    event: str
    facility_id: str
    owner: str
    epoch: int
    command_id: str
    assignment: int
    group_id: str
    from_state: int | None
    to_state: int
    slots: Slots  # of commanded and observed rows
    devices: int
    reason: str
    mw_delta: float
    refused: int = 0
    deferred: int = 0
    failed: int = 0
    superseded: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One durable entry of a gateway's log. `at_s`: since when it is durable.

    `parts` of a command: (assignment, state, slots); of an ack: (assignment, 0, accepted slots).
    """

    at_s: float
    facility_id: str
    seq: int
    kind: str  # epoch, command, ack, expired, settled, local, locks, released, direct, baseline
    command_id: str = ""
    epoch: int = 0
    owner: str = ""
    state: int = 0
    slots: Slots = ()
    failed: Slots = ()
    parts: tuple[tuple[int, int, Slots], ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Wire:
    """A message at its sender: `sent` a command by an owner, `acked` its ack by a gateway."""

    at_s: float
    what: str
    facility_id: str
    sender: str
    command_id: str
    epoch: int = 0
    is_accepted: bool = False


@dataclass(frozen=True, slots=True)
class Set:
    """A state that reached devices: on whose word (a command's id, or one of the gateway's own), and in which of its moves."""

    at_s: float
    facility_id: str
    ref: str
    assignment: int
    state: int
    slots: Slots


@dataclass(frozen=True, slots=True)
class Change:
    """Devices that now draw what they do in another state."""

    at_s: float
    facility_id: str
    slots: Slots
    state: int


@dataclass(frozen=True, slots=True)
class Span:
    """Something that held from one instant to another: `lease` (owner, epoch), and those that follow.

    `obligation`: while armed; `mw` is its floor. `stale`: no good price. `alone`: no owner was heard at the gateway while it ran;
    `unheard`: the same, announcements not counted. `override`: an operator's stood.
    `desired`: a row wanted `slots` at work; `owner` says how it ended.
    """

    what: str
    facility_id: str
    from_s: float
    until_s: float
    owner: str = ""
    epoch: int = 0
    slots: Slots = ()
    mw: float = 0.0


@dataclass(frozen=True, slots=True)
class Admission:
    """A policy that an allocator process took."""

    at_s: float
    facility_id: str
    process: str
    policy_id: int
    basis_tick_id: int
    expires_s: float = 1e9


@dataclass(frozen=True, slots=True)
class Final:
    """The end, after a calm: what each device was told and what it draws, by slot (a state's number)."""

    facility_id: str
    told: Slots
    drawn: Slots
    is_faulty: Slots  # slots that may disobey


@dataclass
class Run:
    """All of it."""

    speed: float
    ends_s: float
    skew_s: float  # the most that two clocks differ
    facilities: list[Facility] = field(default_factory=list)
    journal: list[Journal] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    wire: list[Wire] = field(default_factory=list)
    sets: list[Set] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    admissions: list[Admission] = field(default_factory=list)
    finals: list[Final] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """As ndjson, one record a line; the first has what is no list."""
        yield json.dumps({"record": "Run", "speed": self.speed, "ends_s": self.ends_s, "skew_s": self.skew_s})
        for name in _KINDS:
            for record in getattr(self, name):
                yield json.dumps({"record": name, **dataclasses.asdict(record)})


_KINDS: dict[str, type[Any]] = {
    "facilities": Facility, "journal": Journal, "entries": Entry, "wire": Wire, "sets": Set, "changes": Change,
    "spans": Span, "admissions": Admission, "finals": Final,
}  # fmt: skip


def read_run(lines: Iterable[str] | TextIO) -> Run:
    """The run that `lines` wrote.

    Raises:
        ValueError: a record that there is none of.
    """
    records = iter(lines)
    head = json.loads(next(iter(records)))
    run = Run(head["speed"], head["ends_s"], head["skew_s"])
    for line in records:
        raw = json.loads(line)
        name = raw.pop("record")
        if name not in _KINDS:
            raise ValueError(f"record {name!r}: expected one of {', '.join(_KINDS)}")
        getattr(run, name).append(_made(_KINDS[name], raw))
    return run


def _made(kind: type[Any], raw: dict[str, Any]) -> Any:
    if kind is Facility:
        groups = tuple(_made(Group, g) for g in raw["groups"])
        return Facility(**(raw | {"groups": groups, "limits": tuple(Limit(**limit) for limit in raw["limits"])}))
    if kind is Group:
        raw |= {name: {int(k): v for k, v in raw[name].items()} for name in ("power_mw", "settle_s")}
    tuples = {k: _tupled(v) for k, v in raw.items() if isinstance(v, list)}
    return kind(**(raw | tuples))


def _tupled(value: Any) -> Any:
    return tuple(_tupled(v) for v in value) if isinstance(value, list) else value
