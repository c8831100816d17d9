"""A bounded TCP port: how many talk at a time, how long they may take, and what is counted of those that misbehave.

What is said is `talk`'s; it raises PeerError for a peer that has to go, and the others don't notice.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from simulators.listeners import bound
from simulators.settings import WorldConfigError

HOST: Final = "127.0.0.1"
UNREAD_BYTES: Final = 64 * 1024  # that a peer may leave untaken
READ_BYTES: Final = 4096
MESSAGES_PER_S: Final = 100.0  # of one connection; who sends more is read later
MESSAGES_AT_ONCE: Final = 400.0

log = logging.getLogger("world.pool")


class Patience(NamedTuple):
    """Real seconds: until a stranger has said who it is, for a message from its first byte to its last, between two messages."""

    stranger_s: float = 10.0
    message_s: float = 10.0
    idle_s: float = 600.0


class PeerError(Exception):
    """A peer is closed; `kind` is what it is counted as, `last` what it still hears."""

    def __init__(self, kind: str, reason: str, last: bytes = b"") -> None:
        super().__init__(reason)
        self.kind = kind
        self.last = last


class Peer:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience: Patience) -> None:
        self._reader = reader
        self._writer = writer
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._room = MESSAGES_AT_ONCE
        self._opened_s = self._counted_s = self._loop.time()
        self._buffer = bytearray()
        self._begun_s: float | None = None  # when the message that is not whole yet began

    async def line(self, most_bytes: int, *, is_stranger: bool) -> bytes | None:
        """The next line without its end; None where the peer sends no more.

        Raises:
            PeerError: too long, too slow, silent, or cut off in the middle.
        """
        while (end := self._buffer.find(b"\n")) < 0 and len(self._buffer) <= most_bytes:
            if not await self._fill(is_stranger=is_stranger):
                return None
        if end < 0 or end > most_bytes:
            raise PeerError("oversized", f"a line of more than {most_bytes} bytes")
        found = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._begun_s = None
        await self._take_turn()
        return found

    async def exactly(self, size: int, *, is_stranger: bool, is_begun: bool = False) -> bytes | None:
        """So many bytes; None where the peer sends no more, and had begun nothing.

        Raises:
            PeerError: too slow, silent, or cut off in the middle.
        """
        while len(self._buffer) < size:
            if not await self._fill(is_stranger=is_stranger, is_begun=is_begun):
                return None
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._begun_s = None
        if not is_begun:
            await self._take_turn()
        return found

    def send(self, data: bytes) -> None:
        """Write, as long as the peer takes what is written.

        Raises:
            PeerError: it has left too much untaken.
        """
        if self._writer.transport.get_write_buffer_size() > UNREAD_BYTES:
            raise PeerError("unread", f"more than {UNREAD_BYTES} bytes are not taken")
        self._writer.write(data)

    def abort(self) -> None:
        """End it without a word."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """End it once what was said is taken, within a second."""
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._writer.wait_closed()

    async def _fill(self, *, is_stranger: bool, is_begun: bool = False) -> bool:
        """Read more; False: the peer has ended between two messages."""
        now_s = self._loop.time()
        is_begun = is_begun or bool(self._buffer)
        if is_begun and self._begun_s is None:
            self._begun_s = now_s
        until_s = now_s + self._patience.idle_s if self._begun_s is None else self._begun_s + self._patience.message_s
        if is_stranger:
            until_s = min(until_s, self._opened_s + self._patience.stranger_s)
        try:
            async with asyncio.timeout_at(until_s):
                chunk = await self._reader.read(READ_BYTES)
        except TimeoutError:
            raise PeerError("slow" if is_begun else "silent", "nothing whole has come in time") from None
        if not chunk and is_begun:
            raise PeerError("torn", "a message ended before it was whole")
        self._buffer += chunk
        return bool(chunk)

    async def _take_turn(self) -> None:
        """Let a peer that sends without end wait, which holds it back through TCP."""
        now_s = self._loop.time()
        self._room = min(MESSAGES_AT_ONCE, self._room + (now_s - self._counted_s) * MESSAGES_PER_S) - 1.0
        self._counted_s = now_s
        if self._room < 0:
            await asyncio.sleep(-self._room / MESSAGES_PER_S)


Talk = Callable[[Peer], Awaitable[None]]


class Port:
    """A listener on loopback, its connections and its counts."""

    def __init__(self, name: str, port: int, talk: Talk, most: int, patience: Patience) -> None:
        self._name = name
        self._wanted = port
        self._talk = talk
        self._most = most
        self._patience = patience
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self.counts: Counter[str] = Counter()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.sockets[0].getsockname()[1]) if self._server else self._wanted

    @property
    def connections(self) -> int:
        """How many talk now."""
        return len(self._open)

    async def start(self) -> None:
        """Answer from now on.

        Raises:
            WorldConfigError: the port can't be bound.
        """
        try:
            listener = bound(HOST, self._wanted)
        except OSError as error:
            message = f"pool: {self._name}'s port {self._wanted} can't be bound ({error.strerror}); take another or 0"
            raise WorldConfigError(message) from error
        self._server = await asyncio.start_server(self._accept, sock=listener, limit=READ_BYTES)

    async def stop(self) -> None:
        """Close the port and every connection; idempotent."""
        if self._server is not None:
            self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def push(self, peer: Peer, data: bytes) -> None:
        """Tell a peer what it has not asked for; one that takes nothing is dropped."""
        try:
            peer.send(data)
        except PeerError as error:
            self.counts[error.kind] += 1
            peer.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts["connections"] += 1
        task = asyncio.current_task()
        if task is None or len(self._open) >= self._most:
            self.counts["refused"] += 1
            writer.transport.abort()
            return
        self._open.add(task)
        peer = Peer(reader, writer, self._patience)
        try:
            await self._serve(peer)
        finally:
            peer.abort()
            self._open.discard(task)

    async def _serve(self, peer: Peer) -> None:
        try:
            await self._talk(peer)
        except PeerError as error:
            self.counts[error.kind] += 1
            log.info("%s: closed a connection, %s: %s", self._name, error.kind, error)
            with contextlib.suppress(PeerError):
                peer.send(error.last)
        except OSError:
            self.counts["lost"] += 1
        except asyncio.CancelledError:
            return  # the pool stops
        await peer.close()
