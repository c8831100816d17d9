"""A switch of GPUs that run something, phase by phase over real sockets: what is asked, rolled back, measured and kept."""

import asyncio
import uuid
from contextlib import asynccontextmanager

import numpy as np
import pytest
from prometheus_client import REGISTRY

from hcp_pipelines.devices import again
from hcp_pipelines.devices.gpu_node import switching
from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.devices.switches import NAMELESS, PHASE_WITHIN_S, Outcome, Phase, Stage, SwitchBook
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.wire.slots import encode_slots
from simulators import faults
from simulators.gpus.workloads import Workload
from tests.support.edge import until
from tests.support.gpus import FIRST_GPU, GpuRig, gpu_rig

IDLE, REALTIME, BATCH, TRAINING = (
    DeviceState.IDLE,
    DeviceState.INFERENCE_REALTIME,
    DeviceState.INFERENCE_BATCH,
    DeviceState.TRAINING,
)


class Kept(SwitchBook):
    """A book that remembers every word; what is `broken` is refused."""

    def __init__(self):
        super().__init__()
        self.words, self.broken, self.kept = [], set(), []

    async def saved(self, saved):
        self.kept.append(saved)

    async def keep(self, switch):
        if switch.stage in self.broken:
            raise StorageError("no space left on device")
        self.words.append(switch)
        await super().keep(switch)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(switching, "ASK_AGAIN_S", (0.01, 0.02))


@asynccontextmanager
async def switching_rig(folder, gpus=8, **options):
    """A rig with its book."""
    async with gpu_rig(folder, gpus, **options) as rig:
        book = Kept()
        await rig.site.close()
        rig.site._switches = book
        await rig.site.connect(20)
        yield rig, book


async def asked(rig: GpuRig, kind: str, times: int = 1, node: int = 0) -> None:
    """Wait until a kind of write has been accepted so often; time passes meanwhile."""
    async with asyncio.timeout(120):
        while (await rig.operations(node)).count(kind) < times:
            rig.world.pass_time(0.2)
            await asyncio.sleep(0.005)


async def over(rig: GpuRig, book: Kept, number: int = 1) -> list:
    """Wait until so many switches are over; time passes meanwhile."""
    async with asyncio.timeout(120):
        while len(ended := [one for one in book.words if one.stage is Stage.OVER]) < number:
            rig.world.pass_time(5.0)
            await asyncio.sleep(0.005)
    return ended


async def test_what_runs_is_paused_let_go_of_and_only_then_something_else_is_started(tmp_path):
    async with switching_rig(tmp_path) as (rig, book):
        await rig.run(BATCH, [0, 1])
        sent = rig.send(TRAINING, [0, 1])
        await asked(rig, "pause", 2)
        assert not sent.done(), "the settling deadline begins with the start's yes"
        await asked(rig, "start", 4)
        assert [slots.tolist() for slots in await rig.site.finish_state(sent)] == [[FIRST_GPU, FIRST_GPU + 1], []]
        first, second = await over(rig, book, 2)
        assert sorted(await rig.operations()) == sorted(["start"] * 4 + ["pause"] * 2 + ["stop"] * 2)
        assert {first.outcome, second.outcome} == {Outcome.SWITCHED}
        assert set(first.phases_ms) == set(first.device_ms) == {Phase.PAUSE, Phase.SWITCH, Phase.START}
        assert 60_000 <= first.device_ms[Phase.START] <= 180_000, "as the table of timings has it"
        assert all(0 < took_ms < 5_000 for took_ms in first.phases_ms.values())
        assert (first.from_state, first.to_state, first.before.model) == (BATCH, TRAINING, "unnamed")
        assert list(book) == [], "what went well is not remembered"
        assert rig.commanded()[:3] == [TRAINING, TRAINING, IDLE]


async def test_training_is_checkpointed_first(tmp_path):
    async with switching_rig(tmp_path) as (rig, book):
        await rig.run(TRAINING, [0])
        rig.send(REALTIME, [0])
        (one,) = await over(rig, book)
        assert await rig.operations() == ["start", "checkpoint", "stop", "start"]
        assert set(one.phases_ms) == {Phase.CHECKPOINT, Phase.SWITCH, Phase.START}
        assert 20_000 <= one.device_ms[Phase.CHECKPOINT] <= 90_000


async def test_a_start_that_is_refused_brings_back_what_ran_and_is_not_tried_again(tmp_path):
    ref = uuid.uuid4()
    async with switching_rig(tmp_path) as (rig, book):
        await rig.run(BATCH, [0])
        before = REGISTRY.get_sample_value("hcp_gpu_switches_total", {"outcome": "rolled_back"}) or 0.0
        too_long = WorkloadSpec(model="m" * 101, gpus_each=1)  # more than an agent takes
        sent = rig.site.send_state(ref, 0, int(TRAINING), _one(0), too_long)
        (one,) = await over(rig, book)
        accepted, refused = await rig.site.finish_state(sent)
        assert (accepted.tolist(), refused.tolist()) == ([], [FIRST_GPU])
        assert (one.outcome, one.is_success) == (Outcome.ROLLED_BACK, False)
        assert "model" in one.problem
        assert await rig.operations() == ["start", "pause", "stop", "stop", "start"], "it was gone: it is loaded anew"
        assert rig.commanded()[0] == BATCH
        assert [word.stage for word in book.words] == [Stage.FORWARD, Stage.ROLL_BACK, Stage.OVER]
        assert REGISTRY.get_sample_value("hcp_gpu_switches_total", {"outcome": "rolled_back"}) == before + 1
        again = rig.site.send_state(ref, 0, int(TRAINING), _one(0), too_long)
        assert (await rig.site.finish_state(again))[1].tolist() == [FIRST_GPU]
        assert len(await rig.operations()) == 5, "the same command, told once more"


async def test_a_phase_that_is_late_is_rolled_back_and_what_sleeps_is_woken(tmp_path):
    within = {**PHASE_WITHIN_S, Phase.CHECKPOINT: 0.1}
    async with switching_rig(tmp_path, phase_within_s=within) as (rig, book):
        await rig.run(TRAINING, [0])
        rig.send(BATCH, [0])
        await until(lambda: book.words, "it has begun")
        rig.world.pass_time(3.0)  # two exchanges are left to it on top
        await until(lambda: book.words[-1].stage is Stage.ROLL_BACK, "its time is over")
        (one,) = await over(rig, book)
        assert one.outcome is Outcome.ROLLED_BACK
        assert "0.1 s" in one.problem
        assert (await rig.operations())[1:] == ["checkpoint", "resume"]
        assert rig.commanded()[0] == TRAINING


async def test_where_going_back_fails_too_it_rests_and_says_so(tmp_path):
    async with switching_rig(tmp_path) as (rig, book):
        await rig.run(BATCH, [0])
        rig.send(TRAINING, [0])
        await asked(rig, "stop")
        rig.world.impose(faults.FALLEN_OFF_BUS, 0)
        (one,) = await over(rig, book)
        assert one.outcome is Outcome.RESTED
        assert "back" in one.problem
        assert (await rig.operations())[-1] == "stop"
        assert rig.site.fleet.nodes[0].wanted[0] == IDLE, "who mends an XID starts nothing there"


async def test_a_node_that_answers_nothing_any_more_leaves_it_stuck(tmp_path):
    async with switching_rig(tmp_path) as (rig, book):
        await rig.run(BATCH, [0])
        rig.send(TRAINING, [0])
        await asked(rig, "pause")
        await rig.world.server.stop()
        (one,) = await over(rig, book)
        assert one.outcome is Outcome.STUCK
        assert "to rest" in one.problem


async def test_a_newer_command_takes_over_in_the_middle(tmp_path):
    async with switching_rig(tmp_path) as (rig, book):
        await rig.run(BATCH, [0])
        rig.send(TRAINING, [0])
        await asked(rig, "pause")
        rig.send(BATCH, [0])
        (one,) = await over(rig, book)
        assert one.outcome is Outcome.SUPERSEDED
        await asked(rig, "resume")
        assert await rig.operations() == ["start", "pause", "resume"], "it was asleep: nothing was lost"


async def test_a_drained_node_is_left_alone(tmp_path):
    async with switching_rig(tmp_path) as (rig, book):
        await rig.run(BATCH, [0])
        await rig.world.post("/v1/node/drain", {"request_id": "drained-1"})
        assert await rig.tell(TRAINING, [0]) == ([], [0])
        assert await rig.operations() == ["start", "drain"]
        assert book.words == []


async def test_what_a_drained_node_refused_is_asked_again_and_taken_once_it_is_open(tmp_path, monkeypatch):
    monkeypatch.setattr(again, "RETRY_AFTER_S", (0.05,))
    async with switching_rig(tmp_path) as (rig, book):
        ref = uuid.uuid4()
        await rig.world.post("/v1/node/drain", {"request_id": "drained-1"})
        assert await rig.tell(BATCH, [0], ref=ref) == ([], [0])
        assert book.telling_of(str(ref), 0) == {FIRST_GPU}, "it has not failed yet"
        assert not book.failed_of(str(ref), 0)
        await rig.world.post("/v1/node/undrain", {"request_id": "opened-1"})
        await until(lambda: not book.telling_of(str(ref), 0), "it is told")
        assert await rig.operations() == ["drain", "undrain", "start"]
        assert not book.failed_of(str(ref), 0)
        await rig.world.post("/v1/node/drain", {"request_id": "drained-2"})
        assert await rig.tell(BATCH, [1], ref=ref, assignment=1) == ([], [1])
        rig.world.pass_time(PHASE_WITHIN_S[Phase.START] + 1)
        await until(lambda: not book.telling_of(str(ref), 1), "the time of a start is over")
        assert book.failed_of(str(ref), 1) == book.not_now_of(str(ref), 1) == {FIRST_GPU + 1}
        assert await rig.tell(BATCH, [2], ref=ref, assignment=2) == ([], [2])
        book.end(str(ref), 2)
        await rig.world.post("/v1/node/undrain", {"request_id": "opened-2"})
        await until(lambda: not book.telling_of(str(ref), 2), "it was judged: its work may have a place elsewhere")
        assert (await rig.operations()).count("start") == 1


async def test_what_can_not_be_stored_is_not_begun_and_what_has_begun_goes_on(tmp_path):
    async with switching_rig(tmp_path) as (rig, book):
        await rig.run(BATCH, [0])
        book.broken = {Stage.FORWARD}
        assert await rig.tell(TRAINING, [0]) == ([], [0])
        assert await rig.operations() == ["start"]
        book.broken = {Stage.OVER}
        rig.send(TRAINING, [0])
        await asked(rig, "start", 2)


async def test_copies_over_several_gpus_are_switched_whole(tmp_path):
    async with switching_rig(tmp_path, gpus_each=4) as (rig, book):
        await rig.run(BATCH, [0, 1, 2, 3])
        rig.send(TRAINING, range(8))
        (one,) = await over(rig, book)
        assert len(one.slots) == 8
        assert len(one.before_slots) == 4, "what was free goes along"
        assert await rig.operations() == ["start", "pause", "stop", "start", "start"]


async def test_where_one_of_several_copies_fails_none_of_them_stays(tmp_path):
    async with switching_rig(tmp_path) as (rig, book):
        both = np.array([FIRST_GPU, FIRST_GPU + 1], dtype=np.uint32)
        rig.site.send_state(uuid.uuid4(), 0, int(BATCH), encode_slots(both), WorkloadSpec("wide", gpus_each=2))
        await asked(rig, "start")
        rig.world.pass_time(240.0)
        await rig.rounds(2)
        rig.site.send_state(uuid.uuid4(), 0, int(REALTIME), encode_slots(both), WorkloadSpec("narrow", gpus_each=1))
        await asked(rig, "start", 3)
        rig.world.impose(faults.FALLEN_OFF_BUS, 1)
        (one,) = await over(rig, book)
        assert (one.outcome, one.before.gpus_each) == (Outcome.RESTED, 2)
        assert rig.commanded()[:2] == [IDLE, IDLE], "the other copy had started"


async def test_work_that_a_command_names_reaches_the_agent_and_another_ones_is_switched(tmp_path):
    async with switching_rig(tmp_path) as (rig, book):
        for name in ("job-1", "job-2"):
            spec = WorkloadSpec("llama", 20.0, "streamed", 1, name, f"s3://ckpt/{name}")
            rig.site.send_state(uuid.uuid4(), 0, int(BATCH), _one(0), spec)
            await asked(rig, "start", 1 if name == "job-1" else 2)
            await asyncio.sleep(0.05)
            rig.world.pass_time(60)
            await rig.rounds(2)
        (one,) = await over(rig, book)
        assert one.before == WorkloadSpec("llama", 20.0, "streamed", 1, "job-1", "s3://ckpt/job-1"), (
            "to be started again"
        )
        assert one.work.workload_id == "job-2"
        (gpu, *_) = await rig.site.fleet.nodes[0].device.read_status()
        assert (gpu.work, gpu.model, gpu.workload_phase) == ("job-2", "llama", "running")


async def test_what_only_has_to_be_woken_is_shown_and_asked_for_first(tmp_path):
    async with switching_rig(tmp_path) as (rig, _):
        await rig.run(BATCH, [5])
        await rig.run(IDLE, [5])
        await rig.rounds(1)
        warm = rig.readings[-1].warm[FIRST_GPU:]
        assert warm.tolist() == [255] * 5 + [BATCH] + [255] * 2
        await rig.tell(BATCH, [0, 5])
        assert (await rig.operations())[-2:] == ["resume", "start"]


async def test_a_lost_connection_goes_on_where_it_was(tmp_path):
    ref = uuid.uuid4()
    async with switching_rig(tmp_path) as (rig, book):
        await rig.run(BATCH, [0])
        rig.send(TRAINING, [0], ref=ref)
        await asked(rig, "pause")
        await rig.site.close()
        await rig.site.connect(20)
        rig.send(TRAINING, [0], ref=ref)
        (one,) = await over(rig, book)
        assert one.outcome is Outcome.SWITCHED
        assert await rig.operations() == ["start", "pause", "stop", "start"], "each phase once"


def _one(gpu: int) -> bytes:
    return encode_slots(np.array([FIRST_GPU + gpu], dtype=np.uint32))


LARGE = WorkloadSpec("llama-70b", 140.0, "streamed", 1, "job-1")
BROKEN = WorkloadSpec("llama", 16.0, "streamed", 1, "job-2", "s3://torn")


async def test_what_can_not_run_is_told_as_the_works_own_failure_and_what_ran_goes_on(tmp_path):
    """Weights that no card holds at once, a checkpoint that can't be read at the end of loading, with and without a switch."""
    async with switching_rig(tmp_path, world_options={"unreadable": ["s3://torn"]}) as (rig, book):
        refs = [uuid.uuid4() for _ in range(4)]
        gpus = (2, 0, 3, 1)

        def unfit():
            return [book.unfit_of(str(ref), gpu) for ref, gpu in zip(refs, gpus, strict=True)]

        await rig.run(BATCH, [0, 1])
        for ref, gpu, work in zip(refs, gpus, (LARGE, LARGE, BROKEN, BROKEN), strict=True):
            rig.site.send_state(ref, gpu, BATCH, encode_slots(np.array([FIRST_GPU + gpu], dtype=np.uint32)), work)
        async with asyncio.timeout(120):
            while not all(map(book.unfit_of, map(str, refs), (2, 0, 3, 1))) or not {
                one.outcome for one in book.words
            } >= {Outcome.ROLLED_BACK}:
                rig.world.pass_time(2.0)
                await asyncio.sleep(0.01)
        fits = "140 GiB of weights over 1 GPUs need 140.0 GiB on each, which has 79.6"
        assert unfit() == [
            {FIRST_GPU + 2: fits},
            {FIRST_GPU: fits},
            {FIRST_GPU + 3: "s3://torn can't be loaded"},
            {FIRST_GPU + 1: "start: s3://torn can't be loaded"},
        ]
        await over(rig, book, 2)
        rig.world.pass_time(200.0)
        assert rig.commanded()[:4] == [BATCH, BATCH, IDLE, IDLE]


async def test_what_an_earlier_process_did_not_live_to_tell_its_agents_tell_the_next(tmp_path):
    """One pause was over when it came back, one is under way, and what nobody owns is told by nobody."""
    async with switching_rig(tmp_path, period_ms=20) as (rig, book):
        for gpu, state, work in ((0, TRAINING, "job-1"), (1, TRAINING, "job-2"), (2, BATCH, "")):
            spec = WorkloadSpec("m", 16.0, "streamed", 1, work)
            slots = encode_slots(np.array([FIRST_GPU + gpu], dtype=np.uint32))
            await rig.site.finish_state(rig.site.send_state(uuid.uuid4(), 0, state, slots, spec))
        rig.world.pass_time(200.0)
        await rig.rounds(2)
        await rig.site.close()
        async with rig.world.driver() as node:
            await node.sleep("checkpoint", (0,), "asked-before-1")
            await node.sleep("pause", (2,), "asked-before-2")
            rig.world.pass_time(100.0)
            await node.sleep("checkpoint", (1,), "asked-before-3")
        again = GpuRig(rig.world, tmp_path / "again", 8)
        again.site._switches = book
        await again.site.connect(20)
        await until(lambda: len(book.kept) == 1, "what was over is told at once")
        rig.world.pass_time(100.0)
        await until(lambda: len(book.kept) == 2, "and the other once it is")
        told = [(one.workload_id, one.slots, one.problem) for one in book.kept]
        assert told == [("job-1", (FIRST_GPU,), ""), ("job-2", (FIRST_GPU + 1,), "")]
        assert [one.checkpoint.split("/")[0] for one in book.kept] == ["job-1", "job-2"]
        await again.site.close()


@pytest.mark.parametrize("is_named", [True, False])
async def test_training_that_gives_way_is_kept_where_its_engine_names_what_it_has_written(
    tmp_path, monkeypatch, is_named
):
    if not is_named:
        monkeypatch.setattr(Workload, "save", lambda *_: None)
    async with switching_rig(tmp_path) as (rig, book):
        slots = encode_slots(np.array([FIRST_GPU], dtype=np.uint32))
        work = WorkloadSpec("m", 16.0, "streamed", 1, "job-1")
        await rig.site.finish_state(rig.site.send_state(uuid.uuid4(), 0, TRAINING, slots, work))
        rig.world.pass_time(400.0)
        rig.send(BATCH, [0])
        await over(rig, book)
        [kept] = book.kept
        assert (kept.workload_id, kept.checkpoint.startswith("job-1/"), kept.problem) == (
            "job-1", is_named, "" if is_named else NAMELESS,
        )  # fmt: skip
