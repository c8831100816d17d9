"""The devices of a facility as its gateway knows them: what they were told, what they draw, what has not settled yet.

Who told them, and whether that was right, is decided elsewhere (`facility.py`, `local.py`); here it is carried out.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import structlog

from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.devices.issues import ByIssue
from hcp_pipelines.devices.site import DeviceSite, Reading
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.edge import metrics
from hcp_pipelines.edge.checks import Accepted
from hcp_pipelines.edge.device_metrics import DeviceMetrics
from hcp_pipelines.edge.driving import Callbacks, SiteDriver
from hcp_pipelines.edge.log import FacilityLog
from hcp_pipelines.edge.messages import settled_message
from hcp_pipelines.edge.ramp_book import RampBook
from hcp_pipelines.edge.recovery import Known, is_local
from hcp_pipelines.edge.settling import WORK_STATES, Pending
from hcp_pipelines.edge.shape import UNKNOWN_STATE, SiteShape
from hcp_pipelines.edge.tasks import Tasks
from hcp_pipelines.edge.under_way import Told, UnderWay
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import Slots, encode_slots
from hcp_pipelines.wire.work import NOBODYS, encode_keys, key_of

BOOK_AFTER_S = 0.05  # ramps are counted, and settling begins, when the acks of a tick are out

OnReading = Callable[[Reading], None]


class Devices:
    """States over slots `[n]`, power, and what is under way."""

    def __init__(
        self,
        driver: SiteDriver,
        shape: SiteShape,
        book: RampBook,
        log: FacilityLog,
        clock: SystemClock,
        period_ms: int,
        tasks: Tasks,
        known: Known,
    ) -> None:
        self.shape, self.book, self.states, self.bars = shape, book, known.states, known.bars
        self._works, self._has_works = known.works, bool(known.works.any())
        self._log, self._clock, self._period_ms, self._tasks = log, clock, period_ms, tasks
        self._driver, self._switches, self._metrics = driver, known.switches, DeviceMetrics(shape)
        self.power_kw = np.zeros(shape.slots, dtype=np.float32)
        self._warm: npt.NDArray[np.uint8] | None = None
        self._issues: ByIssue = {}
        self._is_power_known = self._is_adopting = False
        self._newest, self._last_number = known.newest, known.last_number
        self._under_way = UnderWay(
            shape, clock, period_ms,
            (Told(c, n, u.state, u.slots, u.number, work=u.work) for (c, n), u in known.unfinished.items()),
        )  # fmt: skip
        self._storing = 0
        self.turn = asyncio.Lock()  # who changes what devices should do holds it from the check to the handing over
        self.listeners: list[OnReading] = []  # told of each reading, once it is known here
        self.held_back: Callable[[Slots], None] = _nobody  # accepted, and taken down by safety before they were told
        self.tell: Callable[[pb.GatewayMessage], None] = _nobody
        self._log_line = structlog.get_logger("edge").bind(facility_id=shape.facility_id)

    @property
    def problem(self) -> str:
        """Why the devices can't be reached; empty when they can."""
        return self._driver.problem

    @property
    def is_ready(self) -> bool:
        """Whether states can be handed over."""
        return self._driver.is_ready

    @property
    def has_room(self) -> bool:
        """Whether more can be told before what was told has settled."""
        return self._under_way.has_room

    @property
    def is_telling(self) -> bool:
        """Whether devices are being told a state."""
        return self._driver.is_telling

    @property
    def is_seen(self) -> bool:
        """Whether the devices' power is known."""
        return self._driver.is_ready and self._is_power_known

    @property
    def is_storing(self) -> bool:
        """Whether something is on its way to the log without a turn."""
        return self._storing > 0

    @property
    def site(self) -> DeviceSite | None:
        """The devices behind the driver, while they are connected."""
        return self._driver.site if self._driver.is_ready else None

    @contextlib.contextmanager
    def storing(self) -> Iterator[None]:
        """While something is on its way to the log without a turn."""
        self._storing += 1
        try:
            yield
        finally:
            self._storing -= 1

    async def run(self) -> None:
        """Keep the driver connected until cancelled."""
        await self._driver.run(Callbacks(self._take_baseline, self._drive_again, self._take_power, self._note_told))

    def carry_out(self, command_id: str, accepted: Accepted) -> None:
        """Hand over what is stored. From now on it is what the devices should do; the rest waits until the ack is out."""
        now_s = self._clock.now().timestamp()
        for taken in accepted:
            state, slots = taken.state, taken.slots
            self._last_number += 1
            moved = self._movable(slots, state)
            if len(moved) < len(slots):
                self.held_back(np.setdiff1d(slots, moved))
            before = self.states[moved]
            self.states[moved], self._newest[moved] = state, self._last_number
            self._note_work(moved, taken.work)
            told = self._reachable(moved)
            bitmap = taken.bitmap if len(told) == len(slots) else encode_slots(told)
            finish = self._driver.hand_over(command_id, taken.index, state, bitmap, taken.work)
            told_now = Told(command_id, taken.index, state, slots, self._last_number, now_s, taken.work, finish)
            self._under_way.note(told_now)
            self.book.note(now_s, moved, before, state)
        asyncio.get_running_loop().call_later(BOOK_AFTER_S, self._book)

    def _note_told(self, command_id: str, index: int, refused: Slots | None) -> None:
        self._under_way.note_telling(self._switches)
        self._under_way.note_told(command_id, index, refused)

    def _note_work(self, slots: Slots, work: WorkloadSpec | None) -> None:
        """Whose work they are told to run; where nobody's ever was, as in a hall of miners, nothing is noted."""
        key = NOBODYS if work is None else key_of(work.workload_id)
        if key != NOBODYS or self._has_works:
            self._works[slots], self._has_works = key, True

    def fill(self, state: pb.FacilityState) -> None:
        """What is known of the devices now."""
        observed = self.shape.observe(self.power_kw) if self.is_seen else np.full_like(self.states, UNKNOWN_STATE)
        there = np.flatnonzero(self.shape.is_there & np.isfinite(self.power_kw) & ~self.bars.dark).astype(np.uint32)
        state.states, state.observed = self.states.tobytes(), observed.tobytes()
        state.power_kw = state.devices_kw = self.shape.meter_kw(self.power_kw)
        if self.is_ready and self._warm is not None:
            state.warm = self._warm[: self.shape.slots].tobytes()
        for (issue_type, severity), slots in (self._issues if self.is_ready else {}).items():
            state.issues.add(issue_type=issue_type, severity=severity, slots=encode_slots(slots))
        state.at_work, state.work_keys = encode_keys(self._works)
        state.starting = encode_slots(self._under_way.starting(self._newest))
        state.dark = encode_slots(np.flatnonzero(self.bars.dark).astype(np.uint32))
        state.unfinished_command_ids.extend(self._under_way.command_ids())
        state.reachable = encode_slots(there) if self.is_ready else b""

    def unfinished(self) -> list[pb.Command]:
        """What has not settled, for a snapshot."""
        return self._under_way.as_commands()

    # -- power and settling -------------------------------------------------------------------------------------------

    def _book(self) -> None:
        """Take in what was told, and what it uses of the ramps."""
        self.book.book_noted()
        self._under_way.book()

    def _take_power(self, reading: Reading) -> None:
        self.power_kw = (reading.values[: self.shape.slots] / 1000.0).astype(np.float32)
        self._is_power_known, self._warm, self._issues = True, reading.warm, reading.issues
        self._metrics.tell(reading, self.power_kw, self.states)
        if not self._is_adopting and self._unknown_but_seen().any():
            self._is_adopting = True
            self._tasks.spawn(self._adopt_seen())
        self._under_way.note_telling(self._switches)
        self._under_way.hear(self._switches)
        if decided := self._under_way.decided(self.power_kw, self._newest, reading.simulated_at_s):
            self._end(decided)
            self._tasks.spawn(self._report(decided, reading.simulated_at_s))
        for listener in self.listeners:
            listener(reading)

    def _end(self, decided: list[Pending]) -> None:
        """Work that has failed is not begun any more where it could not be told; rest is good whenever it comes."""
        for pending in decided:
            if len(pending.failed) and pending.state in WORK_STATES:
                self._switches.end(pending.command_id, pending.index)

    async def _report(self, decided: list[Pending], at_s: float) -> None:
        at = datetime.fromtimestamp(at_s, tz=UTC).isoformat()
        messages = [settled_message(p, self._log.reserve(), at) for p in decided]
        try:
            with self.storing():
                await self._log.append([(m.seq, "settled", m.SerializeToString()) for m in messages])
        except StorageError as error:
            self._log_line.error("settling could not be stored; tried again with the next sample", error=str(error))
            self._under_way.put_back(decided)
            return
        for pending, message in zip(decided, messages, strict=True):
            metrics.SETTLED.labels("failed").inc(len(pending.failed))
            metrics.SETTLED.labels("settled").inc(sum(len(part) for part in pending.settled))
            self._tell_duration(pending, at_s)
            if not is_local(message.command_id):
                self.tell(pb.GatewayMessage(settled=message))

    def _tell_duration(self, pending: Pending, at_s: float) -> None:
        """How long the switch took; of what was told something else meanwhile there is nothing to tell."""
        if not math.isfinite(pending.asked_at_s) or not (pending.settled or len(pending.failed)):
            return
        result, state = "failed" if len(pending.failed) else "settled", DeviceState(pending.state).label
        metrics.SWITCH_SECONDS.labels(self.shape.facility_id, state, result).observe(at_s - pending.asked_at_s)

    # -- driver -------------------------------------------------------------------------------------------------------

    def _movable(self, slots: Slots, state: int) -> Slots:
        """Without those that safety has taken down since the state was accepted: they are superseded."""
        not_now = self.bars.not_now
        if not not_now.any() or not not_now[slots].any():
            return slots
        moved: Slots = slots[~not_now[slots] | (self.shape.lowest[self.shape.group_of_slot[slots]] == state)]
        return moved

    def _reachable(self, slots: Slots) -> Slots:
        return slots[~self.bars.dark[slots]] if self.bars.dark.any() else slots

    async def _take_baseline(self, site: DeviceSite) -> None:
        """First start: what the devices are doing is read from them, and logged."""
        self._is_power_known = False
        unknown = (self.states == UNKNOWN_STATE) & self.shape.is_there
        if not unknown.any():
            return
        read = await site.read_states()
        async with self.turn:  # a lock may have had its way with some of them meanwhile
            unknown &= self.states == UNKNOWN_STATE
            await self._adopt(np.where(unknown, read[: self.shape.slots], self.states))

    async def _adopt(self, states: npt.NDArray[np.uint8]) -> None:
        """Log what the devices are doing, and believe it of those of which nothing is known."""
        baseline = pb.FacilityState(generation=self.shape.generation, layout=self.shape.layout, states=states.tobytes())
        baseline.at_work, baseline.work_keys = encode_keys(self._works)
        await self._log.append([(self._log.reserve(), "baseline", baseline.SerializeToString())])
        still = self.states == UNKNOWN_STATE
        self.states[still] = states[still]

    def _unknown_but_seen(self) -> npt.NDArray[np.bool_]:
        is_unknown: npt.NDArray[np.bool_] = (self.states == UNKNOWN_STATE) & self.shape.is_there
        return is_unknown & np.isfinite(self.power_kw)

    async def _adopt_seen(self) -> None:
        """Devices that could not be asked at first: what their power says is their state, and logged."""
        try:
            async with self.turn:
                await self._adopt(np.where(self._unknown_but_seen(), self.shape.observe(self.power_kw), self.states))
        except StorageError as error:
            self._log_line.error("a baseline could not be stored; tried again", error=str(error))
        finally:
            self._is_adopting = False

    def _drive_again(self) -> None:
        """The devices can be reached again: what had not settled is told once more, and has its full time once more."""
        for pending in self._under_way.pending:
            self._drive(pending, pending.waiting)

    def _drive(self, pending: Pending, slots: Slots) -> None:
        """Those that had no newer order. Locks, holds and the like bar a rise here too, also of what was accepted before them."""
        pending.begin(self._clock.now().timestamp())
        left = self._reachable(slots[self._newest[slots] == pending.number])
        for _, mask in self.bars.refusals(left, pending.state, self._lowest_of(left), self.shape) if len(left) else ():
            left = left[~mask]
        bitmap = encode_slots(left)
        finish = self._driver.hand_over(pending.command_id, pending.index, pending.state, bitmap, pending.work)
        if finish is not None:
            pending.hold()
            finish()

    def _lowest_of(self, slots: Slots) -> npt.NDArray[np.uint8]:
        states = np.zeros(self.shape.slots, dtype=np.uint8)
        states[slots] = self.shape.lowest[self.shape.group_of_slot[slots]]
        return states


def _nobody(_: object) -> None:
    """Nobody is there to be told."""
