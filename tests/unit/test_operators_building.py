"""What an operator says, made into an order: which slots, how many devices, how much it can change."""

from datetime import timedelta

import pytest

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.operators import building
from tests.support import fleet
from tests.support.fleet import NOON

OFF, FULL = DeviceState.CURTAILED, DeviceState.MINING_FULL
UNTIL = NOON + timedelta(hours=2)


@pytest.fixture(scope="module")
def inventory():
    return fleet.inventory()


@pytest.fixture(scope="module")
def asic(inventory):
    return next(g for g in inventory.groups if g.type.value == "ASIC")


def test_slots_are_read_as_people_write_them(inventory):
    assert building.slots_of(inventory, ["3,5, 8-10", "9-11"]).tolist() == [3, 5, 8, 9, 10, 11]


@pytest.mark.parametrize("text", ["", "x", "5-", "-5", "9-3", "600", "0-600", "1;2", "1e3"])
def test_what_is_no_slot_of_a_device_is_refused_by_name(inventory, text):
    with pytest.raises(ConfigError, match="slot"):
        building.slots_of(inventory, [text])


def test_mw_are_devices_at_full_load(inventory, asic):
    each = inventory.all_in_mw(asic, FULL, 1)
    order = building.override(inventory, asic.group_id, OFF, "why", NOON, UNTIL, mw=10 * each)
    assert order.value == {"state": "curtailed", "devices": 10}
    assert building.override(inventory, asic.group_id, OFF, "why", NOON, UNTIL, mw=9.5 * each).value["devices"] == 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"group_id": "nope"}, "no group 'nope'"),
        ({"state": DeviceState.TRAINING}, "no state training"),
        ({"devices": 100_000}, "the order says 100000"),
        ({"mw": 1e6}, "the order says"),
    ],
)
def test_an_override_that_can_not_be_is_refused(inventory, asic, change, words):
    facts = {"group_id": asic.group_id, "state": OFF, "devices": None, "mw": None} | change
    group, state = facts.pop("group_id"), facts.pop("state")
    with pytest.raises(ConfigError, match=words):
        building.override(inventory, group, state, "why", NOON, UNTIL, **facts)


@pytest.mark.parametrize("cap", [-0.1, float("nan"), float("inf")])
def test_a_limit_that_is_none_is_refused(inventory, cap):
    with pytest.raises(ConfigError, match="MW at the meter can't be"):
        building.curtailment(inventory, cap, "why", NOON, None, None)


def test_a_limit_above_what_the_site_has_is_refused(inventory):
    with pytest.raises(ConfigError, match=f"its capacity is {inventory.capacity_mw:g} MW"):
        building.curtailment(inventory, inventory.capacity_mw + 0.001, "why", NOON, None, None)
    at_most = building.curtailment(inventory, inventory.capacity_mw, "why", NOON, None, None)
    assert at_most.value == {"cap_mw": inventory.capacity_mw}


def test_a_drain_is_the_fallback_plan(inventory):
    orders = building.drain(inventory, "maintenance", NOON, UNTIL)
    assert {o.scope["group_id"]: o.value["state"] for o in orders} == {
        g.group_id: inventory.fallback[g.group_id].label for g in inventory.groups
    }
