"""Clients that ask for a gateway's log and don't read it: a bounded number, for a bounded time, and nobody else is disturbed."""

import asyncio

import grpc

from hcp_pipelines.edge import readers
from hcp_pipelines.wire import edge_v1_pb2 as pb
from tests.support.edge import FULL
from tests.support.gateway_site import folder, site

__all__ = ["folder", "site"]  # fixtures

BIG = [pb.LogEntry(seq=n, kind="local", payload=b"x" * 1_000_000) for n in range(1, 60)]


async def read_on(call):
    """The code with which a stream ends."""
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError:
        pass
    return await call.code()


async def test_who_does_not_read_a_log_holds_it_for_a_time_and_so_many_at_most(site, monkeypatch):
    for name, value in (("READERS_MAX", 2), ("READ_WITHIN_S", 1.0), ("END_WITHIN_S", 0.05)):
        monkeypatch.setattr(readers, name, value)
    monkeypatch.setattr(site.facility, "log_entries", lambda *_: iter(BIG))
    owner = await site.owner()
    request = pb.ReadLogRequest(facility_id="one")
    silent = [owner.stub.ReadLog(request) for _ in range(2)]
    for call in silent:
        await call.read()  # the first entry, and no other
    assert await read_on(owner.stub.ReadLog(request)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    async with asyncio.timeout(120):
        while await read_on(owner.stub.ReadLog(request)) is not grpc.StatusCode.OK:
            await asyncio.sleep(0.1)
    assert await read_on(silent[0]) is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await owner.send(owner.make((FULL, [1])))).refusal == ""
    silent[1].cancel()
