"""The simulated power plant as pymodbus's own client sees it: every register, every write, every exception; and bad input."""

import asyncio
import contextlib
import re
import struct
from pathlib import Path

import pytest
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusIOException
from pyroaring import BitMap

from hcp_pipelines.devices.modbus import codec
from simulators.faults import POWER_LOST
from simulators.power_plant import registers
from simulators.power_plant.frequency import Excursion
from simulators.power_plant.server import MAX_CONNECTIONS_PER_SITE
from tests.support.power_plant import (
    BATCH,
    GPU_FEEDER,
    GPUS,
    IDLE,
    MINER_FEEDER,
    MINERS,
    PUE,
    T0,
    TRANSFORMER,
    PlantWorld,
    exchange,
    frame,
    shut,
    site_document,
)  # fmt: skip

DOC = Path(__file__).resolve().parents[2] / "docs" / "modbus.md"
COOLED = {"plant": {"cooling": {"pumps": 2}}}
TREE = {"topology": [{"node": "tx-1", "kind": "transformer", "limit_w": 900_000, "feeders": ["miners", "gpus"]}]}
READ_POWER = struct.pack(">BHH", 3, 20, 2)


def documented():
    """Each map of docs/modbus.md: (address, name, type, unit, scale, access)."""
    maps, rows = {}, None
    for line in DOC.read_text().splitlines():
        if title := re.match(r"### (\w+) \(kind (\d)\)", line):
            rows = maps.setdefault(title[1], [])
        elif line.startswith("#"):
            rows = None
        elif rows is not None and (
            row := re.match(r"\| (\d+) \| `(\w+)` \| (\w+) \| (\S*) ?\| (\d+) \| (\w+) \|", line)
        ):
            rows.append((int(row[1]), row[2], row[3], row[4], int(row[5]), row[6]))
    return maps


@contextlib.asynccontextmanager
async def client_of(world, timeout=60):
    client = AsyncModbusTcpClient(
        world.address[0], port=world.address[1], timeout=timeout, retries=0, reconnect_delay=0
    )
    assert await client.connect()
    try:
        yield client
    finally:
        client.close()
        await asyncio.sleep(0)


@pytest.fixture
async def world(tmp_path):
    async with PlantWorld(tmp_path, site_document(**COOLED)) as one:
        yield one


async def read(client, unit, name, kind="meter", order="big", function="holding"):
    """One value, by pymodbus's own conversion, of the register that the document names."""
    address, _, type_, _, scale, _ = next(row for row in documented()[kind] if row[1] == name)
    data_type = client.DATATYPE[type_.upper()]
    words = 16 if type_ == "string" else data_type.value[1]
    call = client.read_holding_registers if function == "holding" else client.read_input_registers
    reply = await call(address, count=words, device_id=unit)
    assert not reply.isError(), (unit, name, reply)
    value = client.convert_from_registers(reply.registers, data_type, word_order=order)
    return value if scale == 1 or isinstance(value, str) else value / scale


def test_the_document_the_simulator_and_the_driver_have_the_same_map():
    documents = documented()
    assert set(documents) == set(registers.MAPS) == set(codec.MAPS)
    for name, rows in documents.items():
        assert [(r.address, r.name, r.type, r.unit, r.scale, r.access) for r in registers.MAPS[name]] == rows
        assert [(f.address, f.name, f.type, f.scale) for f in codec.MAPS[name]] == [(*r[:3], r[4]) for r in rows]
        ends = [r.address + r.words for r in registers.MAPS[name]]
        assert all(end <= after.address for end, after in zip(ends, registers.MAPS[name][1:], strict=False))


async def test_every_register_reads_back_with_its_type_and_scale(world):
    world.mine(80)
    world.plant.set_failed_pumps([1], T0)
    world.to(3600)
    site, plant = world.site, world.plant
    async with client_of(world) as client:
        found = {
            (unit, name): await read(client, unit, name, kind)
            for unit, kind in ((1, "meter"), (2, "relay"), (MINER_FEEDER, "breaker"), (100, "cooling"))
            for _, name, *_ in documented()[kind]
        }
    it_w = float(site.power_w(T0 + 3600).sum(dtype=float))
    miners_w = float(site.power_w(T0 + 3600)[:MINERS].sum(dtype=float)) * plant.pue
    expected = {
        (1, "kind"): 1, (2, "kind"): 2, (MINER_FEEDER, "kind"): 3, (100, "kind"): 4,
        (1, "name"): "one", (MINER_FEEDER, "name"): "miners",
        (1, "power"): it_w * plant.pue, (1, "power_int"): it_w * plant.pue, (1, "energy"): site.energy_wh,
        (1, "frequency"): plant.frequency.hz(T0 + 3600), (1, "power_factor"): 0.97, (1, "simulated_at"): T0 + 3600,
        (1, "current"): it_w * plant.pue / (3**0.5 * 34_500 * 0.97),
        (2, "frequency"): plant.frequency.hz(T0 + 3600), (2, "trip_frequency"): 59.7, (2, "delay"): 0.25,
        (2, "state"): 0, (2, "trips"): 0, (2, "breakers_shed"): 0, (2, "last_trip_at"): 0,
        (MINER_FEEDER, "power"): miners_w, (MINER_FEEDER, "limit"): 500_000, (MINER_FEEDER, "load"): miners_w / 500_000,
        (MINER_FEEDER, "state"): 1, (MINER_FEEDER, "trips"): 0, (MINER_FEEDER, "heat"): 0, (MINER_FEEDER, "command"): 0,
        (MINER_FEEDER, "voltage_downstream"): found[MINER_FEEDER, "voltage_upstream"],
        (100, "outdoor_temperature"): plant.cooling.outdoor_celsius,
        (100, "supply_temperature"): plant.cooling.supply_celsius,
        (100, "pue"): plant.pue, (100, "pumps"): 2, (100, "pumps_running"): 1, (100, "alarms"): 1,
        (100, "fan_stage"): plant.cooling.fan_stage, (100, "load"): plant.cooling.load_fraction,
    }  # fmt: skip
    for key, value in expected.items():
        close = 0.05 if key[0] == 100 else 1.0 if key[1] in ("energy", "power_int") else 6e-4
        assert found[key] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-6, abs=close)), key
    assert found[1, "power"] > 80 * 3500 * PUE
    assert 13_000 < found[MINER_FEEDER, "voltage_upstream"] < 14_000


async def test_input_registers_are_the_holding_registers(world):
    async with client_of(world) as client:
        for unit, name, kind in ((1, "power", "meter"), (2, "frequency", "relay"), (100, "pue", "cooling")):
            both = [await read(client, unit, name, kind, function=function) for function in ("holding", "input")]
            assert both[0] == both[1] > 0


async def test_another_word_order_turns_values_round_but_not_text(tmp_path):
    async with (
        PlantWorld(tmp_path, site_document(plant={"modbus_word_order": "little"})) as world,
        client_of(world) as client,
    ):
        world.mine()
        assert await read(client, 1, "power", order="little") == pytest.approx(world.site.site_power_w(T0), rel=1e-6)
        assert await read(client, 1, "power", order="big") != pytest.approx(world.site.site_power_w(T0), rel=0.1)
        assert await read(client, 1, "name", order="big") == "one"


async def test_energy_only_rises_and_is_the_integral_of_power(world):
    world.mine(60)
    energies, powers = [], []
    async with client_of(world) as client:
        for second in range(11, 2412, 10):  # on the seconds at which the cooling plant has just been adjusted
            world.to(second)
            energies.append(await read(client, 1, "energy"))
            powers.append(await read(client, 1, "power"))
    assert energies == sorted(energies)
    assert energies[-1] - energies[0] == pytest.approx(sum(powers[:-1]) * 10 / 3600, rel=1e-3)


async def test_the_meter_is_a_sunspec_meter_too(world):
    world.mine()
    async with client_of(world) as client:
        halves = [
            await client.read_holding_registers(at, count=n, device_id=1) for at, n in ((40_000, 90), (40_090, 89))
        ]
    words = halves[0].registers + halves[1].registers
    assert bytes.fromhex(f"{words[0]:04x}{words[1]:04x}") == b"SunS"
    assert words[2:4] == [1, 66]
    at = 2 + 2 + 66
    assert words[at : at + 2] == [203, 105]
    assert words[at + 107] == 0xFFFF

    def signed(offset):
        return struct.unpack(">h", struct.pack(">H", words[at + offset]))[0]

    power_w = world.site.site_power_w(T0)
    assert signed(18) * 10.0 ** signed(22) == pytest.approx(power_w, rel=0.01)  # W, W_SF
    assert signed(16) * 10.0 ** signed(17) == pytest.approx(60.0, abs=0.03)  # Hz
    assert signed(11) * 10.0 ** signed(15) == pytest.approx(34_500, rel=0.03)  # PPV
    assert signed(2) * 10.0 ** signed(6) == pytest.approx(power_w / (3**0.5 * 34_500 * 0.97), rel=0.03)  # A
    assert signed(33) * 10.0 ** signed(37) == pytest.approx(0.97)
    assert words[at + 23] == 0x8000
    world.to(7200)
    async with client_of(world) as client:
        words = (await client.read_holding_registers(40_000 + at, count=60, device_id=1)).registers
    scale = struct.unpack(">h", struct.pack(">H", words[54]))[0]
    assert (words[46] * 65_536 + words[47]) * 10.0**scale == pytest.approx(world.site.energy_wh, abs=10.0**scale)


@pytest.mark.parametrize("how", ["coil", "register", "registers"])
async def test_a_breaker_opens_and_closes_by_every_documented_write(world, how):
    world.mine()
    async with client_of(world) as client:

        async def switch(is_closed):
            if how == "coil":
                return await client.write_coil(0, is_closed, device_id=MINER_FEEDER)
            call = client.write_register if how == "register" else client.write_registers
            value = 1 if is_closed else 2
            return await call(40, value if how == "register" else [value], device_id=MINER_FEEDER)

        assert not (await switch(False)).isError()
        assert (await client.read_coils(0, count=2, device_id=MINER_FEEDER)).bits[:2] == [False, False]
        assert await read(client, MINER_FEEDER, "state", "breaker") == 0
        assert await read(client, MINER_FEEDER, "power", "breaker") == 0
        assert await read(client, MINER_FEEDER, "voltage_downstream", "breaker") == 0
        assert await read(client, MINER_FEEDER, "voltage_upstream", "breaker") > 13_000
        assert await read(client, MINER_FEEDER, "command", "breaker") == 2
        world.to(2)
        assert await read(client, 1, "power") == pytest.approx(
            world.site.power_w(T0 + 2)[MINERS:].sum() * world.plant.pue
        )
        assert not (await switch(True)).isError()
        world.to(120)
        assert (await client.read_coils(0, count=1, device_id=MINER_FEEDER)).bits[0]
        assert await read(client, MINER_FEEDER, "power", "breaker") > MINERS * 3400 * PUE


async def test_an_overloaded_breaker_trips_at_its_time_and_closes_only_after_a_reset(tmp_path):
    async with (
        PlantWorld(tmp_path, site_document(limit_kw=MINERS * 3500 * PUE / 1250)) as world,
        client_of(world) as client,
    ):
        world.mine()
        world.to(135)
        assert await read(client, MINER_FEEDER, "state", "breaker") == 1
        assert 0.9 < await read(client, MINER_FEEDER, "heat", "breaker") < 1.0
        world.to(150)
        assert await read(client, MINER_FEEDER, "state", "breaker") == 2
        assert await read(client, MINER_FEEDER, "trips", "breaker") == 1
        assert (await client.write_coil(0, True, device_id=MINER_FEEDER)).exception_code == 4
        assert (await client.write_register(40, 1, device_id=MINER_FEEDER)).exception_code == 4
        assert not (await client.write_coil(1, True, device_id=MINER_FEEDER)).isError()
        assert await read(client, MINER_FEEDER, "state", "breaker") == 0
        assert not (await client.write_coil(0, True, device_id=MINER_FEEDER)).isError()
        assert await read(client, MINER_FEEDER, "state", "breaker") == 1


async def test_the_relay_sheds_and_is_recalled(world):
    world.mine()
    world.plants.frequency.add(Excursion(T0 + 60, 59.5, fall_s=1, hold_s=30, recover_s=60))
    async with client_of(world) as client:
        world.to(70)
        assert await read(client, 2, "frequency", "relay") == pytest.approx(59.5)
        assert await read(client, 1, "frequency") == pytest.approx(59.5)
        states = [await read(client, 2, name, "relay") for name in ("state", "breakers_shed", "trips", "last_trip_at")]
        assert states == [1, 1, 1, int(T0 + 60)]
        assert await read(client, MINER_FEEDER, "state", "breaker") == 3
        assert await read(client, GPU_FEEDER, "state", "breaker") == 1
        assert (await client.write_coil(0, True, device_id=MINER_FEEDER)).exception_code == 4
        assert (await client.write_register(40, 3, device_id=MINER_FEEDER)).exception_code == 4
        assert (await client.write_coil(0, True, device_id=2)).exception_code == 4  # still low
        world.to(300)
        assert not (await client.write_coil(0, True, device_id=2)).isError()
        assert [await read(client, 2, "state", "relay"), await read(client, MINER_FEEDER, "state", "breaker")] == [0, 1]


async def test_pumps_that_fail_show_and_trip_and_the_way_back_is_open(world):
    world.mine()
    world.transitions.set_state(world.site, bytes(16), 0, BATCH, world.site.set_state(IDLE, _gpus(), T0).accepted)
    async with client_of(world) as client:
        world.plant.set_failed_pumps([0, 1], T0)
        cool = await read(client, 100, "supply_temperature", "cooling")
        world.to(300)
        assert await read(client, 100, "supply_temperature", "cooling") == pytest.approx(cool + 10, abs=0.5)
        world.to(1200)
        assert await read(client, 100, "alarms", "cooling") == 7
        assert await read(client, GPU_FEEDER, "state", "breaker") == 4
        assert (await client.write_coil(0, True, device_id=100)).exception_code == 4
        world.plant.set_failed_pumps([], T0 + 1200)
        world.to(3600)
        assert (await client.write_register(40, 3, device_id=GPU_FEEDER)).exception_code == 4
        assert not (await client.write_coil(0, True, device_id=100)).isError()
        for command in (3, 1):
            assert not (await client.write_register(40, command, device_id=GPU_FEEDER)).isError()
        assert await read(client, GPU_FEEDER, "state", "breaker") == 1
        assert await read(client, 100, "alarms", "cooling") == 0


async def test_a_limited_node_is_a_unit_and_its_feeders_read_dead_below_it(tmp_path):
    async with PlantWorld(tmp_path, site_document(plant=TREE)) as world, client_of(world) as client:
        assert await read(client, TRANSFORMER, "name", "breaker") == "tx-1"
        assert not (await client.write_coil(0, False, device_id=TRANSFORMER)).isError()
        assert await read(client, MINER_FEEDER, "voltage_upstream", "breaker") == 0
        assert await read(client, MINER_FEEDER, "state", "breaker") == 1
        assert (await client.read_holding_registers(0, count=1, device_id=100)).exception_code == 11  # no cooling plant


async def test_an_outage_of_the_site_leaves_breakers_closed_and_no_volts(world):
    world.mine()
    world.site.impose(POWER_LOST, _gpus(), T0)
    async with client_of(world) as client:
        assert await read(client, GPU_FEEDER, "voltage_upstream", "breaker") == 0
        assert await read(client, GPU_FEEDER, "state", "breaker") == 1
        assert await read(client, 1, "voltage") > 33_000
        assert await read(client, MINER_FEEDER, "voltage_downstream", "breaker") > 13_000
        world.site.impose(POWER_LOST, BitMap(range(MINERS)), T0)
        world.to(2)
        assert [await read(client, 1, name) for name in ("voltage", "power", "current")] == [0, 0, 0]


async def test_each_site_has_its_own_address(tmp_path):
    async with PlantWorld(tmp_path, site_document("one"), site_document("two", feeders=[], groups=_plain())) as world:
        assert [host for host, _ in world.server.addresses.values()] == ["127.16.255.1", "127.20.255.1"]
        client = AsyncModbusTcpClient(*world.server.addresses["two"][:1], port=world.server.addresses["two"][1])
        assert await client.connect()
        assert await read(client, 1, "name") == "two"
        assert (await client.read_holding_registers(0, count=1, device_id=10)).exception_code == 11
        client.close()


@pytest.mark.parametrize(
    ("pdu", "unit", "code"),
    [
        (struct.pack(">BHH", 3, 37, 2), 1, 2),
        (struct.pack(">BHH", 4, 65_535, 1), 1, 2),
        (struct.pack(">BHH", 3, 65_535, 125), 1, 2),
        (struct.pack(">BHH", 3, 0, 0), 1, 3),
        (struct.pack(">BHH", 3, 0, 126), 1, 3),
        (struct.pack(">BH", 3, 0), 1, 3),
        (b"\x03", 1, 3),
        (struct.pack(">BHHB", 3, 0, 1, 0), 1, 3),
        (struct.pack(">BHH", 1, 0, 3), MINER_FEEDER, 2),
        (struct.pack(">BHH", 1, 0, 2001), MINER_FEEDER, 3),
        (struct.pack(">BHH", 1, 0, 1), 1, 2),
        (struct.pack(">BHH", 2, 0, 1), 1, 2),
        (struct.pack(">BHH", 8, 0, 1), 1, 1),
        (struct.pack(">BHHH", 22, 40, 0xFFFF, 1), MINER_FEEDER, 1),
        (struct.pack(">BHHHHBH", 23, 0, 1, 40, 1, 2, 1), MINER_FEEDER, 1),
        (b"\x2b\x0d\x01\x00", 1, 1),
        (b"\x2b", 1, 1),
        (b"\x2b\x0e\x01", 1, 3),
        (b"\x2b\x0e\x05\x00", 1, 3),
        (b"\x2b\x0e\x04\x03", 1, 2),
        (struct.pack(">BHHBB", 15, 0, 3, 1, 7), MINER_FEEDER, 2),
        (struct.pack(">BHHBB", 15, 0, 0, 1, 0), MINER_FEEDER, 3),
        (struct.pack(">BHHBB", 15, 0, 9, 1, 0), MINER_FEEDER, 3),
        (struct.pack(">BHH", 15, 0, 1), MINER_FEEDER, 3),
        (struct.pack(">BHHBB", 15, 0, 1, 1, 1), 1, 2),
        (b"\x00", 1, 1),
        (b"\xff\x00\x00", 1, 1),
        (struct.pack(">BHH", 5, 0, 0x1234), MINER_FEEDER, 3),  # must not pass for "close"
        (struct.pack(">BHH", 5, 2, 0xFF00), MINER_FEEDER, 2),
        (struct.pack(">BHH", 5, 0, 0xFF00), 1, 2),
        (struct.pack(">BHH", 6, 20, 1), MINER_FEEDER, 2),
        (struct.pack(">BHH", 6, 40, 4), MINER_FEEDER, 3),
        (struct.pack(">BHH", 6, 0, 4), 2, 2),
        (struct.pack(">BHHBHH", 16, 39, 2, 4, 0, 1), MINER_FEEDER, 2),
        (struct.pack(">BHHBH", 16, 40, 1, 4, 1), MINER_FEEDER, 3),
        (struct.pack(">BHHB", 16, 40, 1, 2), MINER_FEEDER, 3),
        (struct.pack(">BHH", 16, 40, 1), MINER_FEEDER, 3),
        (struct.pack(">BHH", 3, 0, 1), 9, 11),
        (struct.pack(">BHH", 3, 0, 1), 254, 11),
    ],
)
async def test_what_is_not_allowed_is_answered_with_the_standards_exception(world, pdu, unit, code):
    received, _ = await exchange(world.address, frame(pdu, unit, transaction=513), half_close=True)
    assert received == frame(bytes([pdu[0] | 0x80, code]), unit, transaction=513)
    assert world.plant.breakers["miners"].is_closed


async def test_whoever_means_the_address_alone_is_answered_by_the_meter(world):
    async with client_of(world) as client:
        for unit in (0, 1, 255):
            assert await read(client, unit, "name") == "one"
    received, _ = await exchange(world.address, frame(struct.pack(">BHH", 3, 0, 1), 255), half_close=True)
    assert received == frame(b"\x03\x02\x00\x01", 255), "with the unit it was asked for"


async def test_every_unit_says_who_it_is(world):
    async with client_of(world) as client:
        for unit, product, name in (
            (1, b"meter", b"one"),
            (2, b"relay", b"under-frequency relay"),
            (10, b"breaker", b"miners"),
        ):
            basic = await client.read_device_information(read_code=1, device_id=unit)
            assert basic.information == {0: b"HCP world", 1: product, 2: b"1"}
            regular = await client.read_device_information(read_code=2, device_id=unit)
            assert regular.information == basic.information | {4: name, 5: b"HCP " + product}
            assert (await client.read_device_information(read_code=3, object_id=4, device_id=unit)).information[
                4
            ] == name
            one = await client.read_device_information(read_code=4, object_id=4, device_id=unit)
            assert one.information == {4: name}


async def test_discrete_inputs_are_the_coils_and_several_coils_can_be_written(world):
    async with client_of(world) as client:
        assert (await client.read_discrete_inputs(0, count=2, device_id=MINER_FEEDER)).bits[:2] == [True, False]
        assert not (await client.write_coils(0, [False, False], device_id=MINER_FEEDER)).isError()
        assert (await client.read_discrete_inputs(0, count=2, device_id=MINER_FEEDER)).bits[:2] == [False, False]
        assert not (await client.write_coils(0, [True], device_id=MINER_FEEDER)).isError()
        assert world.plant.breakers["miners"].is_closed


async def test_a_read_over_reserved_registers_is_answered_with_zeros(world):
    async with client_of(world) as client:
        words = (await client.read_holding_registers(18, count=20, device_id=1)).registers
        assert words[:2] == [0, 0]
        assert any(words[2:])


async def test_requests_sent_together_are_answered_in_order(world):
    requests = b"".join(frame(READ_POWER, unit, transaction=n) for n, unit in enumerate([1, MINER_FEEDER] * 50))
    received, _ = await exchange(world.address, requests, half_close=True)
    size = 9 + 4
    transactions = [struct.unpack_from(">H", received, at)[0] for at in range(0, len(received), size)]
    assert transactions == list(range(100))


async def test_a_request_in_pieces_is_answered(world):
    whole = frame(READ_POWER)
    received, _ = await exchange(world.address, *(whole[n : n + 1] for n in range(len(whole))), pause_s=0.005)
    assert len(received) == 13


async def test_a_half_closed_client_gets_its_answer(world):
    received, is_closed = await exchange(world.address, frame(READ_POWER), half_close=True)
    assert (len(received), is_closed) == (13, True)


@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x00" * 64,
        b"\xff" * 5000,
        frame(READ_POWER, protocol=7),
        frame(READ_POWER, length=0),
        frame(READ_POWER, length=1),
        frame(b"\x03" * 300),
        struct.pack(">HHH", 1, 0, 65_535) + b"\x03" * 100_000,
    ],
)
async def test_broken_framing_ends_the_connection_and_nothing_else(world, junk, caplog):
    async with client_of(world) as other:
        received, is_closed = await exchange(world.address, junk)
        assert (received, is_closed) == (b"", True)
        assert await read(other, 1, "kind") == 1
        assert "closed a connection: protocol" in caplog.text


async def test_a_slow_frame_is_given_up_and_the_others_go_on(world, monkeypatch):
    monkeypatch.setattr("simulators.power_plant.server.FRAME_S", 0.1)
    async with client_of(world) as other:
        received, is_closed = await exchange(world.address, frame(READ_POWER)[:5], pause_s=0.2)
        assert (received, is_closed) == (b"", True)
        assert await read(other, 1, "kind") == 1


async def test_a_client_that_takes_no_replies_is_let_go(world, monkeypatch):
    monkeypatch.setattr("simulators.power_plant.server.FRAME_S", 0.2)
    _, writer = await asyncio.open_connection(*world.address, limit=1024)

    async def ask_on():
        while True:
            writer.write(frame(struct.pack(">BHH", 3, 40_000, 125)) * 200)
            await writer.drain()
            await asyncio.sleep(0)

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(ask_on(), 60)
    await shut(writer)
    async with client_of(world) as other:
        assert await read(other, 1, "kind") == 1


async def test_connections_are_bounded_and_a_place_is_free_again(world):
    held = [await asyncio.open_connection(*world.address) for _ in range(MAX_CONNECTIONS_PER_SITE)]
    await asyncio.sleep(0.05)
    with contextlib.suppress(ConnectionResetError):
        assert await exchange(world.address, frame(READ_POWER)) == (b"", True)
    for _, writer in held:
        await shut(writer)
    await asyncio.sleep(0.05)
    received, _ = await exchange(world.address, frame(READ_POWER))
    assert len(received) == 13


async def test_random_bytes_never_stop_the_server(world):
    import random

    draw = random.Random(7)
    for _ in range(150):
        head = frame(draw.randbytes(draw.randint(1, 60)), unit=draw.choice([1, 2, 10, 100, draw.randrange(256)]))
        await exchange(
            world.address, head if draw.random() < 0.7 else draw.randbytes(draw.randint(1, 400)), half_close=True
        )
    async with client_of(world) as client:
        assert await read(client, 1, "map_version") == 1


async def test_a_stopped_server_is_gone(tmp_path):
    async with PlantWorld(tmp_path) as world:
        address = world.address
        async with client_of(world, timeout=1) as client:  # there is no answer to wait for
            await world.server.stop()
            with pytest.raises(ModbusIOException):
                await client.read_holding_registers(0, count=1, device_id=1)
    with pytest.raises(ConnectionError):
        await asyncio.open_connection(*address)


def _gpus():
    return BitMap(range(MINERS, MINERS + GPUS))


def _plain():
    groups = site_document()["groups"]
    return [{key: value for key, value in group.items() if key != "feeder"} for group in groups]
