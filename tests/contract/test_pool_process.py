"""The world as a process with its pool: found by its ready file, and what it has credited outlives kill -9."""

import asyncio
import signal
import time

import httpx
import pytest

from tests.support.miners import group
from tests.support.pool import EASY
from tests.support.stratum_v1 import Miner
from tests.support.world_process import WorldProcess

SPEED = 3600.0  # five simulated minutes, a window of the pool's, in a twelfth of a second


@pytest.fixture
def world(tmp_path):
    site = {"site": "one", "settlement_point": "HB_NORTH", "groups": [group("whatsminer", 0, 8)]}
    ports = {"enabled": True, "v1_port": 0, "v2_port": 0, "api_port": 0, "requests_per_minute": 100_000} | EASY
    one = WorldProcess(tmp_path, SPEED, site, {"pool": ports})
    yield one
    if one.process.poll() is None:
        one.end(signal.SIGKILL)


def sleepers(url):
    """Workers' states; nobody commands these miners, so all sleep."""
    reply = httpx.get(f"{url}/accounts/workers/json/btc", trust_env=False)
    return {name: one["state"] for name, one in reply.json()["btc"]["workers"].items() if "one." in name}


async def hash_a_share(url):
    miner = await Miner.connect(int(url.rpartition(":")[2]))
    try:
        await miner.log_on()
        for _ in range(20):  # blocks come every sixth of a second at this speed
            if (await miner.submit(miner.hash()))["result"]:
                return True
            await miner.next_work()
        return False
    finally:
        await miner.close()


def test_the_pool_of_a_world_is_found_and_goes_on_after_a_kill(world):
    urls = world.start()
    assert urls["pool-v2"].startswith("stratum2+tcp://127.0.0.1:")
    assert sleepers(urls["pool-api"]) == {f"hcp.one.{slot}": "off" for slot in range(8)}
    assert asyncio.run(hash_a_share(urls["pool-v1"]))
    (folder,) = (world.folder / "pool").iterdir()
    running = folder / "running.npz"
    until = time.monotonic() + 60
    while not running.exists():
        assert time.monotonic() < until, "no window was closed"
        time.sleep(0.05)
    world.end(signal.SIGKILL)
    again = world.start()
    assert again["pool-v2"].rpartition("/")[2] == urls["pool-v2"].rpartition("/")[2]
    assert len(sleepers(again["pool-api"])) == 8
    assert world.end(signal.SIGTERM) == 0
