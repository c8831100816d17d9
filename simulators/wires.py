"""The scenario's network in front of the devices' own protocols: bytes that come late, connections that fall silent.

`Wires.before` goes around a server's protocol factory, whatever the protocol. Without a fault of the network it changes nothing
and costs nothing. What a link does is drawn in `network`; what is said on it is its server's.

The kernel answers a connection's first packets at once, so that their way is made up for with its first bytes. A connection that
a cut has hit is silent until the cut is over, and is then reset: what was sent on it is lost, never carried out late.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from simulators.addresses import MAX_SITES, site_at
from simulators.clock import Clock
from simulators.listeners import reset
from simulators.network import Link, Network
from simulators.ways import Way

MAX_SILENT: Final = 4096  # connections that wait for the end of a cut
FULL_BYTES: Final = 64 * 1024  # under way in one direction: who sends more is told to wait
ROOM_BYTES: Final = FULL_BYTES // 4  # from here on down it may go on

Make = Callable[[], asyncio.Protocol]


class Wires:
    """What stands before all protocols of a world."""

    def __init__(self, network: Network, clock: Clock) -> None:
        self._network = network
        self._clock = clock
        self._silent: set[asyncio.Transport] = set()

    def before(self, make: Make) -> Make:
        """The factory behind the network: the same one where the network is without fault."""
        return make if self._network.is_ideal else lambda: _Wire(self, make())

    def link(self, address: str) -> Link | None:
        """The link of a new connection that arrived at an address; None where no site is."""
        site = site_at(address)
        return None if site is None or site >= MAX_SITES else self._network.link_to(site, address)

    def is_cut(self, link: Link) -> bool:
        """Whether nothing passes on a link now."""
        return link.is_cut(self._clock.now_s())

    def silence(self, link: Link, line: asyncio.Transport) -> None:
        """Keep a connection that a cut has hit until the cut is over."""
        if len(self._silent) >= MAX_SILENT:
            reset(line)
            return
        self._silent.add(line)
        self._network.when_whole(link.site, self._clock, lambda: self.end(line))

    def end(self, line: asyncio.Transport) -> None:
        """Reset a silent connection, if it is still there."""
        if line in self._silent:
            self.forget(line)
            reset(line)

    def forget(self, line: asyncio.Transport) -> None:
        """A connection is gone by itself."""
        self._silent.discard(line)

    def stop(self) -> None:
        """End every silent connection."""
        for line in list(self._silent):
            self.end(line)


class _Wire(asyncio.Protocol):
    """One connection: the socket's side here, the server's protocol behind it."""

    def __init__(self, wires: Wires, inner: asyncio.Protocol) -> None:
        self._wires = wires
        self._inner = inner
        self._link: Link | None = None
        self._opened_s = 0.0
        self._is_over = False
        self._outer: _Line | None = None  # once the server knows of the connection
        self._is_full = False  # the socket
        self._waits = False  # the server's protocol, for either
        self.line: asyncio.Transport
        self.there: Way
        self.back: Way

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find the link; who arrived at no site is handed on at once."""
        self.line = cast(asyncio.Transport, transport)
        link = self._wires.link(str(transport.get_extra_info("sockname")[0]))
        if link is None:
            self.line.set_protocol(self._inner)
            self._inner.connection_made(transport)
            return
        self._link = link
        self.there = Way(link.delay_s, self._passes)
        self.back = Way(lambda: link.delay_s(is_back=True), self._passes)
        if self._passes():
            self._opened_s = self.there.add(self._make) + link.delay_s(is_back=True)

    def data_received(self, data: bytes) -> None:
        """Bytes for the server, once they are there."""
        if self._is_over:
            return
        self.there.add(lambda: self._deliver(data), len(data), self._opened_s)
        self.weigh()

    def eof_received(self) -> bool:
        """The client sends no more; of a silent connection: it has given up."""
        if self._is_over:
            self._wires.end(self.line)
            return False
        self.there.add(self._end_there, not_before_s=self._opened_s)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        self._wires.forget(self.line)
        self._lose(error)

    def pause_writing(self) -> None:
        """The client doesn't take what it is sent."""
        self._is_full = True
        self._stem()

    def resume_writing(self) -> None:
        """It does again."""
        self._is_full = False
        self._stem()

    def send(self, data: bytes) -> None:
        """Bytes for the client."""
        if self._is_over:
            return
        self.back.add(lambda: self._arrive(data), len(data))
        self._stem()

    def leave(self, what: Callable[[], None]) -> None:
        """End the connection from the server's side, after what it has sent."""
        if not self._is_over:
            self.back.add(what)

    def weigh(self) -> None:
        """Read from the socket only while not too much is under way and the server takes it."""
        if self.there.is_held or self.there.size > FULL_BYTES:
            self.line.pause_reading()
        else:
            self.line.resume_reading()

    def _passes(self) -> bool:
        """Whether the link carries anything now; a connection that a cut has hit is over for the server."""
        if self._is_over or self._link is None:
            return False
        if not self._wires.is_cut(self._link):
            return True
        self._lose(ConnectionResetError("the site was cut off"))
        self.line.resume_reading()
        self._wires.silence(self._link, self.line)
        return False

    def _make(self) -> None:
        self._outer = _Line(self)
        self._inner.connection_made(self._outer)

    def _deliver(self, data: bytes) -> None:
        if self._outer is not None and not self._outer.is_closing():
            self._inner.data_received(data)
        self.weigh()

    def _end_there(self) -> None:
        if self._outer is not None and not self._outer.is_closing() and not self._inner.eof_received():
            self._outer.close()

    def _arrive(self, data: bytes) -> None:
        self.line.write(data)
        self._stem()

    def _stem(self) -> None:
        """Have the server wait while too much is under way, and let it go on later, when it is not in the middle of writing."""
        if not self._waits and (self._is_full or self.back.size > FULL_BYTES):
            self._waits = True
            self._inner.pause_writing()
        elif self._waits and not self._is_full and self.back.size <= ROOM_BYTES:
            asyncio.get_running_loop().call_soon(self._let_go_on)

    def _let_go_on(self) -> None:
        if self._waits and not self._is_over and not self._is_full and self.back.size <= ROOM_BYTES:
            self._waits = False
            self._inner.resume_writing()

    def _lose(self, error: Exception | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        if self._link is not None:
            self.there.clear()
            self.back.clear()
        if self._outer is not None:
            self._inner.connection_lost(error)


class _Line(asyncio.Transport):
    """What the server's protocol writes to."""

    def __init__(self, wire: _Wire) -> None:
        super().__init__()
        self._wire = wire
        self._is_closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Of the socket."""
        return self._wire.line.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Whether the server has ended it, or it is gone."""
        return self._is_closing or self._wire.line.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes off."""
        if data and not self._is_closing:
            self._wire.send(bytes(data))

    def can_write_eof(self) -> bool:
        """Yes, as on any TCP socket."""
        return True

    def write_eof(self) -> None:
        """Send no more."""
        self._wire.leave(self._wire.line.write_eof)

    def close(self) -> None:
        """End it after what was written."""
        self._end(self._wire.line.close)

    def abort(self) -> None:
        """End it, as late as a reset takes."""
        self._end(self._wire.line.abort)

    def pause_reading(self) -> None:
        """Take no more for now."""
        self._wire.there.is_held = True
        self._wire.weigh()

    def resume_reading(self) -> None:
        """Take what has come meanwhile, and more; as with any socket not before the caller is done."""
        self._wire.there.is_held = False
        asyncio.get_running_loop().call_soon(self._wire.there.go_on)
        self._wire.weigh()

    def get_write_buffer_size(self) -> int:
        """Bytes under way, and those that the client has not taken."""
        return self._wire.back.size + self._wire.line.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Of the socket."""
        self._wire.line.set_write_buffer_limits(high, low)

    def _end(self, what: Callable[[], None]) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._wire.leave(what)
