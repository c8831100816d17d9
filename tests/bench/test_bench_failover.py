"""`hcp bench failover`: what it sets up, tells and calls wrong; and one kill, at a size that says nothing about speed."""

import json
import subprocess
import sys

import pytest

from benchmarks.common import ROOT
from benchmarks.failover import Measured, Takeover, documents_of, figures_of, is_right
from benchmarks.parts.verdict import Verdict
from benchmarks.parts.windows import Windows
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.settings import Settings


def figures(*, windows=None, verdict=None, restarts=0):
    takeovers = [Takeover("a", 6, 2.1, 3.0, 3.1), Takeover("b", 6, 2.9, 4.0, 4.2), Takeover("a", 5, 2.2, 3.1, 3.2)]
    measured = Measured(takeovers, windows or Windows(900, 90, 1.0), verdict or Verdict(acked=7), restarts)
    return figures_of(measured, Settings())


def test_the_slowest_facility_of_each_kill_counts():
    found = figures()
    assert (found["kills"], found["facilities_taken_over"]) == (3, 17)
    assert (found["leased_max_s"], found["journalled_p50_s"]) == (2.9, 3.1)
    assert (found["acked_p50_s"], found["acked_max_s"]) == (3.2, 4.2)
    assert is_right(found)


@pytest.mark.parametrize(
    "what",
    [
        {"windows": Windows(900, 90, 1.4, ["hou-1: 14 MW up"])},
        {"windows": Windows(900, 0, 1.0)},  # no successor had a predecessor's window to heed: nothing was tried
        {"verdict": Verdict(lost=1)},
        {"verdict": Verdict(unanswered=1)},
        {"verdict": Verdict(doubled=1)},
        {"verdict": Verdict(unjournalled=1)},
        {"restarts": 1},
    ],
    ids=["ramp", "no shared window", "lost", "unanswered", "doubled", "unjournalled", "a process died"],
)
def test_what_is_wrong_is_told(what):
    assert not is_right(figures(**what))


def test_ramps_are_the_shipped_ones_and_scale_with_the_fleet():
    shipped = documents_of(300_000, 12, 1.0)
    assert shipped == demo_facilities(12, 300_000)
    small = documents_of(6_000, 12, 0.04)
    assert small[0].ramps.portfolio.up_mw == pytest.approx(12.0)
    assert {f.ramp.down_mw for d in small for f in d.feeders} == {1.0}
    assert small[0].ramps.facility.window_s == 300.0


def test_a_killed_owners_facilities_are_taken_over_inside_its_windows():
    options = ("--json", "--quick", "--rounds=1", "--devices=60", "--facilities=2")
    argv = [sys.executable, "-m", "benchmarks.failover", *options]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["kills"], found["facilities_taken_over"]) == (1, 1)
    assert 0 < found["leased_max_s"] <= found["journalled_max_s"] <= found["acked_max_s"]
    assert found["windows_of_two_owners"] > 0
    assert found["most_of_a_window"] > 0.5
    assert (found["violations"], found["lost"], found["duplicated"], found["restarts"]) == (0, 0, 0, 0)
