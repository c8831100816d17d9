"""What devices keep over a restart of the world, clean or killed, and over another layout of their site: over real sockets."""

import asyncio
import base64
import json

import httpx
import numpy as np
import pytest
from pyroaring import BitMap

from simulators import faults
from simulators.clock import ManualClock
from simulators.durability import TransitionLog
from simulators.fleet import Fleet
from simulators.memories import MOST_BYTES, Memories
from simulators.settings import SiteConfig
from tests.support.device_clients import antminer, ask, gpu_agent, luxos, whatsminer
from tests.support.protocol_world import GPU, LUXOS, STOCK, WHATSMINER, ProtocolWorld, site_document
from tests.support.world import T0

POOLS = [{"url": f"stratum+tcp://{name}.invalid:1", "user": "u", "pass": "p"} for name in "abc"]
FULL, OFF, BATCH = 3, 0, 5


class Restarts:
    """One world after another in one folder."""

    def __init__(self, folder):
        self._folder = folder
        self._world = None
        self.at_s = T0

    async def next(self, *, is_killed=False, after_s=2.0, **changes):
        """Stop, or kill, the present one and go on with another."""
        await self.end(is_killed=is_killed)
        self.at_s += after_s
        self._world = ProtocolWorld(self._folder, at_s=self.at_s, **changes)
        await self._world.__aenter__()
        return self._world

    async def end(self, *, is_killed=True):
        if self._world is None:
            return
        self.at_s = self._world.clock.at_s
        await self._world.protocols.stop()
        if not is_killed:
            await self._world.transitions.close()
        self._world.plants.close()
        self._world = None


@pytest.fixture
async def restarts(tmp_path):
    made = Restarts(tmp_path)
    yield made
    await made.end()


@pytest.mark.parametrize("is_killed", [True, False])
async def test_miners_keep_what_is_in_their_flash(restarts, is_killed):
    world = await restarts.next()
    stock, web = world.at("miners-4028", STOCK), world.at("miners-http", STOCK)
    await antminer(web, "set_miner_conf", {"pools": POOLS, "miner-mode": 3, "bitmain-fan-pwm": "77"})
    await antminer(web, "blink", {"blink": "true"})
    what = world.at("miners-4028", WHATSMINER)
    assert [await whatsminer(what, "power_on"), await whatsminer(what, "adjust_power_limit", power_limit="3000")] == [
        131,
        131,
    ]
    assert await whatsminer(what, "set_power_pct", percent="80") == 131
    lux = world.at("miners-4028", LUXOS)
    name = (await ask(lux, "profiles"))["PROFILES"][-3]["Profile Name"]
    assert [await luxos(lux, "profileset", name), await luxos(lux, "atmset", "enabled=true")] == ["S", "S"]
    assert await luxos(lux, "ledset", "red", "blink") == "S"
    world.clock.at_s += 300
    before_w = [world.fleet.sites["one"].miner(slot, world.clock.at_s).power_w for slot in (STOCK, WHATSMINER, LUXOS)]

    world = await restarts.next(is_killed=is_killed)
    stock, web, what, lux = (
        world.at("miners-4028", STOCK), world.at("miners-http", STOCK),
        world.at("miners-4028", WHATSMINER), world.at("miners-4028", LUXOS),
    )  # fmt: skip
    conf = await antminer(web, "get_miner_conf")
    assert (conf["pools"], conf["bitmain-work-mode"], conf["bitmain-fan-pwm"]) == (POOLS, 3, "77")
    assert [row["URL"] for row in (await ask(stock, "pools"))["POOLS"]] == [pool["url"] for pool in POOLS]
    assert (await antminer(web, "get_blink_status"))["blink"] is True
    status = (await ask(what, "status"))["Msg"]
    assert (status["power_limit_set"], status["hash_percent"], status["mineroff"]) == ("3000", "80", "false")
    config = (await ask(lux, "config"))["CONFIG"][0]
    assert (config["Profile"], config["IsAtmEnabled"], config["RedLed"]) == (name, True, "blink")
    after_w = [world.fleet.sites["one"].miner(slot, world.clock.at_s).power_w for slot in (STOCK, WHATSMINER, LUXOS)]
    assert after_w == pytest.approx(before_w)
    assert (await ask(lux, "session"))["SESSION"][0]["SessionID"] == "", "a session is gone"


async def test_a_sleeping_miner_wakes_in_the_mode_and_with_the_limit_it_was_given_before(restarts):
    world = await restarts.next()
    what = world.at("miners-4028", WHATSMINER)
    await whatsminer(what, "power_on")
    await whatsminer(what, "set_low_power")
    await whatsminer(what, "power_off")
    world = await restarts.next(is_killed=True)
    await whatsminer(world.at("miners-4028", WHATSMINER), "power_on")
    assert world.fleet.sites["one"].commanded[WHATSMINER] == 2


async def test_a_miner_without_pools_stays_without_and_a_reboot_under_way_ends_at_its_instant(restarts):
    world = await restarts.next()
    for slot in (STOCK, STOCK + 1):
        await antminer(world.at("miners-http", slot), "set_miner_conf", {"pools": POOLS, "miner-mode": 0})
    empty = [{"url": "", "user": "", "pass": ""}] * 3
    await antminer(world.at("miners-http", STOCK), "set_miner_conf", {"pools": empty})
    world.clock.at_s += 300
    await antminer(world.at("miners-http", STOCK + 1), "reboot", {})
    (until_s,) = [world.fleet.sites["one"].calls.next_s]
    assert world.fleet.sites["one"].commanded[STOCK + 1] == OFF

    world = await restarts.next(is_killed=True)
    site = world.fleet.sites["one"]
    assert site.calls.next_s == until_s
    world.clock.at_s = until_s + 300
    assert (await ask(world.at("miners-4028", STOCK), "pools"))["POOLS"] == []
    assert site.miner(STOCK, world.clock.at_s).power_w == pytest.approx(50, abs=5)
    assert site.miner(STOCK + 1, world.clock.at_s).power_w > 3000
    lines = [json.loads(line) for line in world.config.transition_log.read_bytes().splitlines()]
    woken = [line for line in lines if line.get("state") == FULL][-1]
    assert (woken["changed"], BitMap.deserialize(base64.b64decode(woken["slots"]))) == (1, BitMap([STOCK + 1]))
    again = await restarts.next(is_killed=True)
    assert again.fleet.sites["one"].commanded[STOCK + 1] == FULL


@pytest.mark.parametrize("is_killed", [True, False])
async def test_gpu_agents_keep_workloads_operations_and_caps(restarts, is_killed):
    world = await restarts.next()
    place, other = world.at("gpu-agents", GPU), world.at("gpu-agents", GPU + 8)
    start = {"request_id": "request-1", "class": "inference_batch", "model": "one", "gpus": [0, 1]}
    _, loading = await gpu_agent(place, "workloads/start", start)
    await gpu_agent(place, "gpus/power-cap", {"request_id": "request-2", "gpus": [4], "cap_w": 300})
    await gpu_agent(other, "node/drain", {"request_id": "request-3"})
    world.clock.at_s += 5

    world = await restarts.next(is_killed=is_killed)
    place, other = world.at("gpu-agents", GPU), world.at("gpu-agents", GPU + 8)
    status, again = await gpu_agent(place, "workloads/start", start)
    assert (status, again) == (200, loading), "the same request is the same operation"
    assert (await gpu_agent(place, "workloads"))[1]["workloads"][0]["phase"] == "loading"
    assert (await gpu_agent(place, "workloads/stop", {"request_id": "request-4", "gpus": [1]}))[1]["type"].endswith(
        ":busy"
    )
    assert (await gpu_agent(other, "node"))[1]["is_drained"] is True
    world.clock.at_s += 100
    shown = (await gpu_agent(place, f"operations/{loading['id']}"))[1]
    assert (shown["state"], shown["ended_at"]) == ("succeeded", loading["expected_end_at"])
    gpus = (await gpu_agent(place, "gpus"))[1]["gpus"]
    assert [gpu["state"] for gpu in gpus[:3]] == ["inference_batch"] * 2 + ["idle"]
    assert [gpu["power_cap_w"] for gpu in gpus[3:5]] == [700, 300]
    assert gpus[0]["workload"]["model"] == "one"

    world = await restarts.next(is_killed=is_killed)
    place = world.at("gpu-agents", GPU)
    assert (await gpu_agent(place, f"operations/{loading['id']}"))[1] == shown
    assert (await gpu_agent(place, "workloads"))[1]["workloads"][0]["phase"] == "running"
    pause = {"request_id": "request-5", "gpus": [0, 1]}
    assert (await gpu_agent(place, "workloads/pause", pause))[0] == 202


async def test_what_a_reboot_takes_is_gone_after_a_restart_too(restarts):
    world = await restarts.next()
    place = world.at("gpu-agents", GPU)
    await gpu_agent(place, "gpus/power-cap", {"request_id": "request-1", "cap_w": 300})
    world.clock.at_s += 10
    await gpu_agent(place, "workloads/start", {"request_id": "request-2", "class": "inference_batch"})
    world.clock.at_s += 100
    _, rebooting = await gpu_agent(place, "node/reboot", {"request_id": "request-3"})
    world = await restarts.next(is_killed=True, after_s=20)
    with pytest.raises(httpx.TransportError):
        await gpu_agent(world.at("gpu-agents", GPU), "node")
    world.clock.at_s += 600
    place = world.at("gpu-agents", GPU)
    assert (await gpu_agent(place, f"operations/{rebooting['id']}"))[1]["state"] == "succeeded"
    gpus = (await gpu_agent(place, "gpus"))[1]["gpus"]
    assert {(gpu["state"], gpu["power_cap_w"], gpu["workload"]["phase"]) for gpu in gpus} == {("idle", 700, "failed")}


def test_a_group_that_stays_the_same_keeps_its_devices_whatever_becomes_of_the_others(tmp_path):
    def fleet_of(*groups, at_s):
        site = SiteConfig.model_validate(site_document("one"))
        made = [site.groups[0].model_copy(update=group) for group in groups]
        fleet = Fleet([site.model_copy(update={"groups": made})], 7, at_s)
        clock = ManualClock(at_s)
        return fleet.sites["one"], TransitionLog(tmp_path / "t.jsonl", fleet, clock), clock

    a = {"group": "a", "first_slot": 0, "devices": 10}
    b = {"group": "b", "first_slot": 10, "devices": 10}
    site, log, clock = fleet_of(a, b, at_s=T0)
    log.set_state(site, bytes(16), 0, FULL, BitMap(range(15)))
    log.impose(site, bytes(16), faults.BOARD_DROPOUT, BitMap([3, 12]))
    clock.at_s += 600
    log.limit(site, bytes(16), 3000.0, BitMap([4, 13]))
    hashed, energy_wh = site.hashed_th(clock.at_s), site.energy_wh
    asyncio.run(log.save(always=True))
    log.set_state(site, bytes(16), 0, OFF, BitMap([5, 14]))

    for changed in ({"devices": 12}, {"model": "S19 XP"}, {"firmware": "luxos"}, {"group": "c"}):
        site, _, _ = fleet_of(a, b | changed, at_s=T0 + 602)
        assert site.commanded[:15].tolist() == [FULL] * 5 + [OFF] + [FULL] * 4 + [OFF] * 5, changed
        assert site.faults.mask(faults.BOARD_DROPOUT, site.at_s).nonzero()[0].tolist() == [3]
        assert site.power_w(T0 + 1200)[4] == pytest.approx(3000, rel=0.01)
        assert np.allclose(site.power_w(T0 + 1200)[10:15], 25.0)
        assert site.energy_wh > energy_wh, "the meter is the site's"
        assert (site.hashed_th(T0 + 602)[:10] >= hashed[:10]).all()
        assert not site.hashed_th(T0 + 602)[10:].any()
    more = fleet_of(a, b, {"group": "c", "first_slot": 20, "devices": 5}, at_s=T0 + 602)[0]
    assert more.commanded.tolist() == [FULL] * 5 + [OFF] + [FULL] * 8 + [OFF] * 11
    moved = fleet_of(a | {"first_slot": 20}, b, at_s=T0 + 602)[0]
    assert moved.commanded[10:].tolist() == [FULL] * 4 + [OFF] * 16


def test_memories_are_versioned_cut_where_they_are_torn_and_written_anew_when_they_are_history(tmp_path):
    path = tmp_path / "memories.jsonl"
    memories = Memories(path)
    assert not path.exists(), "nothing to keep, no file"
    for number in range(3):
        memories.put(f"k/{number}", {"n": number})
    memories.put("k/1", None)
    memories.put("k/0", {"n": 7})
    size = path.stat().st_size
    memories.put("k/0", {"n": 7})
    assert path.stat().st_size == size, "what holds already is not written again"
    with path.open("ab") as file:
        file.write(b'not json\n{"version": 9, "key": "k/2", "value": {"n": 0}}\n{"version": 1, "key": "k/2", "val')
    again = Memories(path)
    assert again.items("k/") == [("k/0", {"n": 7}), ("k/2", {"n": 2})]
    assert path.read_bytes().endswith(b"}}\n")
    text = "x" * (MOST_BYTES // 40)
    for number in range(41):
        again.put("k/9", {"n": number, "text": text})
    assert path.stat().st_size < MOST_BYTES // 10
    again.close()
    assert [key for key, _ in Memories(path).items("k/")] == ["k/0", "k/2", "k/9"]


async def test_another_device_in_the_same_place_remembers_nothing_of_the_one_before(restarts, tmp_path):
    world = await restarts.next()
    await antminer(world.at("miners-http", STOCK), "set_miner_conf", {"pools": POOLS})
    await restarts.end()
    path = tmp_path / "memories.jsonl"
    assert b"a.invalid" in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(world.fleet.sites["one"].keys["g0"].encode(), b"another-grou"))
    world = await restarts.next()
    assert "a.invalid" not in json.dumps(await antminer(world.at("miners-http", STOCK), "get_miner_conf"))
