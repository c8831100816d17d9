"""The gateway's side of a telemetry stream: samples go out as the spool has them, within the window, until they are acknowledged.

Messages are the spool's own bytes: nothing is parsed or made again. A facility has one stream; a newer one ends the one before.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import structlog

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.edge.admittance import require_of_stream
from hcp_pipelines.edge.telemetry.sampler import Sampler
from hcp_pipelines.wire import telemetry_v1_pb2 as pb
from hcp_pipelines.wire.telemetry import METHOD, SERVICE

OPEN_WITHIN_S = 10.0
READ_BYTES = 2**21  # at once from the spool
WINDOW_MAX_BYTES = 64 * 2**20
STREAMS_EACH = (
    8  # open at once, a facility: a client that reads none of them holds RPCs that owners need (`edge.RPCS_MAX`)
)
AHEAD_MS = 10**9  # after_seq may be so far above the present millisecond; more is no number of ours

Context = grpc.aio.ServicerContext
Requests = AsyncIterator[pb.CollectorMessage]


class _Stream:
    """What is on its way to one collector."""

    def __init__(self, sampler: Sampler, opened: pb.Open) -> None:
        self.sampler, self.after_seq = sampler, opened.after_seq
        self.window_bytes = min(opened.window_bytes, WINDOW_MAX_BYTES)
        self.changed = asyncio.Event()
        self.is_over = False
        self._under_way: deque[tuple[int, int]] = deque()
        self._bytes = 0

    @property
    def room(self) -> int:
        """Bytes that may be sent now; one sample always may, where none is under way."""
        return max(self.window_bytes - self._bytes, 0) if self._under_way else max(self.window_bytes, 1)

    def note_sent(self, seq: int, size: int) -> None:
        """A sample has gone out."""
        self.after_seq = seq
        self._under_way.append((seq, size))
        self._bytes += size

    def note_acknowledged(self, seq: int) -> int:
        """What was sent up to it is stored; the number up to which it is, which is never above what was sent."""
        stored = 0
        while self._under_way and self._under_way[0][0] <= seq:
            stored, size = self._under_way.popleft()
            self._bytes -= size
        self.changed.set()
        return stored

    def wake(self) -> None:
        """There is more, or it is over."""
        self.changed.set()


class TelemetryService:
    """Serves the samples of a gateway's facilities; `add_to` a server."""

    def __init__(self, samplers: Mapping[str, Sampler], clock: SystemClock) -> None:
        self._samplers, self._clock = samplers, clock
        self._streams: dict[str, _Stream] = {}
        self._open = 0
        self._log = structlog.get_logger("edge")

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the service. Bytes go out as they are."""
        method = grpc.stream_stream_rpc_method_handler(
            self.stream, request_deserializer=pb.CollectorMessage.FromString, response_serializer=None
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: method}),))

    async def stream(self, requests: Requests, context: "Context[Any, Any]") -> None:
        """One collector's stream of one facility."""
        await require_of_stream(context, requests, "collector")
        most = STREAMS_EACH * len(self._samplers)
        if self._open >= most:
            text = f"{self._open} telemetry streams are open, at most {most}: does whoever opened them read them?"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        self._open += 1
        try:
            await self._serve(requests, context)
        finally:
            self._open -= 1

    async def _serve(self, requests: Requests, context: "Context[Any, Any]") -> None:
        opened = await self._opened(requests, context)
        stream = _Stream(self._samplers[opened.facility_id], opened)
        before = self._streams.get(opened.facility_id)
        if before is not None:
            before.is_over = True
            before.wake()
        self._streams[opened.facility_id] = stream
        await stream.sampler.in_thread(stream.sampler.acknowledge, opened.after_seq)
        stream.sampler.listeners.append(stream.wake)
        hearing = asyncio.create_task(_hear(stream, requests))
        try:
            await self._send(stream, hearing, context)
        finally:
            hearing.cancel()
            stream.sampler.listeners.remove(stream.wake)
            if self._streams.get(opened.facility_id) is stream:
                del self._streams[opened.facility_id]
            await asyncio.gather(hearing, return_exceptions=True)

    async def _opened(self, requests: Requests, context: "Context[Any, Any]") -> pb.Open:
        message = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OPEN_WITHIN_S):
                message = await anext(requests, None)
        if message is None or message.WhichOneof("body") != "open":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a telemetry stream begins with `open`")
        opened: pb.Open = message.open
        if opened.facility_id not in self._samplers:
            known = ", ".join(sorted(self._samplers))
            text = f"facility {opened.facility_id[:100]!r} is not behind this gateway: {known}"
            await context.abort(grpc.StatusCode.NOT_FOUND, text)
        now_ms = round(self._clock.real_now().timestamp() * 1000)
        if opened.after_seq > now_ms + AHEAD_MS:
            text = f"after_seq is {opened.after_seq}; numbers here are below {now_ms + AHEAD_MS}"
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, text)
        return opened

    async def _send(self, stream: _Stream, hearing: "asyncio.Task[None]", context: "Context[Any, Any]") -> None:
        while not hearing.done():
            if stream.is_over:
                await context.abort(grpc.StatusCode.ABORTED, "a newer stream of this facility has been opened")
            stream.changed.clear()
            limit = min(stream.room, READ_BYTES)
            kept = await stream.sampler.in_thread(stream.sampler.read, stream.after_seq, limit) if limit else []
            for seq, payload in kept:
                await context.write(payload)
                stream.note_sent(seq, len(payload))
            if not kept:
                changing = asyncio.ensure_future(stream.changed.wait())
                await asyncio.wait({changing, hearing}, return_when=asyncio.FIRST_COMPLETED)
                changing.cancel()


async def _hear(stream: _Stream, requests: Requests) -> None:
    """Take acks until the collector goes."""
    async for message in requests:
        if message.WhichOneof("body") == "ack":
            stored = stream.note_acknowledged(message.ack.seq)
            if stored:
                await stream.sampler.in_thread(stream.sampler.acknowledge, stored)
