"""One Modbus TCP connection: registers in, registers out, every call under a deadline; it is opened anew when it is next needed.

pymodbus speaks the protocol and is imported with the first call. It has no deadline of its own over a whole call, does not
compare the number of registers with what was asked, and lets a late answer wait in its buffer; hence this. After
any failure the connection is closed, so that nothing left over is taken for an answer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from hcp_pipelines.domain.errors import DeviceRefusedError, DeviceReplyError, DeviceUnreachableError

if TYPE_CHECKING:
    from pymodbus.client import AsyncModbusTcpClient
    from pymodbus.pdu import ModbusPDU

CALL_WITHIN_S = 3.0
_REFUSED = {4: "server device failure", 7: "negative acknowledge"}
_AWAY = {
    5: "acknowledge",
    6: "server device busy",
    10: "gateway path unavailable",
    11: "gateway target did not respond",
}
_WRONG = {1: "illegal function", 2: "illegal data address", 3: "illegal data value"}

_Request = Callable[["AsyncModbusTcpClient"], Awaitable["ModbusPDU"]]


class ModbusTransport:
    """Calls are carried out one after another."""

    def __init__(self, host: str, port: int, call_within_s: float = CALL_WITHIN_S) -> None:
        self._host, self._port = host, port
        self._call_within_s = call_within_s
        self._client: AsyncModbusTcpClient | None = None
        self._received = b""
        self._calls = asyncio.Lock()

    async def read(self, unit: int, address: int, count: int) -> list[int]:
        """Holding registers.

        Raises:
            DeviceUnreachableError: no connection, no answer in time, or a gateway that can't reach the unit.
            DeviceRefusedError: the unit refuses.
            DeviceReplyError: an answer that does not decode, or not to what was asked.
        """
        what = f"read of {count} registers from {address}"
        reply = await self._call(
            unit, what, lambda client: client.read_holding_registers(address, count=count, device_id=unit)
        )
        if len(reply.registers) != count:
            await self.close()
            raise DeviceReplyError(f"{self._name(unit)}: {what} was answered with {len(reply.registers)}")
        return list(reply.registers)

    async def write(self, unit: int, address: int, value: int) -> None:
        """One register.

        Raises:
            As `read`.
        """
        what = f"write of {value} to register {address}"
        reply = await self._call(unit, what, lambda client: client.write_register(address, value, device_id=unit))
        if reply.address != address or list(reply.registers) != [value]:
            await self.close()
            raise DeviceReplyError(f"{self._name(unit)}: {what} was answered with {reply.registers} at {reply.address}")

    async def write_coil(self, unit: int, address: int, *, is_on: bool) -> None:
        """One coil.

        Raises:
            As `read`.
        """
        what = f"write of {is_on} to coil {address}"
        reply = await self._call(unit, what, lambda client: client.write_coil(address, is_on, device_id=unit))
        if reply.address != address or list(reply.bits[:1]) != [is_on]:
            await self.close()
            raise DeviceReplyError(f"{self._name(unit)}: {what} was answered with {reply.bits[:1]} at {reply.address}")

    async def close(self) -> None:
        """Close the connection; the next call opens another."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def _call(self, unit: int, what: str, request: _Request) -> "ModbusPDU":
        async with self._calls:
            try:
                async with asyncio.timeout(self._call_within_s):
                    client = await self._connected()
                    self._received = b""
                    reply = await request(client)
            except (TimeoutError, OSError) as error:
                await self.close()
                raise self._silence(unit, what) from error
            except asyncio.CancelledError:
                await self.close()
                raise
            except _pymodbus_error() as error:
                await self.close()
                raise self._silence(unit, what) from error
        if reply.isError():
            raise self._exception(unit, what, reply.exception_code)
        return reply

    async def _connected(self) -> "AsyncModbusTcpClient":
        if self._client is None or not self._client.connected:
            from pymodbus.client import AsyncModbusTcpClient  # 0.1 s and 14 MB, which most gateways never need

            client = AsyncModbusTcpClient(
                self._host,
                port=self._port,
                timeout=self._call_within_s,
                retries=0,
                reconnect_delay=0,
                trace_packet=self._trace,
            )
            if not await client.connect():
                client.close()
                raise DeviceUnreachableError(f"no Modbus server at {self._host}:{self._port}")
            self._client = client
        return self._client

    def _trace(self, is_sent: bool, data: bytes) -> bytes:
        if not is_sent:
            self._received = data
        return data

    def _silence(self, unit: int, what: str) -> DeviceReplyError | DeviceUnreachableError:
        """No usable answer: bytes that made none, or nothing at all."""
        if self._received:
            return DeviceReplyError(f"{self._name(unit)}: {what} was answered with {self._received[:40].hex()}")
        return DeviceUnreachableError(f"{self._name(unit)}: no usable answer to {what} in {self._call_within_s:g} s")

    def _exception(
        self, unit: int, what: str, code: int
    ) -> DeviceReplyError | DeviceRefusedError | DeviceUnreachableError:
        name = self._name(unit)
        if code in _REFUSED:
            return DeviceRefusedError(f"{name}: {what} refused: {_REFUSED[code]} ({code})")
        if code in _AWAY:
            return DeviceUnreachableError(f"{name}: {what}: {_AWAY[code]} ({code})")
        return DeviceReplyError(f"{name}: {what}: {_WRONG.get(code, 'exception')} ({code}); is the register map right?")

    def _name(self, unit: int) -> str:
        return f"{self._host}:{self._port} unit {unit}"


def _pymodbus_error() -> type[Exception]:
    """The root of pymodbus's errors; asked for only once one has been raised."""
    from pymodbus.exceptions import ModbusException

    return ModbusException
