"""A switch of devices that run something: its phases, its record, and the book that records are kept in.

Who carries a switch out is each driver's own; a gateway keeps the book in its durable log (`edge.switches`).
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import structlog

from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.domain.modes import DeviceState

BAD_ONES_KEPT = 4_096  # that went wrong, so that the same command is not tried again where it has failed


_NUMBERS = re.compile("([0-9]+)")


class Phase(StrEnum):
    """What a switch asks for, in this order."""

    PAUSE = "pause"
    CHECKPOINT = "checkpoint"
    SWITCH = "switch"
    START = "start"


PHASE_WITHIN_S: Mapping[Phase, float] = {  # simulated: twice the usual and half a minute, as devices settle
    Phase.PAUSE: 36.0,
    Phase.CHECKPOINT: 210.0,
    Phase.SWITCH: 40.0,
    Phase.START: 390.0,
}


class Stage(StrEnum):
    """Where a switch stands."""

    FORWARD = "forward"
    ROLL_BACK = "roll_back"
    OVER = "over"


class Outcome(StrEnum):
    """What became of a switch that is over."""

    SWITCHED = "switched"
    ROLLED_BACK = "rolled_back"  # what ran before runs again
    RESTED = "rested"  # nothing runs
    STUCK = "stuck"  # nobody knows what runs: the node does not answer, or does neither
    SUPERSEDED = "superseded"  # a newer command has taken over


Key = tuple[str, int, str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Switch:
    """One switch of the devices that one workload ran on; real milliseconds, but for `device_ms`, which are the devices'."""

    command_id: str
    index: int
    node: str
    slots: tuple[int, ...]
    from_state: DeviceState
    before: WorkloadSpec
    before_slots: tuple[int, ...]  # on which of them that ran
    to_state: DeviceState
    work: WorkloadSpec | None = None  # as commanded; None: the driver's own
    stage: Stage = Stage.FORWARD
    outcome: Outcome | None = None
    phases_ms: Mapping[Phase, float] = field(default_factory=dict)  # asked to accepted
    device_ms: Mapping[Phase, float] = field(default_factory=dict)  # accepted to done
    total_ms: float = 0.0  # all of it, without the devices' own time
    problem: str = ""

    @property
    def key(self) -> Key:
        """What makes it the same switch, however often its command is told."""
        return self.command_id, self.index, self.node, self.slots

    @property
    def is_success(self) -> bool:
        """Whether what was wanted runs."""
        return self.outcome is Outcome.SWITCHED


@dataclass(frozen=True, slots=True)
class Saved:
    """What came of it as devices were told to let a workload stand still: it is kept, or why it is not."""

    workload_id: str
    slots: tuple[int, ...]
    checkpoint: str = ""  # as its engine names it; empty: it sleeps where it is, or nobody names it
    problem: str = ""


class SwitchBook:
    """Switches under way, and those that went wrong; in memory. `keep` and `saved` are where a book that lasts writes."""

    def __init__(self) -> None:
        self._open: dict[Key, Switch] = {}
        self._bad: OrderedDict[Key, Switch] = OrderedDict()
        self._unfit: OrderedDict[tuple[str, int], dict[int, str]] = OrderedDict()
        self._telling: dict[tuple[str, int], frozenset[int]] = {}
        self._refused: OrderedDict[tuple[str, int], frozenset[int]] = OrderedDict()

    def __iter__(self) -> Iterator[Switch]:
        yield from self._bad.values()
        yield from self._open.values()

    def find(self, key: Key) -> Switch | None:
        """A switch that is under way, or went wrong."""
        return self._open.get(key) or self._bad.get(key)

    def of(self, command_id: str, index: int, node: str) -> list[Switch]:
        """A command's switches at a node."""
        return [one for one in self if (one.command_id, one.index, one.node) == (command_id, index, node)]

    def failed(self) -> dict[tuple[str, int], list[int]]:
        """Slots whose switch went wrong, or that could not be told for too long, by command and assignment."""
        slots: dict[tuple[str, int], list[int]] = {key: list(refused) for key, refused in self._refused.items()}
        for switch in self._bad.values():
            slots.setdefault((switch.command_id, switch.index), []).extend(switch.slots)
        return slots

    def note_unfit(self, command_id: str, index: int, slots: Iterable[int], problem: str) -> None:
        """What a command wants to run on some slots can't: that is the work's own failure, and the devices' none."""
        self._unfit.setdefault((command_id, index), {}).update(dict.fromkeys(slots, problem))
        while len(self._unfit) > BAD_ONES_KEPT:
            self._unfit.popitem(last=False)

    def unfit(self) -> Mapping[tuple[str, int], Mapping[int, str]]:
        """Slots whose work can't run, and why, by command and assignment."""
        return self._unfit

    def note_telling(self, command_id: str, index: int, slots: Iterable[int]) -> None:
        """Slots that a command could not be told for reasons that may pass: they are told it again; without any, nobody is."""
        if still := frozenset(slots):
            self._telling[command_id, index] = still
        else:
            self._telling.pop((command_id, index), None)

    def give_up(self, command_id: str, index: int, refused: Iterable[int]) -> None:
        """A command is told to nobody any more; these slots were not."""
        self.note_telling(command_id, index, ())
        if refused := frozenset(refused):
            self._refused[command_id, index] = refused
            while len(self._refused) > BAD_ONES_KEPT:
                self._refused.popitem(last=False)

    def telling(self) -> Mapping[tuple[str, int], frozenset[int]]:
        """Slots that are told again, by command and assignment."""
        return self._telling

    async def keep(self, switch: Switch) -> None:
        """Remember how a switch stands.

        Raises:
            StorageError: it could not be stored; nothing has changed.
        """
        self.take(switch)

    async def saved(self, saved: Saved) -> None:
        """Hear of work that stands still.

        Raises:
            StorageError: it could not be stored.
        """

    def take(self, switch: Switch) -> None:
        """How a switch stands from now on."""
        self._open.pop(switch.key, None)
        if switch.stage is not Stage.OVER:
            self._open[switch.key] = switch
        elif switch.outcome in (Outcome.ROLLED_BACK, Outcome.RESTED, Outcome.STUCK):
            self._bad[switch.key] = switch
            while len(self._bad) > BAD_ONES_KEPT:
                self._bad.popitem(last=False)

    def forget(self) -> None:
        """Slots are others now."""
        self._open.clear()
        self._bad.clear()
        self._unfit.clear()
        self._telling.clear()
        self._refused.clear()


def newest_name(names: Iterable[str]) -> str:
    """Of checkpoints as their engines name them, as they save, the newest; empty where there is none. Numbers count as such.

    >>> newest_name(["c/9", "", "c/10"])
    'c/10'
    """
    return max(names, key=lambda name: [int(p) if n % 2 else p for n, p in enumerate(_NUMBERS.split(name))], default="")


async def tell_saved(book: SwitchBook, saved: Saved) -> None:
    """Store it and have it told; what can't be stored is not told, and so counts as not kept."""
    try:
        await book.saved(saved)
    except StorageError as error:
        structlog.get_logger("devices").error(
            "that work stands still could not be stored", workload=saved.workload_id, error=str(error)
        )
