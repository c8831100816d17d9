"""A recorded script of commands over every protocol, in lock-step: the whole of the logs is the same to the byte at any speed.

And the exogenous log, whatever is commanded, with every kind of fault; for every scenario file it is in `test_world_scenarios`.
"""

import json
import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from pyroaring import BitMap

from simulators import faults
from simulators.exogenous import ExogenousLog
from simulators.fleet import Fleet
from simulators.series import World
from simulators.settings import SiteConfig, WorldConfig
from tests.support.device_clients import antminer, ask, gpu_agent, luxos, modbus, whatsminer, whatsminer_v3
from tests.support.protocol_world import GPU, LUXOS, STOCK, V3, WHATSMINER, ProtocolWorld, site_document
from tests.support.world import T0, script

ROOM = Path(__file__).parents[2] / "simulators"
POOLS = [{"url": f"stratum+tcp://{name}.invalid:1", "user": "u", "pass": "p"} for name in "abc"]
NO_POOLS = [{"url": "", "user": "", "pass": ""}] * 3
KINDS = [kind for kind in faults.FAULTS if kind != faults.XID]
UNIT_OF = {faults.NODE_LOST: "node", faults.POWER_LOST: "pdu", faults.COOLING_LOST: "cooling_loop"}
GPU_WRITES = (
    ("workloads/start", {"class": "inference_batch", "load": "streamed", "replace": True}),
    ("workloads/pause", {"level": 1}),
    ("workloads/resume", {}),
    ("gpus/power-cap", {"cap_w": 350}),
    ("workloads/stop", {"park": True}),
    ("gpus/reset", {"force": True}),
    ("workloads/start", {"class": "training"}),
    ("workloads/checkpoint", {}),
    ("node/reboot", {}),
)


def every_fault():
    """Each kind of fault that a scenario can script, one after another, on a part of the devices; XIDs as they are drawn."""
    events = [
        {"at_h": 0.02 + 0.08 * number, "minutes": 6, "kind": kind, "unit": UNIT_OF.get(kind, "device"), "fraction": 0.5}
        for number, kind in enumerate(KINDS)
    ]
    dips = [{"at_h": 0.4, "nadir_hz": 59.5, "recall_minutes": 5}]
    rates = {f"gpu/xid{code}": {"per_day": 10.0} for code in (13, 31, 63)}
    return script(events=events, faults={"profile": "typical", "factor": 5.0, "rates": rates}, frequency=dips)


def commands(world, turn):
    """One turn's commands and the slots they go to: which, depends on the turn alone."""
    site, device = turn % 2, (turn // 2) % 4
    name = ("one", "two")[site]
    what, v3, lux = WHATSMINER + device, V3 + device, LUXOS + device
    node, miner = GPU + 8 * (turn // 4 % 2), lambda slot: world.at("miners-4028", slot, site)
    web, agent = world.at("miners-http", STOCK + device, site), world.at("gpu-agents", node, site)
    conf = {"pools": NO_POOLS if turn % 5 == 4 else POOLS, "miner-mode": (0, 1, 3)[turn % 3]}
    path, body = GPU_WRITES[turn % len(GPU_WRITES)]
    body = {"request_id": f"request-{turn}"} | body
    host, _, port = world.protocols.urls[f"modbus-{name}"].removeprefix("tcp://").rpartition(":")
    slots = BitMap(np.random.default_rng(turn).choice(GPU + 16, 30, replace=False).astype(np.uint32))
    return [
        (STOCK + device, lambda: antminer(web, "set_miner_conf", conf)),
        (what, lambda: whatsminer(miner(what), ("power_on", "power_off", "set_low_power", "reboot")[turn % 4])),
        (lux, lambda: luxos(miner(lux), "curtail", ("sleep", "wakeup")[turn % 3 == 0])),
        (node, lambda: gpu_agent(agent, path, body)),
        (v3, lambda: whatsminer_v3(world.at("miners-v3", v3, site), "set.miner.service", ("start", "stop")[turn % 5 == 3])),
        (STOCK + device, lambda: antminer(web, "reboot", {}) if turn % 7 == 3 else antminer(web, "stats")),
        (what, lambda: whatsminer(miner(what), "adjust_power_limit", power_limit=str(2000 + 100 * (turn % 9)))),
        (lux, lambda: luxos(miner(lux), "profileset", ("default", "440MHz", "415MHz")[turn % 3])),
        (lux, lambda: luxos(miner(lux), "resetminer") if turn % 6 == 5 else ask(miner(lux), "summary+pools")),
        (GPU, lambda: modbus((host, int(port)), bytes([5, 0, 0, 0xFF, 0]), unit=2)),
        (GPU, lambda: _command_in_bulk(world, name, turn, slots)),
    ]  # fmt: skip


async def _command_in_bulk(world, name, turn, slots):
    world.transitions.set_state(world.fleet.sites[name], bytes([turn] * 16), 1, (0, 2, 3, 5)[turn % 4], slots)


async def run(folder, speed, turns=45):
    """The script's commands in lock-step, and what stands in each log after them."""
    pauses_s = (1.0, 7.0, 40.0, 95.0, 400.0)
    async with ProtocolWorld(folder, every_fault(), speed=speed) as world:
        for turn in range(turns):
            world.clock.at_s += pauses_s[turn % len(pauses_s)]
            for slot, command in commands(world, turn)[turn % 2 :: 2]:
                site = world.fleet.sites[("one", "two")[turn % 2]]
                if turn % 9 == 2:
                    site.impose(faults.XID, BitMap([GPU, GPU + 8]), world.clock.at_s, world.clock.at_s, xid=31)
                if faults.HUNG in site.faults.at(slot, world.clock.at_s):
                    continue  # would answer never
                try:
                    await command()
                except (OSError, ValueError, KeyError, EOFError, httpx.TransportError):
                    continue  # it can't be reached, or says no: the same in every run
    return {name: (folder / f"{name}.jsonl").read_bytes() for name in ("transitions", "plant", "memories")}


async def test_the_same_commands_in_lock_step_give_the_same_logs_to_the_byte_at_any_speed(tmp_path):
    runs = [await run(tmp_path / str(speed), speed) for speed in (1.0, 60.0, 1000.0)]
    for name, text in runs[0].items():
        for other in runs[1:]:
            assert other[name].splitlines() == text.splitlines(), name
    lines = [json.loads(line) for line in runs[0]["transitions"].splitlines()]
    assert {line.get("event", "state") for line in lines} == {"state", "limit", "impose", "lift", "end_work"}
    assert len({line["ref"] for line in lines}) > 25, "devices of every kind took part"
    assert len(lines) > 120
    assert len(runs[0]["memories"].splitlines()) > 60


def exogenous(path, scenario, hours, *, pauses_s=(86_400.0,), busy=None):
    """The exogenous log of a world, looked at after pauses of these lengths in turn."""
    sites = [SiteConfig.model_validate(site_document(name)) for name in ("one", "two")]
    paths = dict.fromkeys(("anchor", "bulk_socket", "ready_file", "transition_log", "exogenous_log"), path)
    world = World.load(WorldConfig(version=1, scenario="calm", seed=7, sites=sites, settlement_points=[], **paths))
    fleet = Fleet(sites, 7, T0, scenario)
    world.script = scenario
    log = ExogenousLog(path, world, T0, fleet.schedules)
    now_s, turn = T0, 0
    while now_s < T0 + hours * 3600:
        now_s = min(now_s + pauses_s[turn % len(pauses_s)], T0 + hours * 3600.0)
        while log.write_until(now_s):
            pass
        turn += 1
    return [json.loads(line) for line in path.read_bytes().splitlines()]


async def test_what_befalls_the_world_is_the_same_whatever_is_commanded_over_any_protocol(tmp_path):
    """The exogenous log beside a world that is driven, against one of a world that nobody touches."""
    quiet = exogenous(tmp_path / "quiet", every_fault(), 24)
    async with ProtocolWorld(tmp_path / "busy", every_fault()) as world:
        sites = world.config.sites
        paths = dict.fromkeys(("anchor", "bulk_socket", "ready_file", "transition_log", "exogenous_log"), tmp_path)
        series = World.load(WorldConfig(version=1, scenario="calm", seed=7, sites=sites, settlement_points=[], **paths))
        series.script = every_fault()
        log = ExogenousLog(tmp_path / "driven", series, T0, world.fleet.schedules)
        for turn in range(24):
            world.clock.at_s += 3600.0
            for slot, command in commands(world, turn)[turn % 3 :: 3]:
                if faults.HUNG not in world.fleet.sites[("one", "two")[turn % 2]].faults.at(slot, world.clock.at_s):
                    try:
                        await command()
                    except (OSError, ValueError, KeyError, EOFError, httpx.TransportError):
                        continue
            while log.write_until(world.clock.at_s):
                pass
    assert [json.loads(line) for line in (tmp_path / "driven").read_bytes().splitlines()] == quiet
    seen = {fault["fault"] for line in quiet for fault in line.get("faults", ())}
    assert seen == set(faults.FAULTS), "every kind of fault is in it"
    assert any("grid.frequency" in line for line in quiet)


def test_what_begins_at_the_edge_of_a_line_stands_in_one_line_alone(tmp_path):
    """Half a second before, on, and half a second after each edge, to the second line of the file and the last."""
    edges_s = (300.0, 600.0, 3300.0)
    starts_s = [edge_s + by_s for edge_s in edges_s for by_s in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    one = {"minutes": 1, "unit": "site", "site": 0}
    events = [{"at_h": start_s / 3600, "kind": KINDS[number], **one} for number, start_s in enumerate(starts_s)]
    dips = [{"at_h": start_s / 3600, "nadir_hz": 59.0 + 0.01 * number} for number, start_s in enumerate(starts_s)]
    lines = exogenous(tmp_path / "log", script(events=events, frequency=dips), 1)
    found = [(fault["fault"], line["simulated_at"]) for line in lines for fault in line.get("faults", ())]
    told = [(dip["nadir_hz"], line["simulated_at"]) for line in lines for dip in line.get("grid.frequency", ())]
    expected = [_line_after(start_s) for start_s in starts_s]
    assert found == [(KINDS[number], line) for number, line in enumerate(expected)]
    assert told == [(pytest.approx(59.0 + 0.01 * number), line) for number, line in enumerate(expected)]


def _line_after(start_s):
    """The first line of the grid that is later than an instant."""
    return f"2025-01-01T00:{int(start_s // 300 + 1) * 5 % 60:02d}:00+00:00".replace(
        "T00:00:00", "T01:00:00" if start_s >= 3300 else "T00:00:00"
    )


def test_no_protocol_commands_a_site_past_the_devices_log():
    """What servers do to devices goes through `TransitionLog` (breakers: through the plant's log), or a restart forgets it."""
    past = re.compile(r"site\.(set_state|put|limit|impose|lift|end_work)\(")
    servers = [path for folder in ("miners", "gpus", "power_plant") for path in (ROOM / folder).glob("*.py")]
    found = [path.name for path in [*servers, ROOM / "bulk.py"] if past.search(path.read_text())]
    assert found == []
    assert past.search((ROOM / "durability.py").read_text())
