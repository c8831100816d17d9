"""XIDs under the gateway's driver, over real sockets: counted once, acted on once where the site says so, and never too much."""

import json
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import REGISTRY

from hcp_pipelines.devices.gpu_node.device import GpuNode
from hcp_pipelines.devices.gpu_node.fleet import SILENT_ROUNDS_MAX
from hcp_pipelines.devices.gpu_node.xid_record import XidRecord
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.domain.modes import DeviceState
from simulators import faults
from tests.support.edge import until
from tests.support.gpus import GpuRig, gpu_rig, gpu_world

IDLE, BATCH = DeviceState.IDLE, DeviceState.INFERENCE_BATCH


class Counted:
    """What the driver has counted since."""

    def __init__(self):
        self._before = self._all()

    def __call__(self, code, result):
        key = (str(code), result)
        return self._all().get(key, 0) - self._before.get(key, 0)

    def _all(self):
        samples = [s for metric in REGISTRY.collect() if metric.name == "hcp_gpu_xids" for s in metric.samples]
        return {(s.labels["code"], s.labels["result"]): s.value for s in samples if s.name.endswith("_total")}


@pytest.fixture
def counted():
    return Counted()


async def strike(rig, xid, gpu, kind=faults.XID):
    rig.world.impose(kind, gpu, xid=xid)
    rig.world.pass_time(2)
    await rig.rounds(3)


async def pass_time(rig, seconds):
    rig.world.pass_time(seconds)
    await rig.rounds(3)


async def is_drained(rig, node=0):
    async with rig.world.driver(node) as device:
        return (await device.identify()).is_drained


@pytest.mark.parametrize(("xid", "kind"), [(94, faults.XID), (79, faults.FALLEN_OFF_BUS)])
async def test_a_site_that_observes_does_nothing_but_count(tmp_path, counted, xid, kind):
    async with gpu_rig(tmp_path, 8) as rig:
        await rig.run(BATCH, [0])
        await strike(rig, xid, 0, kind)
        await pass_time(rig, 60)
        assert await rig.operations() == ["start"]
        assert not await is_drained(rig)
    assert [counted(xid, result) for result in ("seen", "done", "failed")] == [1, 0, 0]


@pytest.mark.parametrize("xid", [63])
async def test_some_xids_ask_for_nothing(tmp_path, counted, xid):
    async with gpu_rig(tmp_path, 8, xid_actions="act") as rig:
        await rig.run(BATCH, [0])
        await strike(rig, xid, 0)
        assert await rig.operations() == ["start"]
        assert rig.commanded()[0] == BATCH
    assert [counted(xid, result) for result in ("seen", "done")] == [1, 0]


async def test_a_gpu_is_reset_once_and_the_others_work_on(tmp_path, counted):
    async with gpu_rig(tmp_path, 8, xid_actions="act") as rig:
        await rig.run(BATCH, [0, 1])
        await strike(rig, 64, 0, faults.ECC)
        await pass_time(rig, 20)
        await pass_time(rig, 20)
        assert await rig.operations() == ["start", "start", "reset"]
        assert rig.commanded()[:2] == [IDLE, BATCH]
        assert rig.site.fleet.nodes[0].telemetry.gpus[0].last_xid == 0
        assert [counted(64, result) for result in ("seen", "done")] == [1, 1]
        await strike(rig, 95, 0, faults.ECC)
        assert await rig.operations() == ["start", "start", "reset", "reset"], "another XID is another event"
    assert counted(95, "seen") == 1


async def test_a_failed_application_is_loaded_anew_where_it_is_still_wanted(tmp_path, counted):
    async with gpu_rig(tmp_path, 8, xid_actions="act") as rig:
        await rig.run(BATCH, [0, 1])
        await strike(rig, 94, 0)
        await pass_time(rig, 60)
        await pass_time(rig, 60)
        assert await rig.operations() == ["start"] * 3
        assert rig.commanded()[:2] == [BATCH, BATCH]
        async with rig.world.driver() as device:
            assert [one.workload_phase for one in (await device.read_status())[:2]] == ["running", "running"]
        assert counted(94, "done") == 1


async def test_an_xid_on_a_gpu_where_nothing_has_failed_restarts_nothing(tmp_path, counted):
    async with gpu_rig(tmp_path, 8, xid_actions="act") as rig:
        await strike(rig, 94, 0)
        assert await rig.operations() == []
    assert [counted(94, result) for result in ("seen", "done")] == [1, 0]


async def test_another_driver_does_not_act_again_on_what_was_dealt_with(tmp_path, counted):
    async with gpu_world(tmp_path, 8, collect_s=1.0) as world:
        for _ in range(2):
            rig = GpuRig(world, tmp_path / "edge", 8, xid_actions="act")
            await rig.site.connect(5)
            if not (await rig.operations()):
                await rig.run(BATCH, [0])
                await strike(rig, 94, 0)
                await pass_time(rig, 60)
            await rig.rounds(3)
            operations = await rig.operations()
            await rig.site.close()
        assert operations == ["start", "start"]
    assert counted(94, "seen") == 1


async def test_a_driver_that_ended_in_the_middle_goes_on_and_the_node_restarts_once(tmp_path):
    async with gpu_world(tmp_path, 8, collect_s=1.0) as world:
        first, second = (GpuRig(world, tmp_path / "edge", 8, xid_actions="act") for _ in range(2))
        await first.site.connect(5)
        await strike(first, 79, 5, faults.FALLEN_OFF_BUS)
        await first.site.close()
        second.site = GpuRig(world, tmp_path / "edge", 8, xid_actions="act").site
        world.pass_time(601)
        second.site._on_reading = second.readings.append
        await second.site.connect(5)
        await second.rounds(4)
        assert await second.operations() == ["drain", "reboot", "undrain"]
        await second.site.close()


async def test_a_node_restarts_only_when_nothing_else_runs_on_it(tmp_path, counted):
    async with gpu_rig(tmp_path, 8, xid_actions="act") as rig:
        await rig.run(BATCH, [0, 1])
        await strike(rig, 79, 5, faults.FALLEN_OFF_BUS)
        await pass_time(rig, 100)
        assert await rig.operations() == ["start", "start"], "two GPUs work: their work goes first"
        await rig.tell(IDLE, [0, 1])
        await pass_time(rig, 200)
        assert (await rig.operations())[-1] == "pause", "they have yet to settle"
        rig.world.pass_time(100)
        await until(lambda: rig.site.fleet.nodes[0].failures > 0, "it goes down")
        rig.world.pass_time(601)
        await until(lambda: counted(79, "done") == 1, "it is back")
        await rig.rounds(3)
        assert await rig.operations() == ["start", "start", "pause", "drain", "reboot", "undrain"]
        assert not await is_drained(rig)
        assert rig.site.fleet.nodes[0].telemetry.missing(8) == ()
    assert counted(79, "seen") == 1


async def test_a_gpu_that_the_page_leaves_out_and_the_agent_calls_well_is_not_off_the_bus(
    tmp_path, counted, monkeypatch
):
    """Exporters leave GPUs out for reasons of their own: that is no XID 79, and no reason to restart a good node."""
    whole = GpuNode.read_telemetry

    async def without_the_sixth(node):
        page = await whole(node)
        return replace(page, gpus=tuple(gpu for gpu in page.gpus if gpu.index != 5))

    monkeypatch.setattr(GpuNode, "read_telemetry", without_the_sixth)
    async with gpu_rig(tmp_path, 8, xid_actions="act") as rig:
        await pass_time(rig, 1000)
        await pass_time(rig, 1000)
        assert np.isnan(rig.power_w).tolist() == [gpu == 5 for gpu in range(8)], "it has no power that anybody knows"
        assert await rig.operations() == []
    assert counted(79, "seen") == 0


async def test_a_node_restarts_when_all_its_gpus_are_lost(tmp_path):
    async with gpu_rig(tmp_path, 4, xid_actions="act") as rig:
        await rig.run(BATCH)
        for gpu in range(4):
            rig.world.impose(faults.FALLEN_OFF_BUS, gpu, xid=79)
        rig.world.pass_time(2)
        await rig.rounds(4)
        rig.world.pass_time(601)
        await rig.rounds(8)
        assert (await rig.operations()).count("reboot") == 1


async def test_a_double_bit_error_drains_resets_and_opens_again(tmp_path):
    async with gpu_rig(tmp_path, 8, xid_actions="act") as rig:
        await strike(rig, 48, 2, faults.ECC)
        await pass_time(rig, 20)
        assert await rig.operations() == ["drain", "reset", "undrain"]
        assert not await is_drained(rig)


async def test_what_somebody_drained_by_hand_stays_drained(tmp_path):
    async with gpu_rig(tmp_path, 8, xid_actions="act") as rig:
        await rig.world.post("/v1/node/drain", {"request_id": "by-hand-1"})
        await strike(rig, 48, 2, faults.ECC)
        await pass_time(rig, 20)
        assert await is_drained(rig)
        assert await rig.operations() == ["drain", "drain", "reset"]


async def test_what_needs_hands_is_drained_and_left(tmp_path, counted):
    async with gpu_rig(tmp_path, 8, xid_actions="act") as rig:
        await rig.run(BATCH, [0])
        await strike(rig, 74, 2, faults.NVLINK)
        assert await is_drained(rig)
        assert rig.commanded()[0] == BATCH, "what runs goes on"
        assert await rig.operations() == ["start", "drain"]
    assert counted(74, "done") == 1


async def test_what_is_refused_is_over_and_said(tmp_path, counted):
    async with gpu_rig(tmp_path, 8, xid_actions="act", token="another") as rig:
        await strike(rig, 95, 2, faults.ECC)
        await rig.rounds(4)
        assert [counted(95, result) for result in ("seen", "done", "failed")] == [1, 0, 1]


async def test_nothing_is_done_that_could_not_be_noted_before(tmp_path, counted, monkeypatch):
    def full(_record, _text):
        raise OSError(28, "No space left on device")

    async with gpu_rig(tmp_path, 8, xid_actions="act") as rig:
        with monkeypatch.context() as patch:
            patch.setattr(XidRecord, "_replace", full)
            await strike(rig, 95, 2, faults.ECC)
            assert await rig.operations() == []
        await rig.rounds(SILENT_ROUNDS_MAX)
        assert await rig.operations() == ["reset"]
    assert counted(95, "seen") == 1


async def test_the_record_says_what_the_disk_said_and_puts_nonsense_aside(tmp_path, monkeypatch):
    record = XidRecord(tmp_path)
    event = await record.begin("10.0.0.1/3", 95, is_open=True)
    assert XidRecord(tmp_path).last("10.0.0.1/3") == event
    await record.end("10.0.0.1/3")
    assert not XidRecord(tmp_path).last("10.0.0.1/3").is_open
    other = await record.begin("10.0.0.1/3", 95, is_open=True)
    assert other.request_id("10.0.0.1/3") != event.request_id("10.0.0.1/3")
    assert (tmp_path / "xids.json").stat().st_mode & 0o077 == 0
    assert json.loads((tmp_path / "xids.json").read_text())["10.0.0.1/3"]["code"] == 95
    (tmp_path / "xids.json").write_text("{")
    assert XidRecord(tmp_path).last("10.0.0.1/3") is None
    assert (tmp_path / "xids.broken").exists()
    (tmp_path / "xids.json").mkdir()
    with pytest.raises(StorageError, match="the XID is not acted on"):
        await record.end("10.0.0.1/3")
