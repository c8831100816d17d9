"""Scenario files and what they bring: prices, weather, GPU demand, a network, and two logs that are the same to the byte."""

import asyncio
import json
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from pyroaring import BitMap

from simulators.bulk import BulkServer
from simulators.clock import ManualClock
from simulators.durability import TransitionLog
from simulators.exogenous import ExogenousLog
from simulators.fleet import Fleet
from simulators.gpu import GpuMarket
from simulators.network import RETRANSMIT_S, Network
from simulators.power import PowerGenerator
from simulators.replay import load_recording
from simulators.scenarios import Scenario, read_scenario, scenario_named, scenario_names
from simulators.script import Script
from simulators.series import World
from simulators.settings import WorldConfig, WorldConfigError
from simulators.weather import Weather
from tests.support.world import (
    ASLEEP,
    BATCH,
    ECO,
    EVERY_GPU,
    FIRST_GPU,
    FULL,
    IDLE,
    MINERS,
    T0,
    make_site,
    script,
    site_config,
)  # fmt: skip

NAMES = (
    "bad-data", "btc-crash", "calm", "exchange-disagreement", "gpu-shortage", "heat-wave", "lying-miners",
    "negative-night", "network-partition", "price-revision", "winter-storm",
)  # fmt: skip
DAY_S = 86_400


def script_of(name) -> Script:
    return Script(scenario_named(name))


def world_of(name, sites=("one", "two"), seed=7) -> World:
    paths = dict.fromkeys(("anchor", "bulk_socket", "ready_file", "transition_log", "exogenous_log"), Path("unused"))
    configs = [site_config(site) for site in sites]
    return World.load(WorldConfig(version=1, scenario=name, seed=seed, sites=configs, settlement_points=[], **paths))


def test_every_scenario_loads_and_says_what_it_is():
    assert scenario_names() == sorted(NAMES)
    assert {scenario_named(name).name for name in NAMES} == set(NAMES)
    assert len({scenario_named(name).description for name in NAMES}) == len(NAMES)


def test_in_a_calm_world_no_device_ever_fails_and_no_message_is_late():
    calm = script_of("calm")
    fleet = Fleet([site_config()], 7, T0, calm)
    assert fleet.schedules["one"].is_empty
    assert fleet.network.is_ideal
    assert (calm.scenario.prices, calm.scenario.weather, calm.scenario.events) == ([], [], [])
    assert (calm.scenario.bitcoin, calm.scenario.services.troubles, calm.scenario.services.revisions) == ([], [], [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("description: a scenario\nnight_wnd: 3", "night_wnd: Extra inputs"),
        ("description: short", "description: String should have at least 10"),
        (
            "description: a scenario\nevents: [{at_h: 1, minutes: 5, kind: rain}]",
            "'rain' is no fault; there are board_drop",
        ),
        (
            "description: a scenario\nweather: [{from_h: 5, until_h: 4, shift_celsius: 1}]",
            "is too short to rise and fade",
        ),
        (
            "description: a scenario\nrepeat_h: 24\nweather: [{from_h: 5, until_h: 40, shift_celsius: 1}]",
            "due at hour 40",
        ),
        ("description: [", "is not YAML"),
    ],
)
def test_a_wrong_scenario_file_names_the_field(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(WorldConfigError, match=message):
        read_scenario(path)


def test_a_winter_storm_shows_within_its_first_hour():
    calm, storm = script_of("calm"), script_of("winter-storm")
    hour = (np.arange(12) * 300 + T0).astype(np.int64)
    prices = [PowerGenerator(7, each.scenario).lmp("HB_NORTH", hour) for each in (calm, storm)]
    assert prices[1][-1] > prices[0][-1] + 500
    assert prices[1][0] == prices[0][0]
    cold, usual = Weather(7, storm), Weather(7, calm)
    assert cold.temperature_c("HB_NORTH", T0 + 40_000) == pytest.approx(
        usual.temperature_c("HB_NORTH", T0 + 40_000) - 20
    )
    one = Fleet([site_config()], 7, T0, storm).sites["one"]
    assert not one.faults.mask("power_lost", T0 + 3599).any()
    assert one.faults.mask("power_lost", T0 + 3600 + 900).sum() in (32, 40)  # a tenth of its 12 PDUs


def test_a_heat_wave_begins_in_summer_and_a_winter_storm_after_a_week_again():
    heat, storm = script_of("heat-wave"), script_of("winter-storm")
    assert world_of("heat-wave").start_s() == heat.origin_s == scenario_named("heat-wave").begins.timestamp()
    noon_s = heat.origin_s + 53 * 3600
    assert Weather(7, heat).temperature_c("HB_NORTH", noon_s) > 36
    week_s = 7 * DAY_S
    at_s = storm.origin_s + 3600 * np.arange(0.0, 160.0)
    assert np.array_equal(storm.temperature_c(at_s), storm.temperature_c(at_s + week_s))
    assert storm.temperature_c(at_s - week_s).tolist() == [0.0] * len(at_s)


def test_a_gpu_shortage_doubles_rates_and_sells_out():
    short, plenty = GpuMarket(7, script_of("gpu-shortage")), GpuMarket(7, script_of("calm"))
    at_s = T0 + 12 * 3600
    rates = [np.median([offer.usd_per_gpu_hour for offer in market.offers(at_s)]) for market in (short, plenty)]
    assert rates[0] / rates[1] == pytest.approx(2.1, rel=0.01)
    sold_out = [np.mean([o.stock_status == "Unavailable" for o in market.offers(at_s)]) for market in (short, plenty)]
    assert sold_out[0] > 0.7 > 0.4 > sold_out[1]
    assert [o.usd_per_gpu_hour for o in GpuMarket(7).offers(T0)] == [o.usd_per_gpu_hour for o in plenty.offers(T0)]


def write_exogenous(path, name, pauses_s, hours=30, *, is_busy=False) -> bytes:
    """The log of a world that is looked at after pauses of these lengths, in turn."""
    world = world_of(name)
    fleet = Fleet(world.config.sites, 7, world.start_s(), world.script, world.weather)
    log = ExogenousLog(path, world, world.start_s(), fleet.schedules)
    now_s, turn = float(world.start_s()), 0
    while now_s < world.start_s() + hours * 3600:
        now_s = min(now_s + pauses_s[turn % len(pauses_s)], world.start_s() + hours * 3600.0)
        turn += 1
        while log.write_until(now_s):
            pass
        if is_busy:
            for site in fleet.sites.values():
                site.set_state((FULL, ASLEEP)[turn % 2], BitMap(range(turn % 200)), now_s)
    return path.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_the_exogenous_log_is_byte_equal_whatever_the_pace_and_the_platform(tmp_path, name):
    slow = write_exogenous(tmp_path / "slow", name, [299.0, 1.0, 37.5, 900.0], is_busy=True)
    fast = write_exogenous(tmp_path / "fast", name, [100_000.0])
    assert slow == fast
    lines = [json.loads(line) for line in slow.splitlines()]
    assert len(lines) == 361
    assert all("weather.temperature/HB_NORTH" in line["values"] for line in lines)
    faults = [fault for line in lines for fault in line.get("faults", ())]
    assert {fault["site"] for fault in faults} == (
        {"one", "two"} if scenario_named(name).faults.profile != "none" else set()
    )
    assert all(line["simulated_at"] >= fault["from"] for line in lines for fault in line.get("faults", ()))
    world = world_of(name)
    first_s, last_s = world.start_s() - 300.0, world.start_s() + 30 * 3600.0
    schedules = Fleet(world.config.sites, 7, first_s, world.script).schedules.values()
    assert len(faults) == sum(len(schedule.between(first_s, last_s)) for schedule in schedules)


def run_in_lock_step(folder, name, *, lookers) -> bytes:
    """A recorded command script, and the whole of the devices' log after it."""
    folder.mkdir()
    the_script = script_of(name)
    clock = ManualClock(the_script.origin_s)
    fleet = Fleet([site_config("one"), site_config("two")], 7, clock.at_s, the_script)
    log = TransitionLog(folder / "transitions.jsonl", fleet, clock)
    draw = np.random.default_rng(3)
    for turn in range(120):
        pause_s = float(draw.choice([1.0, 30.0, 450.0, 3600.0]))
        for looker in range(lookers):
            for other in fleet.sites.values():
                other.power_w(clock.at_s + pause_s * looker / lookers)
                other.gpu(EVERY_GPU[looker], clock.at_s + pause_s * looker / lookers)
        clock.at_s += pause_s
        site = fleet.sites[("one", "two")[turn % 2]]
        slots = BitMap(draw.choice(MINERS + 72, 200, replace=False).astype(np.uint32))
        ref = bytes([turn] * 16)
        log.set_state(site, ref, 0, int(draw.choice([ASLEEP, ECO, FULL, BATCH])), slots)
        if turn % 20 == 10:
            log.limit(site, ref, 3000.0, slots)
    return (folder / "transitions.jsonl").read_bytes()


def test_a_recorded_command_script_in_lock_step_gives_the_same_log_to_the_byte(tmp_path):
    once = run_in_lock_step(tmp_path / "a", "winter-storm", lookers=0)
    assert run_in_lock_step(tmp_path / "b", "winter-storm", lookers=0) == once
    lines = [json.loads(line) for line in once.splitlines()]
    assert len(lines) > 120
    restarted = [line for line in lines if line.get("state") == IDLE]  # the script commands nobody into it
    assert restarted
    watched = [json.loads(each) for each in run_in_lock_step(tmp_path / "c", "winter-storm", lookers=3).splitlines()]
    for site in ("one", "two"):  # who looks in between only moves lines of two sites past each other
        keys = ("simulated_at", "ref", "state", "limit_w", "changed", "slots")
        told = [[[line.get(key) for key in keys] for line in each if line["site"] == site] for each in (lines, watched)]
        assert told[0] == told[1]


def test_links_are_late_by_their_plan_lossy_by_theirs_and_the_same_by_seed():
    plan = {"latency_ms": 20, "jitter_ms": 5, "loss_fraction": 0.1}
    network = Network(7, script(network=plan), ["one", "two"])
    delays = np.array([network.link("one").delay_s() for _ in range(300)])
    link = Network(7, script(network=plan), ["one", "two"]).link("one")
    again = [link.delay_s() for _ in range(300)]
    assert again[0] == delays[0]
    assert (delays >= 0.02).all()
    late = delays > RETRANSMIT_S
    assert late.mean() == pytest.approx(0.1, abs=0.06)
    assert delays[~late].mean() == pytest.approx(0.024, abs=0.002)
    assert Network(7, script(), ["one"]).is_ideal
    assert not network.is_ideal


def test_a_cut_holds_for_its_site_and_its_hours():
    network = Network(7, script_of("network-partition"), ["one", "two"])
    origin_s = script_of("network-partition").origin_s
    one, two = network.link("one"), network.link("two")
    assert [one.is_cut(origin_s + hour * 3600) for hour in (0.4, 0.6, 1.2, 1.4, 24.6)] == [
        False,
        True,
        True,
        False,
        True,
    ]
    assert [two.is_cut(origin_s + hour * 3600) for hour in (0.6, 6.1)] == [False, True]


HELLO, SET, METER = 0x01, 0x02, 0x04


class Peer:
    """A bare client of the bulk channel."""

    def __init__(self, path):
        self._path = path

    async def hello(self, site: str):
        self._reader, self._writer = await asyncio.open_unix_connection(str(self._path))
        return await self.ask(HELLO, struct.pack("<HH", 1, len(site)) + site.encode())

    async def ask(self, kind, payload=b""):
        self._writer.write(struct.pack("<IBI", 5 + len(payload), kind, 1) + payload)
        (length,) = struct.unpack("<I", await self._reader.readexactly(4))
        return await self._reader.readexactly(length)

    def close(self):
        self._writer.close()


async def test_a_site_that_is_cut_off_hears_nothing_and_carries_nothing_out_late(tmp_path):
    cuts = [{"from_h": 1, "until_h": 2, "site": 0}]
    the_script = script(network={"latency_ms": 20, "cuts": cuts})
    clock = ManualClock(T0)
    fleet = Fleet([site_config("one"), site_config("two")], 7, T0, the_script)
    server = BulkServer(tmp_path / "b.sock", fleet, TransitionLog(tmp_path / "t.jsonl", fleet, clock), clock)
    await server.start()
    one, two, new = Peer(tmp_path / "b.sock"), Peer(tmp_path / "b.sock"), Peer(tmp_path / "b.sock")
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await one.hello("one")
    assert loop.time() - began_s > 0.039  # there and back
    await two.hello("two")
    clock.at_s = T0 + 3700
    command = bytes(16) + struct.pack("<HB", 0, FULL) + BitMap(range(10)).serialize()
    unheard = asyncio.create_task(one.ask(SET, command))
    unseen = asyncio.create_task(new.hello("one"))
    await asyncio.wait_for(two.ask(METER), 60)
    await asyncio.sleep(0.2)
    assert not unheard.done()
    assert not unseen.done()
    clock.at_s = T0 + 7300
    for lost in (unheard, unseen):
        with pytest.raises(asyncio.IncompleteReadError):
            await asyncio.wait_for(lost, 60)
    assert set(fleet.sites["one"].commanded[:10]) == {ASLEEP}
    one.close()
    await asyncio.wait_for(one.hello("one"), 60)
    await asyncio.wait_for(one.ask(SET, command), 60)
    assert set(fleet.sites["one"].commanded[:10]) == {FULL}
    for peer in (one, two, new):
        peer.close()
    await server.stop()


def test_recorded_temperatures_go_to_the_points_whose_climate_they_are_of(tmp_path):
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    hours = [begin + timedelta(hours=n) for n in range(48)]
    for name, level in (("a", 12.0), ("b", 3.0)):
        values = [level + n % 5 for n in range(48)]
        values[7] = None
        pl.DataFrame({"interval_start_utc": hours, "temperature_c": values}).write_parquet(tmp_path / f"{name}.parquet")
    weather = Weather(7, script_of("winter-storm"), load_recording(tmp_path).temperatures)
    at_s = begin.timestamp()
    assert weather.temperature_c("HB_HOUSTON", at_s + 1800) == 12.5
    assert weather.temperature_c("HB_NORTH", at_s + 4 * 3600) == 7.0
    assert [weather.is_recorded("HB_NORTH", at_s + hour * 3600) for hour in (-1, 0, 7, 47, 48)] == [
        False,
        True,
        False,
        True,
        False,
    ]
    missing = Weather(7, script_of("winter-storm")).temperature_c("HB_HOUSTON", at_s + 7 * 3600)
    assert weather.temperature_c("HB_HOUSTON", at_s + 7 * 3600) == missing


def test_a_scenario_cannot_be_changed_once_it_is_read():
    with pytest.raises(ValueError, match="frozen"):
        scenario_named("calm").night_wind = 2.0
    assert isinstance(scenario_named("calm"), Scenario)


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"kind": "fallen_off_bus"}, 79),
        ({"kind": "nvlink"}, 74),
        ({"kind": "ecc"}, 94),
        ({"kind": "ecc", "xid": 95}, 95),
        ({"kind": "xid", "xid": 63}, 63),
        ({"kind": "node_lost"}, 0),
    ],
)
def test_a_scripted_fault_of_a_gpu_comes_with_its_xid(event, code):
    plan = script(events=[{"at_h": 1.0, "minutes": 30, "devices": "GPU", **event}])
    site = make_site(plan)
    site.advance(T0 + 3700)
    assert site.faults.xid(FIRST_GPU, T0 + 3700) == code


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"kind": "xid"}, "needs its code"),
        ({"kind": "lying", "xid": 79}, "no fault of a GPU"),
        ({"kind": "xid", "xid": 0}, "xid"),
    ],
)
def test_an_xid_that_makes_no_sense_is_refused(event, words):
    with pytest.raises(ValidationError, match=words):
        script(events=[{"at_h": 1.0, "minutes": 30, **event}])
