"""A grid event on the running platform: promised, armed, called, met at the meter, recalled; and the policy as a bid curve."""

import json
from datetime import timedelta

import pytest

from hcp_pipelines.supervisor.status import world_clock

pytestmark = [pytest.mark.platform, pytest.mark.timeout(600)]

FACILITY = "hou-1"
JOURNAL = """
    select reason, actor, sum(devices), sum(mw_delta) from switch_journal
    where facility_id = %s and event = 'commanded' and reason_detail like %s group by 1, 2"""


@pytest.fixture(scope="module")
def platform(shared_platform):
    shared_platform.wait_ready()
    shared_platform.hcp("operator", "add", "grid-desk", "--role", "operator")
    return shared_platform


def grid(platform, *arguments, code=0):
    done = platform.hcp("grid", *arguments, *(() if arguments[0] == "list" else ("--as", "grid-desk")), "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if code == 0 else done.stderr


def seen(platform, number):
    columns = "status, baseline_mw, delivered_fraction, reason, mw"
    return platform.query(f"select {columns} from grid_obligations where id = %s", number)[0]


def award(platform, mw, code=0):
    now = world_clock(platform.settings).now()
    return grid(
        platform, "award", FACILITY, "--programme", "ECRS", "--mw", f"{mw:.4f}", "--from", now.isoformat(),
        "--to", (now + timedelta(hours=6)).isoformat(), "--notice", "600", "--duration", "3600", "--recovery", "60",
        code=code,
    )  # fmt: skip


def test_a_promise_is_kept_at_the_meter_and_the_load_comes_back(platform):
    assert "can't be met" in award(platform, 500.0, code=2)
    mw = 0.1
    number = award(platform, mw)["obligation_id"]
    platform.wait(lambda: seen(platform, number)[0] == "armed", 180, "armed")
    grid(platform, "deploy", str(number), "--reason", "drill")
    platform.wait(lambda: (seen(platform, number)[2] or 0.0) >= 0.95, 180, "met at the meter from the deadline on")
    rows = platform.query(JOURNAL, FACILITY, f"%obligation/{number}%")
    status, baseline_mw, *_ = seen(platform, number)
    assert (status, baseline_mw > mw) == ("deployed", True)
    grid(platform, "recall", str(number))
    platform.wait(lambda: seen(platform, number)[0] == "armed", 180, "recovered, and armed again")
    assert seen(platform, number)[3] == "met"
    assert ("grid_deployment", "grid") in {(reason, actor) for reason, actor, *_ in rows}
    (listed,) = [o for o in grid(platform, "list", FACILITY)["obligations"] if o["obligation_id"] == number]
    assert listed["delivered_fraction"] >= 0.95
    said = {a for (a,) in platform.query("select action from audit_log where actor = 'grid-desk'")}
    assert {"obligation.awarded", "obligation.deployment_passed_on", "obligation.recall_passed_on"} <= said


def test_the_policy_in_force_is_a_curve_that_never_rises(platform):
    bids = json.loads(platform.hcp("policy", "bids", FACILITY, "--json").stdout)["bids"]
    assert len(bids) >= 2
    assert [p["usd_per_mwh"] for p in bids] == sorted(p["usd_per_mwh"] for p in bids)
    assert [p["mw"] for p in bids] == sorted((p["mw"] for p in bids), reverse=True)
