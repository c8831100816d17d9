"""When a scan is believed: N scans for who is missing, two for many at once, never when nobody answers."""

import pytest

from hcp_pipelines.fleet.discovery_rules import DiscoveryRules
from hcp_pipelines.fleet.patience import Patience
from hcp_pipelines.fleet.reconcile import Change, Kind, Known, Reconciliation

DEVICES = 100


def missing(*slots, present=DEVICES):
    gone = [Change(Kind.VANISHED, slot, Known(slot, "g", f"10.0.0.{slot}", "S21", f"MAC{slot}")) for slot in slots]
    return Reconciliation(gone, were_present=present)


def judged(patience, *slots, answered=DEVICES, present=DEVICES, **rules):
    verdict = patience.judge(missing(*slots, present=present), answered, DiscoveryRules(**rules))
    return bool(verdict.held), sorted(verdict.gone)


def test_who_is_missing_in_three_scans_in_a_row_has_vanished():
    patience = Patience()
    assert [judged(patience, 7) for _ in range(3)] == [(False, []), (False, []), (False, [7])]


def test_one_scan_in_which_it_answers_begins_the_count_anew():
    patience = Patience()
    said = [judged(patience, *slots)[1] for slots in ([7], [7], [], [7, 8], [7, 8], [7, 8])]
    assert said == [[], [], [], [], [], [7, 8]]


def test_how_many_scans_it_takes_is_the_file_s_to_say():
    assert judged(Patience(), 7, vanished_after_scans=1) == (False, [7])


def test_many_at_once_are_held_until_the_next_scan_says_the_same():
    patience, many = Patience(), range(30)
    said = [judged(patience, *many) for _ in range(4)]
    assert said == [(True, []), (False, []), (False, []), (False, list(many))]


def test_many_others_at_once_are_held_again():
    patience = Patience()
    assert judged(patience, *range(30))[0]
    assert judged(patience, *range(40, 70))[0], "these are others"
    assert not judged(patience, *range(40, 70))[0]


def test_a_network_that_comes_back_has_changed_nothing():
    patience = Patience()
    assert judged(patience, *range(60))[0]
    assert [judged(patience)[1] for _ in range(3)] == [[], [], []]


def test_when_nobody_answers_nothing_is_believed_however_long():
    patience = Patience()
    assert [judged(patience, *range(DEVICES), answered=0) for _ in range(20)] == [(True, [])] * 20


@pytest.mark.parametrize(("gone", "is_held"), [(20, False), (21, True)])
def test_the_limit_is_a_share_of_those_that_were_there(gone, is_held):
    assert judged(Patience(), *range(gone), held_above_fraction=0.2)[0] == is_held
