"""A facility's devices: they take their time, some never obey, some say yes and do nothing, and the line to them is lost.

The hall is the world; `HallSite` is one gateway process' line to it, behind the driver's seven members.
"""

import asyncio
import random
from uuid import UUID

import numpy as np
import numpy.typing as npt

from hcp_pipelines.devices.site import OnReading, Reading, Sent
from hcp_pipelines.domain.errors import DeviceUnreachableError
from hcp_pipelines.wire.slots import EMPTY, Slots, decode_slots
from tests.faults.records import Change, Facility, Set
from tests.faults.virtual import SPEED, Process, VirtualLoop, current, simulated_s

POWER_EACH_S = 0.5
PACES = (0.1, 0.5, 0.9)  # of the settling time that a device may take
GOOD, STUCK, LYING = 0, 1, 2  # a liar obeys now and then
OBEYS_ONCE_IN = 3


class Hall:
    """Devices by slot: what they were told, and what they draw."""

    def __init__(self, loop: VirtualLoop, facility: Facility, seed: str, pue: float) -> None:
        self.loop, self.facility, self.random = loop, facility, random.Random(seed)
        slots = 1 + max(group.slots[-1] for group in facility.groups)
        self.told = np.zeros(slots, dtype=np.uint8)
        self.drawn = np.zeros(slots, dtype=np.uint8)
        self.power_w = np.zeros((slots, 8), dtype=np.float32)
        self.settle_s = np.zeros((slots, 8))
        for group in facility.groups:
            self.told[list(group.slots)] = self.drawn[list(group.slots)] = min(
                group.power_mw, key=group.power_mw.__getitem__
            )
            for state, mw in group.power_mw.items():
                self.power_w[list(group.slots), state] = mw * 1e6 / pue
                self.settle_s[list(group.slots), state] = group.settle_s[state]
        self.nature = np.zeros(slots, dtype=np.uint8)
        self.was_faulty = np.zeros(slots, dtype=bool)
        self.slow = np.zeros(slots, dtype=np.uint8)  # index into PACES
        for slot in range(slots):
            self.slow[slot] = self.random.randrange(len(PACES))
        self._order = np.zeros(slots, dtype=np.int64)
        self._orders = 0
        self.is_unreachable = self.is_silent = False
        self.sites: list[HallSite] = []
        self.sets: list[Set] = []
        self.changes: list[Change] = []

    def take(self, ref: str, assignment: int, state: int, slots: Slots) -> None:
        """A state reaches devices."""
        self.sets.append(Set(self.loop.now_s, self.facility.facility_id, ref, assignment, state, tuple(slots.tolist())))
        self.told[slots] = state
        self._orders += 1
        self._order[slots] = self._orders
        obeying = slots[self.nature[slots] == GOOD]
        liars = [s for s in slots[self.nature[slots] == LYING].tolist() if self.random.randrange(OBEYS_ONCE_IN) == 0]
        obeying = np.concatenate([obeying, np.array(liars, dtype=np.uint32)]) if liars else obeying
        for pace, share in enumerate(PACES):
            mine = obeying[self.slow[obeying] == pace]
            if len(mine):
                wait_s = share * float(self.settle_s[mine, state].max()) / SPEED
                self.loop.later(wait_s, self._arrived, self._orders, state, mine)

    def _arrived(self, order: int, state: int, slots: Slots) -> None:
        mine = slots[(self._order[slots] == order) & (self.drawn[slots] != state)]
        if len(mine):
            self.drawn[mine] = state
            self.changes.append(Change(self.loop.now_s, self.facility.facility_id, tuple(mine.tolist()), state))

    def watts(self) -> npt.NDArray[np.float32]:
        """[n] IT power of each device now."""
        return self.power_w[np.arange(len(self.drawn)), self.drawn]

    def cut(self) -> None:
        """Nobody can be reached from now on."""
        self.is_unreachable = True
        for site in list(self.sites):
            site.lose()

    def make(self, *arguments: object) -> "HallSite":
        """`edge.drivers.MakeDevices`: the last argument takes the readings."""
        on_reading: OnReading = arguments[-1]  # type: ignore[assignment]
        return HallSite(self, current(), on_reading)


class HallSite:
    """`devices.site.DeviceSite` of one gateway process."""

    def __init__(self, hall: Hall, process: Process, on_reading: OnReading) -> None:
        self._hall, self._process, self._on_reading = hall, process, on_reading
        self._closed: asyncio.Future[None] | None = None
        self._due_s = 0.0
        self._line = 0  # which connection: what was under way on an earlier one is gone
        process.on_death.append(self.lose)

    @property
    def devices(self) -> int:
        """Slots."""
        return len(self._hall.told)

    async def connect(self, power_period_ms: int) -> None:
        """Readings come from now on."""
        await asyncio.sleep(0.01)
        if self._hall.is_unreachable:
            raise DeviceUnreachableError("no route to the devices")
        self._closed = self._hall.loop.create_future()
        self._line += 1
        self._hall.sites.append(self)
        self._hall.loop.later(POWER_EACH_S * self._hall.random.random(), self._read, self._line)

    async def closed(self) -> None:
        """When the line is lost."""
        if self._closed is not None:
            await asyncio.shield(self._closed)

    async def close(self) -> None:
        """Let go."""
        self.lose()

    def lose(self) -> None:
        """The line is lost; what is under way arrives or does not."""
        if self in self._hall.sites:
            self._hall.sites.remove(self)
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    def send_state(self, ref: UUID, assignment: int, state: int, slots: bytes, _work: object = None) -> Sent:
        """In order, one behind the other."""
        hall = self._hall
        if self not in hall.sites:
            raise DeviceUnreachableError("no line")
        sent: Sent = hall.loop.create_future()
        wait_s = 0.0005 + hall.random.random() * 0.01
        self._due_s = max(self._due_s + 1e-6, hall.loop.now_s + wait_s)
        hall.loop.later(self._due_s - hall.loop.now_s, self._reach, sent, str(ref), assignment, state, slots)
        return sent

    async def finish_state(self, sent: Sent) -> tuple[Slots, Slots]:
        """What the devices said: liars say yes as well."""
        accepted: Slots = await sent
        return accepted, EMPTY

    async def read_states(self) -> npt.NDArray[np.uint8]:
        """What each was last told."""
        await asyncio.sleep(0.005)
        return self._hall.told.copy()

    def _reach(self, sent: Sent, ref: str, assignment: int, state: int, slots: bytes) -> None:
        hall = self._hall
        if self not in hall.sites and hall.is_unreachable:
            if not sent.done():
                sent.set_exception(DeviceUnreachableError("the line was lost"))
                sent.exception()
            return
        reached = decode_slots(slots, 1 << 20)
        hall.take(ref, assignment, state, reached)
        if not sent.done():
            sent.set_result(reached)

    def _read(self, line: int) -> None:
        hall = self._hall
        if self not in hall.sites or line != self._line:
            return
        if not hall.is_silent:
            reading = Reading(simulated_s(hall.loop.now_s), hall.watts())
            self._process.call(self._on_reading, reading)
        hall.loop.later(POWER_EACH_S, self._read, line)
