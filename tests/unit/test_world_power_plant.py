"""The simulated power plant, without sockets: breakers trip on their curve, the relay sheds, pumps fail, energy adds up."""

import asyncio
import json
import math
from datetime import datetime

import numpy as np
import pytest
from pyroaring import BitMap

from simulators.clock import ManualClock, iso
from simulators.devices import BOOT_S
from simulators.durability import TransitionLog
from simulators.fleet import Fleet
from simulators.power_plant.attach import Plants
from simulators.power_plant.breaker import Breaker, BreakerState, trip_after_s
from simulators.power_plant.config import CoolingConfig, RelayConfig
from simulators.power_plant.cooling import Alarm, CoolingPlant
from simulators.power_plant.frequency import Excursion, GridFrequency
from simulators.power_plant.pumps import PumpScript
from simulators.scenarios import Scenario
from simulators.script import Script
from simulators.settings import SiteConfig

T0 = 1_736_000_000.0
ASLEEP, FULL, IDLE, BATCH = 0, 3, 1, 5
MINERS, GPUS = 100, 20
FULL_W, PUE = 3500.0, 1.25


def site_config(limit_kw=500.0, **changes):
    def group(name, kind, first, devices, *states):
        ramps = {"ramp_up_s": 0, "ramp_down_s": 0}
        steps = [{"state": state, "power_w": watts, **ramps} for state, watts in states]
        return {
            "group": name,
            "kind": kind,
            "model": name,
            "feeder": name,
            "first_slot": first,
            "devices": devices,
            "states": steps,
        }

    document = {
        "site": "one", "settlement_point": "HB_NORTH", "pue": PUE,
        "feeders": [
            {"feeder": "miners", "limit_w": limit_kw * 1000, "is_interruptible": True},
            {"feeder": "gpus", "limit_w": 50_000},
        ],
        "groups": [
            group("miners", "ASIC", 0, MINERS, (ASLEEP, 25.0), (FULL, FULL_W)),
            group("gpus", "GPU", MINERS, GPUS, (IDLE, 450.0), (BATCH, 1300.0)),
        ],
    } | changes  # fmt: skip
    return SiteConfig.model_validate(document)


class World:
    """One site with its plant, moved by hand."""

    def __init__(self, folder, config=None, seed=7, plan=None):
        self.clock = ManualClock(T0)
        self.fleet = Fleet([config or site_config()], seed, T0)
        self.transitions = TransitionLog(folder / "transitions.jsonl", self.fleet, self.clock)
        self.plants = Plants(self.fleet, folder / "plant.jsonl", GridFrequency(seed, plan), self.transitions.touch)
        self.site = self.fleet.sites["one"]
        self.plant = self.site.plant
        self._folder = folder

    def to(self, after_s):
        self.clock.at_s = T0 + after_s
        self.site.advance(self.clock.at_s)
        return self

    def mine(self, miners=MINERS):
        self.transitions.set_state(self.site, bytes(16), 0, FULL, BitMap(range(miners)))

    def state(self, feeder="miners"):
        return self.plant.breakers[feeder].state

    def entries(self):
        lines = (self._folder / "plant.jsonl").read_text().splitlines()
        return [(e["what"], e["name"], e["state"]) for e in map(json.loads, lines)]

    def tripped_after_s(self, within_s=2000):
        for second in range(1, within_s):
            self.to(second)
            if self.state() == BreakerState.TRIPPED:
                return second
        return math.inf


@pytest.fixture
def world(tmp_path):
    made = []

    def make(config=None, **arguments):
        made.append(World(tmp_path, config, **arguments))
        return made[-1]

    yield make
    for one in made:
        one.plants.close()


@pytest.mark.parametrize("overload", [1.1, 1.25, 1.5, 2.0, 4.0])
def test_a_breaker_trips_when_its_curve_says(overload):
    breaker, seconds = Breaker(1000.0), 0
    while not breaker.carry(1000.0 * overload, 1.0):
        seconds += 1
    assert seconds + 1 == math.ceil(80.0 / (overload**2 - 1.0))
    assert breaker.state == BreakerState.TRIPPED
    assert breaker.trips == 1


def test_at_its_limit_a_breaker_never_trips_and_at_ten_times_at_once():
    breaker = Breaker(1000.0)
    assert not any(breaker.carry(1050.0, 3600.0) for _ in range(1000))
    assert trip_after_s(1.06) < 900
    assert breaker.carry(10_000.0, 0.001)


def test_an_overload_that_ends_is_forgotten_only_slowly():
    breaker = Breaker(1000.0)
    assert not breaker.carry(1500.0, 60.0)  # of 64 s
    breaker.carry(500.0, 10.0)
    assert 0.7 < breaker.heat < 0.9
    breaker.carry(0.0, 60.0)
    assert breaker.heat == 0.0


def test_a_breaker_that_is_closed_hot_trips_again_in_a_tenth_of_the_time():
    breaker = Breaker(1000.0)
    assert breaker.carry(2000.0, 27.0)
    breaker.state = BreakerState.CLOSED
    seconds = next(n for n in range(1, 100) if breaker.carry(2000.0, 1.0))
    assert seconds == 3, "of 27 s when it was cold"
    breaker.carry(0.0, 600.0)
    breaker.state = BreakerState.CLOSED
    assert next(n for n in range(1, 100) if breaker.carry(2000.0, 1.0)) == 27, "it has cooled"


@pytest.mark.parametrize(("overload", "seconds"), [(1.25, 142), (2.0, 27)])
def test_a_feeder_that_is_overloaded_trips_and_its_devices_go_dark(world, overload, seconds):
    one = world(site_config(limit_kw=MINERS * FULL_W * PUE / 1000 / overload))
    one.mine()
    assert one.tripped_after_s() == pytest.approx(seconds, rel=0.03, abs=1)
    power_w = one.site.power_w(one.site.at_s)
    assert power_w[:MINERS].sum() == 0
    assert power_w[MINERS:].sum() == pytest.approx(GPUS * 450.0, rel=0.02)  # the other feeder doesn't notice
    assert one.site.reachable[:MINERS].sum() == 0
    assert one.site.reachable[MINERS:].all()
    assert one.entries() == [("breaker", "miners", "tripped")]


def test_the_trip_is_at_the_same_instant_however_seldom_anybody_looks(tmp_path):
    instants = []
    for number, looks in enumerate((range(1, 400), [399], [7, 100, 101.5, 399])):
        folder = tmp_path / str(number)
        folder.mkdir()
        one = World(folder, site_config(limit_kw=MINERS * FULL_W * PUE / 1250))
        one.mine()
        for second in looks:
            one.to(second)
        instants.append(((folder / "plant.jsonl").read_bytes(), one.site.energy_wh))
        one.plants.close()
    logs, energies = zip(*instants, strict=True)
    assert len(set(logs)) == 1
    assert b"tripped" in logs[0]
    assert energies == pytest.approx([energies[0]] * 3, rel=1e-9)


def test_within_its_limits_a_site_is_looked_at_once_a_minute(world):
    one = world()
    assert one.plant.next_after(T0) - T0 <= 60
    one.mine()
    assert one.tripped_after_s(400) == math.inf


def test_a_dark_device_takes_no_command(world):
    one = world()
    one.to(1).plant.command("miners", False, T0 + 1)
    result = one.site.set_state(FULL, BitMap([0, MINERS]), T0 + 2)
    assert (list(result.accepted), sorted(result.refused)) == ([], [0, MINERS])  # the GPU has no such state
    assert one.site.set_state(BATCH, BitMap([MINERS]), T0 + 2).changed == BitMap([MINERS])


def test_after_power_returns_miners_go_on_as_commanded_and_gpus_come_back_idle(world):
    one = world()
    one.mine(50)
    one.transitions.set_state(one.site, bytes(16), 0, BATCH, BitMap([MINERS, MINERS + 1]))
    for feeder in ("miners", "gpus"):
        one.plant.command(feeder, False, T0 + 10)
    assert one.to(20).site.site_power_w(T0 + 20) == 0
    for feeder in ("miners", "gpus"):
        assert one.plant.command(feeder, True, T0 + 30)
    assert one.to(30 + BOOT_S["ASIC"] - 1).site.power_w(one.site.at_s)[:MINERS].sum() == 0
    assert one.site.reachable[:MINERS].sum() == 0
    one.to(30 + BOOT_S["ASIC"] + 1)
    assert one.site.reachable[:MINERS].all()
    assert one.site.power_w(one.site.at_s)[:50].sum() == pytest.approx(50 * FULL_W, rel=0.02)
    assert one.site.power_w(one.site.at_s)[50:MINERS].sum() == pytest.approx(50 * 25.0)
    one.to(30 + BOOT_S["GPU"] + 1)
    assert set(one.site.commanded[MINERS:]) == {IDLE}
    last = json.loads((one._folder / "transitions.jsonl").read_text().splitlines()[-1])
    assert (last["state"], last["changed"], last["assignment"]) == (IDLE, 2, 0)
    assert last["ref"] != "00000000-0000-0000-0000-000000000000"


def test_a_sleeping_whatsminer_mines_after_a_cut_and_the_devices_log_says_so(world):
    document = site_config().model_dump()
    document["groups"][0] |= {"firmware": "whatsminer-v3"}
    document["groups"][0]["states"][1]["hash_rate_th_per_s"] = 186.0
    one = world(SiteConfig.model_validate(document))
    one.plant.command("miners", False, T0 + 1)
    one.plant.command("miners", True, T0 + 2)
    one.to(200)
    assert set(one.site.commanded[:MINERS]) == {FULL}
    assert one.site.power_w(T0 + 200)[:MINERS].sum() == pytest.approx(MINERS * FULL_W, rel=0.02)
    last = json.loads((one._folder / "transitions.jsonl").read_text().splitlines()[-1])
    assert (last["state"], last["changed"]) == (FULL, MINERS)


def test_a_tripped_breaker_closes_only_after_a_reset(world):
    one = world(site_config(limit_kw=MINERS * FULL_W * PUE / 2000))
    one.mine()
    at_s = T0 + one.tripped_after_s()
    assert not one.plant.command("miners", True, at_s)
    assert one.plant.command("miners", False, at_s)  # it is open already
    assert one.state() == BreakerState.TRIPPED
    assert one.plant.reset("miners", at_s)
    assert one.state() == BreakerState.OPEN
    assert one.plant.command("miners", True, at_s)
    again = next(s for s in range(1, 500) if one.to(at_s - T0 + s).state() == BreakerState.TRIPPED)
    assert BOOT_S["ASIC"] < again <= BOOT_S["ASIC"] + 28
    assert one.plant.breakers["miners"].trips == 2


def test_a_relay_sheds_what_is_interruptible_until_it_is_recalled(world):
    one = world()
    one.mine()
    one.plants.frequency.add(Excursion(T0 + 100, 59.5, fall_s=1.0, hold_s=10.0, recover_s=20.0))
    one.to(100)
    assert one.state() == BreakerState.CLOSED
    one.to(101)  # 59.7 Hz are reached at 100.6 s, the relay waits 0.25 s
    assert (one.state(), one.state("gpus")) == (BreakerState.SHED_BY_RELAY, BreakerState.CLOSED)
    assert one.plant.relay_tripped_at_s == pytest.approx(T0 + 100.85, abs=1e-3)
    assert one.site.power_w(one.site.at_s)[:MINERS].sum() == 0
    assert not one.plant.recall(T0 + 105)  # the frequency is still low
    assert not one.plant.command("miners", True, T0 + 200)
    assert not one.plant.reset("miners", T0 + 200)
    assert one.plant.recall(T0 + 201)
    assert one.state() == BreakerState.CLOSED
    assert one.entries() == [
        ("relay", "relay", "shed_by_relay"), ("breaker", "miners", "shed_by_relay"),
        ("relay", "relay", "in_service"), ("breaker", "miners", "closed"),
    ]  # fmt: skip


def test_a_dip_may_end_with_a_recall_for_everybody(world):
    one = world()
    one.mine()
    one.plants.frequency.add(Excursion(T0 + 10, 59.5, fall_s=1, hold_s=10, recover_s=19, recall_after_s=600))
    assert one.to(630).state() == BreakerState.SHED_BY_RELAY
    assert one.to(650).state() == BreakerState.CLOSED
    assert one.entries()[-1] == ("breaker", "miners", "closed")
    stamps = [json.loads(line)["simulated_at"] for line in (one._folder / "plant.jsonl").read_text().splitlines()]
    assert stamps[-1] == iso(T0 + 640)


def test_a_short_or_shallow_dip_sheds_nothing():
    relay = RelayConfig(trip_hz=59.7, delay_s=0.5)
    assert Excursion(0, 59.5, fall_s=0.5, hold_s=0.1, recover_s=0.2).pick_up_s(relay) is None
    assert Excursion(0, 59.71, hold_s=600).pick_up_s(relay) is None
    assert Excursion(0, 59.5, fall_s=1, hold_s=5, recover_s=1).pick_up_s(relay) == pytest.approx(0.6 + 0.5)


def test_the_frequency_stays_near_nominal_and_follows_its_script():
    grid = GridFrequency(7)
    grid.add(Excursion(1000.0, 59.4, fall_s=2, hold_s=20, recover_s=100))
    quiet = np.array([grid.hz(float(s)) for s in range(2000, 6000)])
    assert abs(quiet - 60.0).max() < 0.03
    assert quiet.std() > 0.005
    assert (grid.hz(1001.0), grid.hz(1010.0), grid.hz(1072.0)) == pytest.approx((59.7, 59.4, 59.7))
    assert GridFrequency(7).hz(123.0) == GridFrequency(7).hz(123.0) != GridFrequency(8).hz(123.0)
    with pytest.raises(ValueError, match="overlap"):
        grid.add(Excursion(1100.0, 59.9))


def test_a_scenarios_script_brings_dips_again_each_period():
    dip = {"at_h": 2.0, "nadir_hz": 59.5, "fall_s": 1.0, "hold_s": 60.0, "recover_s": 30.0, "recall_minutes": 15.0}
    scenario = Scenario(name="s", description="one dip each day", repeat_h=24.0, frequency=[dip])
    grid = GridFrequency(7, Script(scenario, T0))
    relay = RelayConfig(trip_hz=59.7, delay_s=0.4)
    assert [grid.hz(T0 + 7200.0 + day * 86_400 + 30) for day in (0, 1, 5)] == [59.5] * 3
    assert grid.hz(T0 + 7200.0 + 12 * 3600) != 59.5
    assert grid.pick_ups_s(relay, T0, T0 + 3 * 86_400) == pytest.approx(
        [T0 + 7201.0 + day * 86_400 for day in range(3)]
    )
    assert grid.recalls_s(T0, T0 + 2 * 86_400) == [T0 + 7200 + 91 + 900, T0 + 7200 + 91 + 900 + 86_400]
    with pytest.raises(ValueError, match="begins anew after"):
        Scenario(name="s", description="a dip too late", repeat_h=1.0, frequency=[dip])


def cooled(**changes):
    cooling = {
        "pumps": 2,
        "pump_capacity_fraction": 0.6,
        "heating_celsius_per_minute": 2.0,
        "fixed_fraction": 0.2,
    } | changes
    return site_config(plant={"cooling": cooling})


def test_without_a_cooling_plant_pue_is_constant(world):
    one = world()
    one.mine()
    assert {one.to(s).site.pue_at(T0 + s) for s in (1, 3600, 40_000)} == {PUE}


def test_pue_rises_with_the_outdoor_temperature_and_falls_with_the_load():
    hot = {"now": 10.0}
    plant = CoolingPlant(CoolingConfig(), PUE, 1e6, lambda _at_s: hot["now"], T0)

    def pue(celsius, load):
        hot["now"] = celsius
        plant.step(T0, 10.0, load * 1e6)
        return plant.pue

    by_heat = [pue(celsius, 0.8) for celsius in (-10, 10, 20, 25, 30, 40)]
    assert by_heat == sorted(by_heat)
    assert by_heat[-1] > by_heat[0] + 0.04
    by_load = [pue(25, load) for load in (0.01, 0.05, 0.2, 0.5, 1.0)]
    assert by_load == sorted(by_load, reverse=True)
    assert pue(20, 1.0) == pytest.approx(PUE)


def test_the_supply_is_six_degrees_above_the_air_outside_and_never_below_the_set_point():
    outdoor = {"now": 30.0}
    plant = CoolingPlant(CoolingConfig(), PUE, 1e6, lambda _at_s: outdoor["now"], T0)
    assert plant.supply_celsius == 36.0
    for outside, supply in ((25.0, 31.0), (-20.0, CoolingConfig().setpoint_celsius), (35.0, 41.0)):
        outdoor["now"] = outside
        for hour in range(3):
            plant.step(T0 + 3600 * hour, 3600.0, 0.5e6)
        assert plant.supply_celsius == pytest.approx(supply, abs=0.01)


def test_the_meter_shows_it_power_times_pue_and_energy_is_its_integral(world):
    one = world(cooled())
    one.mine(80)
    powers, energy = [], one.site.energy_wh
    for second in range(1, 7201, 10):
        one.to(second)
        it_w = float(one.site.power_w(one.site.at_s).sum(dtype=np.float64))
        powers.append(one.site.site_power_w(one.site.at_s))
        assert powers[-1] == pytest.approx(it_w * one.site.pue_at(one.site.at_s))
    assert max(powers) > min(powers)  # the afternoon is not the morning
    one.to(7201)
    assert one.site.energy_wh - energy == pytest.approx(sum(powers) * 10 / 3600, rel=1e-3)


def test_pumps_that_fail_warm_the_hall_within_minutes_and_trip_it(world):
    one = world(cooled())
    one.mine()
    one.transitions.set_state(one.site, bytes(16), 0, BATCH, BitMap(range(MINERS, MINERS + GPUS)))
    one.to(600)
    cool = one.site.ambient_c(one.site.at_s)
    before = one.site.miner(0, one.site.at_s)
    one.plant.set_failed_pumps([0], T0 + 600)
    assert cool + 3 < one.to(1200).site.ambient_c(one.site.at_s) < cool + 14  # one of two still carries 60 %
    one.plant.set_failed_pumps([0, 1], T0 + 1200)
    start = one.site.ambient_c(T0 + 1200)
    assert one.to(1320).site.ambient_c(one.site.at_s) == pytest.approx(start + 4.0, abs=0.5)  # 2 °C a minute
    assert one.plant.cooling.alarms & Alarm.PUMP_FAILED
    assert min(one.site.miner(0, one.site.at_s).fan_rpm) > max(before.fan_rpm)
    while one.state() == BreakerState.CLOSED and one.site.at_s < T0 + 7200:
        hottest = one.to(one.site.at_s - T0 + 30).site.miner(0, one.site.at_s)
    assert hottest.chip_temperature_c > before.chip_temperature_c + 5
    assert (one.state(), one.state("gpus")) == (BreakerState.TRIPPED_HOT, BreakerState.TRIPPED_HOT)
    assert one.site.site_power_w(one.site.at_s) == 0
    assert not one.plant.reset_cooling(one.site.at_s)
    one.plant.set_failed_pumps([], one.site.at_s)
    one.to(one.site.at_s - T0 + 1800)
    assert not one.plant.reset("miners", one.site.at_s)  # first the plant, then its breakers
    assert one.plant.reset_cooling(one.site.at_s)
    assert one.plant.reset("miners", one.site.at_s)
    assert one.plant.command("miners", True, one.site.at_s)
    assert ("cooling", "cooling", "tripped") in one.entries()


def test_an_interlock_that_resets_itself_closes_what_it_has_opened_once_the_hall_is_cool(world):
    one = world(cooled(reset_celsius=40.0))
    one.mine()
    one.to(600).plant.set_failed_pumps([0, 1], T0 + 600)
    while one.state() == BreakerState.CLOSED and one.site.at_s < T0 + 7200:
        one.to(one.site.at_s - T0 + 10)
    assert (one.state(), one.state("gpus")) == (BreakerState.TRIPPED_HOT, BreakerState.TRIPPED_HOT)
    one.plant.set_failed_pumps([], one.site.at_s)
    supplied = [one.site.ambient_c(one.site.at_s)]
    while one.state() == BreakerState.TRIPPED_HOT and one.site.at_s < T0 + 14_400:
        supplied.append(one.to(one.site.at_s - T0 + 10).site.ambient_c(one.site.at_s))
    assert (one.state(), one.state("gpus")) == (BreakerState.CLOSED, BreakerState.CLOSED)
    assert supplied[-1] < 40.0 <= supplied[-2]
    assert ("cooling", "cooling", "in_service") in one.entries()


def test_an_interlock_that_resets_itself_leaves_to_the_relay_what_the_relay_keeps_open(world):
    one = world(cooled(reset_celsius=40.0))
    one.mine()
    one.to(600).plant.set_failed_pumps([0, 1], T0 + 600)
    while one.state() == BreakerState.CLOSED and one.site.at_s < T0 + 7200:
        one.to(one.site.at_s - T0 + 10)
    tripped_s = one.site.at_s - T0
    one.plants.frequency.add(Excursion(T0 + tripped_s + 5, 59.4, fall_s=1.0, hold_s=7200.0, recover_s=60.0))
    one.plant.set_failed_pumps([], one.site.at_s)
    assert one.to(tripped_s + 3600).site.ambient_c(one.site.at_s) < 40.0
    assert (one.plant.is_shed, one.state()) == (True, BreakerState.TRIPPED_HOT)
    one.to(tripped_s + 7500).plant.recall(one.site.at_s)
    assert one.to(tripped_s + 7520).state() == BreakerState.CLOSED


def test_a_transformer_has_a_breaker_too_and_takes_its_feeders_with_it(world):
    tree = [
        {"node": "building-1", "kind": "building"},
        {"node": "tx-1", "kind": "transformer", "parent": "building-1", "limit_w": 300_000, "feeders": ["miners", "gpus"]},
        {"node": "rack-3", "kind": "rack", "first_slot": 30, "devices": 10},
        {"node": "loop-1", "kind": "cooling_loop", "feeders": ["gpus"], "first_slot": 0, "devices": 5},
    ]  # fmt: skip
    one = world(site_config(plant={"topology": tree}))
    points = one.plant.topology.points
    assert [(p.name, p.unit) for p in one.plant.topology.breakers] == [("miners", 10), ("gpus", 11), ("tx-1", 12)]
    assert points["building-1"].runs == points["tx-1"].runs == ((0, MINERS + GPUS),)
    assert [p.name for p in one.plant.topology.of_kind("rack")] == ["rack-3"]
    assert list(points["rack-3"].slots) == list(range(30, 40))
    assert points["loop-1"].runs == ((0, 5), (MINERS, MINERS + GPUS))
    one.mine()
    one.to(200)
    assert (one.state("tx-1"), one.state()) == (BreakerState.TRIPPED, BreakerState.CLOSED)
    assert one.site.site_power_w(one.site.at_s) == 0


def test_breakers_relay_and_pumps_are_as_they_were_after_a_restart(tmp_path):
    one = World(tmp_path, cooled())
    one.mine()
    one.plants.frequency.add(Excursion(T0 + 10, 59.5, fall_s=1.0, hold_s=10.0, recover_s=20.0))
    one.to(60).plant.command("gpus", False, T0 + 60)
    one.plant.set_failed_pumps([1], T0 + 61)
    one.plants.close()
    with (tmp_path / "plant.jsonl").open("a") as file:
        file.write('{"seq": 99, "torn')
    two = World(tmp_path, cooled())
    assert (two.state(), two.state("gpus"), two.plant.is_shed) == (BreakerState.SHED_BY_RELAY, BreakerState.OPEN, True)
    assert two.plant.cooling.failed_pumps == {1}
    assert two.to(70).site.site_power_w(T0 + 70) == 0
    assert two.plant.recall(T0 + 100)
    assert [line["seq"] for line in map(json.loads, (tmp_path / "plant.jsonl").read_text().splitlines())] == list(
        range(1, 7)
    )
    two.plants.close()


def test_the_meter_does_not_go_back_when_the_world_is_killed_long_after_a_snapshot(tmp_path):
    one = World(tmp_path)
    one.mine()
    asyncio.run(one.transitions.save(always=True))
    one.to(3600).plant.command("miners", False, T0 + 3600)
    one.to(5400).plant.command("miners", True, T0 + 5400)
    one.to(7200)
    one.plants.close()
    two = World(tmp_path)
    assert two.site.at_s == T0 + 5400
    two.to(7200)
    assert two.site.energy_wh == pytest.approx(one.site.energy_wh, rel=1e-9)
    assert two.site.power_w(T0 + 7200) == pytest.approx(one.site.power_w(T0 + 7200))
    two.plants.close()


def test_lines_of_the_log_that_are_none_are_passed_over(tmp_path, caplog):
    good = {"seq": 4, "simulated_at": iso(T0), "site": "one", "what": "breaker", "name": "gpus", "state": "open"}
    strange = [
        good | {"name": "gone"},
        good | {"state": "melted"},
        good | {"what": "pump", "name": "7"},
        good | {"site": "x"},
    ]
    lines = ["[]", "junk", json.dumps({"seq": 1}), *map(json.dumps, strange), json.dumps(good)]
    (tmp_path / "plant.jsonl").write_text("\n".join(lines) + "\n")
    with caplog.at_level("WARNING", "world.plant"):  # whatever level another test left behind
        one = World(tmp_path)
    assert (one.state("gpus"), one.state()) == (BreakerState.OPEN, BreakerState.CLOSED)
    assert caplog.text.count("no entry") == 3
    one.plants.close()


def test_a_full_log_is_set_aside_and_the_states_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr("simulators.power_plant.memory.MAX_LOG_BYTES", 1000)
    one = World(tmp_path)
    for second in range(1, 40):
        one.to(second).plant.command("gpus", second % 2 == 0, T0 + second)
    one.plants.close()
    assert (tmp_path / "plant.jsonl").stat().st_size < 1200
    assert len(list(tmp_path.glob("plant.jsonl.*"))) >= 4
    two = World(tmp_path)
    assert (two.state("gpus"), two.state()) == (BreakerState.OPEN, BreakerState.CLOSED)
    two.plants.close()


def test_what_does_not_fit_together_is_refused_by_name():
    for changes, message in (
        ({"feeders": []}, "feeder gpus is not listed"),
        ({"plant": {"topology": [{"node": "gpus", "kind": "rack"}]}}, "gpus named twice"),
        ({"plant": {"topology": [{"node": "r", "kind": "rack", "parent": "x"}]}}, "hangs under x, which is not"),
        ({"plant": {"topology": [{"node": "r", "kind": "rack", "parent": "r"}]}}, "r hangs under itself"),
        ({"plant": {"topology": [{"node": "r", "kind": "rack", "first_slot": 100, "devices": 99}]}}, "ends at slot 199"),
        ({"plant": {"topology": [{"node": "r", "kind": "rack", "first_slot": 1}]}}, "or neither"),
        ({"plant": {"topology": [{"node": f"n{n}", "kind": "rack", "limit_w": 1} for n in range(89)]}}, "units for 90"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            site_config(**changes)


def plan_of(**fields):
    return Script(Scenario.model_validate({"name": "test", "description": "made for a test", **fields}), T0)


def test_a_scenario_lets_pumps_fail_and_run_again():
    plan = plan_of(pumps=[{"at_h": 1.0, "minutes": 30, "pump": 1, "site": 0}, {"at_h": 1.25, "minutes": 30}])
    pumps = PumpScript(plan, 0)
    assert [pumps.failed_at(T0 + h * 3600) for h in (0.9, 1.1, 1.3, 1.6, 1.8)] == [set(), {1}, {0, 1}, {0}, set()]
    assert pumps.changes_s(T0, T0 + 7200) == [T0 + h * 3600 for h in (1.0, 1.25, 1.5, 1.75)]
    assert PumpScript(plan, 3).failed_at(T0 + 1.3 * 3600) == {0}
    assert PumpScript(plan, 0).failed_at(T0 + (168 + 1.1) * 3600) == {1}, "the script begins anew each week"


def test_a_scripted_pump_is_seen_at_its_instant_however_seldom_anybody_looks(world):
    one = world(cooled(), plan=plan_of(pumps=[{"at_h": 0.5, "minutes": 10, "pump": 0}]))
    one.to(3600)
    lines = [json.loads(line) for line in (one._folder / "plant.jsonl").read_text().splitlines()]
    noted = [
        (e["name"], e["state"], datetime.fromisoformat(e["simulated_at"]).timestamp() - T0)
        for e in lines
        if e["what"] == "pump"
    ]
    assert noted == [("0", "failed", 1800.0), ("0", "running", 2400.0)]
