"""Work that devices behind the bulk channel let go of: our driver hears from the simulated site what is kept and what is not."""

import shutil
import tempfile
import uuid
from pathlib import Path

import numpy as np
import pytest
from pyroaring import BitMap

from hcp_pipelines.devices.bulk.device import BulkSite
from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.devices.switches import SwitchBook
from hcp_pipelines.wire.slots import encode_slots
from simulators.bulk import BulkServer
from simulators.clock import ManualClock
from simulators.durability import TransitionLog
from simulators.fleet import Fleet
from tests.support.edge import until
from tests.support.world import BATCH, FIRST_GPU, IDLE, T0, script, site_config


class Book(SwitchBook):
    """What was told."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = []

    async def saved(self, saved):
        self.kept.append((saved.workload_id, tuple(slot - FIRST_GPU for slot in saved.slots), bool(saved.problem)))


class Rig:
    """A site of the world behind its channel, and the driver."""

    def __init__(self, folder):
        self.clock, self.book = ManualClock(T0), Book()
        self.fleet = Fleet([site_config("one")], 7, T0, script())
        self.world = self.fleet.sites["one"]
        transitions = TransitionLog(folder / "t.jsonl", self.fleet, self.clock)
        self.server = BulkServer(folder / "b.sock", self.fleet, transitions, self.clock)
        self.site = BulkSite(f"unix:{folder / 'b.sock'}", "one", lambda _: None, self.book)

    async def tell(self, state, gpus, work=""):
        """(accepted, refused) how many."""
        slots = encode_slots(np.array(gpus, dtype=np.uint32) + FIRST_GPU)
        sent = self.site.send_state(uuid.uuid4(), 0, state, slots, WorkloadSpec(workload_id=work) if work else None)
        return tuple(len(part) for part in await self.site.finish_state(sent))

    def pass_time(self, seconds):
        self.clock.at_s += seconds
        self.world.advance(self.clock.now_s())

    async def told(self, count):
        await until(lambda: len(self.book.kept) >= count, "it is told")
        return sorted(self.book.kept)


@pytest.fixture
async def rig():
    folder = Path(tempfile.mkdtemp(prefix="b", dir="/tmp"))
    one = Rig(folder)
    await one.server.start()
    await one.site.connect(1000)
    yield one
    await one.site.close()
    await one.server.stop()
    shutil.rmtree(folder)


async def test_what_lets_go_in_peace_is_kept_once_it_has_and_what_loses_its_power_is_not(rig):
    await rig.tell(BATCH, [0, 1], "one")
    await rig.tell(BATCH, [2], "two")
    await rig.tell(BATCH, [3])
    rig.pass_time(600)
    assert await rig.tell(IDLE, [0, 1, 2, 3]) == (4, 0)
    assert rig.book.kept == [], "it is on its way"
    rig.world.set_without_power(np.isin(np.arange(rig.world.devices), [FIRST_GPU + 1]))
    rig.pass_time(600)
    assert await rig.told(3) == [("one", (0,), False), ("one", (1,), True), ("two", (2,), False)]
    await rig.tell(BATCH, [4], "three")
    rig.pass_time(600)
    for is_dark in (True, False):
        rig.world.set_without_power(np.isin(np.arange(rig.world.devices), [FIRST_GPU + 4]) & is_dark)
        rig.pass_time(600)
    await rig.tell(IDLE, [4])
    assert (await rig.told(4))[2] == ("three", (4,), True), "it has booted since: nothing of it is there"


async def test_an_application_that_has_died_has_kept_nothing_and_other_work_in_the_same_state_is_handed_over(rig):
    await rig.tell(BATCH, [0], "one")
    await rig.tell(BATCH, [1], "two")
    rig.pass_time(600)
    rig.world.end_work(BitMap([FIRST_GPU]), rig.clock.now_s())
    await rig.tell(BATCH, [0, 1], "three")
    rig.pass_time(600)
    assert await rig.told(2) == [("one", (0,), True), ("two", (1,), False)]
    await rig.tell(BATCH, [0, 1], "three")
    await rig.tell(IDLE, [0, 1])
    rig.pass_time(600)
    assert (await rig.told(3))[1:2] == [("three", (0, 1), False)], "told the same again is not let go of"
