"""A world, a gateway and its owners in the test's own loop; fixtures `folder` and `site`."""

import shutil
import tempfile
import uuid
from pathlib import Path

import numpy as np
import pytest

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import encode_slots
from tests.support.edge import Gateway, Owner, World, until


class Site:
    """A world, a gateway and an owner; `restart` begins the gateway anew on what is on the disk."""

    def __init__(self, folder, **changes):
        self.folder, self.changes = folder, changes
        self.owners = []

    async def __aenter__(self):
        self.world = World(self.folder)
        await self.world.start()
        await self._open()
        return self

    async def __aexit__(self, *_):
        for owner in self.owners:
            await owner.leave()
        await self.gateway.stop()
        await self.world.kill()

    async def _open(self):
        self.gateway = Gateway(self.folder, self.world, **self.changes)
        await self.gateway.start()
        self.facility = self.gateway.facilities["one"]

    async def restart(self):
        await self.gateway.stop()
        await self._open()

    async def owner(self, epoch=1, facility="one", **announced):
        owner = await Owner(self.gateway.address, facility=facility, name=f"alloc-{epoch}", epoch=epoch).own(
            **announced
        )
        self.owners.append(owner)
        return owner

    async def lock(self, owner, numbers, version=1, **changes):
        fields = {"facility_id": owner.facility, "epoch": owner.epoch, "version": version, "slots": bitmap(numbers)}
        before = len(owner.of("locks_held"))
        await owner.call.write(pb.OwnerMessage(set_locks=pb.SetLocks(**fields | changes)))
        await until(lambda: len(owner.of("locks_held")) > before, "the reply to the locks")
        return owner.of("locks_held")[-1]

    async def direct(self, facility="one", **what):
        order = {
            "facility_id": facility, "order_id": str(uuid.uuid4()), "operator": "ann", "reason": "smoke",
            "issued_at_ms": int(SystemClock().real_now().timestamp() * 1000),
        }  # fmt: skip
        return await self.gateway.facilities[facility].direct(pb.DirectOrder(**order | what))


def bitmap(slots):
    return encode_slots(np.array(list(slots), dtype=np.uint32))


def events(owner, *kinds):
    return [e for e in owner.of("local_event") if e.kind in kinds]


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="e", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def site(folder):
    async with Site(folder) as running:
        yield running


def local_events(site):
    """What the gateway's log has of its own doings."""
    return [pb.LocalEvent.FromString(e.payload) for e in site.facility.log_entries(0, 999) if e.kind == "local"]
