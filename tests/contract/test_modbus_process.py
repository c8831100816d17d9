"""The world as a process with its power plant on the network: found by its ready file, and as it was after kill -9."""

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from pymodbus.client import ModbusTcpClient

from tests.support.power_plant import MINER_FEEDER, site_document

ROOT = Path(__file__).parents[2]


class WorldProcess:
    def __init__(self, folder):
        self.folder = folder
        anchor = {"real_at": datetime.now(UTC).isoformat(), "simulated_at": "2025-01-01T00:00:00+00:00", "speed": 60.0}
        (folder / "clock.json").write_text(json.dumps(anchor))
        files = {"anchor": "clock.json", "bulk_socket": "b.sock", "ready_file": "world.json"}
        logs = {"transition_log": "transitions.jsonl", "exogenous_log": "exogenous.jsonl"}
        paths = {key: str(folder / name) for key, name in (files | logs).items()}
        protocols = {"modbus": {"enabled": True, "port": 0}}
        document = {"version": 1, "sites": [site_document()], "protocols": protocols, **paths}
        (folder / "world.yaml").write_text(yaml.safe_dump(document))

    def start(self):
        ready = self.folder / "world.json"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "simulators", "--config", str(self.folder / "world.yaml")]
        self.process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while not ready.exists():
            assert self.process.poll() is None, "the world died at start"
            assert time.monotonic() < until, "the world did not get ready"
            time.sleep(0.02)
        host, port = json.loads(ready.read_text())["urls"]["modbus-one"].removeprefix("tcp://").rsplit(":", 1)
        client = ModbusTcpClient(host, port=int(port), timeout=3)
        assert client.connect()
        return client

    def end(self, number):
        self.process.send_signal(number)
        return self.process.wait(timeout=15)


@pytest.fixture
def world(tmp_path):
    one = WorldProcess(tmp_path)
    yield one
    if one.process.poll() is None:
        one.end(signal.SIGKILL)


def test_breakers_outlive_a_killed_world(world):
    client = world.start()
    assert client.read_holding_registers(28, count=1, device_id=MINER_FEEDER).registers == [1]
    assert not client.write_coil(0, False, device_id=MINER_FEEDER).isError()
    energy = client.read_holding_registers(24, count=4, device_id=1).registers
    client.close()
    world.end(signal.SIGKILL)
    client = world.start()
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
