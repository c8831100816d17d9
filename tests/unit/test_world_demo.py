"""What scenarios do to the demo fleet's own sites, with every device in its highest state: relay, breakers, cooling."""

import asyncio
import json

import pytest
from pyroaring import BitMap

from hcp_pipelines.fleet.demo import HOTTEST_CELSIUS, PUE, WARM, demo_facilities
from hcp_pipelines.fleet.site_export import world_site
from simulators.clock import ManualClock, iso
from simulators.durability import TransitionLog
from simulators.fleet import Fleet
from simulators.power_plant.attach import Plants
from simulators.power_plant.breaker import BreakerState
from simulators.power_plant.frequency import GridFrequency
from simulators.series import World
from simulators.settings import WorldConfig
from tests.support.fleet import inventory_of

CLOSED, SHED, HOT = BreakerState.CLOSED, BreakerState.SHED_BY_RELAY, BreakerState.TRIPPED_HOT
MINING, AI = "feeder-1", "feeder-2"


class Demo:
    """Three sites of the demo under a scenario, on a clock that moves only when told."""

    def __init__(self, folder, scenario):
        paths = dict.fromkeys(
            ("anchor", "bulk_socket", "ready_file", "transition_log", "exogenous_log"), folder / "unused"
        )
        sites = [world_site(inventory_of(file)) for file in demo_facilities(3, 300)]
        config = WorldConfig.model_validate({"version": 1, **paths, "scenario": scenario, "sites": sites})
        world = World.load(config)
        self.begins_s, self._log = world.start_s(), folder / "plant.jsonl"
        self.fleet = Fleet(config.sites, config.seed, self.begins_s, world.script, world.weather)
        self._transitions = TransitionLog(folder / "transitions.jsonl", self.fleet, ManualClock(self.begins_s))
        self.plants = Plants(self.fleet, self._log, GridFrequency(config.seed, world.script), self._transitions.touch)
        for site in self.fleet.sites.values():
            for group in site.config.groups:
                slots = BitMap(range(group.first_slot, group.end_slot))
                site.set_state(max(state.state for state in group.states), slots, self.begins_s)

    def to(self, hours):
        at_s = self.begins_s + hours * 3600
        asyncio.run(self.fleet.catch_up(at_s))
        for site in self.fleet.sites.values():
            site.advance(at_s)
        return self.states()

    def states(self):
        sites = self.fleet.sites.items()
        return {name: tuple(site.plant.breakers[f].state for f in (MINING, AI)) for name, site in sites}

    def told(self, what):
        entries = map(json.loads, self._log.read_text().splitlines())
        return [(e["site"], e["state"], e["simulated_at"]) for e in entries if e["what"] == what]


@pytest.fixture
def demo(tmp_path):
    made = []

    def make(scenario):
        made.append(Demo(tmp_path, scenario))
        return made[-1]

    yield make
    for one in made:
        one.plants.close()


def test_the_winter_storms_dip_sheds_the_mining_halls_and_leaves_the_ai_halls_on(demo):
    one = demo("winter-storm")
    assert set(one.to(1.5).values()) == {(CLOSED, CLOSED)}
    assert set(one.to(1.6).values()) == {(SHED, CLOSED)}
    assert set(one.to(2.6).values()) == {(CLOSED, CLOSED)}
    assert [state for _, state, _ in one.told("relay")] == ["shed_by_relay"] * 3 + ["in_service"] * 3


def test_the_heat_wave_costs_power_at_the_meter_and_a_pump_costs_the_first_site_its_afternoon(demo):
    one, worst, hottest = demo("heat-wave"), 0.0, 0.0
    for hour in range(1, 49):
        seen = one.to(float(hour))
        assert {states for name, states in seen.items() if name != "hou-1"} == {(CLOSED, CLOSED)}
        for site in one.fleet.sites.values():
            plant = site.plant
            assert plant.pue == pytest.approx(WARM.at(plant.cooling.outdoor_celsius))
            hottest, worst = max(hottest, plant.cooling.outdoor_celsius), max(worst, plant.pue)
            power_w = site.power_w(site.at_s)
            assert all(plant.power_through_w(point, power_w) < point.limit_w for point in plant.topology.breakers)
        assert (seen["hou-1"] == (HOT, HOT)) == (30 <= hour < 37)
    assert 38 < hottest < HOTTEST_CELSIUS
    assert worst > PUE + 0.03
    assert [(site, state) for site, state, _ in one.told("cooling")] == [("hou-1", "tripped"), ("hou-1", "in_service")]
    assert [(site, state, at) for site, state, at in one.told("pump")] == [
        ("hou-1", "failed", iso(one.begins_s + 29 * 3600)), ("hou-1", "running", iso(one.begins_s + 29.75 * 3600)),
    ]  # fmt: skip


def test_nothing_trips_in_a_calm_week(demo):
    one = demo("calm")
    assert all(set(one.to(float(day * 24)).values()) == {(CLOSED, CLOSED)} for day in range(1, 8))
    assert one.told("breaker") == []
