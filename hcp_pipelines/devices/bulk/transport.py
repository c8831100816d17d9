"""One connection of the bulk device channel: frames out, replies matched by request number, pushed frames to a callback."""

import asyncio
import contextlib
from collections.abc import Callable

from hcp_pipelines.devices.bulk import codec
from hcp_pipelines.domain.errors import DeviceReplyError, DeviceUnreachableError

REPLY_WITHIN_S = 10.0
CONNECT_WITHIN_S = 5.0
WRITE_BUFFER_MAX_BYTES = 32 * 1024 * 1024

Push = Callable[[int, bytes], None]


class BulkTransport:
    """Open with `connect`; `request` awaits a reply, `send` returns a future for it at once."""

    def __init__(self, address: str, on_push: Push) -> None:
        self._address = address
        self._on_push = on_push
        self._waiting: dict[int, asyncio.Future[tuple[int, bytes]]] = {}
        self._next = 1
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent."""
        return self._reading is not None and not self._reading.done()

    async def connect(self) -> None:
        """Connect.

        Raises:
            DeviceUnreachableError: nobody listens there.
        """
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                reader, self._writer = await self._open()
        except (OSError, TimeoutError) as error:
            raise DeviceUnreachableError(f"no site at {self._address}: {error!r}") from error
        self._reading = asyncio.create_task(self._read(reader))

    def send(self, kind: int, payload: bytes) -> "asyncio.Future[tuple[int, bytes]]":
        """Write a request now; the future gives (type, payload) of its reply.

        Raises:
            DeviceUnreachableError: not connected, or the peer doesn't take what was sent before.
        """
        if self._writer is None or not self.is_open:
            raise DeviceUnreachableError(f"not connected to {self._address}")
        if self._writer.transport.get_write_buffer_size() > WRITE_BUFFER_MAX_BYTES:
            raise DeviceUnreachableError(f"{self._address} has not taken what was sent before")
        request = self._next
        self._next = self._next % 0xFFFFFFFE + 1
        future: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._waiting[request] = future
        self._writer.write(codec.encode_frame(kind, request, payload))
        return future

    async def request(self, kind: int, payload: bytes, answer: int) -> bytes:
        """Send and await the reply's payload, which must be of type `answer`.

        Raises:
            DeviceUnreachableError: no reply in time.
            DeviceReplyError: another kind of reply.
        """
        try:
            async with asyncio.timeout(REPLY_WITHIN_S):
                got, body = await self.send(kind, payload)
        except TimeoutError as error:
            raise DeviceUnreachableError(f"{self._address} did not answer within {REPLY_WITHIN_S:.0f} s") from error
        if got != answer:
            text = codec.decode_error(body) if got == codec.ERROR else f"frame type 0x{got:02x}, not 0x{answer:02x}"
            raise DeviceReplyError(f"{self._address}: {text}")
        return body

    async def close(self) -> None:
        """Close the connection; whoever waits gets DeviceUnreachableError."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._writer is not None:
            self._writer.close()

    async def closed(self) -> None:
        """Return when the connection has ended."""
        if self._reading is not None:
            await asyncio.wait({self._reading})

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        limit = codec.FRAME_MAX_BYTES + 4
        if self._address.startswith("unix:"):
            return await asyncio.open_unix_connection(self._address.removeprefix("unix:"), limit=limit)
        host, _, port = self._address.rpartition(":")
        return await asyncio.open_connection(host, int(port), limit=limit)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        error: Exception = DeviceUnreachableError(f"{self._address} closed the connection")
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(4), "little")
                if not 5 <= length <= codec.FRAME_MAX_BYTES:
                    error = DeviceReplyError(f"{self._address}: frame of {length} bytes")
                    return
                body = await reader.readexactly(length)
                self._deliver(body[0], int.from_bytes(body[1:5], "little"), body[5:])
        except (asyncio.IncompleteReadError, OSError):
            return
        except DeviceReplyError as failure:  # of a pushed frame, which nobody awaits
            error = failure
        finally:
            if self._writer is not None:
                self._writer.close()
            self._fail_waiting(error)

    def _deliver(self, kind: int, request: int, payload: bytes) -> None:
        future = self._waiting.pop(request, None)
        if future is None:
            self._on_push(kind, payload)
        elif not future.done():
            future.set_result((kind, payload))

    def _fail_waiting(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                with contextlib.suppress(asyncio.InvalidStateError):
                    future.set_exception(error)
                future.exception()  # retrieved: whoever still cares awaits it, nobody else is warned
