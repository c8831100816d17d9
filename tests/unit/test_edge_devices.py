"""What a device had last counts: an older order that says the same is neither told again nor judged. Driver and log are fakes."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY

from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.devices.site import Reading
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import DeviceReplyError, DeviceUnreachableError, NotNowError, StorageError
from hcp_pipelines.domain.modes import DeviceState, ReasonCode
from hcp_pipelines.edge.checks import Taken
from hcp_pipelines.edge.devices import Devices
from hcp_pipelines.edge.driving import SiteDriver
from hcp_pipelines.edge.local import LocalActions
from hcp_pipelines.edge.messages import message_of
from hcp_pipelines.edge.ramp_book import RampBook
from hcp_pipelines.edge.recovery import local_id, recover
from hcp_pipelines.edge.shape import SiteShape
from hcp_pipelines.edge.tasks import Tasks
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import EMPTY, decode_slots, encode_slots
from tests.unit.test_edge_log_and_settling import BASELINE, FULL, OFF, ONE, TWO, command, entries, facility, slots

TRAINING = int(DeviceState.TRAINING)
THREE = "6f1c0f5e-8f0e-4a44-9a34-b5b1c4c7d1f0"


class Site:
    """Devices that do as they are told, and say so."""

    devices = 6

    def __init__(self):
        self.told, self.on_reading, self.answer, self.is_asked = [], None, asyncio.Event(), asyncio.Event()
        self.refuses, self.problem = EMPTY, None
        self.answer.set()

    async def connect(self, period_ms):
        """Nothing to reach."""

    async def closed(self):
        await asyncio.Event().wait()

    async def close(self):
        """Nothing is open."""

    def send_state(self, ref, assignment, state, payload, _work=None):
        self.told.append((str(ref), state, decode_slots(payload, 6).tolist()))
        sent = asyncio.get_running_loop().create_future()
        sent.set_result(None)
        return sent

    async def finish_state(self, sent):
        await sent
        if self.problem is not None:
            raise self.problem
        return EMPTY, self.refuses

    async def read_states(self):
        self.is_asked.set()
        await self.answer.wait()
        return np.full(6, FULL, dtype=np.uint8)


class Log:
    """Keeps what it is given."""

    folder, base_seq, damage = Path("/nowhere"), 0, ""

    def __init__(self):
        self.stored, self.last_seq = [], 0

    def reserve(self):
        self.last_seq += 1
        return self.last_seq

    async def append(self, items):
        self.stored += [pb.LogEntry(seq=seq, kind=kind, payload=payload) for seq, kind, payload in items]


class Rig:
    """`Devices` as a log left them, with a site that the test can look into."""

    def __init__(self, *log, config=None):
        config, self.site, self.log, tasks = config or facility(), Site(), Log(), Tasks()
        shape, clock = SiteShape.of(config), SystemClock()
        driver = SiteDriver(config, 6, Path("/nowhere"), 500, clock, tasks, self._make)
        known = recover(entries(*log), shape)
        self.devices = Devices(driver, shape, RampBook(config, shape), self.log, clock, 500, tasks, known)
        self.said = []
        self.devices.tell = self.said.append

    def _make(self, *arguments):
        self.site.on_reading = arguments[-1]
        return self.site

    @contextlib.asynccontextmanager
    async def connected(self):
        task = asyncio.create_task(self.devices.run())
        while not self.devices.is_ready:
            await asyncio.sleep(0)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def read(self, *kw):
        """A reading, and what is said of it."""
        self.site.on_reading(Reading(2e9, np.array(kw, dtype=np.float32) * 1000))
        while self.devices.is_storing or self.log.last_seq == 0:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        return {
            m.settled.command_id: [decode_slots(p, 6).tolist() for p in (m.settled.settled, m.settled.superseded)]
            for m in self.said
        }


class WorkRig(Rig):
    """Four GPUs at a first training, which draws what any other would."""

    def __init__(self):
        ladder = [{"state": OFF, "power_kw": 0.1, "settle_s": 20}, {"state": TRAINING, "power_kw": 1.3, "settle_s": 60}]
        group = {"group_id": "a", "feeder_id": "f1", "first_slot": 2, "devices": 4, "pue": 1.2, "ladder": ladder}
        states = bytes([255, 255, TRAINING, TRAINING, TRAINING, TRAINING])
        super().__init__(pb.FacilityState(generation=1, states=states), config=facility(groups=[group]))

    async def switch(self, *numbers):
        """Tell devices other work: (settled, failed) once they have drawn for long what they drew before."""
        mine = order(*numbers)
        work = WorkloadSpec("b", workload_id="two")
        self.devices.carry_out(ONE, [Taken(0, TRAINING, mine, encode_slots(mine), work)])
        self._draw()
        while self.devices.is_telling:
            await asyncio.sleep(0)
        self._draw()
        self._draw()
        while self.devices.is_storing or not self.said:
            await asyncio.sleep(0)
        return [decode_slots(part, 6).tolist() for part in (self.said[0].settled.settled, self.said[0].settled.failed)]

    def _draw(self):
        self.site.on_reading(Reading(2e9, np.array([0, 0, 1.3, 1.3, 1.3, 1.3], dtype=np.float32) * 1000))


def order(*numbers):
    return np.array(numbers, dtype=np.uint32)


def taken(state, *numbers):
    return Taken(0, state, order(*numbers), encode_slots(order(*numbers)))


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_an_older_order_that_says_the_same_is_superseded_and_not_told_again(is_restarted):
    orders = [(ONE, FULL, (2, 3)), (TWO, OFF, (2,)), (THREE, FULL, (2,))]
    logged = [m for ref, state, mine in orders for m in command(ref, state, slots(*mine))] if is_restarted else []
    rig = Rig(BASELINE, *logged)
    if not is_restarted:
        for ref, state, mine in orders:
            rig.devices.carry_out(ref, [taken(state, *mine)])
    async with rig.connected():
        assert rig.site.told == [(ONE, FULL, [3]), (THREE, FULL, [2])]
        said = await rig.read(0, 0, 3.5, 3.5, 0, 0)
    assert said == {ONE: [[3], [2]], TWO: [[], [2]], THREE: [[2], []]}


async def test_what_safety_took_down_before_a_snapshot_is_not_woken_by_what_came_behind_it():
    snapshot = pb.Snapshot(state=BASELINE)
    for ref, state in ((local_id(7), OFF), (ONE, FULL)):  # ONE was accepted before and held back
        snapshot.unfinished.add(command_id=ref, assignments=[pb.Assignment(index=0, state=state, slots=slots(2))])
    rig = Rig()
    known = recover([pb.LogEntry(seq=1, kind="snapshot", payload=snapshot.SerializeToString())], rig.devices.shape)
    assert known.newest[2] == known.unfinished[local_id(7), 0].number


async def test_a_lock_that_comes_while_devices_are_asked_for_the_first_time_is_in_the_baseline():
    rig = Rig()
    rig.site.answer.clear()
    task = asyncio.create_task(rig.devices.run())
    await asyncio.wait_for(rig.site.is_asked.wait(), 60)
    rig.devices.carry_out(local_id(1), [taken(OFF, 2, 3)])
    rig.site.answer.set()
    while not rig.log.stored:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    baseline = pb.FacilityState.FromString(rig.log.stored[0].payload)
    assert list(baseline.states[2:]) == [OFF, OFF, FULL, FULL]
    assert rig.devices.states[2:].tolist() == [OFF, OFF, FULL, FULL]


async def test_what_is_done_at_once_and_stored_later_stands_behind_what_was_stored_meanwhile(monkeypatch):
    monkeypatch.setattr("hcp_pipelines.edge.local.STORE_AGAIN_S", 0)
    rig = Rig(BASELINE)
    append, refused = rig.log.append, []

    async def full_at_first(items):
        if not refused:
            refused.extend(items)
            await append([(rig.log.reserve(), "floors", b"")])
            raise StorageError("no space left")
        await append(items)

    rig.log.append = full_at_first
    async with rig.connected():
        at_once = LocalActions(rig.devices, rig.log, SystemClock()).act_at_once
        await at_once("safety", ReasonCode.LOCAL_SAFETY, [(OFF, order(2, 3))], pb.LocalEvent())
    seqs = [entry.seq for entry in rig.log.stored]
    assert seqs == sorted(seqs), "a reader goes on from the last it knows"
    (said,) = [m.local_event for m in rig.said if m.HasField("local_event")]
    (entry,) = [e for e in rig.log.stored if e.kind == "local"]
    assert said.seq == entry.seq == message_of(entry).local_event.seq
    assert rig.site.told
    known = recover([*entries(BASELINE), *rig.log.stored], rig.devices.shape)
    assert {ref for ref, _ in known.unfinished} == {ref for ref, _, _ in rig.site.told}, "as the devices were told"


async def test_the_owner_is_told_when_something_was_done_and_not_when_it_began_to_be_stored():
    rig, clock, stored = Rig(BASELINE), SystemClock(), []
    append = rig.log.append

    async def slow(items):
        await asyncio.sleep(0.01)
        await append(items)
        stored.append(clock.now())

    rig.log.append = slow
    async with rig.connected():
        await LocalActions(rig.devices, rig.log, clock).act("fallback", ReasonCode.FALLBACK_PLAN, [(OFF, order(2, 3))])
    (said,) = [m.local_event for m in rig.said if m.HasField("local_event")]
    assert datetime.fromisoformat(said.simulated_at) >= stored[-1]


@pytest.mark.parametrize(
    ("refuses", "problem", "settled", "failed"),
    [
        ((), None, [2, 3, 4], []),
        ((3, 4), None, [2], [3, 4]),
        ((), DeviceReplyError("cut off"), [], [2, 3, 4]),
    ],
)
async def test_other_work_that_devices_refuse_is_not_taken_for_settled_as_they_draw_the_same(
    refuses, problem, settled, failed
):
    rig = WorkRig()
    async with rig.connected():
        rig.site.refuses, rig.site.problem = order(*refuses), problem
        assert await asyncio.wait_for(rig.switch(2, 3, 4), 60) == [settled, failed]


async def test_work_that_could_not_be_told_in_time_is_asked_for_no_more_and_a_busy_device_is_not_to_blame():
    rig = WorkRig()
    book = rig.devices._switches
    async with rig.connected():
        rig.site.refuses = order(3, 4)
        book.note_telling(ONE, 0, {3: NotNowError("drained"), 4: DeviceUnreachableError("away")})
        assert not book.is_ended(ONE, 0)
        assert await asyncio.wait_for(rig.switch(2, 3, 4), 60) == [[2], [3, 4]]
        assert decode_slots(rig.said[0].settled.not_now, 6).tolist() == [3]
        assert (book.is_ended(ONE, 0), book.is_ended(TWO, 0)) == (True, False)


async def test_what_is_wrong_with_devices_is_counted_until_it_is_over():
    rig, hot = Rig(BASELINE), ("high_temperature", "critical")
    told = []
    labels = {"facility_id": rig.devices.shape.facility_id, "issue": hot[0], "severity": hot[1]}
    counts = []
    async with rig.connected():
        for issues in ({hot: np.uint32([1, 4])}, {}):
            rig.site.on_reading(Reading(2e9, np.zeros(6, np.float32), issues=issues))
            counts.append(REGISTRY.get_sample_value("hcp_edge_device_issues", labels))
            rig.devices.fill(state := pb.FacilityState())
            told.append([(one.issue_type, one.severity, decode_slots(one.slots, 6).tolist()) for one in state.issues])
    assert counts == [2, 0]
    assert told == [[(*hot, [1, 4])], []], "and who has it is told to whoever asks"


async def test_what_a_group_draws_and_hashes_is_told_by_group():
    rig = Rig(BASELINE)
    (group_id,) = rig.devices.shape.group_ids
    labels = {"facility_id": rig.devices.shape.facility_id, "group_id": group_id}
    there = rig.devices.shape.is_there
    power_w, hashes, heat = (np.where(there, value, np.nan).astype(np.float32) for value in (3500.0, 200.0, 60.0))
    heat[np.flatnonzero(there)[0]], power_w[np.flatnonzero(there)[1]] = 75.0, np.nan
    async with rig.connected():
        rig.site.on_reading(Reading(2e9, power_w, hashrate_th_per_s=hashes, temperature_celsius=heat))
    miners = int(there.sum())
    told = [REGISTRY.get_sample_value(f"hcp_asic_{name}", labels) for name in ("power_watts", "hashrate_th_per_s")]
    assert told == pytest.approx([3500.0 * (miners - 1), 200.0 * miners])
    assert REGISTRY.get_sample_value("hcp_asic_efficiency_j_per_th", labels) == pytest.approx(told[0] / told[1])
    assert REGISTRY.get_sample_value("hcp_asic_temperature_celsius", labels) == 75.0


async def test_what_loads_is_told_to_whoever_announces_until_it_has_settled():
    rig = WorkRig()

    def starting():
        state = pb.FacilityState()
        rig.devices.fill(state)
        return decode_slots(state.starting, 6).tolist()

    async with rig.connected():
        rig.devices.carry_out(TWO, [taken(TRAINING, 4)])  # nobody's work
        rig.devices.carry_out(THREE, [replace(taken(TRAINING, 5), work=WorkloadSpec("c", workload_id="three"))])
        assert starting() == [5]
        await asyncio.wait_for(rig.switch(2, 3), 60)
        assert starting() == []
