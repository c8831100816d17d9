"""What arrives at the miners' ports broken, huge, slow, half, or from elsewhere: answered in kind, and nobody else notices.

By a bare client over real sockets.
"""

import asyncio
import contextlib
import json
import logging
import socket
import struct

import pytest

from simulators.addresses import address_of
from simulators.miners import conversation
from simulators.miners.server import listen
from simulators.settings import WorldConfigError
from tests.support.miners import FULL, Hall, talk
from tests.support.waiting import until

DIALECTS = ["stock", "whatsminer", "whatsminer-v3", "luxos"]
SLOT = {name: 16 * number for number, name in enumerate(DIALECTS)}
VERSION = b'{"command":"version"}'
FRAME = b'{"cmd":"get.miner.setting"}'


@pytest.fixture
async def hall(tmp_path):
    async with Hall(tmp_path, *DIALECTS) as hall:
        hall.set(SLOT["stock"], FULL)
        yield hall


@pytest.fixture
def deadline(monkeypatch):
    """The deadline of 10 s, made short."""
    for module in ("conversation", "web", "framed"):
        monkeypatch.setattr(f"simulators.miners.{module}.DEADLINE_S", 0.3)


def framed(text):
    return struct.pack("<I", len(text)) + text


async def ask(hall, slot, *parts, port=4028, **how):
    return await talk(address_of(0, slot), hall.port(port), *parts, **how)


async def is_well(hall):
    reply = await ask(hall, SLOT["stock"] + 1, VERSION)
    return reply.endswith(b"\0") and json.loads(reply[:-1])["VERSION"][0]["Type"] == "Antminer S21"


def code(reply):
    """The code of an error reply of any dialect, and that it is one."""
    value = json.loads(reply.rstrip(b"\0"))
    status = value["STATUS"][0] if isinstance(value["STATUS"], list) else value
    assert status["STATUS"] == "E"
    return status["Code"]


MALFORMED = [
    b"summary", b"[1,2]", b"{]}", b'{"command" "version"}', b'{"a":' * 2000 + b"{" + b"}" * 2001, b"\xff\xfe\x00\x01rubbish",
    b'{"command":"version\xff"}', b"}", b'"text"', b"GETX",
]  # fmt: skip


@pytest.mark.parametrize("name", DIALECTS)
async def test_malformed_requests_get_the_dialects_error(hall, name, caplog):
    for raw in MALFORMED if name != "stock" else MALFORMED[1:]:  # which takes commands in text, too
        assert code(await ask(hall, SLOT[name], raw, close=raw == b"GETX")) == 23, raw
    for raw in (b'{"command":5}', b"{}", b'{"parameter":"version"}'):
        assert code(await ask(hall, SLOT[name], raw)) in {23, 24}
    assert code(await ask(hall, SLOT[name], b'{"command":"no such thing"}')) == 14
    assert await is_well(hall)
    said = [record for record in caplog.records if record.name == "world.miners"]
    assert 1 <= len(said) <= 3, "at most once a second"
    assert said[0].getMessage().startswith(f"{address_of(0, SLOT[name])}: ")


@pytest.mark.parametrize(
    ("parts", "count"),
    [
        ([VERSION], 1),
        ([VERSION + b"\n"], 1),
        ([b"  \r\n" + VERSION + b"\0"], 1),
        ([b'{"com', b'mand":"ver', b'sion"', b"}"], 1),
        ([VERSION + VERSION], 1),
        ([b'{"command":"version","parameter":"} \\" {"}'], 1),
        ([b'{"command":"version","parameter":"\\', b'"}"}'], 1),
        ([b'{"command":"summary+version"}'], 2),
    ],
)
async def test_a_request_is_answered_as_soon_as_it_is_whole(hall, parts, count):
    reply = await ask(hall, SLOT["stock"], *parts, pause_s=0.01)
    assert reply.count(b"\0") == 1
    value = json.loads(reply[:-1])
    assert len(value) == (3 if count == 1 else count + 1)


async def test_oversized_requests(hall):
    big = b'{"command":"' + b"x" * 70_000
    for name in DIALECTS:
        assert code(await ask(hall, SLOT[name], big)) == 23
    head = f"POST /cgi-bin/set_miner_conf.cgi HTTP/1.1\r\nContent-Length: {70_000}\r\n\r\n".encode()
    assert (await ask(hall, 0, head + b"x" * 70_000, port=80)).startswith(b"HTTP/1.1 413 ")
    assert (await ask(hall, 0, b"GET / HTTP/1.1\r\nX: " + b"x" * 9000, port=80)).startswith(b"HTTP/1.1 431 ")
    for raw in (struct.pack("<I", 70_000), b"\xff" * 8):
        reply = await ask(hall, SLOT["whatsminer-v3"], raw, port=4433)
        assert json.loads(reply[4:])["code"] == -3
    assert await is_well(hall)


async def test_slow_requests(hall, deadline):
    for name in DIALECTS:
        assert code(await ask(hall, SLOT[name], b'{"command":')) == 23
    assert code(await ask(hall, SLOT["stock"], b"")) == 23, "nothing at all"
    assert (await ask(hall, 0, b"GET / HT", port=80)).startswith(b"HTTP/1.1 408 ")
    assert json.loads((await ask(hall, SLOT["whatsminer-v3"], b"\x09\0\0\0{", port=4433))[4:])["code"] == -3
    drip = ask(hall, 0, *([b'{"command":"'] + [b"x"] * 40), pause_s=0.02)
    with contextlib.suppress(ConnectionError):
        assert code(await drip) == 23, "dripping doesn't prolong the deadline"
    assert await is_well(hall)


async def test_half_closed_requests(hall):
    for name in DIALECTS:
        assert code(await ask(hall, SLOT[name], b'{"command":"ver', close=True)) == 23
        assert await ask(hall, SLOT[name], close=True) == b""
    assert json.loads((await ask(hall, SLOT["stock"], VERSION, close=True))[:-1])["VERSION"], "a whole one is answered"
    assert (await ask(hall, 0, b"GET / HTTP/1.1\r\n", port=80, close=True)).startswith(b"HTTP/1.1 400 ")
    v3 = SLOT["whatsminer-v3"]
    assert json.loads((await ask(hall, v3, b"\x09\0\0\0{", port=4433, close=True))[4:])["code"] == -3
    assert json.loads((await ask(hall, v3, framed(FRAME), port=4433, close=True))[4:])["code"] == 0
    assert await is_well(hall)


async def test_http_on_4028_is_refused_in_its_own_words(hall):
    for raw in (
        b"GET /capabilities HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /miner HTTP/1.1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
    ):
        for name in DIALECTS:
            assert (await ask(hall, SLOT[name], raw)).startswith(b"HTTP/1.1 400 ")
    assert (await ask(hall, 0, b"G", b"ET / HTTP/1.1\r\n", pause_s=0.05)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: lots\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"GET / HTTP/1.1\r\n\r\n", 401),
        (b"GET / HTTP/1.1\r\nAuthorization: Basic cm9vdDpyb290\r\n\r\n", 401),
        (b'GET / HTTP/1.1\r\nAuthorization: Digest username="root"\r\n\r\n', 401),
    ],
)
async def test_http_requests_that_are_none(hall, raw, status):
    reply = await ask(hall, 0, raw, port=80, close=True)
    assert reply.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"<html>" in reply
    assert await is_well(hall)


async def test_frames_that_are_none(hall):
    v3 = SLOT["whatsminer-v3"]
    for raw in (framed(b"rubbish"), framed(b"[]"), framed(b"{}"), framed(b'{"cmd":7}'), framed(b"[" * 60_000)):
        reply = await ask(hall, v3, raw, port=4433, close=True)
        assert json.loads(reply[4:])["code"] == -3
    reply = await ask(
        hall, v3, b"\0\0\0\0" * 3 + framed(FRAME) + framed(b'{"cmd":"get.nothing"}'), port=4433, close=True
    )
    length = int.from_bytes(reply[:4], "little")
    assert json.loads(reply[4 : 4 + length])["desc"] == "get.miner.setting", "heartbeats are passed over"
    assert json.loads(reply[8 + length :])["code"] == -2
    assert await is_well(hall)


async def test_who_has_no_miner_or_not_this_port_is_turned_away_without_an_answer(hall):
    for address in ("127.0.0.1", "127.16.0.5", "127.16.3.3", "127.20.0.1", "127.16.255.1"):
        with contextlib.suppress(ConnectionError):
            assert await talk(address, hall.port(4028), VERSION) == b""
    for slot in (SLOT["stock"], SLOT["whatsminer"], SLOT["luxos"]):
        with contextlib.suppress(ConnectionError):
            assert await ask(hall, slot, framed(FRAME), port=4433) == b""
    assert await is_well(hall)


def foreign_address():
    """An address of this machine that is not a loopback one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return None
        address = probe.getsockname()[0]
        return None if address.startswith("127.") else address


async def test_what_does_not_arrive_on_a_loopback_address_is_dropped_at_once(hall, caplog):
    address = foreign_address()
    if address is None:
        pytest.skip("this machine has no address but loopback ones: nothing can arrive from elsewhere")
    for port in (4028, 80, 4433):
        begin = asyncio.get_running_loop().time()
        with contextlib.suppress(ConnectionError):
            assert await talk(address, hall.port(port), VERSION, b"GET / HTTP/1.1\r\n\r\n") == b""
        assert asyncio.get_running_loop().time() - begin < 9, "no deadline was waited for"
    assert hall.server.desk.turned_away == 3
    assert "did not arrive on a loopback address" in caplog.text
    assert await is_well(hall)


async def test_connections_are_bounded(hall, monkeypatch):
    monkeypatch.setattr(conversation, "MAX_CONNECTIONS", 5)
    hall.break_(SLOT["luxos"], "hung")
    kept = [await asyncio.open_connection(address_of(0, SLOT["luxos"]), hall.port(4028)) for _ in range(5)]
    await until(lambda: len(hall.server.desk.open) == 5, "all are taken")
    with contextlib.suppress(ConnectionError):
        assert await ask(hall, SLOT["stock"], VERSION) == b""
    for _, writer in kept:
        writer.close()
    await until(lambda: not hall.server.desk.open, "a hung miner lets go of who left")
    assert await is_well(hall)


async def test_a_client_that_takes_nothing_is_not_answered_without_end(hall, deadline):
    v3 = SLOT["whatsminer-v3"]
    asked = framed(b'{"cmd":"get.device.info"}')
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(raw, (address_of(0, v3), hall.port(4433)))
        ends_s = loop.time() + 2
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout_at(ends_s):
                while True:
                    await loop.sock_sendall(raw, asked * 500)
                    await asyncio.sleep(0.01)
        assert hall.server.desk.answered < 10_000, "what the kernel took, and no more"
        assert sum(one._transport.get_write_buffer_size() for one in hall.server.desk.open) < 200_000
    assert await is_well(hall)


async def test_requests_that_wait_for_the_client_are_answered_when_it_reads_again(hall):
    asked = framed(b'{"cmd":"get.device.info"}')
    reader, writer = await asyncio.open_connection(address_of(0, SLOT["whatsminer-v3"]), hall.port(4433))
    writer.write(asked * 2000)
    await asyncio.sleep(0.3)
    for _ in range(2000):
        length = int.from_bytes(await reader.readexactly(4), "little")
        assert json.loads(await reader.readexactly(length))["code"] == 0
    writer.close()
    await writer.wait_closed()


async def test_stopping_ends_every_connection(hall):
    reader, writer = await asyncio.open_connection(address_of(0, 0), hall.port(4028))
    await asyncio.sleep(0.05)
    await hall.server.stop()
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 60) == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await ask(hall, 0, VERSION)
    await hall.server.stop()


def test_a_taken_web_port_gives_way_to_another_and_says_so(caplog):
    taken = listen("http", 0)
    port = taken.getsockname()[1]
    try:
        with (
            caplog.at_level(logging.WARNING),
            pytest.raises(WorldConfigError, match=f"port {port} .4028. can't be bound"),
        ):
            listen("4028", port)
        other = listen("http", port, 0)
        assert other.getsockname()[1] not in {0, port}
        assert f"port {port} can't be bound" in caplog.text
        other.close()
    finally:
        taken.close()
