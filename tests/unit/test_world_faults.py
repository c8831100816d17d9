"""Faults of simulated devices: when they come, what they do to commands and power, how they end."""

from math import sqrt

import numpy as np
import pytest
from pyroaring import BitMap

from simulators import faults as f
from simulators.clock import ManualClock
from simulators.durability import TransitionLog
from simulators.fault_schedule import FaultSchedule
from simulators.fleet import BOOT_S, Fleet
from simulators.hazards import TYPICAL, hazards_of
from simulators.scenarios import FaultPlan
from tests.support.world import (
    ASLEEP,
    BATCH,
    ECO,
    EVERY_GPU,
    EVERY_MINER,
    FIRST_GPU,
    FULL,
    IDLE,
    MINERS,
    T0,
    make_site,
    script,
    site_config,
    typical,
)

DAY_S = 86_400.0
SOME, OTHERS = BitMap(range(50)), BitMap(range(50, 100))
REF = bytes(range(16))


def asleep(kind=None, whom=SOME, the_script=None):
    """A site whose miners sleep; some of them with a fault."""
    site = make_site(the_script)
    if kind:
        site.impose(kind, whom, T0)
    return site


def power(site, whom, at_s):
    return site.power_w(at_s)[list(whom)]


def test_without_a_fault_plan_nothing_ever_happens():
    site = make_site()
    site.advance(T0 + 30 * DAY_S)
    assert site.faults.next_s == float("inf")
    assert site.reachable.sum() == MINERS + len(EVERY_GPU)


def test_the_schedule_is_the_same_in_any_order_and_differs_by_seed_site_and_scenario():
    def schedule(seed=7, name="one", factor=50.0):
        return FaultSchedule(site_config(name), 0, seed, typical(factor))

    def lines(one, days):
        return [(i.start_s, i.end_s, i.kind, i.unit, i.xid) for day in days for i in one.of_day(day)]

    first = int(T0 // DAY_S)
    days = range(first, first + 10)
    forwards, backwards = lines(schedule(), days), lines(schedule(), reversed(days))
    assert len(forwards) > 100
    assert sorted(forwards) == sorted(backwards)
    assert [each[0] for each in forwards] == sorted(each[0] for each in forwards)
    for other in (schedule(seed=8), schedule(name="two"), schedule(factor=20.0)):
        assert lines(other, days) != forwards


def test_a_world_that_begins_late_finds_the_faults_that_an_early_one_has():
    early, late = make_site(typical(20)), make_site(typical(20), at_s=T0 + 3 * DAY_S)
    early.advance(T0 + 3 * DAY_S)
    for slot in (*EVERY_MINER, *EVERY_GPU):
        assert early.faults.at(slot, early.at_s) == late.faults.at(slot, late.at_s)
    assert any(late.faults.mask(kind, late.at_s).any() for kind in f.MINER_FAULTS)


def test_fifty_thousand_gpus_have_two_dozen_xids_a_day():
    days = 40
    schedule = FaultSchedule(site_config(miners=0, gpus=50_000), 0, 7, typical())
    found = [each for day in range(20_089, 20_089 + days) for each in schedule.of_day(day) if each.xid]
    assert len(found) / days == pytest.approx(24, abs=4 * sqrt(24 / days))
    codes = {each.xid: each.kind for each in found}
    assert codes[79] == f.FALLEN_OFF_BUS
    assert codes[94] == codes[48] == f.ECC
    assert codes[63] == f.XID


@pytest.mark.parametrize(("unit", "name"), [("miner", "hung"), ("node", "lost")])
def test_how_long_a_fault_lasts_is_spread_as_its_row_says(unit, name):
    """Lognormal: half of them shorter than the median, a heavy tail; the longest are cut off at 20 days."""
    row = next(row for row in TYPICAL if (row.unit, row.name) == (unit, name))
    schedule = FaultSchedule(site_config(miners=2000, gpus=4000), 0, 7, typical(20))
    found = [each for day in range(20_089, 20_099) for each in schedule.of_day(day) if each.kind == row.kind]
    hours = np.array([(each.end_s - each.start_s) / 3600 for each in found])
    low, middle, high = np.quantile(hours, [0.159, 0.5, 0.841])
    assert len(hours) > 200
    assert np.log(middle / row.median_h) == pytest.approx(0, abs=0.3 * row.sigma)
    assert np.log(middle / low) == pytest.approx(row.sigma, rel=0.25)
    assert np.log(high / middle) == pytest.approx(row.sigma, rel=0.25)


def test_of_a_quarter_million_miners_a_thousand_or_two_are_broken_at_any_time():
    site = make_site(typical(), config=site_config(miners=250_000, gpus=0))
    broken = site.faults.mask(f.BOARD_DROPOUT, T0) | site.faults.mask(f.FAN_FAILURE, T0)
    assert 700 < broken.sum() < 2500
    assert 0 < (site.reachable == 0).sum() - 8 < 1500


@pytest.mark.parametrize("kind", [f.UNREACHABLE, f.HUNG, f.POWER_LOST])
def test_who_cannot_be_spoken_to_is_refused(kind):
    site = asleep(kind)
    result = site.set_state(FULL, SOME | OTHERS, T0)
    assert (result.accepted, result.refused, result.changed) == (OTHERS, SOME, OTHERS)
    assert site.reachable[:100].tolist() == [0] * 50 + [1] * 50
    assert kind in site.miner(3, T0).faults


def test_a_false_ack_says_yes_and_does_nothing_until_it_is_over():
    site = asleep(f.FALSE_ACK)
    result = site.set_state(FULL, SOME | OTHERS, T0)
    assert (result.accepted, result.changed) == (SOME | OTHERS, OTHERS)
    assert power(site, SOME, T0 + 600).max() == 25.0
    assert set(site.commanded[:50]) == {ASLEEP}
    site.lift((f.FALSE_ACK,), SOME, T0 + 700)
    assert site.set_state(FULL, SOME | OTHERS, T0 + 700).changed == SOME
    assert power(site, SOME, T0 + 1000).min() > 3000


def test_a_stuck_miner_reads_back_what_it_was_told_and_stays_as_it_was():
    site = asleep(f.STUCK)
    assert site.set_state(FULL, SOME, T0).changed == SOME
    reading = site.miner(3, T0 + 900)
    assert (reading.state, reading.power_w, reading.hashrate_th_per_s) == (FULL, 25.0, 0.0)
    site.lift((f.STUCK,), SOME, T0 + 900)
    assert site.miner(3, T0 + 1200).power_w == pytest.approx(3500, rel=0.07)


def test_a_wrong_wake_ends_in_the_other_profile_and_the_second_command_helps():
    site = asleep(f.WRONG_WAKE)
    result = site.set_state(FULL, SOME | OTHERS, T0)
    assert (result.accepted, result.changed, result.diverted) == (SOME | OTHERS, OTHERS, {ECO: SOME})
    assert power(site, SOME, T0 + 600).mean() == pytest.approx(2800, rel=0.02)
    assert site.set_state(FULL, SOME | OTHERS, T0 + 600).changed == SOME
    assert power(site, SOME, T0 + 1200).mean() == pytest.approx(3500, rel=0.02)


def test_a_wake_without_a_pool_hashes_nothing_but_who_was_awake_goes_on():
    site = make_site()
    site.set_state(FULL, OTHERS, T0)
    site.impose(f.NO_POOL, SOME | OTHERS, T0 + 600)
    site.set_state(FULL, SOME, T0 + 600)
    assert site.hashrate_th_per_s(T0 + 1200)[:50].max() == 0
    assert power(site, SOME, T0 + 1200).max() == pytest.approx(50.0)
    assert site.hashrate_th_per_s(T0 + 1200)[50:100].min() > 180
    site.lift((f.NO_POOL,), SOME, T0 + 1200)
    assert site.hashrate_th_per_s(T0 + 1800)[:50].min() > 180


def test_a_dead_board_takes_its_third():
    site = make_site()
    site.set_state(FULL, SOME, T0)
    before = site.miner(3, T0 + 1000)
    site.impose(f.BOARD_DROPOUT, SOME, T0 + 1000)
    after = site.miner(3, T0 + 1100)
    assert after.hashrate_th_per_s == pytest.approx(before.hashrate_th_per_s * 2 / 3, rel=1e-5)
    assert sorted(after.board_hashrates_th_per_s)[0] == 0.0
    assert sorted(after.board_hashrates_th_per_s)[1] == pytest.approx(before.board_hashrates_th_per_s[0], rel=1e-5)
    assert after.power_w == pytest.approx(25 + (before.power_w - 25) * 2 / 3, rel=1e-5)
    site.set_state(ASLEEP, SOME, T0 + 1100)
    assert site.miner(3, T0 + 1200).power_w == 25.0


def test_a_dead_fan_stops_the_hashing_and_a_liar_hashes_as_before():
    site = make_site()
    site.set_state(FULL, SOME | OTHERS, T0)
    honest = site.miner(60, T0 + 1000)
    site.impose(f.FAN_FAILURE, SOME, T0 + 1000)
    site.impose(f.LYING, OTHERS, T0 + 1000)
    stopped, liar = site.miner(3, T0 + 1010), site.miner(60, T0 + 1010)
    assert (stopped.hashrate_th_per_s, stopped.power_w, stopped.state) == (0.0, 50.0, FULL)
    assert stopped.fan_rpm.count(0) == 1
    assert (liar.power_w, liar.hashrate_th_per_s) == (honest.power_w, honest.hashrate_th_per_s)
    assert liar.faults == {f.LYING}


def test_what_devices_say_of_themselves_is_the_truth_but_of_liars_and_of_who_is_silent():
    site = make_site()
    site.set_state(FULL, SOME | OTHERS, T0)
    site.impose(f.LYING, OTHERS, T0 + 1000)
    site.impose(f.UNREACHABLE, BitMap([3]), T0 + 1000)
    hashrate, temperature = site.told_hashrate_th_per_s(T0 + 1010), site.told_temperature_c(T0 + 1010)
    honest, liar, gpu = (4, 60, FIRST_GPU)
    assert hashrate[honest] == pytest.approx(site.miner(honest, T0 + 1010).hashrate_th_per_s, rel=1e-6)
    assert 1.08 <= hashrate[liar] / site.miner(liar, T0 + 1010).hashrate_th_per_s <= 1.25
    assert np.isnan(hashrate[[3, gpu]]).all()
    assert temperature[honest] == pytest.approx(site.miner(honest, T0 + 1010).chip_temperature_c, abs=0.01)
    assert temperature[gpu] == pytest.approx(site.gpu(gpu, T0 + 1010).temperature_c, abs=0.01)
    assert np.isnan(temperature[3])


def test_power_that_returns_boots_miners_as_commanded_and_gpus_idle():
    site = make_site()
    site.set_state(FULL, SOME, T0)
    site.set_state(BATCH, EVERY_GPU, T0)
    restarts = []
    site.on_restart = lambda state, whom: restarts.append((state, whom))
    site.impose(f.POWER_LOST, EVERY_MINER | EVERY_GPU, T0 + 1000, T0 + 1600)
    assert site.site_power_w(T0 + 1000) == 0.0
    assert site.site_power_w(T0 + 1600 + BOOT_S["ASIC"] - 1) == 0.0
    assert site.set_state(FULL, OTHERS, T0 + 1600).refused == OTHERS
    assert power(site, SOME, T0 + 1600 + BOOT_S["ASIC"] + 300).min() > 3000
    assert power(site, EVERY_GPU, T0 + 1600 + BOOT_S["GPU"] + 100).max() < 500
    assert restarts == [(IDLE, EVERY_GPU)]


def test_lost_nodes_and_boards_off_the_bus_idle_and_refuse():
    site = make_site()
    site.set_state(BATCH, EVERY_GPU, T0)
    node, card = BitMap(range(FIRST_GPU, FIRST_GPU + 8)), BitMap([FIRST_GPU + 20])
    site.impose(f.NODE_LOST, node, T0 + 500, T0 + 900)
    site.impose(f.FALLEN_OFF_BUS, card, T0 + 500, xid=79)
    assert site.set_state(IDLE, node | card, T0 + 600).refused == node | card
    assert power(site, node | card, T0 + 600).max() < 500
    assert site.gpu(FIRST_GPU + 20, T0 + 600).last_xid == 79
    assert set(site.commanded[list(node)]) == {BATCH}
    site.advance(T0 + 900 + BOOT_S["GPU"])
    assert set(site.commanded[list(node)]) == {IDLE}
    site.lift((f.FALLEN_OFF_BUS, f.XID), card, site.at_s)
    mended = site.gpu(FIRST_GPU + 20, site.at_s + 100)
    assert (mended.last_xid, mended.faults) == (0, frozenset())
    assert mended.power_w < 200, "back on the bus, but what ran there has died"
    assert site.set_state(BATCH, card, site.at_s).changed == card
    assert site.gpu(FIRST_GPU + 20, site.at_s + 100).power_w > 500


def test_who_was_mended_before_its_time_does_not_boot_again_when_that_comes():
    site = make_site()
    node = BitMap(range(FIRST_GPU, FIRST_GPU + 8))
    site.impose(f.NODE_LOST, node, T0, T0 + 5000)
    site.lift((f.NODE_LOST,), node, T0 + 1000)
    site.advance(T0 + 1000 + BOOT_S["GPU"])
    site.set_state(BATCH, node, site.at_s)
    site.lift((f.NODE_LOST, f.POWER_LOST), EVERY_GPU, T0 + 2000)
    site.advance(T0 + 5001)
    assert site.reachable[list(EVERY_GPU)].all()
    assert set(site.commanded[list(node)]) == {BATCH}


def test_a_throttled_gpu_is_slower_and_cooler():
    site = make_site()
    site.set_state(BATCH, EVERY_GPU, T0)
    before = site.gpu(FIRST_GPU, T0 + 500)
    site.impose(f.THROTTLED, EVERY_GPU, T0 + 500)
    after = site.gpu(FIRST_GPU, T0 + 700)
    assert after.is_throttled
    assert not before.is_throttled
    assert 0.5 < after.power_w / before.power_w < 0.8
    assert after.sm_clock_mhz < before.sm_clock_mhz * 0.95


def test_a_loop_that_stands_still_heats_its_devices_until_they_throttle_and_recover():
    site = make_site()
    site.set_state(BATCH, EVERY_GPU, T0)
    before = site.gpu(FIRST_GPU, T0 + 1000)
    site.impose(f.COOLING_LOST, EVERY_GPU, T0 + 1000, T0 + 5000)
    warming, hot = site.gpu(FIRST_GPU, T0 + 1300), site.gpu(FIRST_GPU, T0 + 4900)
    assert before.temperature_c + 5 < warming.temperature_c < hot.temperature_c
    assert hot.temperature_c > 80
    late = site.gpu(FIRST_GPU, T0 + 5000 + 4 * 3600)
    assert late.temperature_c == pytest.approx(before.temperature_c, abs=6)
    assert late.power_w == pytest.approx(before.power_w)


def test_in_a_hot_hall_a_loop_that_stops_never_lets_chips_run_away():
    site = make_site(script(weather=[{"from_h": 0, "until_h": 100, "shift_celsius": 30}]))
    site.set_state(BATCH, EVERY_GPU, T0)
    site.impose(f.COOLING_LOST, EVERY_GPU, T0 + 1030)
    course = [site.gpu(FIRST_GPU + 1, T0 + 1000 + 20 * step) for step in range(200)]
    assert max(one.temperature_c for one in course) < 87 + 1.0
    assert course[-1].is_throttled
    assert course[-1].power_w < 0.6 * course[0].power_w


def test_overlapping_faults_of_one_kind_end_with_the_last():
    site = make_site()
    site.impose(f.HUNG, SOME, T0, T0 + 100)
    site.impose(f.HUNG, SOME, T0 + 50, T0 + 200)
    assert f.HUNG in site.faults.at(3, T0 + 150)
    assert site.faults.at(3, T0 + 201) == frozenset()
    site.impose(f.HUNG, SOME, T0 + 300, T0 + 600)
    site.impose(f.HUNG, SOME, T0 + 350, T0 + 400)
    assert f.HUNG in site.faults.at(3, T0 + 500)


def test_correlated_faults_reach_whole_units():
    schedule = FaultSchedule(site_config(), 0, 7, typical(500))
    units = {}
    for day in range(20_089, 20_120):
        for each in schedule.of_day(day):
            units.setdefault(each.unit.split("/")[0], each)
    assert set(units) == {"slot", "node", "pdu", "rack", "cooling_loop", "site"}
    assert len(units["site"].slots) == MINERS + len(EVERY_GPU)
    assert len(units["node"].slots) == 8
    assert units["node"].slots[0] % 8 == FIRST_GPU % 8
    assert len(units["pdu"].slots) in (32, 40)


def test_racks_and_loops_are_those_of_the_file_where_it_draws_them():
    plant = {
        "topology": [
            {"node": "west", "kind": "rack", "first_slot": 0, "devices": 150},
            {"node": "loop-1", "kind": "cooling_loop", "first_slot": 100, "devices": 200},
        ]
    }
    events = [{"at_h": 1, "minutes": 5, "kind": "unreachable", "unit": "rack"}]
    events.append({"at_h": 1, "minutes": 5, "kind": "cooling_lost", "unit": "cooling_loop"})
    schedule = FaultSchedule(site_config(plant=plant), 0, 7, script(events=events))
    found = {each.unit: (int(each.slots[0]), len(each.slots)) for each in schedule.between(T0, T0 + DAY_S)}
    assert found == {"rack/west": (0, 150), "cooling_loop/loop-1": (100, 200)}


def test_scripted_faults_come_at_their_hour_each_time_the_script_begins_anew():
    event = {"at_h": 30, "minutes": 10, "kind": "power_lost", "unit": "pdu", "fraction": 0.3, "spread_minutes": 5}
    the_script = script(repeat_h=48, events=[event | {"devices": "ASIC"}])
    found = FaultSchedule(site_config(), 0, 7, the_script).between(T0, T0 + 6 * DAY_S)
    hours = [int((each.start_s - T0) // 3600) for each in found]
    assert hours == [30] * 3 + [78] * 3 + [126] * 3  # 3 of 10 PDUs
    assert all(0 <= (each.start_s - T0) % 172_800 - 108_000 <= 300 for each in found)
    assert {tuple(each.slots) for each in found[:3]} != {tuple(each.slots) for each in found[3:6]}
    elsewhere = script(events=[event | {"site": 3}])
    assert FaultSchedule(site_config(), 0, 7, elsewhere).is_empty


def test_a_shift_of_the_rates_holds_while_it_holds():
    shift = {"from_h": 24, "until_h": 48, "factor": 30.0, "kinds": ["unreachable"]}
    calm = FaultSchedule(site_config(), 0, 7, typical(5))
    rough = FaultSchedule(site_config(), 0, 7, typical(5, fault_shifts=[shift]))

    def count(schedule, kind, day):
        return sum(each.kind == kind and each.unit.startswith("slot") for each in schedule.of_day(20_089 + day))

    assert count(rough, f.UNREACHABLE, 1) > 5 * max(1, count(calm, f.UNREACHABLE, 1))
    assert count(rough, f.UNREACHABLE, 3) < 20
    assert count(rough, f.HUNG, 1) < 20


def test_rates_of_one_row_can_be_set_and_a_row_that_is_not_there_is_refused():
    plan = FaultPlan.model_validate({"profile": "typical", "factor": 2, "rates": {"miner/board": {"per_day": 0.5}}})
    rows = {f"{row.unit}/{row.name}": row for row in hazards_of(plan)}
    assert (rows["miner/board"].per_day, rows["miner/board"].median_h) == (1.0, 168.0)
    assert len(rows) == len(TYPICAL)
    off = FaultPlan.model_validate({"profile": "typical", "rates": {"miner/board": {"per_day": 0}}})
    assert len(hazards_of(off)) == len(TYPICAL) - 1
    wrong = FaultPlan.model_validate({"profile": "typical", "rates": {"miner/bord": {"per_day": 1}}})
    with pytest.raises(ValueError, match="miner/bord is no hazard; there are cooling_loop/pump"):
        hazards_of(wrong)


class LoggedWorld:
    """A fleet with its log, which can be killed and started again."""

    def __init__(self, folder, the_script, at_s=T0):
        self.folder, self.script = folder, the_script
        self.clock = ManualClock(at_s)
        self.start()

    def start(self):
        self.fleet = Fleet([site_config()], 7, T0, self.script)
        self.log = TransitionLog(self.folder / "transitions.jsonl", self.fleet, self.clock)
        self.site = self.fleet.sites["one"]

    def facts(self):
        self.site.advance(self.clock.at_s)
        miners = [self.site.miner(slot, self.clock.at_s) for slot in range(0, MINERS, 13)]
        gpus = [self.site.gpu(slot, self.clock.at_s) for slot in EVERY_GPU]
        return miners, gpus, self.site.energy_wh, self.site.reachable.tolist()


@pytest.mark.parametrize("saves", [(), (2,), (1, 4)])
async def test_a_killed_world_comes_back_with_its_faults_limits_and_repairs(tmp_path, saves):
    world = LoggedWorld(tmp_path, typical(30))
    turns = [
        lambda: world.log.set_state(world.site, REF, 0, FULL, EVERY_MINER),
        lambda: world.log.impose(world.site, REF, f.STUCK, OTHERS),
        lambda: world.log.limit(world.site, REF, 3000.0, BitMap(range(60, 80))),
        lambda: world.log.lift(world.site, REF, (f.BOARD_DROPOUT, f.FAN_FAILURE, f.UNREACHABLE, f.XID), EVERY_MINER),
        lambda: world.log.set_state(world.site, REF, 0, ECO, EVERY_MINER),
        lambda: world.log.set_state(world.site, REF, 0, BATCH, EVERY_GPU),
    ]
    for number, turn in enumerate(turns):
        turn()
        world.clock.at_s += 3000.0
        if number in saves:
            await world.log.save(always=True)
    before = world.facts()
    world.start()
    after = world.facts()
    assert after[0] == before[0]
    assert after[1] == before[1]
    assert after[2] == pytest.approx(before[2], rel=1e-12)
    assert after[3] == before[3]
    world.clock.at_s += 100_000.0
    later = world.facts()
    assert any(reading.faults for reading in later[0])


def test_a_wrong_wake_is_in_the_devices_own_log_as_what_it_was(tmp_path):
    world = LoggedWorld(tmp_path, script())
    world.site.impose(f.WRONG_WAKE, SOME, T0)
    world.log.set_state(world.site, REF, 4, FULL, SOME | OTHERS)
    world.start()
    assert set(world.site.commanded[:50]) == {ECO}
    assert set(world.site.commanded[50:100]) == {FULL}


def test_masks_and_names_agree():
    site = make_site(typical(30))
    site.advance(T0 + DAY_S)
    masks = {kind: site.faults.mask(kind, site.at_s) for kind in f.FAULTS}
    for slot in (*EVERY_MINER, *EVERY_GPU):
        assert site.faults.at(slot, site.at_s) == {kind for kind, mask in masks.items() if mask[slot]}
    assert sum(int(mask.sum()) for mask in masks.values()) > 20
    assert np.array_equal(site.reachable.astype(bool)[:MINERS], ~np.logical_or.reduce([masks[k] for k in (
        f.UNREACHABLE, f.HUNG, f.POWER_LOST)])[:MINERS] & (site._devices.boots_until_s <= site.at_s)[:MINERS])  # fmt: skip
