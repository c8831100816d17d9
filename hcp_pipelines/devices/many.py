"""Several sites' devices as one facility: a group of miners here, a group of GPUs there. Slots are the facility's everywhere."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import numpy.typing as npt

from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.devices.issues import joined
from hcp_pipelines.devices.site import DeviceSite, Evidence, OnReading, Reading, Sent
from hcp_pipelines.wire.slots import EMPTY, Slots, decode_slots, encode_slots

UNKNOWN_STATE = 255
MakeSite = Callable[[OnReading], DeviceSite]


@dataclass(eq=False)
class _Part:
    """A site, the slots that are its own, and its reading since the last push."""

    site: DeviceSite
    is_own: npt.NDArray[np.bool_]
    period_ms: int
    reading: Reading | None = None


class ManySites:
    """A `site.DeviceSite` of several. A reading is pushed once every part has told one; its instant is the oldest of theirs."""

    def __init__(
        self, parts: Sequence[tuple[MakeSite, npt.NDArray[np.bool_], int]], slots: int, on_reading: OnReading
    ) -> None:
        self._slots, self._on_reading = slots, on_reading
        self._parts = [self._part(make, is_own, period_ms) for make, is_own, period_ms in parts]
        self._is_connected = False

    @property
    def devices(self) -> int:
        """Number of slots; 0 while a part has fewer than it should."""
        has_all = all(part.site.devices > int(np.flatnonzero(part.is_own).max(initial=-1)) for part in self._parts)
        return self._slots if self._is_connected and has_all else 0

    async def connect(self, power_period_ms: int) -> None:  # noqa: ARG002 - each part has its own
        """Connect every part at its own period.

        Raises:
            DeviceUnreachableError, DeviceReplyError: of the first part that fails.
        """
        for part in self._parts:
            part.reading = None
        await asyncio.gather(*(part.site.connect(part.period_ms) for part in self._parts))
        self._is_connected = True

    async def closed(self) -> None:
        """Return when one of the connections has ended."""
        waiting = [asyncio.create_task(part.site.closed()) for part in self._parts]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def close(self) -> None:
        """Close every part."""
        self._is_connected = False
        for part in self._parts:
            await part.site.close()

    def send_state(
        self, ref: UUID, assignment: int, state: int, slots: bytes, work: WorkloadSpec | None = None
    ) -> Sent:
        """Hand each part its own slots.

        Raises:
            DeviceUnreachableError: a part is not connected; those before it were told.
        """
        wanted = decode_slots(slots, self._slots)
        sent = []
        for part in self._parts:
            own = wanted[part.is_own[wanted]]
            if len(own):
                sent.append((part.site, part.site.send_state(ref, assignment, state, encode_slots(own), work)))
        return asyncio.ensure_future(_finish(sent))

    async def finish_state(self, sent: Sent) -> tuple[Slots, Slots]:
        """(accepted, refused) of all parts."""
        both: tuple[Slots, Slots] = await sent
        return both

    async def read_states(self) -> npt.NDArray[np.uint8]:
        """Each part's own slots; 255 elsewhere."""
        states = np.full(self._slots, UNKNOWN_STATE, dtype=np.uint8)
        for part in self._parts:
            own = np.flatnonzero(part.is_own)
            states[own] = (await part.site.read_states())[own]
        return states

    def _part(self, make: MakeSite, is_own: npt.NDArray[np.bool_], period_ms: int) -> _Part:
        part: _Part

        def take(reading: Reading) -> None:
            part.reading = reading
            self._push()

        part = _Part(make(take), is_own, period_ms)
        return part

    def _push(self) -> None:
        told = [(part, part.reading) for part in self._parts if part.reading is not None]
        if len(told) < len(self._parts):
            return
        power_w = np.zeros(self._slots, dtype=np.float32)
        evidence = np.full(self._slots, Evidence.MEASURED, dtype=np.uint8)
        columns = {name: self._column(name, told) for name in ("hashrate_th_per_s", "temperature_celsius")}
        for part, reading in told:
            own = np.flatnonzero(part.is_own)
            power_w[own] = reading.values[own]
            if reading.evidence is not None:
                evidence[own] = reading.evidence[own]
            part.reading = None
        at_s = min(reading.simulated_at_s for _, reading in told)
        issues = joined([reading.issues for _, reading in told])
        hot = _joined([reading.hot[part.is_own[reading.hot]] for part, reading in told])
        self._on_reading(Reading(at_s, power_w, evidence, issues, hot, **columns, warm=self._warm(told)))

    def _warm(self, told: Sequence[tuple[_Part, Reading]]) -> npt.NDArray[np.uint8] | None:
        """What sleeps where, of those parts that tell; None where none does."""
        warm = np.full(self._slots, UNKNOWN_STATE, dtype=np.uint8)
        telling = [(part, reading.warm) for part, reading in told if reading.warm is not None]
        for part, own_warm in telling:
            own = np.flatnonzero(part.is_own)
            warm[own] = own_warm[own]
        return warm if telling else None

    def _column(self, name: str, told: Sequence[tuple[_Part, Reading]]) -> npt.NDArray[np.float32] | None:
        """A column of those parts that have it; None where none has."""
        column = np.full(self._slots, np.nan, dtype=np.float32)
        having = [(part, values) for part, reading in told if (values := getattr(reading, name)) is not None]
        for part, values in having:
            own = np.flatnonzero(part.is_own)
            column[own] = values[own]
        return column if having else None


async def _finish(sent: Sequence[tuple[DeviceSite, Sent]]) -> tuple[Slots, Slots]:
    told = await asyncio.gather(*(site.finish_state(one) for site, one in sent))
    return _joined([accepted for accepted, _ in told]), _joined([refused for _, refused in told])


def _joined(parts: Sequence[Slots]) -> Slots:
    """One rising array."""
    whole: Slots = np.sort(np.concatenate([*parts, EMPTY]))
    return whole
