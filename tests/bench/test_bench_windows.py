"""The sums over ramp windows: what they must find in changes that were made up to hold it, and what they must let pass."""

import pytest

from benchmarks.parts.windows import Change, Scope, check_windows, scopes_of
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.fleet.document import Ramp

RAMP = Ramp(up_mw=10.0, down_mw=10.0, window_s=300.0)
FEEDER, FACILITY, ALL = Scope("hou-1", "f1", RAMP), Scope("hou-1", "", RAMP), Scope("", "", RAMP)


def change(at_s, mw, *, owner="a", facility="hou-1", feeder="f1"):
    return Change(at_s, facility, feeder, owner, mw)


def test_a_successor_that_forgets_its_predecessors_window_is_found():
    found = check_windows([change(0, 4.0), change(100, 10.0, owner="b")], [FACILITY])
    assert found.violations == ["hou-1: 14.000000 MW up in 300 s, 10 may (at 100.000, by b)"]
    assert found.shared == 1
    assert found.most_fraction == pytest.approx(1.4)


def test_a_successor_that_takes_what_is_left_is_not():
    found = check_windows([change(0, -4.0), change(100, -6.0, owner="b"), change(300, -4.0, owner="b")], [FACILITY])
    assert found.violations == []
    assert (found.looked_at, found.shared, found.most_fraction) == (3, 1, 1.0)


def test_a_window_ends_before_the_instant_a_window_ago():
    assert check_windows([change(0, 10.0), change(300, 10.0)], [FACILITY]).violations == []
    assert len(check_windows([change(0, 10.0), change(299.999, 10.0)], [FACILITY]).violations) == 1


def test_up_and_down_are_apart():
    assert check_windows([change(0, 10.0), change(1, -10.0)], [FACILITY, FEEDER, ALL]).violations == []


@pytest.mark.parametrize(
    ("scope", "breaches"), [(FEEDER, 0), (FACILITY, 0), (ALL, 1)], ids=["feeder", "facility", "portfolio"]
)
def test_each_scope_sums_what_it_covers(scope, breaches):
    changes = [change(0, 6.0), change(1, 6.0, facility="nor-1", owner="b")]
    found = check_windows(changes, [scope])
    assert len(found.violations) == breaches
    assert found.shared == 0  # another facility's owner is no predecessor


def test_feeders_of_one_facility_share_its_limit_and_not_each_others():
    changes = [change(0, 6.0), change(1, 6.0, feeder="f2")]
    assert check_windows(changes, [FEEDER]).violations == []
    assert [v.partition(":")[0] for v in check_windows(changes, [FACILITY]).violations] == ["hou-1"]


def test_every_limit_of_a_fleet_is_looked_at():
    documents = demo_facilities(2, 50_000)
    names = [str(scope) for scope in scopes_of(documents)]
    feeders = [f"{d.facility_id}/{f.feeder_id}" for d in documents for f in d.feeders]
    assert names == [*feeders, "hou-1", "nor-1", "portfolio"]
    assert scopes_of(documents)[-1].ramp == documents[0].ramps.portfolio
