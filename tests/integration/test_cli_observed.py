"""`hcp observed`: what the policies would have earned where nothing acts, by day, and what it says where there is no paper."""

import json
from datetime import timedelta

import pytest

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from tests.support.cli import hcp  # noqa: F401 - a fixture

_KEPT = """
    insert into paper_plans (simulated_at, facility_id, control_mode, tick_id, policy_id, decision_price_usd_per_mwh, hours,
                             usd_actual, usd_paper, wake_usd, devices, mw_actual, mw_paper)
    values (%s, %s, 'observe', %s, 1, 40, 0.25, %s, %s, %s, %s, 1, 1)"""


@pytest.fixture
def on_paper(settings, database):
    """Two facilities, of which the first has paper of three days."""
    for site in demo_facilities(2, 60):
        apply(database, site, "test")
    midnight = SystemClock().now().replace(hour=0, minute=0, second=0, microsecond=0)
    for tick, (day, actual, paper, wake, devices) in enumerate(
        [(0, 10.0, 12.5, 0.0, 0), (0, -4.0, 0.0, 1.5, 7), (1, 8.0, 8.0, 0.0, 0), (20, 99.0, 0.0, 0.0, 0)]
    ):
        kept = (midnight - timedelta(days=day), "hou-1", tick, actual, paper, wake, devices)
        database.execute(_KEPT, kept)
    database.commit()
    return settings, midnight


def test_each_day_adds_up_and_older_ones_are_asked_for(on_paper, hcp):  # noqa: F811
    settings, midnight = on_paper
    done = hcp("observed", "--json", "--state-dir", settings.state_dir)
    assert (done.code, done.err) == (0, "")
    days = json.loads(done.out)["days"]
    assert [day["day"] for day in days] == [f"{midnight - timedelta(days=n):%Y-%m-%d}" for n in (0, 1)]
    today = days[0]
    assert (today["facility_id"], today["control_mode"], today["hours"], today["devices"]) == (
        "hou-1",
        "observe",
        0.5,
        7,
    )
    assert (today["usd_actual"], today["usd_paper"], today["gain_usd"], today["wake_usd"]) == (6.0, 12.5, 6.5, 1.5)
    longer = hcp("observed", "hou-1", "--last", "30d", "--json", "--state-dir", settings.state_dir)
    assert json.loads(longer.out)["days"][-1]["gain_usd"] == -99.0
    table = hcp("observed", "--state-dir", settings.state_dir)
    assert "What the policies would have earned" in table.out
    assert "6.50" in table.out


def test_without_paper_or_offers_and_of_no_facility_it_says_so(on_paper, hcp):  # noqa: F811
    settings, _ = on_paper
    second = hcp("observed", "nor-1", "--state-dir", settings.state_dir)
    assert (second.code, second.out.startswith("Nothing on paper of nor-1 since ")) == (0, True)
    none = hcp("observed", "nowhere", "--state-dir", settings.state_dir)
    assert (none.code, none.out) == (2, "")
    assert "no facility 'nowhere'; `hcp facility list` shows those there are" in none.err
    offers = hcp("policy", "offers", "nor-1", "--state-dir", settings.state_dir)
    assert (offers.code, "nor-1: no reserve was ever proposed" in offers.err) == (1, True)
    wrong = hcp("observed", "--last", "soon", "--state-dir", settings.state_dir)
    assert (wrong.code, "'soon' is not a duration like 90s, 30m, 2h or 1d" in wrong.err) == (2, True)
