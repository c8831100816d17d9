"""What waits to be sent to an owner: bounded, in order, and never with a gap in it."""

import asyncio
from collections.abc import AsyncIterator

from hcp_pipelines.wire import edge_v1_pb2 as pb

OUTBOX_MAX = 10_000
STALLED_AFTER_S = 10.0


class Outbox:
    """The queue of one session. An owner that does not read loses the session, and resumes from the log."""

    def __init__(self, limit: int = OUTBOX_MAX) -> None:
        self._queue: asyncio.Queue[pb.GatewayMessage | None] = asyncio.Queue(limit)
        self._put_below = limit // 2  # a replay leaves the other half to what happens meanwhile
        self._has_room = asyncio.Event()
        self.is_closed = False

    def send(self, message: pb.GatewayMessage) -> None:
        """Queue a message; a full queue ends the session."""
        if self.is_closed:
            return
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            self._give_up()

    async def put(self, message: pb.GatewayMessage) -> None:
        """Queue a message as soon as there is room; an owner that reads nothing for long ends the session."""
        if self._queue.qsize() >= self._put_below and not self.is_closed:
            self._has_room.clear()
            try:
                async with asyncio.timeout(STALLED_AFTER_S):
                    await self._has_room.wait()
            except TimeoutError:
                self._give_up()
        self.send(message)

    def close(self) -> None:
        """End the stream behind what is queued."""
        if self.is_closed:
            return
        if self._queue.full():
            self._give_up()
            return
        self.is_closed = True
        self._queue.put_nowait(None)

    async def messages(self) -> AsyncIterator[pb.GatewayMessage]:
        """What was queued, until the end."""
        while (message := await self._queue.get()) is not None:
            if self._queue.qsize() < self._put_below:
                self._has_room.set()
            yield message

    def _give_up(self) -> None:
        """End the stream now: what is queued is dropped whole, since an owner takes the last number it saw for all before it."""
        self.is_closed = True
        self._has_room.set()
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)
