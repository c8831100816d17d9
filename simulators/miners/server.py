"""The miners' listeners: ports 4028, 80 and 4433 on every address of 127/8 at once, and what becomes of them.

One socket on 0.0.0.0 a port; the miner is known by the address a connection arrived at. What arrived on another address than a
loopback one is dropped at once (`conversation`).
"""

import asyncio
import errno
import logging
import socket
from typing import Final

from simulators.addresses import MAX_SITES, MAX_SLOTS
from simulators.clock import Clock
from simulators.durability import TransitionLog
from simulators.fleet import Fleet
from simulators.listeners import EVERYWHERE, bound
from simulators.miners import antminer, antminer_web, luxos, luxos_web, whatsminer, whatsminer_v3, whatsminer_web
from simulators.miners.cgminer import Answers, CgminerTalk
from simulators.miners.conversation import Conversation, Desk
from simulators.miners.firmware import Dialect
from simulators.miners.framed import FramedTalk
from simulators.miners.hall import Hall
from simulators.miners.web import Serve, WebTalk
from simulators.settings import WorldConfig, WorldConfigError
from simulators.wires import Wires

OTHER_HTTP_PORT: Final = 8080
_BACKLOG: Final = 1024

_ON_4028: Final[dict[object, Answers]] = {
    Dialect.ANTMINER: Answers(antminer.answer, antminer.refusal, antminer.in_text),
    Dialect.WHATSMINER: Answers(whatsminer.answer, whatsminer.refusal),
    Dialect.WHATSMINER_V3: Answers(whatsminer.answer, whatsminer.refusal),
    Dialect.LUXOS: Answers(luxos.answer, luxos.refusal),
}
_ON_HTTP: Final[dict[object, Serve]] = {
    Dialect.ANTMINER: antminer_web.serve,
    Dialect.WHATSMINER: whatsminer_web.serve,
    Dialect.WHATSMINER_V3: whatsminer_web.serve,
    Dialect.LUXOS: luxos_web.serve,
}

log = logging.getLogger("world.miners")


class MinersServer:
    """All miners of the world, over their own protocols."""

    def __init__(self, config: WorldConfig, fleet: Fleet, transitions: TransitionLog, clock: Clock) -> None:
        _check(config)
        self._config = config.protocols.miners
        self._hall = Hall(config, fleet, transitions, clock)
        self.desk = Desk(self._hall)
        self._wires = Wires(fleet.network, clock)
        self.ports: dict[str, int] = {}
        self._servers: list[asyncio.Server] = []

    @property
    def urls(self) -> dict[str, str]:
        """Where the miners answer, by name."""
        return {f"miners-{name}": f"tcp://127.0.0.0/8:{port}" for name, port in self.ports.items()}

    async def start(self) -> None:
        """Listen on all three ports.

        Raises:
            WorldConfigError: a port can't be bound.
        """
        wanted = {
            "4028": (self._config.port_4028, None, lambda: CgminerTalk(self.desk, _ON_4028)),
            "http": (self._config.http_port, OTHER_HTTP_PORT, lambda: WebTalk(self.desk, _ON_HTTP)),
            "v3": (self._config.v3_port, None, lambda: FramedTalk(self.desk, whatsminer_v3.answer)),
        }
        loop = asyncio.get_running_loop()
        try:
            for name, (port, other, talk) in wanted.items():
                listener = listen(name, port, other)
                self._servers.append(
                    await loop.create_server(self._wires.before(talk), sock=listener, backlog=_BACKLOG)
                )
                self.ports[name] = listener.getsockname()[1]
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close the listeners and every connection."""
        for server in self._servers:
            server.close()
        for conversation in list(self.desk.open):
            conversation.abort()
        self._wires.stop()
        self._servers.clear()
        await asyncio.sleep(0)


def listen(name: str, port: int, other: int | None = None) -> socket.socket:
    """A socket on every address; where the port may not be bound, on the other one, which is said once.

    Raises:
        WorldConfigError: neither can be bound.
    """
    try:
        return _bind(port)
    except OSError as error:
        if other is None or error.errno not in {errno.EACCES, errno.EPERM, errno.EADDRINUSE}:
            message = f"miners' port {port} ({name}) can't be bound ({error.strerror}); set protocols.miners, 0 takes a free port"
            raise WorldConfigError(message) from error
        log.warning("miners: port %d can't be bound (%s): their web pages are on port %d", port, error.strerror, other)
        return listen(name, other)


def _bind(port: int) -> socket.socket:
    listener = bound(EVERYWHERE, port)
    try:
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _check(config: WorldConfig) -> None:
    """Every slot needs an address."""
    if len(config.sites) > MAX_SITES:
        message = f"{len(config.sites)} sites; the miners' protocols have addresses for {MAX_SITES}: switch them off"
        raise WorldConfigError(message)
    for site in config.sites:
        if site.slots > MAX_SLOTS:
            message = f"site {site.site} has {site.slots} slots; its miners have {MAX_SLOTS} addresses: split the site"
            raise WorldConfigError(message)


__all__ = ["Conversation", "MinersServer", "listen"]
