"""A site's power plant as one device: read the meter, relay, breakers and cooling; open and close breakers, with read-back."""

import asyncio
from collections.abc import Callable

from hcp_pipelines.devices.modbus import codec
from hcp_pipelines.devices.modbus.codec import (
    BreakerReading,
    BreakerState,
    CoolingReading,
    MeterReading,
    RelayReading,
    WordOrder,
)
from hcp_pipelines.devices.modbus.transport import CALL_WITHIN_S, ModbusTransport
from hcp_pipelines.domain.errors import DeviceRefusedError, DeviceUnreachableError

CONFIRM_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.2
_Test = Callable[[BreakerReading], bool]
_OFF_FRACTION = 0.002  # of a breaker's limit: what an open breaker may still show


class PowerPlant:
    """One site's plant over one connection, which opens itself when it is needed.

    Every method raises `DeviceUnreachableError`, `DeviceRefusedError` or `DeviceReplyError`, as the transport does.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        word_order: WordOrder = "big",
        call_within_s: float = CALL_WITHIN_S,
        confirm_within_s: float = CONFIRM_WITHIN_S,
    ) -> None:
        self._transport = ModbusTransport(host, port, call_within_s)
        self._word_order: WordOrder = word_order
        self._confirm_within_s = confirm_within_s

    async def read_meter(self) -> MeterReading:
        """The revenue meter."""
        return codec.decode_meter(await self._words(codec.METER_UNIT, "meter"), self._word_order)

    async def read_relay(self) -> RelayReading:
        """The under-frequency relay."""
        return codec.decode_relay(await self._words(codec.RELAY_UNIT, "relay"), self._word_order)

    async def read_breaker(self, unit: int) -> BreakerReading:
        """The breaker at a unit."""
        return codec.decode_breaker(await self._words(unit, "breaker"), self._word_order)

    async def read_cooling(self) -> CoolingReading:
        """The cooling plant; a site without one has nobody at its unit, which reads as unreachable."""
        return codec.decode_cooling(await self._words(codec.COOLING_UNIT, "cooling"), self._word_order)

    async def find_breakers(self) -> dict[str, int]:
        """The units of all breakers by name: those from 10 on, without a gap."""
        units: dict[str, int] = {}
        for unit in range(codec.FIRST_BREAKER_UNIT, codec.LAST_BREAKER_UNIT + 1):
            try:
                units[(await self.read_breaker(unit)).name] = unit
            except DeviceUnreachableError:
                if not units:
                    await self.read_meter()  # nobody answers at all: that is another matter than no breaker
                break
        return units

    async def set_breaker(self, unit: int, *, is_closed: bool) -> BreakerReading:
        """Close or open a breaker; returned is what reads back: the state, and no power once it is open.

        Raises:
            DeviceRefusedError: it refused (tripped: `reset_breaker` first; shed: `recall_relay`), or said yes and did not.
        """
        await self._transport.write(unit, codec.COMMAND_ADDRESS, codec.CLOSE if is_closed else codec.OPEN)
        reading = await self._read_until(unit, lambda found: _is_set(found, is_closed))
        if _is_set(reading, is_closed):
            return reading
        raise DeviceRefusedError(
            f"breaker {reading.name} (unit {unit}) took the command to {'close' if is_closed else 'open'} but reads "
            f"{reading.state.name.lower()} with {reading.power_w:.0f} W after {self._confirm_within_s:g} s"
        )

    async def reset_breaker(self, unit: int) -> BreakerReading:
        """Acknowledge a trip; the breaker then reads open, and can be closed.

        Raises:
            DeviceRefusedError: the cause is still there.
        """
        await self._transport.write(unit, codec.COMMAND_ADDRESS, codec.RESET)
        tripped = (BreakerState.TRIPPED, BreakerState.TRIPPED_HOT)
        reading = await self._read_until(unit, lambda found: found.state not in tripped)
        if reading.state in tripped:
            raise DeviceRefusedError(
                f"breaker {reading.name} (unit {unit}) took the reset but reads {reading.state.name.lower()}"
            )
        return reading

    async def recall_relay(self) -> RelayReading:
        """Close what the relay has opened.

        Raises:
            DeviceRefusedError: the frequency is still below its set-point, or the relay still reads shed.
        """
        await self._transport.write_coil(codec.RELAY_UNIT, codec.RECALL_COIL, is_on=True)
        reading = await self.read_relay()
        if reading.is_shed:
            raise DeviceRefusedError(f"the relay took the recall but reads shed at {reading.frequency_hz:.3f} Hz")
        return reading

    async def close(self) -> None:
        """Close the connection."""
        await self._transport.close()

    async def _words(self, unit: int, name: str) -> list[int]:
        return await self._transport.read(unit, 0, codec.words_of(name))

    async def _read_until(self, unit: int, is_there: _Test) -> BreakerReading:
        """Read until it is so, or the time to confirm is over; the last reading."""
        reading = await self.read_breaker(unit)
        looks = int(self._confirm_within_s / _LOOK_EVERY_S)
        for _ in range(looks):
            if is_there(reading):
                break
            await asyncio.sleep(_LOOK_EVERY_S)
            reading = await self.read_breaker(unit)
        return reading


def _is_set(reading: BreakerReading, is_closed: bool) -> bool:
    if is_closed:
        return reading.state == BreakerState.CLOSED
    return reading.state != BreakerState.CLOSED and reading.power_w <= _OFF_FRACTION * reading.limit_w
