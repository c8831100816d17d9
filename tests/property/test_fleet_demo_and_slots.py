"""Any demo fleet is a valid one; slots never overlap and stay where they can."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.fleet.facility_file import dump_facility, parse_facility
from hcp_pipelines.fleet.slots import SlotRange, assign_slots


@given(st.integers(1, 200), st.integers(0, 1_000_000))
@settings(max_examples=40, deadline=None)
def test_any_demo_fleet_adds_up_and_fits_its_limits(facilities, more):
    devices = max(facilities, min(1_000_000, facilities + more))
    fleet = demo_facilities(facilities, devices)
    assert len({f.facility_id for f in fleet}) == facilities
    assert sum(f.devices for f in fleet) == devices
    for site in (fleet[0], fleet[-1]):
        full_mw = sum(g.resolved().ladder[-1].power_kw * g.devices for g in site.groups) * site.pue.value / 1000
        assert full_mw <= site.capacity_mw <= 1.1 * full_mw + 0.01
        assert len(site.groups) <= 12
    assert parse_facility(dump_facility(fleet[0])) == fleet[0]


def test_the_demo_of_300_000_devices_has_realistic_feeders():
    fleet = demo_facilities(12, 300_000)
    assert [f.settlement_point for f in fleet[:4]] == ["HB_HOUSTON", "HB_NORTH", "HB_HUBAVG", "HB_HOUSTON"]
    assert max(feeder.limit_mw for f in fleet for feeder in f.feeders) <= 30
    miners = sum(g.devices for f in fleet for g in f.groups if g.type == "ASIC")
    assert abs(miners / 300_000 - 5 / 6) < 0.01


groups = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 50), min_size=1)


@given(st.lists(groups, min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_generations_of_slots(history):
    present: dict[str, SlotRange] = {}
    for wanted in history:
        assigned = assign_slots(list(wanted.items()), present)
        assert {g: r.devices for g, r in assigned.items()} == wanted
        taken = sorted(assigned.values(), key=lambda r: r.first)
        assert all(a.end <= b.first for a, b in pairwise(taken))
        for group, before in present.items():
            if wanted.get(group, before.devices + 1) <= before.devices:
                assert assigned[group].first == before.first
        present = assigned
