"""The owner's gRPC session with one gateway: announce, commands and heartbeats out; acks, settled and events in.

It reconnects for as long as the lease lasts. What a message means is the caller's to say.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import grpc
import structlog

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.runtime.endless import is_being_ended
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.channels import ClientTls, open_channel
from hcp_pipelines.wire.edge_v1_pb2_grpc import EdgeGatewayStub

OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
ANNOUNCE_WITHIN_S = 5.0
READ_WITHIN_S = 5.0
RETRY_FIRST_S = 0.1
RETRY_LAST_S = 2.0
LOOK_AGAIN_S = 5.0  # for certificates that can be used
OUTBOX_MAX = 1_000


class CannotAnnounceError(Exception):
    """The gateway does not take this owner, or what is needed to announce can't be read."""


@dataclass(frozen=True)
class Handlers:
    """What the session calls; none may block. A ValueError or IndexError says that what was received makes no sense."""

    announced: Callable[[pb.FacilityState], None]
    received: Callable[[pb.GatewayMessage], None]
    refused: Callable[[pb.AnnounceReply], None]
    lost: Callable[[str], None]
    announce: Callable[[], Awaitable[pb.Announce]]


Dial = Callable[[str, ClientTls | None], contextlib.AbstractAsyncContextManager[EdgeGatewayStub]]


@contextlib.asynccontextmanager
async def dial(address: str, tls: ClientTls | None) -> AsyncIterator[EdgeGatewayStub]:
    """The gateway at an address, over gRPC.

    Raises:
        ConfigError: as `channels.open_channel`.
    """
    async with open_channel(address, tls, OPTIONS) as channel:
        yield EdgeGatewayStub(channel)


class GatewaySession:
    """One facility's session; `run` until cancelled."""

    def __init__(
        self, facility_id: str, address: str, handlers: Handlers, dial: Dial = dial, tls: ClientTls | None = None
    ) -> None:
        self._facility_id, self._address, self._handlers = facility_id, address, handlers
        self._dial, self._tls = dial, tls
        self._outbox: asyncio.Queue[pb.OwnerMessage] = asyncio.Queue(OUTBOX_MAX)
        self._stub: EdgeGatewayStub | None = None
        self._call: grpc.aio.StreamStreamCall[pb.OwnerMessage, pb.GatewayMessage] | None = None
        self._hung_up = ""
        self.problem = "not connected yet"
        self._log = structlog.get_logger("allocator.session").bind(facility_id=facility_id)

    def send(self, message: pb.OwnerMessage) -> bool:
        """Queue a message for the gateway; False when the queue is full, and the session is given up."""
        try:
            self._outbox.put_nowait(message)
        except asyncio.QueueFull:
            self.hang_up("the gateway does not read")
            return False
        return True

    def hang_up(self, why: str) -> None:
        """End this stream; the next one announces anew."""
        self._log.warning("session given up", why=why)
        if self._call is not None:
            self._hung_up = why
            self._call.cancel()

    async def read_state(self) -> pb.FacilityState | None:
        """Present state as the gateway sees it; None when it can't be asked now, or the session ends meanwhile."""
        if self._stub is None:
            return None
        try:
            state: pb.FacilityState = await self._stub.Read(
                pb.ReadRequest(facility_id=self._facility_id), timeout=READ_WITHIN_S
            )
        except grpc.aio.AioRpcError as error:
            self._log.warning("the gateway's state can't be read", code=error.code().name)
            return None
        except asyncio.CancelledError:  # gRPC's, of a channel that was closed; or the caller's own end
            if is_being_ended():
                raise
            return None
        return state

    async def run(self) -> None:
        """Connect, announce, read, and again; also when the certificates to show can't be used yet."""
        while True:
            try:
                async with self._dial(self._address, self._tls) as stub:
                    self._stub = stub
                    try:
                        await self._hold_sessions(stub)
                    finally:
                        self._stub = None
            except ConfigError as error:
                self.problem = str(error)
                self._log.error("the gateway can't be reached", error=self.problem)
                await asyncio.sleep(LOOK_AGAIN_S)

    async def _hold_sessions(self, stub: EdgeGatewayStub) -> None:
        wait_s = RETRY_FIRST_S
        while True:
            try:
                await self._one_session(stub)
                self.problem, wait_s = "the gateway ended the session", RETRY_FIRST_S
            except asyncio.CancelledError:  # gRPC's, of a call that was hung up; or this task's own end
                if not self._hung_up or is_being_ended():
                    raise
                self.problem, self._hung_up = self._hung_up, ""
            except CannotAnnounceError as error:
                self.problem = f"not announced: {error}"
            except grpc.aio.AioRpcError as error:
                self.problem = f"{error.code().name}: {error.details()}"
            except (ValueError, IndexError) as error:
                self.problem = f"the gateway said what makes no sense: {error}"
                self._log.error("session given up", why=self.problem)
            except (TimeoutError, asyncio.InvalidStateError) as error:
                self.problem = f"no answer to the announcement: {type(error).__name__}"
            self._handlers.lost(self.problem)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, RETRY_LAST_S)

    async def _one_session(self, stub: EdgeGatewayStub) -> None:
        announce = await self._handlers.announce()
        self._drain()
        call = self._call = stub.Session()
        writer: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(ANNOUNCE_WITHIN_S):
                await call.write(pb.OwnerMessage(announce=announce))
                reply = await call.read()
            self._handlers.announced(self._checked(reply))
            self.problem = ""
            writer = asyncio.create_task(self._write(call))
            await self._read(call)
        finally:
            call.cancel()
            if writer is not None:
                writer.cancel()
                with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                    await writer
            self._call = None

    def _checked(self, reply: object) -> pb.FacilityState:
        if not isinstance(reply, pb.GatewayMessage) or not reply.HasField("announce_reply"):
            raise CannotAnnounceError("it answered with something else")
        answer = reply.announce_reply
        if not answer.accepted:
            self._handlers.refused(answer)
            raise CannotAnnounceError(f"{answer.refusal} (its highest epoch is {answer.highest_epoch})")
        return answer.state

    async def _read(self, call: "grpc.aio.StreamStreamCall[pb.OwnerMessage, pb.GatewayMessage]") -> None:
        while True:
            message = await call.read()
            if not isinstance(message, pb.GatewayMessage):
                return
            self._handlers.received(message)

    async def _write(self, call: "grpc.aio.StreamStreamCall[pb.OwnerMessage, pb.GatewayMessage]") -> None:
        while True:
            await call.write(await self._outbox.get())

    def _drain(self) -> None:
        """Nothing of an earlier stream is sent in a new one: what it meant is planned again."""
        while not self._outbox.empty():
            self._outbox.get_nowait()
