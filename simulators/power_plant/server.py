"""Modbus TCP in front of the plants: one listener a site, on its plant address. Frames only; `pdu` answers requests.

A server of our own, not pymodbus's (docs/adr/0007). Connections, frames and waits are bounded. A peer that breaks the framing
is closed, since the start of its next frame can't be found; the others don't notice.
"""

import asyncio
import contextlib
import errno
import logging
import struct

from simulators.addresses import FIRST_OCTET, OCTETS_PER_SITE
from simulators.clock import Clock
from simulators.durability import TransitionLog
from simulators.fleet import Fleet
from simulators.power_plant.pdu import Unit, answer
from simulators.power_plant.units import units_of
from simulators.settings import WorldConfig, WorldConfigError
from simulators.site import Site
from simulators.wires import Wires

MAX_CONNECTIONS_PER_SITE = 32
IDLE_S = 300.0  # a client that polls seldom keeps its connection
FRAME_S = 5.0  # from a frame's first byte to its last, and for a peer to take its reply
_HEADER = struct.Struct(">HHHB")  # transaction, protocol (0), length of what follows it, unit
_LEAST, _MOST = 2, 254  # length field: unit and function, up to unit and 253 bytes

log = logging.getLogger("world.modbus")


def plant_address(site_index: int) -> str:
    """Where a site's power plant answers; no device has 255 there.

    >>> plant_address(0), plant_address(2)
    ('127.16.255.1', '127.24.255.1')
    """
    return f"127.{FIRST_OCTET + OCTETS_PER_SITE * site_index}.255.1"


class PowerPlantServer:
    """Serves the plant of every site of the fleet."""

    def __init__(self, config: WorldConfig, fleet: Fleet, _transitions: TransitionLog, clock: Clock) -> None:
        self._config = config
        self._fleet = fleet
        self._clock = clock
        self._wires = Wires(fleet.network, clock)
        self._servers: list[asyncio.Server] = []
        self._open: set[asyncio.Task[None]] = set()
        self.addresses: dict[str, tuple[str, int]] = {}

    @property
    def urls(self) -> dict[str, str]:
        """Where each site's plant answers."""
        return {f"modbus-{name}": f"tcp://{host}:{port}" for name, (host, port) in self.addresses.items()}

    async def start(self) -> None:
        """Listen for every site that has a plant.

        Raises:
            WorldConfigError: the port can't be had.
        """
        port, loop = self._config.protocols.modbus.port, asyncio.get_running_loop()
        for index, (name, site) in enumerate(self._fleet.sites.items()):
            if site.plant is None:
                continue
            listener = _Listener(site, units_of(site, site.plant), self._clock, self._open)
            host = plant_address(index)
            try:
                server = await loop.create_server(self._wires.before(listener.talk), host, port)
            except OSError as error:
                await self.stop()
                reason = errno.errorcode.get(error.errno or 0, str(error))
                message = (
                    f"modbus: port {port} on {host} can't be bound ({reason}); take another (protocols.modbus.port)"
                )
                raise WorldConfigError(message) from error
            self._servers.append(server)
            self.addresses[name] = (host, int(server.sockets[0].getsockname()[1]))

    async def stop(self) -> None:
        """Close the listeners and every connection."""
        for server in self._servers:
            server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        self._wires.stop()
        self._servers.clear()


class _Listener:
    """One site's port."""

    def __init__(self, site: Site, units: dict[int, Unit], clock: Clock, tasks: set[asyncio.Task[None]]) -> None:
        self._site = site
        self._units = units
        self._clock = clock
        self._tasks = tasks
        self._connections = 0

    def talk(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=4096), self.accept)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        task = asyncio.current_task()
        if task is None or self._connections >= MAX_CONNECTIONS_PER_SITE:
            log.warning("modbus %s: refused a connection beyond %d", self._site.config.site, MAX_CONNECTIONS_PER_SITE)
            writer.transport.abort()
            return
        self._connections += 1
        self._tasks.add(task)
        try:
            with contextlib.suppress(
                asyncio.IncompleteReadError, ConnectionError, TimeoutError, asyncio.CancelledError
            ):
                await self._serve(reader, writer)
        finally:
            self._connections -= 1
            self._tasks.discard(task)
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()  # a peer that takes nothing is not waited for
            else:
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(IDLE_S):
                first = await reader.readexactly(1)
            async with asyncio.timeout(FRAME_S):
                rest = await reader.readexactly(_HEADER.size - 1)
                transaction, protocol, length, unit = _HEADER.unpack(first + rest)
                if protocol != 0 or not _LEAST <= length <= _MOST:
                    log.warning(
                        "modbus %s: closed a connection: protocol %d, length %d (0, and %d to %d)",
                        self._site.config.site, protocol, length, _LEAST, _MOST,
                    )  # fmt: skip
                    return
                pdu = await reader.readexactly(length - 1)
            reply = answer(pdu, self._units.get(unit), max(self._clock.now_s(), self._site.at_s))
            writer.write(_HEADER.pack(transaction, 0, len(reply) + 1, unit) + reply)
            async with asyncio.timeout(FRAME_S):
                await writer.drain()
