"""From devices on real sockets to the inventory: gateway process, gRPC, follower, Postgres; and what must not change it."""

import asyncio
import contextlib
import signal
from itertools import pairwise

import pytest

from hcp_pipelines.fleet import service
from hcp_pipelines.fleet.findings import newest_findings
from hcp_pipelines.fleet.inventory import load_inventory
from simulators import faults
from tests.support.discovery import FACILITY, GATEWAY, NOWHERE, SLOTS, ScannedSite, miner_at
from tests.support.edge import until
from tests.support.miners import talk


@pytest.fixture
async def scanned(settings, database, monkeypatch):
    monkeypatch.setattr(service, "LOOK_EACH_S", 0.05)
    async with contextlib.AsyncExitStack() as stack:

        async def start(**discovery):
            return await stack.enter_async_context(ScannedSite(settings, database, **discovery))

        yield start


async def test_devices_are_found_followed_and_told_once(scanned):
    site = await scanned()
    await until(lambda: len(site.events("discovered")) == SLOTS, "everybody is discovered")
    assert sorted(site.events("discovered")) == list(range(SLOTS))
    assert site.generation == 1, "they are where the file says"
    metadata, _, specification = site.record(8)
    assert metadata["serial"].startswith("GPU-")
    assert specification == {"memory_gb": 79.6, "compute_capability": "9.0", "max_power_w": 1300.0}
    site.database.execute("update resources set status = 'allocated' where slot in (1, 2, 9)")

    await vanish_and_return(site)
    await move(site)

    assert sorted(site.events("discovered")) == list(range(SLOTS)), "each once, whatever came after"
    assert [site.record(slot)[1] for slot in (1, 2, 9)] == ["allocated"] * 3


async def vanish_and_return(site):
    """A miner and a GPU node that no longer answer, and one that only hangs."""
    site.hall.break_(0, faults.HUNG)
    site.cables |= {miner_at(1): NOWHERE}
    await until(lambda: site.events("vanished") == [1], "the miner is missed")
    assert site.record(1)[0]["presence"] == "vanished"
    await site.scans(2)
    assert site.events("vanished") == [1], "said once; the one that hangs is there"
    site.cables.clear()
    await until(lambda: site.events("returned") == [1], "it is back")
    site.hall.mend(0, faults.HUNG)
    assert (site.generation, site.record(1)[0]["presence"]) == (1, "present")


async def move(site):
    """Two miners and two GPU nodes swap their places: a new generation, from which the gateway takes their addresses."""
    before = [site.record(slot)[0]["serial"] for slot in range(SLOTS)]
    first, second = site.gpus.at(0), site.gpus.at(1)
    site.cables |= {miner_at(2): miner_at(3), miner_at(3): miner_at(2), first: second, second: first}
    await until(lambda: len(site.events("moved")) == 18, "they are found elsewhere")
    assert sorted(set(site.events("moved"))) == [2, 3, *range(8, 24)]
    assert [site.record(slot)[0]["serial"] for slot in range(SLOTS)] == before, "each device keeps its slot"
    site.gateway.end(signal.SIGTERM)
    generation = site.generation
    assert generation in (2, 3), "both sweeps of one scan, or one after the other"
    await site.start_gateway()
    groups = {
        group.group_id: group.specifications["addresses"] for group in load_inventory(site.database, FACILITY).groups
    }
    assert groups["lux"] == ["127.16.0.1-127.16.0.2", "127.16.0.4", "127.16.0.3"]
    assert groups["h100"] == [second, first]
    await site.scans(3)
    assert site.generation == generation, "nothing is news any more"


async def test_a_network_fault_changes_nothing(scanned):
    """Nobody answers, then most don't for one scan, then the gateway itself is away."""
    site = await scanned()
    await until(lambda: len(site.events("discovered")) == SLOTS, "everybody is discovered")
    everywhere = [
        *(miner_at(n) for n in range(4)),
        *(miner_at(n) for n in range(16, 20)),
        site.gpus.at(0),
        site.gpus.at(1),
    ]
    rows = site.database.execute("select slot, metadata, status, generation from resources order by slot").fetchall()

    site.cables |= dict.fromkeys(everywhere, NOWHERE)
    await until(lambda: site.audited("alert.discovery_held"), "the scan is held")
    await site.scans(4)
    assert len(site.audited("alert.discovery_held")) == 1, "said once, however long it lasts"
    assert [one.kind for one in newest_findings(site.database)] == ["held"]
    site.gateway.end(signal.SIGTERM)
    await asyncio.sleep(0.3)
    assert site.context.health[FACILITY] == "", "a restart is no fault"
    site.cables.clear()
    await site.start_gateway()
    await site.scans(3)

    assert (
        site.database.execute("select slot, metadata, status, generation from resources order by slot").fetchall()
        == rows
    )
    assert (site.events("vanished"), site.events("moved"), site.generation) == ([], [], 1)
    assert [one.kind for one in newest_findings(site.database)] == ["applied"]


async def test_scans_disturb_nobody_and_without_apply_differences_are_only_recorded(scanned):
    site = await scanned(apply=False)
    port = site.hall.port(4028)
    assert b"SessionID" in await talk(miner_at(0), port, b'{"command": "logon"}')
    whole = f"{SLOTS} discovered"
    await until(
        lambda: whole in [one["changes"] for one in site.audited("inventory.differs")], "differences are recorded"
    )
    await site.scans(3)
    assert b"SessionID" not in await talk(miner_at(0), port, b'{"command": "logon"}'), "the session is still somebody's"
    logs = [site.folder / "transitions.jsonl", site.folder / "gpus" / "transitions.jsonl"]
    assert [log.read_bytes() if log.exists() else b"" for log in logs] == [b"", b""]

    told = [
        differs["changes"] for differs in site.audited("inventory.differs")
    ]  # on a busy machine some miss a first scan
    assert told[-1] == whole
    assert all(one != other for one, other in pairwise(told)), "said once, until it is another"
    assert (site.events("discovered"), site.record(0)[0]) == ([], {})
    (finding,) = newest_findings(site.database)
    assert (finding.kind, finding.said, finding.actor) == ("differs", whole, GATEWAY)
