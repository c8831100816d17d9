"""When desired rows are read: as soon as they changed, all of them every so often, and again after a failure."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest

from hcp_pipelines.allocator import desired_desk
from hcp_pipelines.allocator.desired_desk import DesiredDesk
from hcp_pipelines.allocator.desired_table import NOTHING_STORED
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import StorageError


class Rig:
    """A desk over two facilities, of which one has scheduled groups, and a store that answers or not."""

    def __init__(self):
        self.reads, self.was_read, self.failures = [], asyncio.Event(), 0
        controls = {name: self.control(scheduled) for name, scheduled in (("plain", ()), ("gpus", (3,)))}
        self.desk = DesiredDesk(self, controls, SystemClock())

    def control(self, scheduled):
        return SimpleNamespace(site=SimpleNamespace(scheduled=scheduled), desire=lambda rows: self.was_read.set())

    async def read_desired(self, facility_ids):
        self.reads.append(list(facility_ids))
        if self.failures:
            self.failures -= 1
            raise StorageError("away")
        return dict.fromkeys(facility_ids, NOTHING_STORED)


@pytest.fixture
async def rig(monkeypatch):
    monkeypatch.setattr(desired_desk, "LEAST_APART_S", 0.001)
    monkeypatch.setattr(desired_desk, "AGAIN_S", 0.001)
    return Rig()


@contextlib.asynccontextmanager
async def running(rig):
    task = asyncio.create_task(rig.desk.run())
    try:
        async with asyncio.timeout(120):
            yield
    finally:
        task.cancel()


async def test_what_changed_is_read_at_once_whether_or_not_it_can_be_of_interest(rig):
    async with running(rig):
        rig.desk.hear(["plain", "elsewhere"])
        await rig.was_read.wait()
    assert rig.reads == [["plain"]], "rows that can't be are refused"


async def test_a_reading_that_failed_is_tried_again(rig):
    rig.failures = 2
    async with running(rig):
        rig.desk.hear(["gpus"])
        await rig.was_read.wait()
    assert rig.reads == [["gpus"]] * 3


async def test_others_notifications_do_not_put_off_the_reading_of_all(monkeypatch):
    monkeypatch.setattr(desired_desk, "READ_EACH_S", 0.05)
    monkeypatch.setattr(desired_desk, "LEAST_APART_S", 0.001)
    rig = Rig()
    async with running(rig):
        while not rig.was_read.is_set():
            rig.desk.hear(["elsewhere"])
            await asyncio.sleep(0.002)
    assert rig.reads == [["gpus"]]
