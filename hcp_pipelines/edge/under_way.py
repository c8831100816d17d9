"""What devices were told and have not settled into yet. Judged by their power in `settling.py`, reported by `devices.py`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.devices.switches import SwitchBook
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.edge.settling import Floats, Numbers, Pending, joined
from hcp_pipelines.edge.shape import SiteShape
from hcp_pipelines.edge.switches import work_message
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import Slots, encode_slots

PENDING_MAX = 4_096  # assignments; above it commands are deferred
STATE_NAMES_MAX = 1000


@dataclass(frozen=True, slots=True)
class Told:
    """An assignment as it was handed over; `number` is that of the order."""

    command_id: str
    index: int
    state: int
    slots: Slots
    number: int
    at_s: float = float("-inf")  # simulated Unix seconds; before the gateway's start where that is not known
    work: WorkloadSpec | None = None  # as commanded
    finish: Callable[[], object] | None = None  # begins the wait for the devices' answer; None: they could not be told


class UnderWay:
    """Assignments that are not decided. What is only noted is booked before anybody looks."""

    def __init__(self, shape: SiteShape, clock: SystemClock, period_ms: int, unfinished: Iterable[Told]) -> None:
        self._shape, self._clock, self._period_ms = shape, clock, period_ms
        self._pending = [self._expect(told) for told in unfinished]
        self._noted: list[Told] = []

    @property
    def has_room(self) -> bool:
        """Whether more can be told before what was told has settled."""
        return len(self._pending) + len(self._noted) < PENDING_MAX

    def note(self, told: Told) -> None:
        """Something was handed over; `book` takes it in, when there is time."""
        self._noted.append(told)

    @property
    def pending(self) -> list[Pending]:
        """What has not settled."""
        self.book()
        return self._pending

    def book(self) -> None:
        """Expect what was noted, and begin to wait for the devices' answers."""
        noted, self._noted = self._noted, []
        for told in noted:
            pending = self._expect(told)
            pending.begin(told.at_s)
            self._pending.append(pending)
            if told.finish is not None:
                pending.hold()
                told.finish()

    def decided(self, power_kw: Floats, newest: Numbers, at_s: float) -> list[Pending]:
        """Those that a power sample decides: they are not under way any more."""
        still, found = list[Pending](), list[Pending]()
        for pending in self.pending:
            (found if pending.observe(power_kw, newest, at_s) else still).append(pending)
        self._pending = still
        return found

    def hear(self, book: SwitchBook) -> None:
        """Slots that will not get where they were told to go, or whose work can't run; the book forgets what is decided."""
        book.keep_only({(pending.command_id, pending.index) for pending in self.pending})
        for pending in self.pending:
            if slots := book.failed_of(pending.command_id, pending.index):
                pending.give_up(np.array(sorted(slots), dtype=np.uint32))
            if unfit := book.unfit_of(pending.command_id, pending.index):
                problem = next(iter(unfit.values()))
                pending.give_up_work(np.array(sorted(unfit), dtype=np.uint32), problem)

    def note_telling(self, book: SwitchBook) -> None:
        """Slots that could not be told yet and are told again; of what is decided that stands."""
        for pending in self.pending:
            if len(pending.waiting):
                pending.told_later = book.telling_of(pending.command_id, pending.index)
                pending.not_now = book.not_now_of(pending.command_id, pending.index)

    def put_back(self, decided: Iterable[Pending]) -> None:
        """What was decided could not be stored: it is decided again with the next sample."""
        self._pending.extend(decided)

    def note_told(self, command_id: str, index: int, refused: Slots | None) -> None:
        """Every device of an assignment has been told but for these: now the last of them has its full time.

        None: nobody knows which were told.
        """
        for pending in self.pending:
            if (pending.command_id, pending.index) == (command_id, index):
                pending.begin(self._clock.now().timestamp())
                if refused is not None:
                    pending.confirm(refused)

    def command_ids(self) -> list[str]:
        """Ids of the commands that have not settled; a bounded number of them."""
        return sorted({p.command_id for p in self.pending})[:STATE_NAMES_MAX]

    def starting(self, newest: Numbers) -> Slots:
        """Slots that were told work, nothing since, and have not settled into it; `newest[n]` as in `Pending.observe`."""
        return joined([p.waiting[newest[p.waiting] == p.number] for p in self.pending if p.work is not None])

    def as_commands(self) -> list[pb.Command]:
        """What has not settled, for a snapshot."""
        return [
            pb.Command(
                command_id=p.command_id,
                assignments=[
                    pb.Assignment(
                        index=p.index,
                        state=p.state,
                        slots=encode_slots(p.waiting),
                        work=None if p.work is None else work_message(p.work),
                    )
                ],
            )
            for p in self.pending
        ]

    def _expect(self, told: Told) -> Pending:
        there = self._shape.in_state(told.state)
        settle_s = float(there.settle_s[told.slots].max(initial=0.0))
        # two real samples may lie between the order and its first effect, whatever the clock's speed
        slack_s = 2 * self._period_ms / 1000 * self._clock.speed
        wanted_kw: npt.NDArray[np.float32] = there.power_kw[told.slots]
        allowed_s = settle_s + slack_s
        return Pending(
            told.command_id, told.index, told.state, told.slots, wanted_kw, allowed_s, told.number, work=told.work
        )
