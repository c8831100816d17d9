"""GPU nodes against the inventory: which boards are the same, moved, swapped or gone, and that a node keeps its slots."""

import pytest

from hcp_pipelines.devices.discovery.found import GPU_NODE, Found
from hcp_pipelines.fleet.reconcile import GroupKind, Kind, Known, addresses_after
from hcp_pipelines.fleet.reconcile_nodes import KnownNode, reconcile_nodes

GROUPS = (GroupKind("h100", "H100 SXM5", "stock"),)
ALL = {f"10.0.0.{n}" for n in range(1, 20)}


def uuids(node):
    return tuple(f"GPU-{node}-{n}" for n in range(8))


def known(node, boards=None, *, gone=(), address=None, count=8):
    """Node n at 10.0.0.(n+1), slots from 8 n; `boards`: the uuids last seen there."""
    boards = uuids(node) if boards is None else boards
    address = address or f"10.0.0.{node + 1}"
    own = [
        Known(8 * node + n, "h100", address, "H100 SXM5", "", boards[n] if n < len(boards) else "", n in gone)
        for n in range(count)
    ]
    return KnownNode(address, tuple(own))


def found(node, boards=None, *, address=None, model="H100 SXM5"):
    boards = uuids(node) if boards is None else boards
    return Found(address or f"10.0.0.{node + 1}", GPU_NODE, model, "550", serial=f"host-{node}", boards=boards)


def changes(knowns, founds, looked_at=ALL):
    result = reconcile_nodes(knowns, GROUPS, founds, looked_at)
    return [(one.kind, one.slot) for one in result.changes]


def all_of(kind, node):
    return [(kind, 8 * node + n) for n in range(8)]


def test_nothing_changed_is_nothing():
    assert changes([known(0), known(1)], [found(0), found(1)]) == []


def test_a_first_scan_discovers_every_board_once():
    assert changes([known(0, ())], [found(0)]) == all_of(Kind.DISCOVERED, 0)


def test_a_node_that_is_gone_takes_its_boards_with_it_once():
    assert changes([known(0)], []) == all_of(Kind.VANISHED, 0)
    assert changes([known(0)], [], ALL - {"10.0.0.1"}) == [], "it hangs, or was not scanned"
    assert changes([known(0, gone=range(8))], []) == [], "said once"
    assert changes([known(0, gone=range(8))], [found(0)]) == all_of(Kind.RETURNED, 0)


def test_a_node_keeps_its_slots_wherever_it_moves():
    assert changes([known(0)], [found(0, address="10.0.0.9")]) == all_of(Kind.MOVED, 0)
    swapped = [found(0, address="10.0.0.2"), found(1, address="10.0.0.1")]
    assert changes([known(0), known(1)], swapped) == [*all_of(Kind.MOVED, 0), *all_of(Kind.MOVED, 1)]


@pytest.mark.parametrize("boards", [1, 4])
def test_a_board_or_half_a_node_found_elsewhere_does_not_move_the_node(boards):
    """The node is silent, some of its boards are in a node that nobody knows: that one is no move of the whole."""
    mixed = (*uuids(0)[:boards], *uuids(7)[boards:])
    result = reconcile_nodes([known(0)], GROUPS, [found(7, mixed)], ALL)
    assert [(one.kind, one.slot) for one in result.changes] == all_of(Kind.VANISHED, 0)
    assert [one.address for one in result.unplaced] == ["10.0.0.8"]


def test_a_board_in_another_place_has_moved_and_a_new_one_was_swapped_in():
    here, there = list(uuids(0)), list(uuids(1))
    here[2], there[5] = there[5], here[2]
    both = [found(0, tuple(here)), found(1, tuple(there))]
    assert changes([known(0), known(1)], both) == [(Kind.MOVED, 2), (Kind.MOVED, 13)]
    new = ("GPU-new", *uuids(0)[1:])
    assert changes([known(0)], [found(0, new)]) == [(Kind.SWAPPED, 0)]


def test_a_board_that_its_node_no_longer_has_is_gone():
    assert changes([known(0)], [found(0, uuids(0)[:7])]) == [(Kind.VANISHED, 7)]
    assert changes([known(0, gone=(7,))], [found(0, uuids(0)[:7])]) == []
    assert changes([known(0, gone=(7,))], [found(0)]) == [(Kind.RETURNED, 7)]


def test_a_board_that_left_for_good_is_told_at_both_places_once():
    left = uuids(0)[:7]
    came = (*uuids(1)[:7], "GPU-0-7")
    assert changes([known(0), known(1, uuids(1)[:7])], [found(0, left), found(1, came)]) == [
        (Kind.VANISHED, 7),
        (Kind.MOVED, 15),
    ]
    assert changes([known(0, gone=(7,)), known(1, came)], [found(0, left), found(1, came)]) == []


def test_the_last_node_of_a_group_may_have_fewer_slots_than_boards():
    assert changes([known(0, (), count=3)], [found(0)]) == [(Kind.DISCOVERED, n) for n in range(3)]


def test_a_node_that_does_not_say_who_it_is_changes_nothing():
    assert changes([known(0)], [found(0, ())]) == []


def test_another_node_at_the_address_and_one_without_a_place():
    assert changes([known(0)], [found(7, address="10.0.0.1")]) == all_of(Kind.SWAPPED, 0)
    result = reconcile_nodes([known(0)], GROUPS, [found(0), found(7)], ALL)
    assert (result.changes, [one.address for one in result.unplaced]) == ([], ["10.0.0.8"])
    assert changes([known(0, ())], [found(7)]) == all_of(Kind.DISCOVERED, 0), "a vacant node's place is free"
    other = reconcile_nodes([known(0, ())], GROUPS, [found(7, model="B200")], ALL)
    assert (other.changes, len(other.unplaced)) == ([], 1)


def test_another_model_is_told_board_by_board():
    kinds = changes([known(0)], [found(0, model="H200")])
    assert kinds == all_of(Kind.MODEL_CHANGED, 0)


def test_who_was_there_is_counted():
    assert reconcile_nodes([known(0, gone=(1, 2)), known(1, ())], GROUPS, [], ALL).were_present == 6


@pytest.mark.parametrize(
    ("moved", "after"),
    [
        ({}, ["a", "b", "c"]),
        ({0: "b", 1: "a"}, ["b", "a", "c"]),
        ({0: "c", 1: "a"}, ["c", "a", "b"]),
        ({0: "x"}, ["x", "b", "c"]),
        ({1: "c"}, ["a", "c", "b"]),
        ({0: "x", 1: "c"}, ["x", "c", "a"]),
    ],
)
def test_no_address_is_there_twice_whoever_moves(moved, after):
    """Who did not answer gives way: a gateway refuses an address that two slots have."""
    assert list(addresses_after({0: "a", 1: "b", 2: "c"}, moved).values()) == after


def test_boards_that_two_nodes_claim_are_believed_at_their_own_address_only():
    claimant = found(0, address="10.0.0.9")
    for order in ([found(0), claimant], [claimant, found(0)]):
        result = reconcile_nodes([known(0), known(4, ())], GROUPS, order, ALL)
        assert result.changes == []
        assert [one.address for one in result.unplaced] == ["10.0.0.9"]


def test_boards_that_are_claimed_elsewhere_while_their_node_hangs_move_nothing():
    thief, hung = found(0, address="10.0.0.9"), {"10.0.0.1"}
    result = reconcile_nodes([known(0), known(4, ())], GROUPS, [thief], ALL - hung, hung)
    assert result.changes == []
    assert [(one.slot, one.found.address) for one in result.conflicts] == [(0, "10.0.0.9")]
    assert result.unplaced == [thief]
