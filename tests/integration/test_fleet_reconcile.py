"""Scans into a real inventory: a generation where devices are others, none without; slots, bookings, events as promised."""

import pytest
import structlog

from hcp_pipelines.devices.discovery.found import Found, Scan
from hcp_pipelines.devices.discovery.ranges import expand
from hcp_pipelines.devices.miner.telemetry import Dialect
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.edge.config import FacilityConfig
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.fleet.discovery import apply_scan, preview_scan
from hcp_pipelines.fleet.discovery_rules import DiscoveryRules
from hcp_pipelines.fleet.findings import newest_findings
from hcp_pipelines.fleet.gateway_scans import GatewayScans
from hcp_pipelines.fleet.inventory import load_inventory
from hcp_pipelines.fleet.service import Followed, Follower
from hcp_pipelines.fleet.site_export import edge_facility
from hcp_pipelines.runtime.process import ProcessContext
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.configuration import fleet_digest
from tests.support.miner_site import FACILITY, document

GROUPS = (("lux", "S21", "luxos", 6), ("stock", "S19 XP", "stock", 4))
ADDRESSES = expand(["127.16.0.1-127.16.0.20"])


@pytest.fixture
def site(database):
    apply(database, document(GROUPS), "test")
    return database


def found(slot, **changes):
    dialect, model = (Dialect.LUXOS, "S21") if slot < 6 else (Dialect.ANTMINER, "S19 XP")
    values = {
        "address": f"127.16.0.{slot + 1}", "dialect": dialect, "model": model, "firmware": "fw",
        "mac": f"02:00:00:00:00:{slot:02X}", "serial": f"SN{slot}",
    }  # fmt: skip
    return Found(**values | changes)


def scan(*devices, hung=()):
    return Scan(ADDRESSES, list(devices), list(hung))


EVERYBODY = [found(slot) for slot in range(10)]


def events(database, action):
    query = "select subject, detail from audit_log where action = %s order by id"
    return database.execute(query, (action,)).fetchall()


def metadata(database, slot):
    query = "select metadata, status, generation, subtype from resources where facility_id = %s and slot = %s"
    return database.execute(query, (FACILITY, slot)).fetchone()


def specifications(database, facility_id):
    """By model."""
    query = "select distinct subtype, specifications from resources where facility_id = %s"
    return dict(database.execute(query, (facility_id,)).fetchall())


def test_everybody_is_discovered_once_and_the_second_scan_writes_nothing(site):
    first = apply_scan(site, FACILITY, scan(*EVERYBODY), "tester")
    assert (first.changed, first.generation) == (True, 1), "they are where the file says: no gateway needs to know"
    told = events(site, "resource.discovered")
    assert [subject for subject, _ in told] == [f"{FACILITY}/{slot:06d}" for slot in range(10)]
    assert told[0][1]["mac"] == "02:00:00:00:00:00"
    rows = site.execute("select count(*), max(id) from audit_log").fetchone()
    again = apply_scan(site, FACILITY, scan(*EVERYBODY), "tester")
    assert (again.changed, again.generation) == (False, 1)
    assert site.execute("select count(*), max(id) from audit_log").fetchone() == rows
    assert load_inventory(site, FACILITY).generation == 1


def test_a_scan_does_not_touch_what_a_device_is_booked_for(site):
    apply_scan(site, FACILITY, scan(*EVERYBODY), "tester")
    site.execute("update resources set status = 'allocated' where slot in (1, 2)")
    apply_scan(site, FACILITY, scan(*[f for f in EVERYBODY if f.address != "127.16.0.2"]), "tester")
    assert metadata(site, 1)[0]["presence"] == "vanished"
    assert metadata(site, 1)[1] == "allocated"
    assert metadata(site, 2)[1] == "allocated"
    result = apply_scan(site, FACILITY, scan(*EVERYBODY), "tester")
    assert (result.reconciliation.summary, result.generation) == ("1 returned", 1)
    assert metadata(site, 1)[:2] == (metadata(site, 1)[0], "allocated")
    assert [e[0] for e in events(site, "resource.vanished")] == [f"{FACILITY}/000001"]


def test_one_that_hangs_has_not_vanished(site):
    apply_scan(site, FACILITY, scan(*EVERYBODY), "tester")
    result = apply_scan(site, FACILITY, scan(*EVERYBODY[1:], hung=["127.16.0.1"]), "tester")
    assert not result.changed


def test_a_moved_device_keeps_its_slot_and_the_gateway_learns_its_address(site, settings):
    apply_scan(site, FACILITY, scan(*EVERYBODY), "tester")
    before = fleet_digest(settings)
    moved = [found(0, address="127.16.0.15"), *EVERYBODY[1:]]
    result = apply_scan(site, FACILITY, scan(*moved), "tester")
    assert (result.reconciliation.summary, result.generation) == ("1 moved", 2)
    inventory = load_inventory(site, FACILITY)
    assert [(g.group_id, g.first_slot, g.devices) for g in inventory.groups] == [("lux", 0, 6), ("stock", 6, 4)]
    config = FacilityConfig.model_validate(edge_facility(inventory, "unused"))
    assert config.groups[0].address_of_each == ("127.16.0.15", *expand(["127.16.0.2-6"]))
    assert config.generation == 2
    assert {metadata(site, slot)[2] for slot in range(10)} == {2}
    assert fleet_digest(settings) != before, "a running platform follows"
    assert apply_scan(site, FACILITY, scan(*moved), "tester").changed is False


def test_a_swapped_device_of_another_model_takes_the_slot_with_its_own_specification(site):
    apply_scan(site, FACILITY, scan(*EVERYBODY), "tester")
    other = found(2, mac="02:00:00:00:00:FF", serial="X", model="S21 XP")
    result = apply_scan(site, FACILITY, scan(*EVERYBODY[:2], other, *EVERYBODY[3:]), "tester")
    assert result.reconciliation.summary == "1 swapped, 1 model_changed"
    told, _, _, model = metadata(site, 2)
    assert (model, told["mac"]) == ("S21 XP", "02:00:00:00:00:FF")
    assert specifications(site, FACILITY)[model] == {
        "hash_rate_ths": 270.0, "efficiency_j_th": 13.5, "max_power_w": 3645.0
    }  # fmt: skip
    detail = events(site, "resource.swapped")[0][1]
    assert detail["before"]["mac"] == "02:00:00:00:00:02"


def test_a_preview_says_the_same_and_writes_nothing(site, settings):
    with connect(settings, Role.OPERATOR) as reader:
        assert preview_scan(reader, FACILITY, scan(*EVERYBODY)).summary == "10 discovered"
    assert load_inventory(site, FACILITY).generation == 1


def test_it_is_everything_or_nothing(site, monkeypatch):
    def broken(*_):
        raise RuntimeError("in the middle")

    monkeypatch.setattr("hcp_pipelines.fleet.discovery._events", broken)
    with pytest.raises(RuntimeError):
        apply_scan(site, FACILITY, scan(*EVERYBODY), "tester")
    assert load_inventory(site, FACILITY).generation == 1
    assert metadata(site, 0)[0] == {}


def test_a_facility_without_addresses_can_not_be_compared(database):
    apply(database, demo_facilities(1, 30)[0], "test")
    with pytest.raises(ConfigError, match="no group has `addresses`"):
        apply_scan(database, "hou-1", scan(), "tester")


def test_a_facility_file_keeps_what_a_scan_has_learnt_and_the_generation_goes_on(site):
    apply_scan(site, FACILITY, scan(*EVERYBODY), "tester")
    wider = document(GROUPS).model_copy(update={"capacity_mw": 30.0})
    assert apply(site, wider, "test").generation == 1, "limits changed, groups did not"
    grown = document((*GROUPS, ("more", "S21", "luxos", 2)))
    assert apply(site, grown, "test").generation == 2
    assert metadata(site, 0)[0]["mac"] == "02:00:00:00:00:00"
    newcomers = [found(slot, dialect=Dialect.LUXOS, model="S21") for slot in (10, 11)]
    result = apply_scan(site, FACILITY, scan(*EVERYBODY, *newcomers), "tester")
    assert result.reconciliation.summary == "2 discovered"


def test_every_record_has_the_specification_of_its_type(database):
    apply(database, demo_facilities(1, 60)[0], "test")
    found = specifications(database, "hou-1")
    assert found["S21"] == {"hash_rate_ths": 200.0, "efficiency_j_th": 17.5, "max_power_w": 3500.0}
    assert found["H100 SXM5"] == {"memory_gb": 80.0, "compute_capability": "9.0", "max_power_w": 1300.0}
    assert database.execute("select distinct status from resources").fetchall() == [("available",)]


def test_a_conflict_is_told_once_and_once_that_it_is_over_and_the_rest_of_the_scan_is_applied(site, settings):
    apply_scan(site, FACILITY, scan(*EVERYBODY), "tester")
    context = ProcessContext("fleet", settings, SystemClock(), structlog.get_logger("test"))
    one = Followed(FACILITY, "edge", DiscoveryRules(), GatewayScans(FACILITY, "unix:none"))
    stolen = [found(0, address="127.16.0.15"), *EVERYBODY[1:9], found(9, address="127.16.0.20")]
    follower = Follower(context)
    for _ in range(2):
        follower._take(one, scan(*stolen, hung=["127.16.0.1"]))
    held = events(site, "alert.discovery_held")
    assert [subject for subject, _ in held] == [FACILITY]
    assert "slot 0: 127.16.0.15 says that it is the device of 127.16.0.1" in held[0][1]["why"]
    assert metadata(site, 0)[0]["address"] == "127.16.0.1"
    assert metadata(site, 9)[0]["address"] == "127.16.0.20", "the others are followed"
    follower._take(one, scan(*EVERYBODY[:9], stolen[9]))
    assert newest_findings(site)[0].kind == "applied"
    assert one.held == ""
