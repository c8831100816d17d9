"""What a scan found against the inventory: who is the same, who moved, who is gone, and who has no place."""

from dataclasses import replace

import pytest

from hcp_pipelines.devices.discovery.found import Found
from hcp_pipelines.devices.miner.telemetry import Dialect
from hcp_pipelines.fleet.reconcile import GroupKind, Kind, Known, reconcile

GROUPS = (GroupKind("s21", "S21", "luxos"), GroupKind("xp", "S19 XP", "stock@2023-07"))
ALL = {f"10.0.0.{n}" for n in range(1, 20)}


def known(slot, **changes):
    made = Known(
        slot,
        "s21" if slot < 5 else "xp",
        f"10.0.0.{slot + 1}",
        "S21" if slot < 5 else "S19 XP",
        f"MAC{slot}",
        f"SN{slot}",
    )
    return replace(made, **changes)


def found(slot, **changes):
    """What is at a slot's address when all is well."""
    dialect, model = (Dialect.LUXOS, "S21") if slot < 5 else (Dialect.ANTMINER, "S19 XP")
    return replace(Found(f"10.0.0.{slot + 1}", dialect, model, "fw", f"MAC{slot}", f"SN{slot}"), **changes)


def changes(knowns, founds, looked_at=ALL):
    result = reconcile(knowns, GROUPS, founds, looked_at)
    return [(c.kind, c.slot) for c in result.changes], [f.mac for f in result.unplaced]


def test_nothing_changed_is_nothing():
    assert changes([known(0), known(5)], [found(0), found(5)]) == ([], [])
    assert changes([known(0)], [found(0, firmware="newer")]) == ([], []), "an update of firmware is no other inventory"


def test_a_first_scan_discovers_everybody_once():
    nobody = [known(n, mac="", serial="") for n in (0, 1)]
    assert changes(nobody, [found(0), found(1)])[0] == [(Kind.DISCOVERED, 0), (Kind.DISCOVERED, 1)]


def test_one_that_does_not_answer_has_vanished_if_it_was_looked_at():
    assert changes([known(0), known(1)], [found(0)])[0] == [(Kind.VANISHED, 1)]
    assert changes([known(0), known(1)], [found(0)], ALL - {"10.0.0.2"})[0] == [], "it hangs, or was not scanned"
    assert changes([known(1, is_vanished=True)], [])[0] == [], "said once"
    assert changes([known(1, mac="", serial="")], [])[0] == [], "nobody was ever there"
    assert changes([known(1, is_vanished=True)], [found(1)])[0] == [(Kind.RETURNED, 1)]


def test_a_device_keeps_its_slot_wherever_it_moves():
    moved = [found(0, address="10.0.0.2"), found(1, address="10.0.0.1")]
    assert changes([known(0), known(1)], moved)[0] == [(Kind.MOVED, 0), (Kind.MOVED, 1)]
    assert changes([known(0)], [found(0, address="10.0.0.9")])[0] == [(Kind.MOVED, 0)]


def test_a_mac_that_several_claim_is_believed_at_its_own_address_only():
    claimant = found(1, address="10.0.0.9", mac="MAC0", serial="other")
    for order in ([found(0), claimant], [claimant, found(0)]):
        assert changes([known(0)], order) == ([], ["MAC0"])
    two = [replace(claimant, address=f"10.0.0.{n}") for n in (8, 9)]
    assert changes([known(0), known(3, mac="", serial="")], two) == ([(Kind.VANISHED, 0)], ["MAC0", "MAC0"])


def test_a_serial_number_serves_where_there_is_no_mac():
    assert changes([known(0, mac="")], [found(0, mac="", address="10.0.0.9")])[0] == [(Kind.MOVED, 0)]


def test_another_device_at_the_address_is_a_swap_and_the_old_one_is_gone():
    stranger = found(0, mac="NEW", serial="X")
    assert changes([known(0)], [stranger])[0] == [(Kind.SWAPPED, 0)]
    both = [stranger, found(0, address="10.0.0.9")]
    assert changes([known(0)], both) == ([(Kind.MOVED, 0)], ["NEW"]), (
        "the old one is still there, the new one has no place"
    )


def test_a_device_that_does_not_say_who_it_is_changes_nothing():
    assert changes([known(0)], [found(0, mac="", serial="")])[0] == []
    assert changes([known(0, mac="", serial="")], [found(0, mac="", serial="")])[0] == []


@pytest.mark.parametrize("before", [known(0), known(0, mac="", serial="")])
def test_another_model_is_told(before):
    kinds = [kind for kind, _ in changes([before], [found(0, model="S21 XP")])[0]]
    assert Kind.MODEL_CHANGED in kinds
    assert changes([replace(before, model="S21 XP")], [found(0, model="")])[0][:1] in ([], [(Kind.DISCOVERED, 0)])


def test_a_new_device_takes_a_vacant_slot_of_its_kind_and_else_none():
    vacant = [known(0, mac="", serial=""), known(1), known(2, is_vanished=True), known(5, mac="", serial="")]
    strangers = [found(6, address="10.0.0.15", mac="A"), found(1), found(0, address="10.0.0.16", mac="B", serial="SB")]
    assert changes(vacant, strangers) == ([(Kind.DISCOVERED, 0), (Kind.DISCOVERED, 5)], [])
    other_firmware = [found(0, address="10.0.0.16", mac="B", dialect=Dialect.BRAIINS)]
    assert changes(vacant[:1], other_firmware) == ([], ["B"])
    just_gone = [known(3)]
    assert changes(just_gone, [found(0, address="10.0.0.16", mac="B", serial="SB")]) == ([(Kind.VANISHED, 3)], ["B"])


def test_every_found_device_is_somewhere_exactly_once():
    slots = [known(n) for n in range(10)]
    devices = [found(n, address=f"10.0.0.{10 - n}") for n in range(10)]
    result = reconcile(slots, GROUPS, devices, ALL)
    assert sorted(c.found.mac for c in result.changes) == sorted(f"MAC{n}" for n in range(10))
    assert result.unplaced == []
    assert result.summary == "10 moved"


@pytest.mark.parametrize("is_hung", [True, False])
def test_a_mac_taken_over_while_its_owner_still_takes_connections_moves_nothing(is_hung):
    """It hangs, or answers without saying who it is: whoever has its MAC elsewhere may have stolen it."""
    thief = found(0, address="10.0.0.9")
    others = [] if is_hung else [found(0, mac="", serial="")]
    hung = {"10.0.0.1"} if is_hung else frozenset()
    vacant = known(2, mac="", serial="")
    result = reconcile([known(0), vacant], GROUPS, [*others, thief], ALL - hung, hung)
    assert result.changes == []
    assert [(one.slot, one.found.address) for one in result.conflicts] == [(0, "10.0.0.9")]
    assert result.unplaced == [thief], "and it gets no other slot"
    assert "slot 0: 10.0.0.9 says that it is the device of 10.0.0.1" in result.conflict


def test_a_device_moves_once_its_old_address_is_silent_or_another_ones():
    moved = found(0, address="10.0.0.9")
    assert changes([known(0)], [moved])[0] == [(Kind.MOVED, 0)]
    result = reconcile([known(0)], GROUPS, [moved, found(3, address="10.0.0.1")], ALL)
    assert ([one.kind for one in result.changes], result.conflict) == ([Kind.MOVED], "")
