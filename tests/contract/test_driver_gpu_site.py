"""All GPU nodes of a facility under the gateway's driver, over real sockets; what they did, the world itself says."""

import asyncio
import uuid
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import REGISTRY

from hcp_pipelines.devices import again
from hcp_pipelines.devices.gpu_node import site, telling
from hcp_pipelines.devices.gpu_node.device import GpuNode
from hcp_pipelines.devices.site import Evidence
from hcp_pipelines.domain.errors import DeviceUnreachableError
from hcp_pipelines.domain.modes import DeviceState
from simulators import faults
from tests.support.edge import until
from tests.support.gpus import FIRST_GPU, GpuRig, gpu_rig, gpu_world

IDLE, BATCH, TRAINING = DeviceState.IDLE, DeviceState.INFERENCE_BATCH, DeviceState.TRAINING
ALL = list(range(12))


def counted(name, **labels):
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.fixture
def quick(monkeypatch):
    """Retries that do not take a test's time."""
    monkeypatch.setattr(telling, "BUSY_AGAIN_S", (0.02, 0.05))
    monkeypatch.setattr(again, "RETRY_AFTER_S", (0.05, 0.1, 0.2, 0.4))


async def test_a_reading_has_what_each_slot_draws_and_how_old_it_may_be(tmp_path):
    async with gpu_rig(tmp_path, world_options={"collect_s": 30.0}) as rig:
        world = rig.world
        assert rig.site.devices == FIRST_GPU + 12
        await rig.run(BATCH, [0, 1, 11])
        reading = rig.readings[-1]
        truth = world.site.power_w(world.clock.now_s())
        assert reading.simulated_at_s == world.clock.now_s() - 30
        assert np.abs(reading.values[FIRST_GPU:] / truth[FIRST_GPU:] - 1).max() < 0.08
        assert reading.values[:FIRST_GPU].tolist() == [0] * FIRST_GPU
        assert set(reading.evidence[FIRST_GPU:].tolist()) == {Evidence.MEASURED}
        assert (await rig.site.read_states())[FIRST_GPU:].tolist() == [5, 5, *[1] * 9, 5]
        assert set((await rig.site.read_states())[:FIRST_GPU].tolist()) == {255}


async def test_states_are_asked_for_node_by_node_and_each_gpu_can_go_its_own_way(tmp_path):
    async with gpu_rig(tmp_path) as rig:
        assert await rig.run(BATCH) == ALL
        assert rig.commanded() == [5] * 12
        assert rig.power_w.min() > 1100
        await rig.run(IDLE, [0, 1, 2, 9])
        assert rig.commanded() == [1, 1, 1, 5, 5, 5, 5, 5, 5, 1, 5, 5]
        await rig.run(IDLE)
        assert await rig.operations(0) == ["start"] * 8 + ["pause"] * 2, "one request a node and state, for what runs"
        assert await rig.operations(1) == ["start"] * 4 + ["pause"] * 2
        await rig.run(BATCH)
        assert (await rig.operations(0))[-1] == "resume"
        assert rig.site.fleet.nodes[0].operations == {}


async def test_a_command_that_is_told_twice_is_one_operation(tmp_path):
    ref = uuid.uuid4()
    async with gpu_rig(tmp_path) as rig:
        await rig.run(BATCH, [0])
        await rig.run(IDLE, [0])
        told = [await rig.tell(BATCH, [0], ref=ref) for _ in range(3)]
        assert told == [([0], [])] * 3, "it is known, not busy"
        assert await rig.operations() == ["start", "pause", "resume"]


async def test_a_busy_gpu_is_asked_again_until_it_is_told_and_the_reply_waits_for_it(tmp_path, quick):
    async with gpu_rig(tmp_path) as rig:
        await rig.tell(BATCH, [0])
        sent = rig.send(IDLE, [0, 1, 8])
        await rig.rounds(3)
        assert not sent.done()
        assert counted("hcp_gpu_node_calls_total", call="command", result="busy") > 0
        rig.world.pass_time(60)  # loaded
        assert [slots.tolist() for slots in await rig.site.finish_state(sent)] == [[40, 41, 48], []]
        rig.world.pass_time(10)
        await rig.rounds(2)
        assert rig.commanded() == [1] * 12
        kinds = await rig.operations()
        assert kinds in (["start", "pause"], ["start", "stop"]), "stop: its word was read just before it had loaded"


@pytest.mark.parametrize("slow", ["read_telemetry", "read_status"])
async def test_a_node_that_takes_for_ever_holds_up_no_round(tmp_path, monkeypatch, slow):
    """Its page, or its agent, comes a byte at a time: every call in time, and the whole never done."""
    real, world = getattr(GpuNode, slow), []

    async def slowly(node):
        if world and node._address == world[0].at(1):
            await asyncio.sleep(3600)
        return await real(node)

    monkeypatch.setattr(GpuNode, slow, slowly)
    monkeypatch.setattr(site, "LOOK_WITHIN_S", 0.05)
    async with gpu_rig(tmp_path) as rig:
        world.append(rig.world)
        rig.site.fleet.nodes[1].is_status_old = True
        rig.site._options = replace(rig.site._options, deadline_s=0.1)
        await rig.rounds(12)
        assert np.isfinite(rig.power_w[:8]).all(), "the other node is read on"
        assert np.isnan(rig.power_w[8:]).all() == (slow == "read_telemetry")
        await until(lambda: counted_slow(slow) > 0, "it is counted")
    assert rig.site.fleet.nodes[1].looking is None, "nothing is left behind"


def counted_slow(slow):
    result = "unreachable" if slow == "read_telemetry" else "agent_slow"
    return counted("hcp_gpu_node_calls_total", call="poll", result=result)


async def test_an_agent_that_can_not_be_read_is_asked_ever_more_rarely(tmp_path, monkeypatch):
    async with gpu_rig(tmp_path, 8) as rig:
        node, asked = rig.site.fleet.nodes[0], []

        async def refuse(_node):
            asked.append(rig.site._round)
            raise DeviceUnreachableError("no answer")

        monkeypatch.setattr(GpuNode, "read_status", refuse)
        node.is_status_old = True
        await until(lambda: len(asked) >= 6, "it is asked again")
        assert np.diff(asked).tolist()[:5] == [1, 2, 4, 4, 4]
        monkeypatch.undo()
        await until(lambda: node.agent_failures == 0, "and is back")
        assert not node.is_status_old
        assert np.isfinite(rig.power_w).all(), "its page was read all along"


async def test_what_is_busy_for_too_long_is_refused_in_the_reply_and_told_all_the_same(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(telling, "BUSY_WITHIN_S", 20.0)
    async with gpu_rig(tmp_path) as rig:
        await rig.tell(TRAINING, [0])
        sent = rig.send(IDLE, [0])
        await rig.rounds(2)
        rig.world.pass_time(30)
        assert [slots.tolist() for slots in await rig.site.finish_state(sent)] == [[], [40]]
        rig.world.pass_time(150)
        under_way = rig.site.fleet.nodes[0].operations
        await until(lambda: {one.state for one in under_way.values()} == {IDLE}, "it is told once it is free")
        rig.world.pass_time(100)
        await rig.rounds(2)
        assert rig.commanded()[0] == 1


async def test_the_newest_command_wins(tmp_path, quick):
    async with gpu_rig(tmp_path) as rig:
        first, second, third = rig.send(BATCH), rig.send(IDLE), rig.send(TRAINING, [3])
        for _ in range(6):
            rig.world.pass_time(100)
            await rig.rounds(2)
        for sent in (first, second, third):
            assert [len(slots) for slots in await rig.site.finish_state(sent)][1] == 0
        assert rig.commanded() == [1, 1, 1, 6, *[1] * 8]


async def test_what_is_refused_is_in_the_refused_set(tmp_path):
    async with gpu_rig(tmp_path, world_options={"states": [(1, 200.0), (4, 900.0), (5, 1250.0)]}) as rig:
        assert await rig.tell(TRAINING, [0, 9]) == ([], [0, 9])
        assert await rig.tell(DeviceState.MINING_FULL, [0]) == ([], [0])
        slots = await rig.site.finish_state(rig.send(IDLE, [-1, 0]))
        assert [one.tolist() for one in slots] == [[FIRST_GPU], [FIRST_GPU - 1]], "a miner's slot is no GPU"
        assert rig.commanded() == [1] * 12


@pytest.mark.parametrize("token", [None, "another-token"])
async def test_a_wrong_token_is_refused_and_readings_go_on(tmp_path, token):
    async with gpu_rig(tmp_path, token=token) as rig:
        assert await rig.tell(BATCH) == ([], ALL)
        assert await rig.tell(IDLE) == (ALL, []), "what holds already needs no writing"
        await rig.rounds(2)
        assert np.isfinite(rig.power_w).all()
        assert rig.commanded() == [1] * 12


async def test_gpus_that_share_a_copy_can_only_go_together(tmp_path):
    async with gpu_rig(tmp_path, gpus_each=4) as rig:
        await rig.run(TRAINING)
        assert await rig.operations() == ["start", "start"]
        assert await rig.tell(IDLE, [0, 1, 4, 5, 6, 7]) == ([4, 5, 6, 7], [0, 1])


async def test_a_lost_gpu_has_no_power_and_its_node_goes_on(tmp_path):
    async with gpu_rig(tmp_path) as rig:
        rig.world.impose(faults.FALLEN_OFF_BUS, 5, xid=79)
        rig.world.pass_time(2)
        await rig.rounds(2)
        assert np.flatnonzero(np.isnan(rig.power_w)).tolist() == [5]
        assert rig.readings[-1].evidence[FIRST_GPU + 5] == Evidence.NONE
        assert await rig.tell(BATCH, [4, 5, 6]) == ([4, 6], [5])
        assert (await rig.operations())[-2:] == ["start", "start"]


async def test_a_node_that_is_lost_is_asked_more_rarely_and_told_when_it_is_back(tmp_path, quick):
    async with gpu_rig(tmp_path) as rig:
        node = rig.site.fleet.nodes[0]
        for gpu in range(8):
            rig.world.impose(faults.NODE_LOST, gpu)
        await rig.rounds(2)
        assert np.flatnonzero(np.isnan(rig.power_w)).tolist() == list(range(8))
        assert await rig.tell(BATCH, [1, 9]) == ([9], [1])
        before, failures = len(rig.readings), node.failures
        await rig.rounds(12)
        assert node.failures - failures < (len(rig.readings) - before) / 2
        rig.world.lift([faults.NODE_LOST], range(8))
        rig.world.pass_time(301)  # it boots
        await until(lambda: bool(node.operations), "the command is told behind the reply")
        rig.world.pass_time(100)
        await rig.rounds(6)
        assert rig.commanded()[1] == 5
        assert np.isfinite(rig.power_w).all()


async def test_an_operation_that_fails_is_reported(tmp_path):
    before = counted("hcp_gpu_node_operations_total", result="failed")
    async with gpu_rig(tmp_path) as rig:
        assert await rig.tell(BATCH, [3]) == ([3], [])
        rig.world.impose(faults.FALLEN_OFF_BUS, 3, xid=79)
        rig.world.pass_time(100)
        await rig.rounds(3)
        assert counted("hcp_gpu_node_operations_total", result="failed") == before + 1
        assert rig.site.fleet.nodes[0].operations == {}


async def test_gpus_that_say_yes_and_do_nothing_show_it_in_mode_or_power(tmp_path):
    before = counted("hcp_gpu_node_calls_total", call="command", result="not_taken")
    async with gpu_rig(tmp_path) as rig:
        rig.world.impose(faults.FALSE_ACK, 2)
        rig.world.impose(faults.STUCK, 6)
        await rig.run(BATCH)
        assert counted("hcp_gpu_node_calls_total", call="command", result="not_taken") == before + 1
        assert rig.commanded() == [5, 5, 1, *[5] * 9]
        assert np.flatnonzero(rig.power_w < 300).tolist() == [2, 6], "the power of both betrays them"


async def test_without_any_node_there_is_no_connection(tmp_path):
    async with gpu_world(tmp_path, 8) as world:
        for gpu in range(8):
            world.impose(faults.NODE_LOST, gpu)
        rig = GpuRig(world, tmp_path / "edge", 8)
        with pytest.raises(DeviceUnreachableError, match="none of 1 GPU nodes answers"):
            await rig.site.connect(50)
        assert rig.site.devices == 0
        with pytest.raises(DeviceUnreachableError, match="not connected"):
            rig.send(BATCH)
