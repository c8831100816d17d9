"""The world as a process with its power plant on the network: found by its ready file, and as it was after kill -9."""

import signal

import pytest
from pymodbus.client import ModbusTcpClient

from tests.support.power_plant import MINER_FEEDER, site_document
from tests.support.world_process import WorldProcess


def connected(world):
    """A client of the site's plant, once the world is up."""
    host, port = world.start()["modbus-one"].removeprefix("tcp://").rsplit(":", 1)
    client = ModbusTcpClient(host, port=int(port), timeout=30)
    assert client.connect()
    return client


@pytest.fixture
def world(tmp_path):
    one = WorldProcess(tmp_path, 60.0, site_document(), {"modbus": {"enabled": True, "port": 0}})
    yield one
    if one.process.poll() is None:
        one.end(signal.SIGKILL)


def test_breakers_outlive_a_killed_world(world):
    client = connected(world)
    assert client.read_holding_registers(28, count=1, device_id=MINER_FEEDER).registers == [1]
    assert not client.write_coil(0, False, device_id=MINER_FEEDER).isError()
    energy = client.read_holding_registers(24, count=4, device_id=1).registers
    client.close()
    world.end(signal.SIGKILL)
    client = connected(world)
    try:
        assert client.read_holding_registers(28, count=1, device_id=MINER_FEEDER).registers == [0]
        power = client.convert_from_registers(
            client.read_holding_registers(20, count=2, device_id=MINER_FEEDER).registers, client.DATATYPE.FLOAT32
        )
        assert power == 0
        assert client.read_holding_registers(24, count=4, device_id=1).registers >= energy
        assert not client.write_coil(0, True, device_id=MINER_FEEDER).isError()
        assert client.read_coils(0, count=1, device_id=MINER_FEEDER).bits[0]
    finally:
        client.close()
    assert world.end(signal.SIGTERM) == 0
