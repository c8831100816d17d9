"""Broken, oversized, slow and half-closed bytes on the market services' port: answered or ended, and the others are served."""

import asyncio
import contextlib

import httpx
import pytest
import uvicorn

from simulators import patience
from simulators.clock import ManualClock
from simulators.ercot_login import TOKEN_PATH
from simulators.http import Services
from simulators.patience import PatientHttp
from tests.contract.test_world_http import LMP, START_S, Well, world

WHOLE = b"GET /world/time HTTP/1.1\r\nHost: x\r\n\r\n"


@contextlib.asynccontextmanager
async def serving(monkeypatch, within_s=10.0):
    """A world's services on a port, as the world's process has them."""
    monkeypatch.setattr(patience, "REQUEST_WITHIN_S", within_s)
    app = Services(world(), ManualClock(START_S), Well()).app()
    config = uvicorn.Config(app, port=0, http=PatientHttp, log_level="critical", lifespan="off", limit_concurrency=64)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


@contextlib.asynccontextmanager
async def line_to(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def said(port, data, *, ends=False):
    """What comes back to some bytes until the other side closes."""
    async with asyncio.timeout(60), line_to(port) as (reader, writer):
        writer.write(data)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            if ends:
                writer.write_eof()
            return await reader.read()
        return b""


async def is_served(port):
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        return (await http.get("/world/time")).status_code == 200


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), b"400"),
        (b"GARBAGE\r\n\r\n", b"400"),
        (b"GET /world/time HTTP/9.9\r\n\r\n", b"400"),
        (b"GET /world/time HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"400"),
        (b"GET /world/time HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"DELETE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"405"),
        (b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"404"),
        (b"GET /?Action=" + b"a" * 50_000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"400"),
        (
            b"GET " + LMP.encode() + b"?page=" + b"9" * 60_000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            b"400",
        ),
        (b"GET /v2/candles/%00%ff/1hr HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"400"),
    ],
)
async def test_what_is_no_request_is_answered_and_the_others_are_served(monkeypatch, data, status):
    async with serving(monkeypatch) as port:
        reply = await said(port, data)
        assert reply.split(b" ", 2)[1] == status, reply[:200]
        assert len(reply) < 4096
        assert await is_served(port)


@pytest.mark.parametrize("path", [TOKEN_PATH, "/"])
async def test_an_endless_body_is_read_no_further_than_a_request_is_long(monkeypatch, path):
    async with serving(monkeypatch) as port:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 50000000\r\n\r\n".encode()
        reply = await said(port, head + b"a" * 400_000)
        assert reply == b"" or reply.split(b" ", 2)[1] == b"400", "who goes on sending may miss the answer"
        assert await is_served(port)


HALF_A_BODY = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"


@pytest.mark.parametrize("beginning", [b"", WHOLE[:10], WHOLE[:-2], HALF_A_BODY])
async def test_who_does_not_finish_a_request_is_let_go(monkeypatch, beginning):
    async with serving(monkeypatch, within_s=0.2) as port:
        reply = await said(port, beginning)
        assert reply == b"" if beginning is HALF_A_BODY else reply.startswith(b"HTTP/1.1 408")
        assert await is_served(port)


async def test_a_second_request_that_does_not_come_to_its_end_is_let_go_too(monkeypatch):
    async with serving(monkeypatch, within_s=0.2) as port:
        reply = await said(port, WHOLE + WHOLE[:20])
        assert reply.startswith(b"HTTP/1.1 200")
        assert b"HTTP/1.1 408" in reply


async def test_a_kept_connection_may_rest_longer_than_a_request_may_take(monkeypatch):
    async with serving(monkeypatch, within_s=0.1) as port, asyncio.timeout(60), line_to(port) as (reader, writer):
        for _ in range(2):
            writer.write(WHOLE)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(
                next(line for line in head.splitlines() if line.lower().startswith(b"content-length")).split()[1]
            )
            assert len(await reader.readexactly(length)) == length
            await asyncio.sleep(0.25)


async def test_half_closed_lines_and_many_that_drip_hold_nobody_up(monkeypatch):
    async with serving(monkeypatch, within_s=0.5) as port:
        assert await said(port, WHOLE[:10], ends=True) == b""
        lines = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
        for _, writer in lines:
            writer.write(b"G")
        async with asyncio.timeout(60):
            for reader, writer in lines:
                await reader.read()
                writer.close()
        assert await is_served(port)
