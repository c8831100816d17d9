"""An in-memory network in place of gRPC: sessions and reads between allocators and gateways.

Within one direction of a stream order holds and nothing is lost before it breaks, as HTTP/2 and TCP have it; streams overtake
each other, are delayed, stall and break, and what was sent late arrives after its stream was given up. Commands are also
delivered twice, and old ones again, as from a client that repeats itself.
"""

import asyncio
import contextlib
import random
from collections import Counter, deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from hcp_pipelines.wire import edge_v1_pb2 as pb
from tests.faults.records import Wire
from tests.faults.stream import CallLostError, Stream, UnixContext
from tests.faults.virtual import Process, VirtualLoop, current

if TYPE_CHECKING:
    from hcp_pipelines.edge.service import EdgeService


class Network:
    """Links by (client's name, gateway's name)."""

    def __init__(self, loop: VirtualLoop, seed: str, wire: list[Wire]) -> None:
        self.loop, self.wire = loop, wire
        self.random = random.Random(seed)
        self.servers: dict[str, tuple[Process, EdgeService]] = {}
        self.cut: Counter[tuple[str, str]] = Counter()  # by how many
        self.slow_s: dict[tuple[str, str], float] = {}
        self.twice: dict[tuple[str, str], float] = {}
        self.streams: list[Stream] = []
        self.commands: dict[str, deque[bytes]] = {}
        self.highest: dict[str, int] = {}
        # by facility: when its gateway started, or heard of an owner; and the same without announcements
        self.heard_s: dict[str, list[float]] = {}
        self.beats_s: dict[str, list[float]] = {}

    def latency_s(self, link: tuple[str, str]) -> float:
        """How long the next message takes."""
        slow_s = self.slow_s.get(link, 0.0)
        return 0.0005 + self.random.random() * 0.004 + (self.random.random() * slow_s if slow_s else 0.0)

    def heard(self, facility_id: str, *, is_announced: bool = False) -> None:
        """Its gateway heard of an owner."""
        self.heard_s.setdefault(facility_id, []).append(self.loop.now_s)
        if not is_announced:
            self.beats_s.setdefault(facility_id, []).append(self.loop.now_s)

    @contextlib.asynccontextmanager
    async def dial(self, address: str, tls: object) -> "AsyncIterator[Stub]":
        """A stub for the gateway of this name (`allocator.session.Dial`); what it waits for ends with the channel."""
        del tls
        stub = Stub(self, current(), address)
        try:
            yield stub
        finally:
            stub.close()

    def change(self, link: tuple[str, str], *, is_cut: bool) -> None:
        """Cut a link, or mend it: it is whole once all who cut it have."""
        self.cut[link] += 1 if is_cut else -1
        for stream in list(self.streams):
            if stream.link == link:
                stream.stall() if self.cut[link] else stream.go_on()

    def break_streams(self, link: tuple[str, str]) -> None:
        """Reset every stream of a link."""
        for stream in list(self.streams):
            if stream.link == link:
                stream.lose("reset")

    def repeat(self, facility_id: str) -> None:
        """Deliver an old command once more on whatever stream there is."""
        known = self.commands.get(facility_id)
        streams = [s for s in self.streams if s.facility_id == facility_id and not s.is_over]
        if known and streams:
            streams[-1].deliver_to_server(self.random.choice(list(known)))


class Stub:
    """`EdgeGatewayStub`, as far as sessions and reads go."""

    def __init__(self, network: Network, client: Process, address: str) -> None:
        self._network, self._client, self._address = network, client, address
        self._reads: set[asyncio.Future[pb.FacilityState]] = set()

    def close(self) -> None:
        """Who waits for an answer is cancelled, as by gRPC: the task is not."""
        for answer in self._reads:
            answer.cancel()

    def Session(self) -> "Stream":  # noqa: N802 - the contract's name
        stream = Stream(self._network, self._client, self._address)
        self._network.streams.append(stream)
        return stream

    async def Read(self, request: pb.ReadRequest, timeout: float) -> pb.FacilityState:  # noqa: N802
        """One state; late, or never."""
        network, link, loop = self._network, (self._client.name, self._address), self._network.loop
        answer: asyncio.Future[pb.FacilityState] = loop.create_future()

        async def serve(service: "EdgeService") -> None:
            state = await service.Read(request, UnixContext())  # type: ignore[arg-type]
            loop.later(network.latency_s(link), come_back, state)

        def arrive() -> None:
            server = network.servers.get(self._address)
            if server is not None and not network.cut[link] and not server[0].is_dead:
                server[0].spawn(serve(server[1]))

        def come_back(state: pb.FacilityState) -> None:
            if not answer.done() and not network.cut[link]:
                answer.set_result(pb.FacilityState.FromString(state.SerializeToString()))

        loop.later(network.latency_s(link), arrive)
        self._reads.add(answer)
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise CallLostError("deadline exceeded") from None
        finally:
            self._reads.discard(answer)
