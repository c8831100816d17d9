"""`hcp facility diff|apply` in a simulated world: a facility names the addresses of its own site and no others."""

import pytest

from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.fleet.discovery_rules import DiscoveryRules
from hcp_pipelines.fleet.facility_file import dump_facility
from tests.support.cli import hcp

__all__ = ["hcp"]

HOU, NOR, HUB = demo_facilities(3, 300)


@pytest.fixture
def run(hcp, settings):
    return lambda *arguments: hcp(*arguments, "--state-dir", settings.state_dir)


@pytest.fixture
def demo(database):
    for document in (HOU, NOR, HUB):
        apply(database, document, "tester")


@pytest.fixture
def written(tmp_path):
    """Writes a facility of ten miners at these addresses; its path."""

    def write(facility_id, addresses, ranges=None):
        text = f"{addresses}.0.1-10"
        group = HOU.groups[0].model_copy(update={"devices": 10, "driver": "miner_api", "addresses": (text,)})
        scans = DiscoveryRules(ranges=(ranges,)) if ranges else None
        update = {"facility_id": facility_id, "groups": (group,), "fallback": {}, "discovery": scans}
        path = tmp_path / f"{facility_id}.yaml"
        path.write_text(dump_facility(HOU.model_copy(update=update)))
        return path

    return write


def test_another_sites_addresses_are_refused_though_its_file_names_none(run, demo, written, database):
    for command in ("diff", "apply"):
        done = run("facility", command, written("rev-1", "127.16"))
        assert done.code == 2
        assert "rev-1: address 127.16.0.1 is of simulated site 0 (hou-1), and rev-1 is site 3" in done.err
        assert "begin at 127.28.0.1" in done.err
    assert database.execute("select count(*) from facilities").fetchone() == (3,)
    assert run("facility", "apply", written("rev-1", "127.28")).code == 0
    assert run("facility", "apply", written("rev-1", "127.28")).out == "rev-1: unchanged\n"


def test_a_scan_of_another_sites_addresses_is_refused(run, demo, written):
    done = run("facility", "diff", written("rev-1", "127.28", ranges="127.20.0.0/24"))
    assert (done.code, "address 127.20.0.1 is of simulated site 1 (hub-1)" in done.err) == (2, True)
    done = run("facility", "diff", written("rev-1", "127.28", ranges="127.60.0.0/24"))
    assert (done.code, "is of simulated site 11 (no facility's)" in done.err) == (2, True)


def test_a_facility_that_moves_another_off_its_addresses_is_refused(run, demo, written):
    assert run("facility", "apply", written("rev-1", "127.28")).code == 0
    first = written("aaa-1", "127.16")
    for command in ("diff", "apply"):
        done = run("facility", command, first)
        assert (done.code, "aaa-1: rev-1 would become simulated site 4" in done.err) == (2, True)
        assert "with addresses from 127.32.0.1" in done.err
    assert run("facility", "apply", first, written("rev-1", "127.32")).code == 0, "both at once"


def test_what_was_wrong_before_stops_no_other_file(run, demo, written, monkeypatch):
    monkeypatch.setenv("HCP_WORLD", "real")
    assert run("facility", "apply", written("rev-1", "127.16")).code == 0, "in a real world nobody's numbers count"
    monkeypatch.delenv("HCP_WORLD")
    assert run("facility", "apply", written("zed-1", "127.32")).code == 0
