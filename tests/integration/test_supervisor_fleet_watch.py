"""Who is told something else when the fleet changes: nobody is restarted for what does not concern it."""

import pytest

from hcp_pipelines.domain.clock import Anchor
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.discovery import apply_scan
from hcp_pipelines.fleet.discovery_rules import DiscoveryRules
from hcp_pipelines.supervisor.fleet_watch import FleetWatch
from tests.integration.test_fleet_reconcile import EVERYBODY, GROUPS, found, scan
from tests.support.miner_site import FACILITY, STARTS_AT, document


def make_anchor(_):
    return Anchor(STARTS_AT, STARTS_AT, 1.0)


@pytest.fixture
def watch(settings, database):
    apply(database, document(GROUPS), "test")
    watching = FleetWatch(settings)
    assert not watching.begin(make_anchor).has_discovery
    return watching


def test_a_device_that_moved_is_news_to_its_gateway_alone(watch, database):
    assert watch.look(make_anchor) is None
    apply_scan(database, FACILITY, scan(*EVERYBODY), "test")
    assert watch.look(make_anchor) is None, "who is seen for the first time is where the file says"
    apply_scan(database, FACILITY, scan(found(0, address="127.16.0.15"), *EVERYBODY[1:]), "test")
    assert watch.look(make_anchor).affected == ["gateway-1"]
    assert watch.look(make_anchor) is None


def test_a_facility_file_is_news_to_whom_it_concerns(watch, database):
    wider = document(GROUPS).model_copy(update={"name": "Another name", "discovery": DiscoveryRules(apply=False)})
    apply(database, wider, "test")
    change = watch.look(make_anchor)
    assert (change.affected, change.configuration.has_discovery) == (["gateway-1"], True), "it scans from now on"
    apply(database, wider.model_copy(update={"name": "Yet another"}), "test")
    assert watch.look(make_anchor).affected == []
    apply(database, document((*GROUPS, ("more", "S21", "luxos", 2))), "test")
    assert watch.look(make_anchor).affected == ["world", "gateway-1"]
