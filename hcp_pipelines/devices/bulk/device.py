"""A whole simulated site as one device: set states of many slots, read power, states and the meter.

What devices say of themselves (hashrate, temperature) is asked for every other second, and goes with the power that comes next.
"""

import asyncio
import contextlib
import math
from functools import partial
from uuid import UUID

import numpy as np
import numpy.typing as npt

from hcp_pipelines.devices.bulk import codec
from hcp_pipelines.devices.bulk.codec import Metered, Welcome
from hcp_pipelines.devices.bulk.letting_go import LettingGo
from hcp_pipelines.devices.bulk.transport import REPLY_WITHIN_S, BulkTransport
from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.devices.site import OnReading, Reading
from hcp_pipelines.devices.switches import SwitchBook
from hcp_pipelines.domain.errors import DeviceReplyError, DeviceUnreachableError
from hcp_pipelines.wire.slots import Slots, decode_slots, encode_slots

TOLD_EACH_S, TOLD_AT_LEAST_EACH_S = 2.0, 1.0  # of the world, and real: in a fast one it would be of minutes ago
TOLD_DEVICES_PER_S = 5000.0  # of a great site less often
TOLD = (codec.HASHRATE, codec.TEMPERATURE)


class BulkSite:
    """One site over one connection: a `devices.site.DeviceSite`. After a loss call `connect` again."""

    def __init__(self, address: str, site: str, on_power: OnReading, book: SwitchBook | None = None) -> None:
        """`book`: where it is told what becomes of work that is let go of."""
        self._address = address
        self._site = site
        self._on_power = on_power
        self._transport = BulkTransport(address, self._pushed)
        self.devices = 0
        self._asked_at_s, self._told_each_s, self._asked = -math.inf, TOLD_EACH_S, 0
        self._told: dict[int, npt.NDArray[np.float32]] = {}
        self._letting_go = LettingGo(book or SwitchBook())

    @property
    def is_connected(self) -> bool:
        """Whether commands can be handed over now."""
        return self.devices > 0 and self._transport.is_open

    async def connect(self, power_period_ms: int) -> Welcome:
        """Connect, greet, subscribe to power every `power_period_ms` real milliseconds.

        Raises:
            DeviceUnreachableError, DeviceReplyError: see transport.
        """
        await self._transport.close()
        self._transport = BulkTransport(self._address, self._pushed)
        await self._transport.connect()
        self._told.clear()
        self._asked = 0
        payload = await self._transport.request(codec.HELLO, codec.encode_hello(self._site), codec.WELCOME)
        welcome = codec.decode_welcome(payload)
        self.devices = welcome.devices
        least_s = max(TOLD_AT_LEAST_EACH_S, self.devices / TOLD_DEVICES_PER_S)
        self._told_each_s = max(TOLD_EACH_S / max(welcome.speed, 1.0), least_s)
        self._transport.send(codec.SUBSCRIBE, power_period_ms.to_bytes(4, "little"))
        return welcome

    async def closed(self) -> None:
        """Return when the connection has ended."""
        await self._transport.closed()

    async def close(self) -> None:
        """Close the connection."""
        await self._transport.close()
        await self._letting_go.close()

    def send_state(
        self,
        ref: UUID,
        assignment: int,
        state: int,
        slots: bytes,
        work: WorkloadSpec | None = None,
    ) -> "asyncio.Future[tuple[int, bytes]]":
        """Hand a SET over now; `finish_state` reads the reply.

        Before that it is asked what becomes of somebody's work that runs there.

        Raises:
            DeviceUnreachableError: not connected.
        """
        workload_id = "" if work is None else work.workload_id
        if self._transport.is_open and self._letting_go.concerns(workload_id):
            self._ask_what_is_kept(decode_slots(slots, self.devices), workload_id)
        return self._transport.send(codec.SET, codec.encode_set(ref, assignment, state, slots))

    def _ask_what_is_kept(self, wanted: Slots, workload_id: str) -> None:
        left = self._letting_go.hand_over(wanted, workload_id)
        if left:
            leaving = encode_slots(np.array(sorted(left), dtype=np.uint32))
            asked = self._transport.send(codec.LET_GO, codec.encode_let_go(leaving))
            self._letting_go.expect(asked, left, self.devices)

    async def finish_state(self, sent: "asyncio.Future[tuple[int, bytes]]") -> tuple[Slots, Slots]:
        """(accepted, refused) slots of a SET that was handed over.

        Raises:
            DeviceUnreachableError: no answer in time, or the connection was lost.
            DeviceReplyError: an answer that does not decode.
        """
        try:
            async with asyncio.timeout(REPLY_WITHIN_S):
                kind, payload = await sent
        except TimeoutError as error:
            raise DeviceUnreachableError(
                f"site {self._site}: a SET was not answered in {REPLY_WITHIN_S:.0f} s"
            ) from error
        if kind != codec.SET_DONE:
            raise DeviceReplyError(f"site {self._site}: {codec.decode_error(payload)}")
        return codec.decode_set_done(payload, self.devices)

    async def read_states(self) -> npt.NDArray[np.uint8]:
        """The state that each device was last commanded into."""
        reading = await self._read(codec.COMMANDED)
        return reading.values.astype(np.uint8)

    async def meter(self) -> Metered:
        """The site's revenue meter."""
        return codec.decode_metered(await self._transport.request(codec.METER, b"", codec.METERED))

    async def _read(self, what: int) -> codec.Reading:
        reading = codec.decode_reading(await self._transport.request(codec.READ, bytes([what]), codec.READING))
        if reading.what != what or len(reading.values) != self.devices:
            raise DeviceReplyError(f"site {self._site}: {len(reading.values)} values of kind {reading.what}")
        return reading

    def _pushed(self, kind: int, payload: bytes) -> None:
        if kind == codec.READING:
            reading = codec.decode_reading(payload)
            if reading.what == codec.POWER and len(reading.values) == self.devices:
                self._on_power(
                    Reading(
                        reading.simulated_at_s, _floats(reading),
                        hashrate_th_per_s=self._told.get(codec.HASHRATE),
                        temperature_celsius=self._told.get(codec.TEMPERATURE),
                    )
                )  # fmt: skip
                self._ask()

    def _ask(self) -> None:
        """Have the devices tell of themselves, if they have not been asked for a while, and have answered."""
        now_s = asyncio.get_running_loop().time()
        if self._asked and now_s - self._asked_at_s > REPLY_WITHIN_S:
            self._told.clear()  # what they said long ago is not what is
        if self._asked or now_s - self._asked_at_s < self._told_each_s:
            return
        self._asked_at_s = now_s
        with contextlib.suppress(DeviceUnreachableError):  # it takes nothing: it is asked again, and power still comes
            for what in TOLD:
                sent = self._transport.send(codec.READ, bytes([what]))
                self._asked += 1
                sent.add_done_callback(partial(self._note, self._transport))

    def _note(self, transport: BulkTransport, sent: "asyncio.Future[tuple[int, bytes]]") -> None:
        """Keep what was told; what is nonsense, or of an earlier connection, is not."""
        if transport is not self._transport:
            return
        self._asked -= 1
        if sent.cancelled() or sent.exception() is not None or sent.result()[0] != codec.READING:
            return
        with contextlib.suppress(DeviceReplyError):
            reading = codec.decode_reading(sent.result()[1])
            if reading.what in TOLD and len(reading.values) == self.devices:
                self._told[reading.what] = _floats(reading)


def _floats(reading: codec.Reading) -> npt.NDArray[np.float32]:
    return reading.values.astype(np.float32, copy=False)
