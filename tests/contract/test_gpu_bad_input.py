"""Malformed, oversized, slow and half-closed input: on the nodes' ports, and from a node to our driver. Nothing else stops."""

import asyncio
import gzip
import json
import time
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from hcp_pipelines.devices.gpu_node.device import GpuNode
from hcp_pipelines.devices.gpu_node.transport import MAX_REPLY_BYTES, NodeTransport
from hcp_pipelines.domain.errors import DeviceRefusedError, DeviceReplyError, DeviceUnreachableError
from hcp_pipelines.domain.modes import DeviceState
from tests.support.gpus import TOKEN, fresh_id, gpu_world, talk

GET = b"GET /%s HTTP/1.1\r\nHost: node\r\n\r\n"
WRITE = b"POST /v1/node/drain HTTP/1.1\r\nHost: node\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n"
BROKEN = {
    "noise": bytes(range(256)) * 40,
    "no http": b"stats\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
    "bad length": WRITE + b"Content-Length: -5\r\n\r\n",
    "two lengths": WRITE + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "bad chunk": WRITE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "long head": b"GET /metrics HTTP/1.1\r\nHost: node\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    "long target": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    "nul": b"GET /metr\x00ics HTTP/1.1\r\nHost: node\r\n\r\n",
}
PORTS = pytest.mark.parametrize("port", ["exporter_port", "agent_port"])


async def still_answers(world) -> None:
    assert b"DCGM_FI_DEV_GPU_TEMP" in (await world.metrics(1)).content
    async with world.driver() as node:
        assert len(await node.read_status()) == 8


@PORTS
async def test_what_is_no_http_is_said_so_and_closed(tmp_path, port, caplog):
    async with gpu_world(tmp_path, within_s=0.5) as world:
        for name, data in BROKEN.items():
            got = await asyncio.to_thread(talk, world.at(), getattr(world, port), data)
            assert got.startswith(b"HTTP/1.1 4"), (name, got[:100])
        await still_answers(world)
    assert "Traceback" not in caplog.text


@PORTS
async def test_a_slow_request_is_cut_off_and_nobody_else_waits(tmp_path, port):
    async with gpu_world(tmp_path, within_s=0.3) as world:
        began = time.monotonic()
        slow = [asyncio.to_thread(talk, world.at(), getattr(world, port), data) for data in (b"", b"GET /met")]
        waiting = asyncio.gather(*slow)
        await still_answers(world)
        assert await waiting == [b"", b""]
        assert 0.25 < time.monotonic() - began < 30


async def test_a_body_that_does_not_come_is_cut_off(tmp_path):
    async with gpu_world(tmp_path, within_s=0.3) as world:
        data = WRITE + b"Content-Length: 500\r\n\r\n{"
        began = time.monotonic()
        assert await asyncio.to_thread(talk, world.at(), world.agent_port, data) == b""
        assert time.monotonic() - began < 30
        await still_answers(world)


async def test_drip_fed_heads_do_not_extend_the_deadline(tmp_path):
    async with gpu_world(tmp_path, within_s=0.4) as world:
        reader, writer = await asyncio.open_connection(world.at(), world.exporter_port)
        began = time.monotonic()
        try:
            while time.monotonic() - began < 40 and not reader.at_eof():
                writer.write(b"G")
                await writer.drain()
                await asyncio.sleep(0.02)
        except (ConnectionResetError, BrokenPipeError):
            pass
        finally:
            writer.close()
        assert time.monotonic() - began < 30


@PORTS
async def test_a_half_closed_peer_still_gets_its_answer(tmp_path, port):
    path = b"metrics" if port == "exporter_port" else b"v1/gpus"
    async with gpu_world(tmp_path) as world:
        got = await asyncio.to_thread(talk, world.at(), getattr(world, port), GET % path, half_close=True)
        assert got.startswith(b"HTTP/1.1 200 OK")
        assert len(got) > 2000
        nothing = await asyncio.to_thread(talk, world.at(), getattr(world, port), b"", half_close=True)
        assert nothing == b""
        await still_answers(world)


async def test_a_whole_write_of_a_half_closed_peer_is_carried_out_and_answered(tmp_path):
    body = json.dumps({"request_id": fresh_id()}).encode()
    async with gpu_world(tmp_path) as world:
        data = WRITE + b"Content-Length: %d\r\n\r\n" % len(body) + body
        got = await asyncio.to_thread(talk, world.at(), world.agent_port, data, half_close=True)
        assert got.startswith(b"HTTP/1.1 202")
        async with world.driver() as node:
            assert (await node.identify()).is_drained


@PORTS
async def test_a_half_closed_peer_gets_all_the_answers_that_it_has_asked_for(tmp_path, port):
    path = b"metrics" if port == "exporter_port" else b"v1/gpus"
    async with gpu_world(tmp_path) as world:
        got = await asyncio.to_thread(talk, world.at(), getattr(world, port), 3 * (GET % path), half_close=True)
        assert got.count(b"HTTP/1.1 200 OK") == 3
        torn = GET % path + b"GET /metr"
        got = await asyncio.to_thread(talk, world.at(), getattr(world, port), torn, half_close=True)
        assert (got.count(b"HTTP/1.1 200 OK"), got.count(b"HTTP/1.1 400")) == (1, 1)


TORN = {
    "noise": b"hello",
    "head": b"GET /metr",
    "body": WRITE + b'Content-Length: 500\r\n\r\n{"request_id": "12345678"',
}


@PORTS
@pytest.mark.parametrize("name", TORN)
async def test_half_a_request_of_a_half_closed_peer_is_told_so(tmp_path, port, name, caplog):
    async with gpu_world(tmp_path) as world:
        got = await asyncio.to_thread(talk, world.at(), getattr(world, port), TORN[name], half_close=True)
        assert got.startswith(b"HTTP/1.1 4"), got
        if port == "exporter_port" and name == "body":
            return  # answered by its head alone: it has no such page
        assert b"ended before it was whole" in got
        assert "ended before it was whole" in caplog.text
        await still_answers(world)


async def test_a_peer_that_leaves_in_the_middle_of_a_body_changes_nothing(tmp_path):
    async with gpu_world(tmp_path) as world:
        data = WRITE + b'Content-Length: 500\r\n\r\n{"request_id": "12345678"'
        await asyncio.to_thread(talk, world.at(), world.agent_port, data, half_close=True)
        async with world.driver() as node:
            assert not (await node.identify()).is_drained


async def test_a_body_over_the_limit_is_refused_before_it_is_all_there(tmp_path):
    async with gpu_world(tmp_path) as world:
        data = WRITE + b"Content-Length: 100000000\r\n\r\n" + b"x" * 200_000
        got = await asyncio.to_thread(talk, world.at(), world.agent_port, data)
        assert got == b"" or got.startswith(b"HTTP/1.1 413")
        await still_answers(world)


async def test_many_connections_that_say_nothing_do_not_shut_others_out(tmp_path):
    async with gpu_world(tmp_path, within_s=1.0) as world:
        idle = await asyncio.gather(*(asyncio.open_connection(world.at(), world.agent_port) for _ in range(300)))
        await still_answers(world)
        for _, writer in idle:
            writer.close()


# The other way round: nodes that answer badly.


@asynccontextmanager
async def bad_node(*answers: bytes, stall_s=0.0, within_s=1.0):
    """A node that gives one answer a connection, in order, the last one for ever."""
    left = list(answers)

    async def serve(reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            await writer.drain()
            await asyncio.sleep(stall_s)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    token = SecretStr(TOKEN)
    transport = NodeTransport("127.0.0.1", exporter_port=port, agent_port=port, token=token, within_s=within_s)
    try:
        yield GpuNode(transport, "127.0.0.1")
    finally:
        await transport.close()
        server.close()
        await server.wait_closed()


def http(body: bytes, status="200 OK", kind="application/json", *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close", *more]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def problem(status: str, kind: str) -> bytes:
    body = json.dumps({"type": f"urn:gpu-agent:problem:{kind}", "detail": "because"}).encode()
    return http(body, status, "application/problem+json")


HUGE = http(b"x" * (MAX_REPLY_BYTES + 1000), kind="text/plain")
BOMB = http(gzip.compress(b"\n" * 50_000_000), "200 OK", "text/plain", "Content-Encoding: gzip")
ANSWERS = {
    "nothing": (b"", DeviceUnreachableError),
    "noise": (bytes(range(128, 256)) + b"\r\n\r\n", DeviceReplyError),
    "torn head": (b"HTTP/1.1 200 OK\r\nContent-", DeviceUnreachableError),
    "torn body": (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nDCGM", DeviceUnreachableError),
    "huge": (HUGE, DeviceReplyError),
    "bomb": (BOMB, DeviceReplyError),
    "no gzip": (http(b"plain", "200 OK", "text/plain", "Content-Encoding: gzip"), DeviceReplyError),
    "html": (http(b"<html><body>login</body></html>", kind="text/html"), DeviceReplyError),
    "empty": (http(b""), DeviceReplyError),
    "not utf-8": (http(b"\xff\xfe\x00"), DeviceReplyError),
    "deep": (http(b"[" * 100_000), DeviceReplyError),
    "wrong shape": (http(b'{"gpus": [{"gpu": "first"}]}'), DeviceReplyError),
    "error": (http(b"oops", "500 Internal Server Error", "text/plain"), DeviceReplyError),
    "too busy": (http(b"", "503 Service Unavailable", "text/plain"), DeviceUnreachableError),
    "forbidden": (problem("403 Forbidden", "token-wrong"), DeviceRefusedError),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_the_driver_tells_apart_unreachable_refused_and_reply(name):
    answer, expected = ANSWERS[name]
    async with bad_node(answer) as node:
        for call in (node.read_status, node.identify, lambda: node.drain(fresh_id())):
            with pytest.raises(expected) as caught:
                await call()
            assert "127.0.0.1" in str(caught.value)
            assert len(str(caught.value)) < 600
            assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in ANSWERS if name not in ("error", "forbidden")])
async def test_the_exporters_page_is_judged_the_same(name):
    answer, expected = ANSWERS[name]
    async with bad_node(answer) as node:
        with pytest.raises(expected):
            await node.read_telemetry()


async def test_no_call_waits_longer_than_its_deadline():
    async with bad_node(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nDCGM", stall_s=60.0, within_s=0.3) as node:
        began = time.monotonic()
        with pytest.raises(DeviceUnreachableError, match=r"no whole answer within 0\.3 s|ReadTimeout"):
            await node.read_telemetry()
        assert time.monotonic() - began < 30


async def test_nobody_there_is_unreachable():
    transport = NodeTransport("127.0.0.1", exporter_port=1, agent_port=1)
    with pytest.raises(DeviceUnreachableError, match="ConnectError"):
        await GpuNode(transport, "127.0.0.1").read_telemetry()
    await transport.close()


async def test_a_refusal_of_one_step_is_an_outcome_not_an_exception():
    gpus = [{"gpu": n, "uuid": f"GPU-{n}", "health": "ok", "state": "idle", "new_in_1.7": [n]} for n in range(2)]
    seen = http(json.dumps({"gpus": gpus, "more": 1}).encode())
    for answer, where in ((problem("409 Conflict", "busy"), "busy"), (problem("409 Conflict", "drained"), "refused")):
        async with bad_node(seen, answer) as node:
            outcome = await node.set_state(DeviceState.INFERENCE_BATCH, (0, 1), fresh_id())
        assert set(getattr(outcome, where)) == {0, 1}
        assert "because" in str(getattr(outcome, where)[0])
