"""Who answers and who is known, told to people: a real gateway, devices on sockets, `hcp status` and `hcp doctor`."""

import io

import numpy as np
import pytest
from rich.console import Console

from hcp_pipelines.cli.screen import status_screen
from hcp_pipelines.fleet import service
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.inventory import load_inventory
from hcp_pipelines.operators.contact import contact_of
from hcp_pipelines.supervisor.doctor import examine_devices
from hcp_pipelines.supervisor.status import read_contacts
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import encode_slots
from tests.support.discovery import FACILITY, NOWHERE, SLOTS, ScannedSite, miner_at
from tests.support.edge import until
from tests.support.miner_site import document

pytestmark = pytest.mark.usefixtures("own_time")


def told(settings):
    """The facility's contact, what the doctor finds, and what the status shows."""
    (contact,) = read_contacts(settings)
    seen = contact.as_dict()
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(status_screen([], {}, {"devices": {FACILITY: seen}}))
    return contact, examine_devices(FACILITY, seen), console.export_text()


async def test_who_does_not_answer_is_told_with_the_next_step(settings, database, monkeypatch):
    monkeypatch.setattr(service, "LOOK_EACH_S", 0.05)
    async with ScannedSite(settings, database) as site:
        await until(lambda: len(site.events("discovered")) == SLOTS, "everybody is discovered")
        contact, finding, shown = told(settings)
        assert (contact.silent, contact.identified, contact.unidentified) == (0, SLOTS, 0)
        assert (finding.is_well, finding.found) == (
            True,
            f"{SLOTS} devices; {SLOTS} identified, 0 wait for identification",
        )
        assert "devices:" not in shown, "nothing to say"

        site.cables |= {miner_at(1): NOWHERE, site.gpus.at(1): NOWHERE}
        await until(lambda: read_contacts(settings)[0].silent == 9, "a miner and a node of eight are missed")
        _, finding, shown = told(settings)
        said = f"9 of {SLOTS} don't answer ({miner_at(1)}, {site.gpus.at(1)} …)"
        assert not finding.is_well
        assert finding.found.startswith(said)
        assert f"hcp discover {miner_at(1)}" in finding.remedy
        assert f"{FACILITY}: {said}" in shown

        site.gateway.end()
        _, finding, _ = told(settings)
        assert not finding.is_well
        assert "its gateway does not answer" in finding.found


@pytest.fixture
def inventory(settings, database):
    apply(database, document([("lux", "S21", "luxos", 10), ("h100", "H100 SXM5", "stock", 12)]), "test")
    return load_inventory(database, "west-1")


def test_the_dark_and_the_silent_are_told_apart_and_who_waits_to_be_identified(inventory):
    slots = encode_slots
    state = pb.FacilityState(dark=slots(range(4)), reachable=slots(np.arange(5, 16, dtype=np.uint32)))
    contact = contact_of(inventory, state, identified=[0, 1, 21, 99])
    assert (contact.devices, contact.dark, contact.silent) == (22, 4, 7)
    assert (contact.identified, contact.unidentified) == (3, 19)
    finding = examine_devices("west-1", contact.as_dict())
    assert "4 have no power" in finding.found
    assert "hcp discover RANGES --facility west-1 --apply" in finding.found


def test_a_gateway_that_reaches_nobody_and_a_facility_in_the_dark(inventory):
    nobody = contact_of(inventory, pb.FacilityState(), identified=())
    assert nobody.silent == 22
    dark = contact_of(inventory, pb.FacilityState(dark=encode_slots(np.arange(22, dtype=np.uint32))), identified=())
    finding = examine_devices("west-1", dark.as_dict())
    assert (dark.silent, finding.is_well) == (0, False)
    assert "breaker" in finding.remedy
