"""A switch of devices that run something: its phases, its record, and the book that records are kept in.

Who carries a switch out is each driver's own; a gateway keeps the book in its durable log (`edge.switches`).
"""

import re
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import structlog

from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.domain.errors import HcpError, NotNowError, StorageError
from hcp_pipelines.domain.modes import DeviceState

BAD_ONES_KEPT = 4_096  # that went wrong, so that the same command is not tried again where it has failed


NAMELESS = "it has named no checkpoint to go on from"
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
Assignment = tuple[str, int]  # of a command, and its index


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
        self._bad_of: dict[Assignment, set[Key]] = {}
        self._unfit: OrderedDict[Assignment, dict[int, str]] = OrderedDict()
        self._telling: dict[Assignment, Mapping[int, HcpError]] = {}
        self._refused: OrderedDict[Assignment, Mapping[int, HcpError]] = OrderedDict()
        self._ended: OrderedDict[Assignment, None] = OrderedDict()

    def __iter__(self) -> Iterator[Switch]:
        yield from self._bad.values()
        yield from self._open.values()

    def find(self, key: Key) -> Switch | None:
        """A switch that is under way, or went wrong."""
        return self._open.get(key) or self._bad.get(key)

    def of(self, command_id: str, index: int, node: str) -> list[Switch]:
        """A command's switches at a node."""
        return [one for one in self if (one.command_id, one.index, one.node) == (command_id, index, node)]

    def failed_of(self, command_id: str, index: int) -> frozenset[int]:
        """Slots of an assignment whose switch went wrong, or that could not be told for too long."""
        bad = (self._bad[key].slots for key in self._bad_of.get((command_id, index), ()))
        return frozenset(self._refused.get((command_id, index), ())).union(*bad)

    def note_unfit(self, command_id: str, index: int, slots: Iterable[int], problem: str) -> None:
        """What a command wants to run on some slots can't: that is the work's own failure, and the devices' none."""
        self._unfit.setdefault((command_id, index), {}).update(dict.fromkeys(slots, problem))
        while len(self._unfit) > BAD_ONES_KEPT:
            self._unfit.popitem(last=False)

    def unfit_of(self, command_id: str, index: int) -> Mapping[int, str]:
        """Slots of an assignment whose work can't run, and why."""
        return self._unfit.get((command_id, index), {})

    def note_telling(self, command_id: str, index: int, refused: Mapping[int, HcpError]) -> None:
        """Slots that a command could not be told for reasons that may pass: they are told it again; without any, nobody is."""
        if refused:
            self._telling[command_id, index] = refused
        else:
            self._telling.pop((command_id, index), None)

    def give_up(self, command_id: str, index: int, refused: Mapping[int, HcpError]) -> None:
        """A command is told to nobody any more; these slots were not."""
        self.note_telling(command_id, index, {})
        if refused:
            self._refused[command_id, index] = refused
            while len(self._refused) > BAD_ONES_KEPT:
                self._refused.popitem(last=False)

    def telling_of(self, command_id: str, index: int) -> frozenset[int]:
        """Slots of an assignment that are told again."""
        return frozenset(self._telling.get((command_id, index), ()))

    def not_now_of(self, command_id: str, index: int) -> frozenset[int]:
        """Slots of an assignment that were not told as they were busy, or their node takes no new work: no fault of theirs."""
        told = (of.get((command_id, index), {}) for of in (self._telling, self._refused))
        return frozenset(slot for why in told for slot, error in why.items() if isinstance(error, NotNowError))

    def end(self, command_id: str, index: int) -> None:
        """An assignment was judged: who has not begun does so no more: its work may have a place elsewhere."""
        self._ended[command_id, index] = None
        while len(self._ended) > BAD_ONES_KEPT:
            self._ended.popitem(last=False)

    def is_ended(self, command_id: str, index: int) -> bool:
        """Whether an assignment was judged."""
        return (command_id, index) in self._ended

    def keep_only(self, open_ones: Collection[Assignment]) -> None:
        """Forget what went wrong with assignments that are decided: nobody is told those again."""
        for key in self._refused.keys() - open_ones:
            del self._refused[key]
        for key in self._unfit.keys() - open_ones:
            del self._unfit[key]
        for key in self._bad_of.keys() - open_ones:
            for bad in self._bad_of.pop(key):
                del self._bad[bad]

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
            self._bad_of.setdefault((switch.command_id, switch.index), set()).add(switch.key)
            while len(self._bad) > BAD_ONES_KEPT:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        key, _ = self._bad.popitem(last=False)
        own = self._bad_of[key[:2]]
        own.discard(key)
        if not own:
            del self._bad_of[key[:2]]

    def forget(self) -> None:
        """Slots are others now."""
        self._open.clear()
        self._bad.clear()
        self._bad_of.clear()
        self._unfit.clear()
        self._telling.clear()
        self._refused.clear()
        self._ended.clear()


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
