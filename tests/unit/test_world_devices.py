"""The physics of devices, the roaring check, and the world file."""

import random

import numpy as np
import pytest
import yaml
from pyroaring import BitMap

from simulators.fleet import Site
from simulators.roaring import RoaringError, parse
from simulators.settings import SiteConfig, WorldConfigError, load_config

STATES = [
    {"state": 0, "power_w": 25.0, "ramp_up_s": 5, "ramp_down_s": 20},
    {"state": 3, "power_w": 3500.0, "ramp_up_s": 100, "ramp_down_s": 10},
]


def site(**changes):
    group = {"group": "a", "kind": "ASIC", "model": "S21", "first_slot": 10, "devices": 1000, "states": STATES}
    config = {"site": "s", "settlement_point": "HB_NORTH", "pue": 1.2, "groups": [group]} | changes
    return Site(SiteConfig.model_validate(config), seed=7, at_s=0.0)


def test_devices_start_asleep_and_gaps_are_unknown():
    one = site()
    assert one.devices == 1010
    assert one.power_w(0.0)[10:].tolist() == [25.0] * 1000
    assert one.reachable[:10].sum() == 0
    result = one.set_state(3, BitMap([3, 10, 5000]), 0.0)
    assert (list(result.accepted), list(result.refused)) == ([10], [3, 5000])


def test_a_state_the_device_has_not_is_refused():
    one = site()
    result = one.set_state(5, BitMap([10, 11]), 0.0)
    assert (len(result.accepted), list(result.refused)) == (0, [10, 11])
    assert len(one.set_state(200, BitMap([10]), 0.0).refused) == 1


def test_power_ramps_in_simulated_time_and_repetition_changes_nothing():
    one = site()
    everyone = BitMap(range(10, 1010))
    assert len(one.set_state(3, everyone, 0.0).changed) == 1000
    half = one.power_w(50.0)[10:].astype(float)
    full = one.power_w(100.0)[10:].astype(float)
    assert half == pytest.approx((25.0 + full) / 2, rel=1e-3)
    assert full.mean() == pytest.approx(3500.0, rel=0.005)
    assert 0.005 < full.std() / full.mean() < 0.03
    again = one.set_state(3, everyone, 120.0)
    assert (len(again.accepted), len(again.changed)) == (1000, 0)


def test_turning_round_within_a_ramp_starts_from_the_present_power():
    one = site()
    one.set_state(3, BitMap([10]), 0.0)
    before = one.power_w(50.0)[10]
    one.set_state(0, BitMap([10]), 50.0)
    assert one.power_w(50.0)[10] == pytest.approx(before)
    assert one.power_w(60.0)[10] == pytest.approx((before + 25.0) / 2, rel=1e-3)
    assert one.power_w(70.0)[10] == 25.0


def test_the_meter_is_exact_however_seldom_it_is_read():
    often, seldom = site(), site()
    for one in (often, seldom):
        one.set_state(3, BitMap(range(10, 500)), 0.0)
    for second in range(1, 400):
        often.advance(float(second))
    seldom.advance(399.0)
    assert often.energy_wh == pytest.approx(seldom.energy_wh, rel=1e-9)
    fine = np.arange(0, 399, 0.05)
    other = site()
    other.set_state(3, BitMap(range(10, 500)), 0.0)
    sampled = sum(other.site_power_w(float(at)) for at in fine) * 0.05 / 3600
    assert seldom.energy_wh == pytest.approx(sampled, rel=1e-3)


def test_energy_never_falls_when_time_goes_back():
    one = site()
    one.advance(100.0)
    before = one.energy_wh
    one.advance(50.0)
    assert one.energy_wh == before > 0


def test_a_saved_site_goes_on_where_it_was():
    one, other = site(), site()
    one.set_state(3, BitMap(range(10, 700)), 0.0)
    one.advance(30.0)
    other.restore(one.save())
    assert other.site_power_w(80.0) == pytest.approx(one.site_power_w(80.0))
    assert other.energy_wh == pytest.approx(one.energy_wh)


def test_well_formed_bitmaps_pass():
    runs = BitMap(range(5, 200_000))
    runs.run_optimize()
    for bitmap in (BitMap(), BitMap([7]), BitMap(range(0, 70_000, 2)), BitMap([1, 1 << 20, (1 << 32) - 1]), runs):
        assert parse(bitmap.serialize()) == bitmap


def test_damaged_bitmaps_are_refused_and_never_crash():
    draw = random.Random(1)
    runs = BitMap(range(100, 30_000))
    runs.run_optimize()
    sources = [runs.serialize(), BitMap(range(0, 25_000, 2)).serialize(), BitMap([1, 5, 70_000]).serialize()]
    refused = 0
    for _ in range(3000):
        damaged = bytearray(draw.choice(sources))
        for _ in range(draw.randint(1, 5)):
            damaged[draw.randrange(min(len(damaged), 40))] = draw.randrange(256)
        if draw.random() < 0.3:
            damaged = damaged[: draw.randrange(len(damaged))]
        try:
            parse(bytes(damaged))
        except RoaringError:
            refused += 1
    assert refused > 1500
    with pytest.raises(RoaringError, match="remain after it"):
        parse(BitMap([1]).serialize() + b"x")
    with pytest.raises(RoaringError, match="too few"):
        parse(b"")


def world_file(tmp_path, **changes):
    paths = {key: str(tmp_path / key) for key in ("anchor", "bulk_socket", "ready_file", "transition_log")}
    document = {"version": 1, **paths, "exogenous_log": str(tmp_path / "x"), "sites": []} | changes
    path = tmp_path / "world.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_wrong_world_file_names_the_field(tmp_path):
    with pytest.raises(WorldConfigError, match=r"sedd: Extra inputs"):
        load_config(world_file(tmp_path, sedd=1))
    with pytest.raises(WorldConfigError, match="not a loopback address"):
        load_config(world_file(tmp_path, http={"host": "0.0.0.0"}))
    with pytest.raises(WorldConfigError, match="No such file"):
        load_config(tmp_path / "missing.yaml")


def test_groups_that_share_slots_are_refused(tmp_path):
    group = {"group": "a", "kind": "ASIC", "model": "S21", "first_slot": 0, "devices": 10, "states": STATES}
    sites = [{"site": "s", "settlement_point": "P", "groups": [group, group | {"group": "b", "first_slot": 9}]}]
    with pytest.raises(WorldConfigError, match="groups a and b share slots 9 to 9"):
        load_config(world_file(tmp_path, sites=sites))
