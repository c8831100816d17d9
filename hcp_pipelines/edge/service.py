"""The gRPC face of a gateway: sessions, reads, the log. What is done with them is in `facility.py`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import structlog

from hcp_pipelines.domain.modes import RefusalCode
from hcp_pipelines.edge import metrics
from hcp_pipelines.edge.admittance import require, require_of_stream
from hcp_pipelines.edge.discovery import Discovery
from hcp_pipelines.edge.facility import FacilityGateway
from hcp_pipelines.edge.operators import Operators
from hcp_pipelines.edge.outbox import Outbox
from hcp_pipelines.edge.owners import Session as OpenSession
from hcp_pipelines.edge.readers import Readers
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire import edge_v1_pb2_grpc
from hcp_pipelines.wire.certificates import ROLES

LOG_LIMIT = 10_000

Context = grpc.aio.ServicerContext


class EdgeService(edge_v1_pb2_grpc.EdgeGatewayServicer):
    """Serves the facilities of one gateway process."""

    def __init__(
        self,
        facilities: Mapping[str, FacilityGateway],
        discoveries: Mapping[str, Discovery] | None = None,
        operators: Operators | None = None,
    ) -> None:
        self._facilities, self._discoveries, self._operators = facilities, discoveries or {}, operators
        self._log_readers, self._scan_readers = Readers("log"), Readers("last scan")
        self._log = structlog.get_logger("edge")

    async def Session(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[pb.OwnerMessage], context: "Context[Any, Any]"
    ) -> AsyncIterator[pb.GatewayMessage]:
        """One owner's stream: the first message announces."""
        await require_of_stream(context, request_iterator, "allocator")
        outbox = Outbox()
        reading = asyncio.create_task(self._read(request_iterator, outbox))
        try:
            async for message in outbox.messages():
                yield message
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading

    async def Read(self, request: pb.ReadRequest, context: "Context[Any, Any]") -> pb.FacilityState:  # noqa: N802
        """Present state of a facility."""
        await require(context, *ROLES)
        return (await self._facility(request.facility_id, context)).state()

    async def ReadLog(self, request: pb.ReadLogRequest, context: "Context[Any, Any]") -> None:  # noqa: N802
        """The durable log of a facility."""
        await require(context, *ROLES)
        facility = await self._facility(request.facility_id, context)
        entries = facility.log_entries(request.after_seq, min(request.limit or LOG_LIMIT, LOG_LIMIT))
        await self._log_readers.send(context, entries)

    async def ReadDiscovery(self, request: pb.ReadDiscoveryRequest, context: "Context[Any, Any]") -> None:  # noqa: N802
        """What the last scan of a facility found, if it is newer than the one named."""
        await require(context, *ROLES)
        await self._facility(request.facility_id, context)
        discovery = self._discoveries.get(request.facility_id)
        if discovery is not None:
            await self._scan_readers.send(context, discovery.parts_after(request.process_id, request.after_scan))

    async def Direct(self, request: pb.DirectOrder, context: "Context[Any, Any]") -> pb.DirectReply:  # noqa: N802
        """An operator's order to one facility."""
        await require(context, "operator")
        facility = await self._facility(request.facility_id, context)
        if self._operators is None:
            return pb.DirectReply(refusal=RefusalCode.NOT_ALLOWED.value, detail="no operators are known here")
        refused = self._operators.refusal_of(request)
        return refused or self._operators.note(request, await facility.direct(request))

    async def _read(self, messages: AsyncIterator[pb.OwnerMessage], outbox: Outbox) -> None:
        facility: FacilityGateway | None = None
        session: OpenSession | None = None
        try:
            async for message in messages:
                kind = message.WhichOneof("body")
                if session is None or facility is None:
                    facility = self._facilities.get(message.announce.facility_id) if kind == "announce" else None
                    session = await self._open(facility, message.announce, outbox)
                    if session is None:
                        break
                elif not await self._take(facility, session, message):
                    self._log.warning(
                        "a message without a body, or a second announcement", facility_id=facility.shape.facility_id
                    )
        except grpc.aio.AioRpcError as error:
            self._log.warning("session lost", code=str(error.code()))
        finally:
            if facility is not None and session is not None:
                facility.leave(session)
            outbox.close()

    async def _take(self, facility: FacilityGateway, session: OpenSession, message: pb.OwnerMessage) -> bool:
        """Whether it was one of those that may come after the announcement."""
        match message.WhichOneof("body"):
            case "command":
                await facility.command(session, message.command)
            case "heartbeat":
                facility.hear(session, message.heartbeat)
            case "set_locks":
                await facility.set_locks(session, message.set_locks)
            case "set_policy":
                await facility.set_policy(session, message.set_policy)
            case _:
                return False
        return True

    async def _open(
        self, facility: FacilityGateway | None, announce: pb.Announce, outbox: Outbox
    ) -> OpenSession | None:
        if facility is None:
            refusal = RefusalCode.UNKNOWN_FACILITY if announce.facility_id else RefusalCode.BAD_MESSAGE
            metrics.REFUSED.labels(refusal.value).inc()
            outbox.send(pb.GatewayMessage(announce_reply=pb.AnnounceReply(accepted=False, refusal=refusal.value)))
            return None
        return await facility.announce(announce, outbox)

    async def _facility(self, facility_id: str, context: "Context[Any, Any]") -> FacilityGateway:
        facility = self._facilities.get(facility_id)
        if facility is None:
            known = ", ".join(sorted(self._facilities))
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"facility {facility_id!r} is not behind this gateway: {known}"
            )
            raise AssertionError("abort raises")
        return facility
