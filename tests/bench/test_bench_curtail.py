"""`hcp bench curtail` without its processes: the facilities it sets up, and what it calls in time and right."""

import pytest

from benchmarks.curtail import BY_OWNERS, DIRECT_95, FAST_95, Curtailed, documents_of, figures_of, full_mw, is_right
from benchmarks.parts.verdict import Verdict
from hcp_pipelines.devices.settling import Transition, timing
from hcp_pipelines.settings import Settings


def told(seconds_by_case, verdict=None, restarts=0):
    cases = (*BY_OWNERS, DIRECT_95)
    found = [Curtailed(case, 90.0, s, 1.5, 4.4, 950) for case, s in zip(cases, seconds_by_case, strict=True)]
    return figures_of(found, verdict or Verdict(), Settings()) | {"restarts": restarts}, found


def test_each_case_has_a_target_of_its_own():
    figures, found = told([9.9, 29.0, 170.0, 9.0])
    assert figures["in_time"]
    assert figures["fast_95"] == {
        "seconds": 9.9, "command_s": 1.5, "mw_before": 90.0, "mw_after": 4.4, "devices": 950, "back_s": None, "target_s": 10.0,
    }  # fmt: skip
    assert is_right(figures, found)


def test_late_is_told_and_is_not_wrong():
    figures, found = told([10.1, 29.0, 170.0, 9.0])
    assert not figures["in_time"]
    assert is_right(figures, found)


def test_what_the_meter_never_showed_is_wrong():
    figures, found = told([9.0, None, 170.0, 9.0])
    assert not figures["in_time"]
    assert not is_right(figures, found)


@pytest.mark.parametrize(
    "verdict", [Verdict(lost=1), Verdict(unanswered=1), Verdict(doubled=1), Verdict(unjournalled=1)]
)
def test_a_lost_or_doubled_switch_is_wrong(verdict):
    assert not is_right(*told([9.0, 29.0, 170.0, 9.0], verdict))


def test_a_process_that_died_is_wrong():
    assert not is_right(*told([9.0, 29.0, 170.0, 9.0], restarts=1))


def test_the_facilities_are_those_that_the_cases_name():
    documents = {d.facility_id: d for d in documents_of(1_000)}
    assert set(documents) == {case.facility_id for case in (*BY_OWNERS, DIRECT_95)}
    fast, mixed = documents[FAST_95.facility_id], documents["hou-1"]
    assert (fast.devices, mixed.devices) == (1_000, 1_000)
    assert full_mw(fast) == pytest.approx(3.71)
    assert {timing(g.firmware, Transition.SLEEP).typical_s for g in fast.groups} == {5.0}
    assert len({g.model for g in mixed.groups}) == 4
