"""Process chaos, short: a few seconds of faults on the platform that the loop's tests use next. Long: `make soak`."""

import pytest

from tests.faults.chaos.plan import Fault, make_schedule, read_schedule, write_schedule
from tests.faults.chaos.soak import chaos

pytestmark = [pytest.mark.platform, pytest.mark.timeout(400)]

FACILITIES, GATEWAYS = ("hou-1", "hub-1", "nor-1"), ("gateway-1",)
SCHEDULE = [
    Fault(0.0, "order", "curtail:hou-1", 0.0, 0.3),
    Fault(0.2, "cut", "gateway-1", 1.5),
    Fault(0.6, "order", "stop_all:hub-1"),
    Fault(1.0, "kill", "allocator-a"),
    Fault(2.0, "slow", "gateway-1", 2.0, 0.1),
    Fault(2.4, "order", "lock:nor-1", 0.0, 0.2),
    Fault(3.0, "stop", "allocator-b", 3.6),
    Fault(3.5, "order", "release:hou-1"),
    Fault(4.0, "kill", "gateway-1"),
    Fault(5.5, "order", "unlock:nor-1"),
]


def test_a_few_seconds_of_chaos_break_no_promise(shared_platform, tmp_path):
    report = chaos(shared_platform, SCHEDULE, 1, tmp_path)
    assert report.faults == sum(fault.is_fault for fault in SCHEDULE), report.missed
    assert report.orders["stop_all"] == 1, report.orders
    assert report.switches["commands"] > 0
    assert report.samples > 0
    assert not report.violations, [str(one) for one in report.violations]


def test_a_seed_gives_the_same_schedule_and_a_file_brings_it_back(tmp_path):
    schedule = make_schedule(5, 600, 2.0, GATEWAYS, FACILITIES)
    write_schedule(tmp_path / "schedule.ndjson", schedule)
    assert read_schedule(tmp_path / "schedule.ndjson") == schedule == make_schedule(5, 600, 2.0, GATEWAYS, FACILITIES)
    assert schedule != make_schedule(6, 600, 2.0, GATEWAYS, FACILITIES)
    assert 240 < sum(fault.is_fault for fault in schedule) < 360
