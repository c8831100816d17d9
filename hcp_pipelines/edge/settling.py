"""Settling: whether the devices of a command really do what was asked, judged by their own power. Pure."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.wire.slots import EMPTY, Slots

TOLERANCE_FRACTION = 0.08  # of the state's power: below half the distance between eco and full
TOLERANCE_KW = 0.06
SAMPLES_AFTER_DEADLINE = 2
WORK_STATES = (DeviceState.INFERENCE_REALTIME, DeviceState.INFERENCE_BATCH, DeviceState.TRAINING)

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.uint32]


@dataclass(eq=False)
class Pending:
    """Accepted devices of one assignment that have not settled yet."""

    command_id: str
    index: int
    state: int
    waiting: Slots
    wanted_kw: Floats  # per waiting slot
    allowed_s: float  # simulated seconds that they may take
    number: int = 0  # of the order; a later one has a higher number
    deadline_s: float = 0.0  # simulated Unix seconds
    asked_at_s: float = float("-inf")  # a sample that may be older says nothing of it
    late_samples: int = 0
    settled: list[Slots] = field(default_factory=list)
    superseded: list[Slots] = field(default_factory=list)
    failed: Slots = field(default_factory=lambda: EMPTY)
    unfit: Slots = field(default_factory=lambda: EMPTY)  # of those that failed, for the sake of what they were to run
    problem: str = ""  # why that can't run
    work: WorkloadSpec | None = None  # as commanded, for when it is told once more
    is_held: bool = False
    told_later: frozenset[int] = frozenset()  # could not be told yet: what runs there is not what is wanted
    not_now: frozenset[int] = frozenset()  # of those, and of those given up: busy, or their node takes no new work
    is_confirmed: bool = False  # the driver has said which devices took it on
    evident_from_s: float = float("-inf")  # what they drew before may be that of other work, which looks alike

    def begin(self, now_s: float) -> None:
        """The devices have been told; also after an interruption, when they are told once more."""
        self.deadline_s, self.late_samples = now_s + self.allowed_s, 0
        if self.is_held and self.state in WORK_STATES:
            self.evident_from_s = now_s
        self.is_held = False
        if self.asked_at_s == float("-inf"):
            self.asked_at_s = now_s

    def hold(self) -> None:
        """The devices are being told: nobody is late before the last of them has been, nor at work on what is wanted."""
        self.deadline_s, self.is_held, self.is_confirmed = float("inf"), True, False

    def confirm(self, refused: Slots) -> None:
        """The driver has told all devices but for these: what runs on there may draw what other work would.

        Those that are told again have until their deadline.
        """
        self.is_confirmed = True
        if self.state in WORK_STATES:
            self.give_up(refused[~np.isin(refused, list(self.told_later))])

    def give_up(self, slots: Slots) -> None:
        """Devices that will not get there, whatever they draw."""
        gone = np.isin(self.waiting, slots)
        if gone.any():
            self.failed = joined([self.failed, self.waiting[gone]])
            self._keep(~gone, settled=np.zeros_like(gone), superseded=np.zeros_like(gone))

    def give_up_work(self, slots: Slots, problem: str) -> None:
        """Devices that will not get there, as what they were to run can't run."""
        self.give_up(slots)
        self.unfit, self.problem = self.failed[np.isin(self.failed, slots)], problem

    @property
    def left_alone(self) -> Slots:
        """Of those that failed: they could not be told for no fault of theirs."""
        return self.failed[np.isin(self.failed, list(self.not_now)) & ~np.isin(self.failed, self.unfit)]

    def observe(self, power_kw: Floats, newest: Numbers, at_s: float) -> bool:
        """Take a power sample of the whole site; whether the assignment is decided now.

        `newest[n]` is the number of the last order a device had: one that had another since is superseded, also where that says
        the same state.
        """
        if len(self.waiting):
            moved = newest[self.waiting] != self.number
            near = np.abs(power_kw[self.waiting] - self.wanted_kw) <= np.maximum(
                self.wanted_kw * TOLERANCE_FRACTION, TOLERANCE_KW
            )
            near &= at_s >= max(self.asked_at_s, self.evident_from_s)
            if not self.is_confirmed and self.state in WORK_STATES:
                near[:] = False
            if self.told_later and self.state in WORK_STATES:
                near &= ~np.isin(self.waiting, list(self.told_later))
            self._keep(~(moved | near), settled=near & ~moved, superseded=moved)
        if len(self.waiting) and at_s >= self.deadline_s:
            self.late_samples += 1
            if self.late_samples >= SAMPLES_AFTER_DEADLINE:
                self.failed, self.waiting = joined([self.failed, self.waiting]), EMPTY
        return len(self.waiting) == 0

    def _keep(
        self, still: npt.NDArray[np.bool_], *, settled: npt.NDArray[np.bool_], superseded: npt.NDArray[np.bool_]
    ) -> None:
        if settled.any():
            self.settled.append(self.waiting[settled])
        if superseded.any():
            self.superseded.append(self.waiting[superseded])
        self.waiting, self.wanted_kw = self.waiting[still], self.wanted_kw[still]


def joined(parts: list[Slots]) -> Slots:
    """One rising array."""
    if not parts:
        return EMPTY
    whole: Slots = np.sort(np.concatenate(parts))
    return whole
