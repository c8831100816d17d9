"""The miners' true ports, and the miners as part of the world's process."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from simulators.addresses import address_of
from simulators.miners.server import listen
from simulators.settings import WorldConfigError
from tests.integration.test_world_process import ROOT, WorldProcess
from tests.support.miners import FULL, OFF, PYASIC_WARNINGS, Hall, group, talk, within

pytestmark = PYASIC_WARNINGS
DIALECTS = ["stock", "whatsminer", "whatsminer-v3", "luxos"]


def may_bind(*ports):
    """Why the ports can't be had; empty where they can."""
    for port in ports:
        try:
            listen("probe", port).close()
        except WorldConfigError as error:
            return str(error)
    return ""


async def test_on_the_true_ports(tmp_path):
    problem = may_bind(4028, 80, 4433)
    if problem:
        pytest.skip(
            f"{problem}; the other tests use mapped ports (PROTOCOLS, 1.1), so nothing but the numbers is left out"
        )
    true = {"port_4028": 4028, "http_port": 80, "v3_port": 4433}
    async with Hall(tmp_path, *DIALECTS, is_mapped=False, **true) as hall:
        assert hall.server.urls == {
            "miners-4028": "tcp://127.0.0.0/8:4028", "miners-http": "tcp://127.0.0.0/8:80", "miners-v3": "tcp://127.0.0.0/8:4433",
        }  # fmt: skip
        for number, name in enumerate(DIALECTS):
            slot = 16 * number
            hall.set(slot, FULL)
            miner = await hall.miner(slot)
            data = await within(miner.get_data())
            assert float(data.hashrate) == pytest.approx(hall.truth(slot).hashrate_th_per_s, rel=1e-3), name
            assert await within(miner.stop_mining()) is True
            hall.pass_s(300)
            assert hall.truth(slot).state == OFF


@pytest.mark.parametrize("name", DIALECTS)
async def test_a_control_board_listens_in_a_sleep_that_draws_nothing_at_the_meter(tmp_path, name):
    states = {OFF: (0.0, 0.0), FULL: (3500.0, 200.0)}
    async with Hall(tmp_path, groups=[group(name, 0, states=states)]) as hall:
        assert hall.truth(0).power_w == 0
        miner = await hall.miner(0)
        assert await within(miner.resume_mining()) is True
        hall.pass_s(300)
        assert hall.truth(0).hashrate_th_per_s > 180
        hall.break_(0, "power_lost")
        assert await hall.miner(0) is None


async def test_a_second_world_on_the_same_port_is_told_what_to_do(tmp_path):
    async with Hall(tmp_path, "stock") as first:
        port = first.port(4028)
        second = Hall(tmp_path / "other", "stock", port_4028=port)
        with pytest.raises(WorldConfigError, match=f"port {port} .4028. can't be bound .*set protocols.miners"):
            await second.server.start()
        assert second.server.ports == {}
        await second.transitions.close()
        third = Hall(tmp_path / "third", "stock", v3_port=port)
        with pytest.raises(WorldConfigError, match=f"port {port} .v3. can't be bound"):
            await third.server.start()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.16.0.1", third.server.ports["4028"])
        await third.transitions.close()


def test_a_site_with_more_slots_than_addresses_is_refused(tmp_path):
    with pytest.raises(WorldConfigError, match="site one has 258065 slots; its miners have 258064 addresses"):
        Hall(tmp_path, groups=[group("stock", 258_064, 1)])


@pytest.fixture
def make_world():
    """A world process with miners' protocols, in a short folder."""
    folders, worlds = [], []

    def make(**miners):
        folders.append(tempfile.TemporaryDirectory(prefix="hcpP2"))
        world = WorldProcess(Path(folders[-1].name))
        path = world.folder / "world.yaml"
        document = yaml.safe_load(path.read_text())
        document["protocols"] = {"miners": {"enabled": True, "port_4028": 0, "http_port": 0, "v3_port": 0} | miners}
        for site in document["sites"]:
            site["groups"] = [group("stock", 0, 200), group("luxos", 200, 200)]
        path.write_text(yaml.safe_dump(document))
        worlds.append(world)
        return world

    yield make
    for world in worlds:
        if world.process is not None and world.process.poll() is None:
            world.end(signal.SIGKILL)
    for folder in folders:
        folder.cleanup()


async def test_the_world_serves_its_miners_and_they_obey(make_world):
    world = make_world()
    ready = world.start()
    port = int(ready["urls"]["miners-4028"].rpartition(":")[2])
    for site_index in (0, 1):
        reply = await talk(address_of(site_index, 7), port, b'{"command":"version"}')
        assert json.loads(reply[:-1])["VERSION"][0]["Type"] == "Antminer S21"
    address = address_of(1, 250)
    session = json.loads((await talk(address, port, b'{"command":"logon"}'))[:-1])["SESSION"][0]["SessionID"]
    for command, item in (("curtail", "wakeup"), ("atmset", "enabled=true")):
        await talk(address, port, json.dumps({"command": command, "parameter": f"{session},{item}"}).encode())
    world.end(signal.SIGKILL)
    port = int(world.start()["urls"]["miners-4028"].rpartition(":")[2])
    config = json.loads((await talk(address, port, b'{"command":"config"}'))[:-1])["CONFIG"][0]
    assert (config["IsAtmEnabled"], config["SystemStatus"]) == (True, "Mining"), "a killed world forgets neither"
    assert world.end() == 0
    lines = world.log()
    assert [(line["site"], line["state"], line["changed"]) for line in lines] == [("two", FULL, 1)]
    assert not world.ready.exists()


def test_a_world_that_cannot_have_the_port_ends_with_code_2(make_world):
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        world = make_world(port_4028=taken.getsockname()[1])
        command = [sys.executable, "-m", "simulators", "--config", str(world.folder / "world.yaml")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "can't be bound" in done.stderr
    assert "Traceback" not in done.stderr


UNPRIVILEGED = """
import logging, os, sys
from simulators.miners.server import listen
logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(message)s")
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
print(listen("http", 80, 0).getsockname()[1])
"""


def test_a_user_who_may_not_bind_port_80_gets_another_one_and_is_told():
    """The kernel's own refusal: the process has given up its rights by then."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if lowest <= 80:
        pytest.skip(f"on this machine everybody may bind ports from {lowest} on")
    done = subprocess.run([sys.executable, "-c", UNPRIVILEGED], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said, port = done.stdout.splitlines()
    assert said == "miners: port 80 can't be bound (Permission denied): their web pages are on port 0"
    assert int(port) > 1024
