"""The Modbus driver against the simulated power plant, and against servers that answer wrongly, late or not at all."""

import asyncio
import contextlib
import struct
import time

import pytest

from hcp_pipelines.devices.modbus.codec import BreakerState, CoolingAlarm
from hcp_pipelines.devices.modbus.device import PowerPlant
from hcp_pipelines.devices.modbus.transport import ModbusTransport
from hcp_pipelines.domain.errors import DeviceRefusedError, DeviceReplyError, DeviceUnreachableError
from simulators.power_plant.frequency import Excursion
from tests.support.power_plant import (
    GPU_FEEDER,
    MINER_FEEDER,
    MINERS,
    PUE,
    T0,
    PlantWorld,
    frame,
    site_document,
)  # fmt: skip

STATE_AT = 9 + 2 * 28  # in a frame that reads a breaker from register 0
COOLED = {"plant": {"cooling": {"pumps": 2}}}


@contextlib.asynccontextmanager
async def driver(address, **arguments):
    plant = PowerPlant(*address, **({"call_within_s": 1.0, "confirm_within_s": 0.4} | arguments))
    try:
        yield plant
    finally:
        await plant.close()
        await asyncio.sleep(0)


@pytest.fixture
async def world(tmp_path):
    async with PlantWorld(tmp_path, site_document(**COOLED)) as one:
        yield one


class Server:
    """Answers each chunk that comes with what `reply` makes of it; None closes, b'' says nothing."""

    def __init__(self, reply):
        self._reply, self.connections, self._writers = reply, 0, []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = self._server.sockets[0].getsockname()
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for writer in self._writers:
            writer.close()
        await asyncio.sleep(0.01)

    async def _serve(self, reader, writer):
        self.connections += 1
        self._writers.append(writer)
        with contextlib.suppress(ConnectionError):
            while request := await reader.read(4096):
                reply = self._reply(request)
                if reply is None:
                    break
                writer.write(reply)
        writer.close()


def to(request, pdu, **changes):
    """A frame that answers a request."""
    return frame(pdu, **({"unit": request[6], "transaction": int.from_bytes(request[:2], "big")} | changes))


async def test_the_driver_reads_what_the_world_is(world):
    world.mine(80)
    world.plant.set_failed_pumps([1], T0)
    world.to(1801)
    async with driver(world.address) as plant:
        meter, relay, cooling = await plant.read_meter(), await plant.read_relay(), await plant.read_cooling()
        breakers = {name: await plant.read_breaker(unit) for name, unit in (await plant.find_breakers()).items()}
    assert meter.site == "one"
    assert meter.power_w == pytest.approx(world.site.site_power_w(T0 + 1801), rel=1e-6)
    assert meter.energy_wh == int(world.site.energy_wh)
    assert meter.metered_at_s == T0 + 1801
    assert (relay.is_shed, relay.trip_hz) == (False, pytest.approx(59.7))
    assert set(breakers) == {"miners", "gpus"}
    assert sum(b.power_w for b in breakers.values()) == pytest.approx(meter.power_w, rel=1e-6)
    assert breakers["miners"].state is BreakerState.CLOSED
    assert breakers["miners"].load_fraction == pytest.approx(breakers["miners"].power_w / 500_000, abs=6e-4)
    assert cooling.pue == pytest.approx(world.site.pue_at(T0 + 1801), abs=6e-4)
    assert (cooling.running_pumps, cooling.alarms) == ({0}, CoolingAlarm.PUMP_FAILED)


async def test_a_breaker_is_set_and_read_back_by_state_and_power(world):
    world.mine()
    async with driver(world.address) as plant:
        opened = await plant.set_breaker(MINER_FEEDER, is_closed=False)
        assert (opened.state, opened.power_w, opened.voltage_downstream_v) == (BreakerState.OPEN, 0.0, 0.0)
        world.to(5)
        assert (await plant.read_meter()).power_w == pytest.approx(20 * 450 * world.plant.pue, rel=0.02)
        assert (await plant.set_breaker(MINER_FEEDER, is_closed=False)).state is BreakerState.OPEN  # absolute
        assert (await plant.set_breaker(MINER_FEEDER, is_closed=True)).state is BreakerState.CLOSED
    world.to(200)
    assert world.site.power_w(T0 + 200)[:MINERS].sum() == pytest.approx(MINERS * 3500, rel=0.02)


async def test_a_tripped_breaker_is_refused_until_it_is_reset(tmp_path):
    async with (
        PlantWorld(tmp_path, site_document(limit_kw=MINERS * 3500 * PUE / 1500)) as world,
        driver(world.address) as plant,
    ):
        world.mine()
        world.to(100)
        assert (await plant.read_breaker(MINER_FEEDER)).state is BreakerState.TRIPPED
        with pytest.raises(
            DeviceRefusedError, match=r"unit 10: write of 1 to register 40 refused: server device failure"
        ):
            await plant.set_breaker(MINER_FEEDER, is_closed=True)
        assert (await plant.reset_breaker(MINER_FEEDER)).state is BreakerState.OPEN
        assert (await plant.set_breaker(MINER_FEEDER, is_closed=True)).state is BreakerState.CLOSED


async def test_a_relay_trip_is_seen_and_recalled(world):
    world.plants.frequency.add(Excursion(T0 + 10, 59.4, fall_s=1, hold_s=30, recover_s=30))
    async with driver(world.address) as plant:
        world.to(20)
        shed = await plant.read_relay()
        assert (shed.is_shed, shed.breakers_shed, shed.last_trip_at_s) == (True, 1, int(T0 + 10))
        assert (await plant.read_breaker(MINER_FEEDER)).state is BreakerState.SHED_BY_RELAY
        assert (await plant.read_breaker(GPU_FEEDER)).state is BreakerState.CLOSED
        with pytest.raises(DeviceRefusedError):
            await plant.recall_relay()
        world.to(100)
        assert not (await plant.recall_relay()).is_shed
        assert (await plant.read_breaker(MINER_FEEDER)).state is BreakerState.CLOSED


async def test_a_site_of_the_other_word_order(tmp_path):
    async with PlantWorld(tmp_path, site_document(plant={"modbus_word_order": "little"})) as world:
        async with driver(world.address, word_order="little") as plant:
            assert (await plant.read_meter()).power_w == pytest.approx(world.site.site_power_w(T0), rel=1e-6)
        async with driver(world.address) as plant:
            with pytest.raises(DeviceReplyError, match="word order"):
                await plant.read_meter()


async def test_units_that_are_not_there(tmp_path):
    async with PlantWorld(tmp_path) as world, driver(world.address) as plant:
        with pytest.raises(DeviceUnreachableError, match=r"unit 100: .* gateway target did not respond \(11\)"):
            await plant.read_cooling()
        with pytest.raises(DeviceReplyError, match=r"illegal data address \(2\); is the register map right"):
            await plant.read_breaker(2)
        assert (await plant.read_meter()).site == "one"


async def test_a_lost_connection_is_opened_again(world):
    async with driver(world.address) as plant:
        before = await plant.read_meter()
        host, port = world.address
        await world.server.stop()
        with pytest.raises(DeviceUnreachableError):
            await plant.read_meter()
        with pytest.raises(DeviceUnreachableError, match=f"no Modbus server at {host}:{port}"):
            await plant.read_meter()
        world.server._config = world.server._config.model_copy(
            update={"protocols": world.server._config.protocols.model_copy(update={"modbus": _on(port)})}
        )
        await world.server.start()
        assert (await plant.read_meter()).site == before.site


async def test_calls_at_once_are_carried_out_one_after_another(world):
    world.mine()
    async with driver(world.address) as plant:
        readings = await asyncio.gather(*(plant.read_breaker(unit) for unit in [MINER_FEEDER, GPU_FEEDER] * 20))
    assert [reading.name for reading in readings] == ["miners", "gpus"] * 20


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (lambda r: b"HTTP/1.1 400 Bad Request\r\n\r\n", "was answered with 48545450"),
        (lambda r: to(r, b"\x03\x04\x00\x01"), "was answered with"),  # says 4 bytes, has 2
        (lambda r: to(r, bytes([3, 2, 0, 1])), r"read of 38 registers from 0 was answered with 1"),
        (lambda r: to(r, bytes([3, 100]) + bytes(100)), r"was answered with 50"),
        (lambda r: to(r, bytes([3, 76]) + bytes(76)), "unit is of kind 0, a meter is 1"),
        (lambda r: to(r, bytes([3, 76]) + b"\xff" * 76), "unit is of kind 65535"),
        (lambda r: to(r, b"\x83\x02"), "illegal data address"),
        (lambda r: to(r, b"\x83\x63"), r"exception \(99\)"),
        (lambda r: to(r, bytes([3, 76]) + bytes(76), transaction=9999), "was answered with 270f"),
        (lambda r: to(r, bytes([3, 76]) + bytes(76), unit=7), "was answered with"),
        (lambda r: to(r, b"\x63\x00"), "was answered with"),
        (lambda r: b"\xff" * 200, "was answered with ffff"),
    ],
)
async def test_answers_that_make_no_sense_are_reported_with_their_bytes(reply, message):
    async with Server(reply) as server, driver(server.address, call_within_s=1.0) as plant:
        started = time.monotonic()
        with pytest.raises(DeviceReplyError, match=message):
            await plant.read_meter()
        assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    "reply", [lambda r: b"", lambda r: None, lambda r: to(r, b"\x83\x06"), lambda r: b"\xff" * 1_000_000]
)
async def test_no_usable_answer_is_unreachable_within_the_deadline(reply):
    async with Server(reply) as server, driver(server.address, call_within_s=0.3) as plant:
        started = time.monotonic()
        with pytest.raises(DeviceUnreachableError):
            await plant.read_meter()
        assert time.monotonic() - started < 30


async def test_a_late_answer_is_not_taken_for_the_next(world):
    """The first request is answered only when the second comes: by then its connection is gone."""
    held = []

    def reply(request):
        held.append(request)
        return to(held[0], bytes([3, 2, 0, 7])) if len(held) > 1 else b""

    async with Server(reply) as server:
        transport = ModbusTransport(*server.address, call_within_s=2.0)
        with pytest.raises(DeviceUnreachableError):
            await transport.read(1, 0, 1)
        assert await transport.read(1, 0, 1) == [7]  # both have transaction 1, each on its own connection
        assert server.connections == 2
        await transport.close()
        await asyncio.sleep(0)


async def test_a_write_that_echoes_something_else_is_reported():
    async with Server(lambda r: to(r, struct.pack(">BHH", 6, 40, 1))) as server:
        transport = ModbusTransport(*server.address, call_within_s=60.0)
        with pytest.raises(DeviceReplyError, match=r"write of 2 to register 40 was answered with \[1\] at 40"):
            await transport.write(10, 40, 2)
        await transport.close()
        await asyncio.sleep(0)


@pytest.mark.parametrize(("state", "said"), [(BreakerState.CLOSED, "closed"), (BreakerState.OPEN, "open")])
async def test_a_breaker_that_says_yes_and_stays_is_found_out(world, state, said):
    """A false ack: the write is echoed and the power stays; so does the state, or it says open and carries on."""
    world.mine()

    async def real(request):
        reader, writer = await asyncio.open_connection(*world.address)
        writer.write(request)
        reply = await reader.read(4096)
        writer.close()
        await writer.wait_closed()
        return reply

    told = bytearray(await real(frame(struct.pack(">BHH", 3, 0, 41), MINER_FEEDER)))
    told[STATE_AT : STATE_AT + 2] = struct.pack(">H", state)

    def reply(request):
        if request[7] == 6:
            return request
        return request[:2] + bytes(told[2:])

    async with Server(reply) as server, driver(server.address) as plant:
        with pytest.raises(
            DeviceRefusedError, match=rf"took the command to open but reads {said} with \d{{6}} W after 0.4 s"
        ):
            await plant.set_breaker(MINER_FEEDER, is_closed=False)


async def test_a_cancelled_call_leaves_nothing_behind(world):
    async with Server(lambda r: b"") as server:
        transport = ModbusTransport(*server.address, call_within_s=5.0)
        call = asyncio.create_task(transport.read(1, 0, 1))
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert transport._client is None
        await asyncio.sleep(0)


def _on(port):
    from simulators.settings import ModbusConfig

    return ModbusConfig(enabled=True, port=port)
