"""The scenario's network in front of every protocol, over real sockets: late, silent while cut off, and the same by seed."""

import asyncio
import contextlib
import json
import struct

import pytest

from simulators.network import Network
from simulators.wires import Wires
from tests.support.power_plant import frame
from tests.support.protocol_world import GPU, LUXOS, STOCK, V3, ProtocolWorld
from tests.support.world import T0, script

VERSION = b'{"command":"version"}'
V3_STATUS = b'{"cmd":"get.miner.setting"}'
GET = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"
LATENCY_MS = 15
CUT = [{"from_h": 1, "until_h": 2, "site": 0}]
ASKED = {
    "miners-4028": (STOCK, VERSION, b"VERSION"),
    "miners-http": (STOCK, GET % b"/", b"401 Unauthorized"),
    "miners-v3": (V3, struct.pack("<I", len(V3_STATUS)) + V3_STATUS, b"power-limit"),
    "gpu-exporters": (GPU, GET % b"/health", b"200 OK"),
    "gpu-agents": (GPU, GET % b"/v1/node", b"api_version"),
    "modbus": (None, frame(bytes([3, 0, 0, 0, 1])), b"\x03\x02\x00\x01"),
}


@pytest.fixture
async def make(tmp_path):
    async with contextlib.AsyncExitStack() as opened:
        yield lambda **plan: opened.enter_async_context(ProtocolWorld(tmp_path, script(network=plan)))


def where(world, name, site=0):
    if name == "modbus":
        host, _, port = world.protocols.urls[f"modbus-{('one', 'two')[site]}"].removeprefix("tcp://").rpartition(":")
        return host, int(port)
    return world.at(name, ASKED[name][0], site)


class Peer:
    """A bare client that keeps its connection; every wait is short."""

    async def open(self, host, port):
        self._reader, self._writer = await asyncio.open_connection(host, port)
        return self

    async def ask(self, data, seconds=60.0, wanted=b""):
        """What is heard until something wanted is in it: a head and its body may come one after the other."""
        self._writer.write(data)
        async with asyncio.timeout(seconds):
            heard = await self._reader.read(65536)
            while wanted not in heard and (more := await self._reader.read(65536)):
                heard += more
        return heard

    async def close(self):
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


async def ask(world, name, site=0, seconds=60.0):
    peer = await Peer().open(*where(world, name, site))
    try:
        return await peer.ask(ASKED[name][1], seconds, ASKED[name][2])
    finally:
        await peer.close()


@pytest.mark.parametrize("name", ASKED)
async def test_a_slow_link_is_slow_there_and_back(make, name):
    world = await make(latency_ms=LATENCY_MS)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    assert ASKED[name][2] in await ask(world, name)
    assert loop.time() - began_s >= 4 * LATENCY_MS / 1000  # the connection's own way there and back is in it
    if name != "miners-4028":
        peer = await Peer().open(*where(world, name))
        await peer.ask(ASKED[name][1], wanted=ASKED[name][2])
        began_s = loop.time()
        assert ASKED[name][2] in await peer.ask(ASKED[name][1], wanted=ASKED[name][2])
        assert loop.time() - began_s >= 2 * LATENCY_MS / 1000
        await peer.close()


@pytest.mark.parametrize("name", ASKED)
async def test_who_is_cut_off_hears_nothing_until_the_cut_is_over_and_others_notice_nothing(make, name):
    world = await make(cuts=CUT)
    standing = await Peer().open(*where(world, name))
    if name != "miners-4028":
        assert ASKED[name][2] in await standing.ask(ASKED[name][1], wanted=ASKED[name][2])
    world.clock.at_s = T0 + 3700
    with pytest.raises(TimeoutError):
        await standing.ask(ASKED[name][1], 0.1)
    with pytest.raises(TimeoutError):
        await ask(world, name, seconds=0.1)
    assert ASKED[name][2] in await ask(world, name, site=1)
    fresh = await Peer().open(*where(world, name))
    world.clock.at_s = T0 + 7300
    for lost in (standing, fresh):  # reset, not answered late
        with contextlib.suppress(ConnectionError):
            assert await lost.ask(b"", 60.0) == b""
        await lost.close()
    assert ASKED[name][2] in await ask(world, name)


async def test_what_was_sent_into_a_cut_is_never_carried_out(make):
    world = await make(cuts=CUT)
    place = world.at("miners-4028", LUXOS)
    reply = await (peer := await Peer().open(*place)).ask(b'{"command":"logon"}')
    await peer.close()
    session = json.loads(reply[:-1])["SESSION"][0]["SessionID"]
    wake = json.dumps({"command": "curtail", "parameter": f"{session},wakeup"}).encode()
    world.clock.at_s = T0 + 3700
    peer = await Peer().open(*place)
    with pytest.raises(TimeoutError):
        await peer.ask(wake, 0.1)
    world.clock.at_s = T0 + 7300
    with contextlib.suppress(ConnectionError):
        assert await peer.ask(b"", 60.0) == b""
    await peer.close()
    assert world.fleet.sites["one"].commanded[LUXOS] == 0
    assert not world.config.transition_log.read_bytes()


async def test_bytes_under_way_when_a_cut_begins_are_lost(make):
    world = await make(latency_ms=1000, cuts=CUT)
    peer = await Peer().open(*world.at("miners-4028", STOCK))
    asked = asyncio.create_task(peer.ask(VERSION, 2.5))
    await asyncio.sleep(0.02)
    world.clock.at_s = T0 + 3700
    with pytest.raises(TimeoutError):
        await asked
    await peer.close()


async def test_a_client_that_leaves_during_a_cut_is_forgotten(make):
    world = await make(cuts=CUT)
    world.clock.at_s = T0 + 3700
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await ask(world, "miners-4028", seconds=0.02)
    await asyncio.sleep(0.05)
    (miners, *_) = world.protocols._servers
    assert not miners._wires._silent


async def test_many_requests_sent_together_are_answered_whole_and_in_order_on_a_slow_link(make):
    world = await make(latency_ms=3, jitter_ms=3)
    reader, writer = await asyncio.open_connection(*world.at("miners-v3", V3))
    names = [b'{"cmd":"get.device.info"}', V3_STATUS]
    for number in range(300):
        text = names[number % 2]
        writer.write(struct.pack("<I", len(text)) + text)
    writer.write_eof()
    for number in range(300):
        length = int.from_bytes(await asyncio.wait_for(reader.readexactly(4), 60), "little")
        reply = json.loads(await reader.readexactly(length))
        assert reply["desc"] == ("get.device.info", "get.miner.setting")[number % 2]
    assert await asyncio.wait_for(reader.read(), 60) == b""
    writer.close()
    await writer.wait_closed()


async def test_a_client_that_takes_nothing_is_not_answered_without_end_on_a_slow_link(make):
    world = await make(latency_ms=3)
    reader, writer = await asyncio.open_connection(*world.at("miners-v3", V3), limit=4096)
    text = b'{"cmd":"get.device.info"}'
    asked = (struct.pack("<I", len(text)) + text) * 500
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.7):
            while True:
                writer.write(asked)
                await writer.drain()
    (miners, *_) = world.protocols._servers
    assert miners.desk.answered < 15_000, "what the kernel took, and no more"
    assert sum(one._transport.get_write_buffer_size() for one in miners.desk.open) < 400_000
    for _ in range(1000):  # and goes on when the client reads again
        length = int.from_bytes(await asyncio.wait_for(reader.readexactly(4), 60), "little")
        assert json.loads(await reader.readexactly(length))["code"] == 0
    writer.transport.abort()


async def test_a_refusal_comes_as_late_as_an_answer(make):
    world = await make(latency_ms=LATENCY_MS)
    loop = asyncio.get_running_loop()
    for address in ("127.16.0.9", "127.16.255.9"):  # no device, no miner
        reader, writer = await asyncio.open_connection(address, world.port("miners-4028"))
        began_s = loop.time()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(reader.readexactly(1), 60)
        assert loop.time() - began_s >= 0.9 * 2 * LATENCY_MS / 1000
        writer.close()


def test_delays_depend_on_the_seed_the_address_and_its_connections_alone():
    plan = {"latency_ms": 20, "jitter_ms": 10, "loss_fraction": 0.2}

    def delays(seed, address, before=()):
        network = Network(seed, script(network=plan), ["one"])
        for other in before:
            network.link_to(0, other).delay_s()
        link = network.link_to(0, address)
        return [link.delay_s(is_back=back) for back in (False, True, False, True)]

    alone = delays(7, "127.16.0.1")
    assert delays(7, "127.16.0.1", ["127.16.0.2", "127.16.0.3"]) == alone
    assert len(set(alone)) == 4
    assert len({tuple(alone), *(tuple(delays(*key)) for key in ((8, "127.16.0.1"), (7, "127.16.0.2")))}) == 3
    assert delays(7, "127.16.0.1", ["127.16.0.1"]) != alone, "the second connection has its own"
    network = Network(7, script(network=plan), ["one"])
    link = network.link_to(0, "127.16.0.1")
    there = [link.delay_s() for _ in range(2)]
    assert [there[0], link.delay_s(is_back=True), there[1]] == alone[:3], "each direction has a stream of its own"


def test_a_network_without_faults_stands_in_nobodys_way(make):
    factory = asyncio.Protocol
    assert Wires(Network(7, script(), ["one"]), None).before(factory) is factory
    assert Wires(Network(7, script(network={"jitter_ms": 1}), ["one"]), None).before(factory) is not factory


@pytest.mark.parametrize("name", [name for name in ASKED if name != "modbus"])
async def test_no_connection_waits_for_nagle(make, name):
    """Linux: TCP_NODELAY (1) of level IPPROTO_TCP (6) on what was accepted."""
    world = await make()
    peer = await Peer().open(*where(world, name))
    await asyncio.sleep(0.02)
    miners, gpus, _ = world.protocols._servers
    opened = list(miners.desk.open)
    opened += [one for part in (gpus._exporter, gpus._agent) for one in part._server.server_state.connections]
    (one,) = opened
    line = getattr(one, "_transport", None) or one.transport
    assert line.get_extra_info("socket").getsockopt(6, 1) == 1
    await peer.close()
