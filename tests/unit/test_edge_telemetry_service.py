"""The gateway's side of telemetry streams: a client that reads none of them must not hold what a gateway has for all."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.edge.telemetry.service import STREAMS_EACH, TelemetryService
from hcp_pipelines.wire import telemetry_v1_pb2 as pb
from hcp_pipelines.wire.telemetry import METHOD, SERVICE


@pytest.fixture
def address():
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    yield f"unix:{folder}/s"
    shutil.rmtree(folder)


async def test_streams_that_nobody_reads_are_bounded_and_leave_room_when_they_end(address):
    server = grpc.aio.server()
    service = TelemetryService({"one": SimpleNamespace()}, SystemClock())
    service.add_to(server)
    server.add_insecure_port(address)
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(60):
        method = channel.stream_stream(f"/{SERVICE}/{METHOD}", pb.CollectorMessage.SerializeToString, None)
        held = [method() for _ in range(STREAMS_EACH)]  # none says `open`: each is waited for
        while service._open < STREAMS_EACH:
            await asyncio.sleep(0.01)
        with pytest.raises(grpc.aio.AioRpcError, match="8 telemetry streams are open, at most 8"):
            await method().read()
        for call in held:
            call.cancel()
        while service._open:
            await asyncio.sleep(0.01)
    await server.stop(0)
