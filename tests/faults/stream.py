"""Both ends of one session on the in-memory network, and what is under way when it stalls, breaks or is given up."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc

from hcp_pipelines.wire import edge_v1_pb2 as pb
from tests.faults.records import Wire
from tests.faults.virtual import Process

if TYPE_CHECKING:
    from hcp_pipelines.edge.service import EdgeService
    from tests.faults.network import Network

GIVES_UP_S = 8.0  # a stalled stream ends after so long
COMMANDS_KEPT = 200


class CallLostError(grpc.aio.AioRpcError):
    """What a client sees of a call that ended badly."""

    def __init__(self, detail: str) -> None:
        empty = grpc.aio.Metadata()
        super().__init__(grpc.StatusCode.UNAVAILABLE, empty, empty, detail)


class UnixContext:
    """A client at a unix socket, as the service sees it."""

    def auth_context(self) -> dict[str, Any]:
        return {}

    async def abort(self, code: grpc.StatusCode, detail: str) -> None:
        raise CallLostError(f"{code.name}: {detail}")


class Stream:
    """Both ends of one session: `write`, `read` and `cancel` are the client's."""

    def __init__(self, network: "Network", client: Process, address: str) -> None:
        self._network, self._client, self._address = network, client, address
        self.link, self.facility_id = (client.name, address), ""
        self._to_client: asyncio.Queue[pb.GatewayMessage | Exception | object] = asyncio.Queue()
        self._requests: asyncio.Queue[pb.OwnerMessage | None] = asyncio.Queue()
        self._due_s = {"server": 0.0, "client": 0.0}
        self._frozen: list[tuple[Any, ...]] | None = [] if network.cut[self.link] else None
        self._gives_up: asyncio.TimerHandle | None = None
        self._is_cancelled = False
        self._server: tuple[Process, EdgeService] | None = None
        self._handler: asyncio.Task[Any] | None = None
        self.is_over = False
        client.on_death.append(self._client_died)
        if self._frozen is not None:
            self._expect_loss()
        self._send("server", self._open)

    # -- the client's end ---------------------------------------------------------------------------------------------

    async def write(self, message: pb.OwnerMessage) -> None:
        """Send; returns at once."""
        if self._is_cancelled:
            raise asyncio.CancelledError
        if self.is_over:
            raise CallLostError("the stream has ended")
        if message.WhichOneof("body") == "announce":
            self.facility_id = message.announce.facility_id
        if message.WhichOneof("body") == "command":
            self._note_command(message)
        payload = message.SerializeToString()
        self._send("server", self.deliver_to_server, payload)

    async def read(self) -> object:
        """The next message, or the end of the stream."""
        if self._is_cancelled:
            raise asyncio.CancelledError
        found = await self._to_client.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def cancel(self) -> None:
        """Give it up; the server hears of it later, if at all."""
        if self._is_cancelled:
            return
        self._is_cancelled = True
        while not self._to_client.empty():
            self._to_client.get_nowait()
        self._to_client.put_nowait(asyncio.CancelledError())  # gRPC's own: the task that reads is not cancelled
        self._send("server", self._end_server)
        self._leave()

    def _note_command(self, message: pb.OwnerMessage) -> None:
        command, network = message.command, self._network
        kept = network.commands.setdefault(command.facility_id, deque(maxlen=COMMANDS_KEPT))
        kept.append(message.SerializeToString())
        network.wire.append(
            Wire(
                self._client.acted_at_s,
                "sent",
                command.facility_id,
                self._client.name,
                command.command_id,
                command.epoch,
            )
        )
        again_s = network.twice.get(self.link)
        if again_s is not None and network.random.random() < 0.5:
            network.loop.later(network.random.random() * again_s, self.deliver_to_server, kept[-1])

    def _client_died(self) -> None:
        if not self.is_over and not self._is_cancelled:
            self._is_cancelled = True
            self._send("server", self._end_server)

    # -- the server's end ---------------------------------------------------------------------------------------------

    def _open(self) -> None:
        server = self._network.servers.get(self._address)
        if server is None or server[0].is_dead:
            self._fail_client("nobody listens")
            return
        self._server = server
        server[0].on_death.append(self._server_died)
        self._handler = server[0].spawn(self._serve(server[1]))

    async def _serve(self, service: "EdgeService") -> None:
        try:
            async for message in service.Session(self._messages(), UnixContext()):  # type: ignore[arg-type]
                self._note_ack(message)
                self._send("client", self._deliver_to_client, message.SerializeToString())
        finally:
            self._send("client", self._end_client)

    async def _messages(self) -> AsyncIterator[pb.OwnerMessage]:
        while (message := await self._requests.get()) is not None:
            yield message

    def deliver_to_server(self, payload: bytes) -> None:
        """A message arrives."""
        if self._handler is not None and not self._handler.done():
            message = pb.OwnerMessage.FromString(payload)
            epoch = max(message.heartbeat.epoch, message.announce.epoch)
            if epoch >= self._network.highest.get(self.facility_id, 0) and message.WhichOneof("body") != "command":
                self._network.highest[self.facility_id] = epoch
                self._network.heard(self.facility_id, is_announced=message.WhichOneof("body") == "announce")
            self._requests.put_nowait(message)

    def _end_server(self) -> None:
        if self._handler is not None and not self._handler.done():
            self._handler.cancel()
        self._finish()

    def _server_died(self) -> None:
        if not self.is_over:
            self._send("client", self._fail_client, "connection reset")

    def _note_ack(self, message: pb.GatewayMessage) -> None:
        if message.WhichOneof("body") == "ack" and self._server is not None:
            ack = message.ack
            is_accepted = not ack.refusal and any(a.accepted for a in ack.assignments)
            network, name = self._network, self._server[0].name
            network.wire.append(
                Wire(network.loop.now_s, "acked", self.facility_id, name, ack.command_id, 0, is_accepted)
            )

    # -- in between ---------------------------------------------------------------------------------------------------

    def _send(self, side: str, call: Any, *args: Any) -> None:
        if self._frozen is not None:
            self._frozen.append((side, call, *args))
            return
        loop, network = self._network.loop, self._network
        due_s = self._due_s[side] = max(self._due_s[side] + 1e-6, loop.now_s + network.latency_s(self.link))
        loop.later(due_s - loop.now_s, self._arrive, side, call, *args)

    def _arrive(self, side: str, call: Any, *args: Any) -> None:
        if self._frozen is not None:
            self._frozen.append((side, call, *args))
        else:
            call(*args)

    def _deliver_to_client(self, payload: bytes) -> None:
        if not self.is_over:
            self._to_client.put_nowait(pb.GatewayMessage.FromString(payload))

    def _end_client(self) -> None:
        self._to_client.put_nowait(grpc.aio.EOF)
        self._leave()
        self._finish()

    def _fail_client(self, why: str) -> None:
        self._to_client.put_nowait(CallLostError(why))
        self._leave()
        self._finish()

    def stall(self) -> None:
        """Nothing arrives from now on."""
        if self._frozen is None and not self.is_over:
            self._frozen = []
            self._expect_loss()

    def go_on(self) -> None:
        """What was held back arrives."""
        if self._frozen is None or self.is_over:
            return
        held, self._frozen = self._frozen, None
        if self._gives_up is not None:
            self._gives_up.cancel()
        for side, call, *args in held:
            self._send(side, call, *args)

    def lose(self, why: str) -> None:
        """Both ends find out, each for itself, and what is under way is gone."""
        if self.is_over:
            return
        self._frozen = []
        self.is_over = True
        loop, network = self._network.loop, self._network
        loop.later(network.random.random() * 0.5, self._fail_client, why)
        loop.later(network.random.random() * 2.0, self._end_server)

    def _expect_loss(self) -> None:
        network = self._network
        self._gives_up = network.loop.later(GIVES_UP_S * (0.5 + network.random.random()), self.lose, "keepalive")

    def _leave(self) -> None:
        """The client's end is closed."""
        with contextlib.suppress(ValueError):
            self._client.on_death.remove(self._client_died)

    def _finish(self) -> None:
        self.is_over = True
        with contextlib.suppress(ValueError):
            self._network.streams.remove(self)
        if self._server is not None:
            with contextlib.suppress(ValueError):
                self._server[0].on_death.remove(self._server_died)
