"""The agent through our driver, over real sockets: what is accepted, how long it takes, what the site does, what is mended."""

import asyncio
import base64
import json
from datetime import datetime
from uuid import NAMESPACE_URL, uuid5

import pytest
from pyroaring import BitMap

from hcp_pipelines.devices.gpu_node.limits import issues_of
from hcp_pipelines.devices.gpu_node.values import Verdict, WorkloadSpec
from hcp_pipelines.devices.xid import XIDS, XidAction
from hcp_pipelines.domain.errors import DeviceRefusedError, DeviceUnreachableError
from hcp_pipelines.domain.modes import DeviceState
from simulators import faults
from simulators.devices import BOOT_S
from simulators.gpus.timings import TIMINGS
from tests.support.gpus import FIRST_GPU, START_S, TOKEN, fresh_id, gpu_world, plain_http

BATCH, REALTIME, TRAINING = DeviceState.INFERENCE_BATCH, DeviceState.INFERENCE_REALTIME, DeviceState.TRAINING
IDLE, CURTAILED = DeviceState.IDLE, DeviceState.CURTAILED
ALL = tuple(range(8))


def commanded(world, node=0) -> list[int]:
    first = FIRST_GPU + 8 * node
    return world.site.commanded[first : first + 8].tolist()


async def finish(world, node, operation_id, row):
    """Pass the time an operation takes; it is done neither before the least nor after the most that is published."""
    least_s, most_s, _ = TIMINGS[row]
    world.pass_time(least_s * 0.999)
    assert (await node.read_operation(operation_id)).is_running
    world.pass_time(most_s - least_s * 0.999)
    done = await node.read_operation(operation_id)
    assert not done.is_running
    return done


async def run(world, node, state, gpus=ALL, row="start/small/cold", spec=None):
    outcome = await node.set_state(state, gpus, fresh_id(), spec)
    assert set(outcome.accepted) == set(gpus), outcome
    (operation_id,) = set(outcome.accepted.values())
    assert (await finish(world, node, operation_id, row)).state == "succeeded"


async def test_a_node_says_what_it_is_made_of(tmp_path):
    async with gpu_world(tmp_path, gpus=12) as world, world.driver() as full, world.driver(1) as half:
        one, other = await full.identify(), await half.identify()
    assert (one.hostname, one.driver_version, one.api_version) == ("one-h100-node-0000", "550.90.07", "1.0")
    assert one.specification.as_dict() == {"memory_gb": 79.6, "compute_capability": "9.0", "max_power_w": 700.0}
    assert one.specification.min_power_cap_w == 200.0
    assert (len(one.gpu_uuids), len(other.gpu_uuids)) == (8, 4)
    assert not set(one.gpu_uuids) & set(other.gpu_uuids)
    assert one.states == {CURTAILED, IDLE, REALTIME, BATCH, TRAINING}


async def test_a_node_had_booted_when_it_had_and_not_when_it_was_first_asked(tmp_path):
    async def booted_s(world):
        async with plain_http() as http:
            reply = await http.get(f"http://{world.at()}:{world.agent_port}/v1/node")
        return datetime.fromisoformat(reply.json()["booted_at"]).timestamp()

    async with gpu_world(tmp_path) as world, world.driver() as node:
        world.pass_time(7200)
        assert await booted_s(world) == START_S
        since_s = world.clock.at_s
        world.site.impose(faults.POWER_LOST, BitMap(range(FIRST_GPU, FIRST_GPU + 8)), since_s, since_s + 60)
        world.pass_time(7200)
        assert await booted_s(world) == since_s + 60 + BOOT_S["GPU"]
        since_s = world.clock.at_s
        await node.reboot(fresh_id())
        world.pass_time(7200)
        reboot = TIMINGS["reboot"]
        assert since_s + reboot.least_s <= await booted_s(world) <= since_s + reboot.most_s


async def test_a_start_takes_a_published_time_and_then_the_site_switches(tmp_path):
    async with gpu_world(tmp_path) as world, world.driver() as node:
        await run(world, node, BATCH)
        assert commanded(world) == [5] * 8
        assert commanded(world, 1) == [1] * 8
        status = await node.read_status()
        line = json.loads((tmp_path / "transitions.jsonl").read_text().splitlines()[-1])
    assert {(one.state, one.workload_phase, one.workload_gpus) for one in status} == {(BATCH, "running", ALL)}
    assert line["ref"] == str(uuid5(NAMESPACE_URL, f"protocol/gpu-agent/one/{FIRST_GPU}"))
    assert (line["assignment"], line["state"], line["changed"]) == (0, 5, 8)
    assert list(BitMap.deserialize(base64.b64decode(line["slots"]))) == list(range(FIRST_GPU, FIRST_GPU + 8))


@pytest.mark.parametrize(
    ("spec", "row"),
    [
        (WorkloadSpec(load="streamed"), "start/small/streamed"),
        (WorkloadSpec(weights_gib=140), "start/large/cold"),
        (WorkloadSpec(weights_gib=140, load="streamed"), "start/large/streamed"),
    ],
)
async def test_how_long_a_start_takes_depends_on_weights_and_loading(tmp_path, spec, row):
    async with gpu_world(tmp_path) as world, world.driver() as node:
        await run(world, node, REALTIME, (0, 1), row, spec)
        assert commanded(world) == [4, 4, 1, 1, 1, 1, 1, 1]


async def test_operations_end_by_themselves_in_simulated_time(tmp_path):
    async with gpu_world(tmp_path, speed=600.0) as world, world.driver() as node:
        await node.set_state(BATCH, ALL, fresh_id())
        assert commanded(world) == [1] * 8

        async with asyncio.timeout(120):  # the workload is loaded, though nobody asks its agent
            while commanded(world) != [5] * 8:
                await world.fleet.catch_up(world.clock.now_s())
                await asyncio.sleep(0.01)
        async with plain_http() as http:
            reply = await http.get(f"http://{world.at()}:{world.agent_port}/v1/operations")
    due, ended = (reply.json()["operations"][0][name] for name in ("expected_end_at", "ended_at"))
    lines = [json.loads(line) for line in (tmp_path / "transitions.jsonl").read_text().splitlines()]
    assert [line["simulated_at"] for line in lines if line["state"] == 5] == [due] == [ended], "not when it was noticed"


async def test_inference_sleeps_and_wakes_within_published_times(tmp_path):
    async with gpu_world(tmp_path) as world, world.driver() as node:
        await run(world, node, BATCH)
        await run(world, node, IDLE, row="pause/1")
        assert commanded(world) == [1] * 8
        assert {one.workload_phase for one in await node.read_status()} == {"paused"}
        await run(world, node, BATCH, row="resume/1/small")
        assert commanded(world) == [5] * 8
        await run(world, node, CURTAILED, row="pause/1")
        assert commanded(world) == [0] * 8
        await run(world, node, IDLE, row="pause/1")
        assert commanded(world) == [1] * 8


async def test_a_deeper_sleep_and_a_cuda_checkpoint(tmp_path):
    async with gpu_world(tmp_path) as world, world.driver() as node:
        await run(world, node, BATCH, (3,))
        for path, more, row, back in (
            ("pause", {"level": 2}, "pause/2", "resume/2/small"),
            ("checkpoint", {}, "checkpoint/cuda", "resume/cuda"),
        ):
            reply = await world.post(f"/v1/workloads/{path}", {"request_id": fresh_id(), "gpus": [3], **more})
            assert reply.status_code == 202
            assert (await finish(world, node, reply.json()["id"], row)).state == "succeeded"
            assert commanded(world)[3] == 1
            await run(world, node, BATCH, (3,), back)


async def test_training_is_checkpointed_not_lost(tmp_path):
    async with gpu_world(tmp_path) as world, world.driver() as node:
        await run(world, node, TRAINING, row="start/training")
        await run(world, node, CURTAILED, row="checkpoint/application")
        assert commanded(world) == [0] * 8
        assert {one.workload_phase for one in await node.read_status()} == {"checkpointed"}
        await run(world, node, TRAINING, row="resume/application")
        assert commanded(world) == [6] * 8


async def test_other_work_replaces_what_sleeps_and_nothing_that_runs(tmp_path):
    async with gpu_world(tmp_path) as world, world.driver() as node:
        await run(world, node, BATCH)
        outcome = await node.set_state(TRAINING, ALL, fresh_id())
        assert (set(outcome.at_work), outcome.accepted, commanded(world)) == (set(ALL), {}, [5] * 8)
        await run(world, node, IDLE, row="pause/1")
        outcome = await node.set_state(TRAINING, ALL, fresh_id())
        assert commanded(world) == [1] * 8
        await finish(world, node, outcome.accepted[0], "start/training")
        assert commanded(world) == [6] * 8
        assert {one.workload_class for one in await node.read_status()} == {"training"}


async def test_a_state_that_holds_already_asks_for_nothing(tmp_path):
    async with gpu_world(tmp_path) as world, world.driver() as node:
        assert (await node.set_state(IDLE, ALL, fresh_id())).accepted == dict.fromkeys(ALL, "")
        await run(world, node, BATCH)
        lines = len((tmp_path / "transitions.jsonl").read_text().splitlines())
        assert (await node.set_state(BATCH, ALL, fresh_id())).accepted == dict.fromkeys(ALL, "")
        assert len((tmp_path / "transitions.jsonl").read_text().splitlines()) == lines


async def test_the_same_request_twice_is_one_operation(tmp_path):
    body = {"request_id": fresh_id(), "class": "training", "gpus": [1]}
    async with gpu_world(tmp_path) as world, world.driver() as node:
        first = await world.post("/v1/workloads/start", body)
        again = await world.post("/v1/workloads/start", body)
        other = await world.post("/v1/workloads/start", body | {"gpus": [2]})
        assert (first.status_code, again.status_code, other.status_code) == (202, 200, 409)
        assert first.json() == again.json()
        assert first.headers["location"] == f"/v1/operations/{first.json()['id']}"
        assert other.json()["type"] == "urn:gpu-agent:problem:request-id-reused"
        await finish(world, node, first.json()["id"], "start/training")
        assert (await world.post("/v1/workloads/start", body)).json()["state"] == "succeeded"


async def test_gpus_at_work_on_something_are_busy_and_the_others_are_not(tmp_path):
    async with gpu_world(tmp_path) as world, world.driver() as node:
        first = await node.set_state(BATCH, (0, 1), fresh_id())
        assert set(first.accepted) == {0, 1}
        outcome = await node.set_state(TRAINING, (1, 2), fresh_id())
        assert set(outcome.busy) == {1, 2}
        assert first.accepted[1] in outcome.busy[1]
        assert set((await node.set_state(TRAINING, (2, 9), fresh_id())).accepted) == {2}
        outcome = await node.set_state(TRAINING, (9,), fresh_id())
        assert set(outcome.refused) == {9}


async def test_a_part_of_a_workload_is_refused(tmp_path):
    async with gpu_world(tmp_path) as world, world.driver() as node:
        await run(world, node, BATCH, (0, 1, 2, 3))
        outcome = await node.set_state(IDLE, (0, 1), fresh_id())
        assert set(outcome.refused) == {0, 1}
        assert "partial-workload" in str(outcome.refused[0])


async def test_a_state_that_the_gpus_have_not_is_refused(tmp_path):
    async with gpu_world(tmp_path, states=[(1, 200.0), (5, 1300.0)]) as world, world.driver() as node:
        outcome = await node.set_state(TRAINING, ALL, fresh_id())
        assert "state-not-supported" in str(outcome.refused[0])
        with pytest.raises(ValueError, match="mining_full"):
            await node.set_state(DeviceState.MINING_FULL, ALL, fresh_id())


async def test_read_back_is_of_mode_and_power(tmp_path):
    async with gpu_world(tmp_path, collect_s=1.0) as world, world.driver() as node:
        outcome = await node.set_state(BATCH, ALL, fresh_id())
        assert set((await node.read_back(BATCH, ALL)).values()) == {Verdict.ON_THE_WAY}
        assert set((await node.read_back(IDLE, ALL)).values()) == {Verdict.ARRIVED}
        world.clock.at_s = world.site.calls.next_s + 1.0
        assert (await node.read_operation(outcome.accepted[0])).state == "succeeded"
        assert set((await node.read_back(BATCH, ALL)).values()) == {Verdict.WRONG_POWER}
        world.pass_time(30)
        assert set((await node.read_back(BATCH, ALL)).values()) == {Verdict.ARRIVED}
        assert set((await node.read_back(TRAINING, ALL)).values()) == {Verdict.WRONG_MODE}


async def test_a_gpu_that_says_yes_and_does_nothing_is_found_out_by_its_power(tmp_path):
    async with gpu_world(tmp_path, collect_s=1.0) as world, world.driver() as node:
        world.impose(faults.STUCK, 6)
        await run(world, node, BATCH)
        world.pass_time(60)
        verdicts = await node.read_back(BATCH, ALL)
    assert verdicts == dict.fromkeys(ALL, Verdict.ARRIVED) | {6: Verdict.WRONG_POWER}


async def test_faults_make_every_threshold_fire(tmp_path):
    async with gpu_world(tmp_path, collect_s=1.0) as world, world.driver() as node:
        await run(world, node, TRAINING, row="start/training")
        world.pass_time(1200)
        assert [issues_of(gpu) for gpu in (await node.read_telemetry()).gpus] == [()] * 8
        world.impose(faults.THROTTLED, 1)
        world.impose(faults.COOLING_LOST, 2)
        world.impose(faults.XID, 4, xid=92)
        world.pass_time(3600)
        found = [{issue.issue_type for issue in issues_of(gpu)} for gpu in (await node.read_telemetry()).gpus]
        world.impose(faults.ECC, 3, xid=64)  # which ends the work of all eight
        world.pass_time(5)
        found[3] = {issue.issue_type for issue in issues_of((await node.read_telemetry()).gpus[3])}
    assert found[0] == set()
    assert found[1] == {"throttled"}
    assert found[2] & {"elevated_temperature", "high_temperature"}
    assert found[3] == {"xid", "row_remap_failure"}
    assert found[4] == {"xid"}


async def test_work_begun_past_the_agent_can_be_paused_by_it(tmp_path):
    async with gpu_world(tmp_path) as world, world.driver() as node:
        world.transitions.set_state(world.site, bytes(16), 0, 5, BitMap([FIRST_GPU, FIRST_GPU + 1]))
        assert [one.workload_class for one in await node.read_status()] == ["inference_batch"] * 2 + [None] * 6
        outcome = await node.set_state(IDLE, (0, 1), fresh_id())
        assert set(outcome.accepted) == {0, 1}
        world.pass_time(10)
        await node.read_status()
        assert commanded(world) == [1] * 8


async def test_a_workload_whose_gpus_the_site_switched_is_over(tmp_path):
    async with gpu_world(tmp_path) as world, world.driver() as node:
        await run(world, node, BATCH)
        world.transitions.set_state(world.site, bytes(16), 0, 1, BitMap(range(FIRST_GPU, FIRST_GPU + 8)))
        assert {one.workload_phase for one in await node.read_status()} == {None}


async def test_a_power_cap_holds_what_a_board_draws(tmp_path):
    async with gpu_world(tmp_path, collect_s=1.0) as world, world.driver() as node:
        await run(world, node, TRAINING, row="start/training")
        world.pass_time(60)
        before = await node.read_telemetry()
        operation = await node.set_power_cap(350, (0, 1), fresh_id())
        assert (await finish(world, node, operation.operation_id, "power-cap")).state == "succeeded"
        world.pass_time(60)
        after, status = await node.read_telemetry(), await node.read_status()
        assert min(one.power_w for one in before.gpus) > 600
        assert max(one.power_w for one in after.gpus[:2]) <= 350.5
        assert min(one.power_w for one in after.gpus[2:]) > 600
        assert [one.power_cap_w for one in status[:3]] == [350, 350, 700]
        assert after.gpus[0].sm_clock_mhz < 0.9 * before.gpus[0].sm_clock_mhz
        assert set((await node.read_back(TRAINING, ALL)).values()) == {Verdict.ARRIVED}
        for cap_w in (199.9, 700.1):
            with pytest.raises(DeviceRefusedError, match="cap_w"):
                await node.set_power_cap(cap_w, ALL, fresh_id())


async def test_a_power_cap_is_gone_after_a_reboot_of_the_node(tmp_path):
    async with gpu_world(tmp_path, collect_s=1.0) as world, world.driver(within_s=1.0) as node:
        await finish(world, node, (await node.set_power_cap(300, (0, 1), fresh_id())).operation_id, "power-cap")
        assert [one.power_cap_w for one in (await node.read_status())[:3]] == [300, 300, 700]
        await node.reboot(fresh_id())
        world.pass_time(TIMINGS["reboot"].most_s)
        assert {one.power_cap_w for one in await node.read_status()} == {700}
        await run(world, node, TRAINING, row="start/training")
        world.pass_time(60)
        assert min(one.power_w for one in (await node.read_telemetry()).gpus) > 600


async def test_a_drained_node_takes_no_new_work_and_keeps_what_it_has(tmp_path):
    async with gpu_world(tmp_path) as world, world.driver() as node:
        await run(world, node, BATCH, (0,))
        assert (await node.drain(fresh_id())).state == "succeeded"
        assert (await node.identify()).is_drained
        assert "drained" in str((await node.set_state(BATCH, (1,), fresh_id())).refused[1])
        assert commanded(world)[0] == 5
        await node.undrain(fresh_id())
        assert (await node.set_state(BATCH, (1,), fresh_id())).accepted


async def test_a_reset_clears_the_xid_and_profiling_has_no_value_at_first(tmp_path):
    async with gpu_world(tmp_path, collect_s=1.0) as world, world.driver() as node:
        world.impose(faults.ECC, 3, xid=95)
        world.pass_time(2)
        gpu = (await node.read_telemetry()).gpus[3]
        assert (gpu.xid.action, gpu.remapped_rows) == (XidAction.RESET_GPU, 2)
        (operation,) = await node.carry_out(gpu.xid.action, [3], fresh_id())
        await finish(world, node, operation.operation_id, "reset")
        after = (await node.read_telemetry()).gpus
        assert (after[3].last_xid, after[3].tensor_active_fraction) == (0, None)
        assert after[2].tensor_active_fraction is not None
        world.pass_time(2)
        assert (await node.read_telemetry()).gpus[3].tensor_active_fraction is not None


async def test_a_gpu_off_the_bus_comes_back_with_a_reboot_that_happens_once(tmp_path):
    async with gpu_world(tmp_path, collect_s=1.0) as world, world.driver(within_s=1.0) as node:
        await run(world, node, BATCH, (0, 1))
        world.impose(faults.FALLEN_OFF_BUS, 5, xid=79)
        world.pass_time(2)
        assert (await node.read_telemetry()).missing(8) == (5,)
        status = await node.read_status()
        assert (status[5].health, status[5].state, status[5].power_w) == ("lost", None, None)
        assert (await node.read_back(IDLE, (4, 5))) == {4: Verdict.ARRIVED, 5: Verdict.LOST}
        assert "gpu-lost" in str((await node.set_state(BATCH, (5,), fresh_id())).refused[5])
        with pytest.raises(DeviceRefusedError, match="gpu-lost"):
            await node.set_power_cap(300, (5,), fresh_id())
        request_id = fresh_id()
        operations = await node.carry_out(XIDS[79].action, [5], request_id)
        assert [one.kind for one in operations] == ["drain", "reboot"]
        assert commanded(world)[:5] == [0] * 5
        for call in (node.read_status, node.read_telemetry):
            with pytest.raises(DeviceUnreachableError):
                await call()
        world.pass_time(TIMINGS["reboot"].most_s)
        assert {(one.health, one.state, one.workload_phase) for one in (await node.read_status())[2:]} == {
            ("ok", IDLE, None)
        }
        assert len((await node.read_telemetry()).gpus) == 8
        assert (await node.read_status())[0].workload_phase == "failed"
        again = await node.reboot(f"{request_id}.reboot")
        assert again.state == "succeeded"
        assert len(await node.read_status()) == 8


async def test_a_reset_of_a_gpu_off_the_bus_fails_later_and_says_why(tmp_path):
    async with gpu_world(tmp_path) as world, world.driver() as node:
        world.impose(faults.FALLEN_OFF_BUS, 5, xid=79)
        operation = await node.reset((5,), fresh_id())
        done = await finish(world, node, operation.operation_id, "reset")
        assert done.state == "failed"
        assert "reboot the node" in done.problem


@pytest.mark.parametrize(("xid", "phase"), [(94, "failed"), (63, "running")])
async def test_an_xid_that_ends_the_application_shows_in_its_workload_alone(tmp_path, xid, phase):
    async with gpu_world(tmp_path, collect_s=1.0) as world, world.driver() as node:
        await run(world, node, BATCH, (0,))
        await run(world, node, BATCH, (1,))
        world.impose(faults.XID, 0, xid=xid)
        world.pass_time(1)
        assert [one.workload_phase for one in (await node.read_status())[:2]] == [phase, "running"]
        assert XIDS[xid].kills_workload is (phase == "failed")
        assert commanded(world)[:2] == [5, 5]
        world.pass_time(30)
        busy_w = (await node.read_telemetry()).gpus[1].power_w
        assert ((await node.read_telemetry()).gpus[0].power_w < 0.3 * busy_w) is (phase == "failed")
        assert (await node.read_back(BATCH, (0, 1))) == {
            0: Verdict.WRONG_POWER if phase == "failed" else Verdict.ARRIVED,
            1: Verdict.ARRIVED,
        }
        if phase == "failed":
            await node.carry_out(XidAction.RESTART_APP, [0], fresh_id())
            world.pass_time(10)
            assert {one.index: one.state for one in await node.read_status()}[0] is IDLE
            await run(world, node, BATCH, (0,))


async def test_a_workload_that_an_xid_ends_on_one_gpu_is_over_on_all_and_draws_like_nothing(tmp_path):
    async with gpu_world(tmp_path, collect_s=1.0) as world, world.driver() as node:
        await run(world, node, TRAINING, (0, 1, 2, 3), row="start/training")
        await run(world, node, BATCH, (6,))
        world.pass_time(60)
        world.impose(faults.XID, 2, xid=31)
        world.pass_time(60)
        status, measured = await node.read_status(), (await node.read_telemetry()).gpus
        assert [one.workload_phase for one in status] == ["failed"] * 4 + [None, None, "running", None]
        assert [one.state for one in status[:4]] == [TRAINING] * 4, "they stay in their state"
        for told, seen in zip(status, measured, strict=True):
            assert seen.power_w == pytest.approx(told.power_w, abs=0.01)
            assert (seen.power_w < 120) is (told.index != 6)
            assert (seen.utilization_fraction < 0.06) is (told.index != 6)
            assert (seen.memory_used_bytes < 5e9) is (told.index != 6)
        assert set((await node.read_back(TRAINING, (0, 1, 2, 3))).values()) == {Verdict.WRONG_POWER}
        await run(world, node, TRAINING, (0, 1, 2, 3), row="start/training")
        world.pass_time(60)
        assert set((await node.read_back(TRAINING, (0, 1, 2, 3))).values()) == {Verdict.ARRIVED}
        assert (await node.read_status())[0].workload_phase == "running"


async def test_work_begun_past_the_agent_dies_and_begins_anew_with_the_next_command(tmp_path):
    async with gpu_world(tmp_path, collect_s=1.0) as world, world.driver() as node:
        both = BitMap([FIRST_GPU, FIRST_GPU + 1])
        world.transitions.set_state(world.site, bytes(16), 0, 5, both)
        world.pass_time(60)
        world.impose(faults.XID, 0, xid=94)
        world.pass_time(60)
        assert [one.workload_phase for one in (await node.read_status())[:2]] == ["failed", "running"]
        assert (await node.read_telemetry()).gpus[0].power_w < 120
        assert world.transitions.set_state(world.site, bytes(16), 0, 5, both).changed == both - BitMap([FIRST_GPU + 1])
        world.pass_time(60)
        assert [one.workload_phase for one in (await node.read_status())[:2]] == ["running", "running"]
        assert (await node.read_telemetry()).gpus[0].power_w > 500


async def test_a_node_that_loses_its_power_has_lost_its_work_its_caps_and_its_operations(tmp_path):
    async with gpu_world(tmp_path, collect_s=1.0) as world, world.driver(within_s=1.0) as node:
        await run(world, node, BATCH, (0,))
        await finish(world, node, (await node.set_power_cap(300, (0,), fresh_id())).operation_id, "power-cap")
        loading = (await node.set_state(BATCH, (1,), fresh_id())).accepted[1]
        everyone = BitMap(range(FIRST_GPU, FIRST_GPU + 8))
        world.site.impose(faults.POWER_LOST, everyone, world.clock.at_s, world.clock.at_s + 5.0)
        world.impose(faults.XID, 3, xid=92)
        world.pass_time(4)
        with pytest.raises(DeviceUnreachableError):
            await node.read_status()
        world.pass_time(400)
        status = await node.read_status()
        assert [one.workload_phase for one in status[:2]] == ["failed", "failed"]
        assert {one.state for one in status} == {IDLE}
        assert {one.power_cap_w for one in status} == {700}
        assert {one.last_xid for one in (await node.read_telemetry()).gpus} == {0}
        assert (await node.read_operation(loading)).state == "failed"


@pytest.mark.parametrize("action", [XidAction.NONE, XidAction.FOLLOW_OTHER, XidAction.CHECK_SOFTWARE])
async def test_xids_that_ask_for_nothing_do_nothing(tmp_path, action):
    async with gpu_world(tmp_path) as world, world.driver() as node:
        assert await node.carry_out(action, [0], fresh_id()) == []
        assert not (await node.identify()).is_drained


async def test_writes_need_the_token_and_reads_do_not(tmp_path):
    body = {"request_id": fresh_id()}
    async with gpu_world(tmp_path) as world:
        replies = [await world.post("/v1/node/drain", body, token=token) for token in (None, "", "wrong", TOKEN)]
        assert [reply.status_code for reply in replies] == [401, 401, 403, 202]
        assert replies[0].headers["www-authenticate"] == "Bearer"
        assert replies[2].json()["type"] == "urn:gpu-agent:problem:token-wrong"
        assert TOKEN not in replies[2].text
        async with world.driver(token=None) as node:
            assert len(await node.read_status()) == 8
            with pytest.raises(DeviceRefusedError, match="401"):
                await node.undrain(fresh_id())


async def test_without_a_token_file_nothing_can_be_written(tmp_path):
    async with gpu_world(tmp_path, with_token=False) as world:
        assert (await world.post("/v1/node/drain", {"request_id": fresh_id()}, token="")).status_code == 401
        assert (await world.post("/v1/node/drain", {"request_id": fresh_id()}, token="any")).status_code == 403


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/v1/node/drain", b"{", 400, "bad-request"),
        ("/v1/node/drain", b"[1]", 400, "bad-request"),
        ("/v1/node/drain", b"", 400, "bad-request"),
        ("/v1/node/drain", b"[" * 8000, 400, "bad-request"),
        ("/v1/node/drain", {"request_id": "short"}, 400, "bad-request"),
        ("/v1/node/drain", {"request_id": "x" * 65}, 400, "bad-request"),
        ("/v1/node/drain", {"request_id": "with a blank"}, 400, "bad-request"),
        ("/v1/node/drain", {"request_id": "12345678", "more": 1}, 400, "bad-request"),
        ("/v1/gpus/reset", {"request_id": "12345678", "gpus": [8]}, 400, "bad-request"),
        ("/v1/gpus/reset", {"request_id": "12345678", "gpus": []}, 400, "bad-request"),
        ("/v1/gpus/reset", {"request_id": "12345678", "gpus": ["1"]}, 400, "bad-request"),
        ("/v1/gpus/power-cap", {"request_id": "12345678", "cap_w": "NaN"}, 400, "bad-request"),
        ("/v1/gpus/power-cap", b'{"request_id": "12345678", "cap_w": NaN}', 400, "bad-request"),
        ("/v1/workloads/start", {"request_id": "12345678", "class": "mining"}, 400, "bad-request"),
        ("/v1/workloads/pause", {"request_id": "12345678", "level": 3}, 400, "bad-request"),
        ("/v1/workloads/pause", {"request_id": "12345678"}, 409, "nothing-runs"),
        ("/v1/workloads/resume", {"request_id": "12345678"}, 409, "nothing-runs"),
        ("/v1/workloads/nap", {"request_id": "12345678"}, 404, "not-found"),
        ("/v1/gpus", {"request_id": "12345678"}, 405, "method-not-allowed"),
        ("/v1/node/drain", b"{" + b" " * 20_000, 413, "body-too-large"),
    ],
)
async def test_what_is_wrong_is_said_in_a_problem_document(tmp_path, path, body, status, kind):
    async with gpu_world(tmp_path) as world:
        reply = await world.post(path, body)
        assert (reply.status_code, reply.headers["content-type"]) == (status, "application/problem+json")
        document = reply.json()
        assert document["type"] == f"urn:gpu-agent:problem:{kind}"
        assert document["status"] == status
        assert document["detail"]
        assert commanded(world) == [1] * 8


async def test_a_gpu_that_a_short_node_has_not_is_not_found(tmp_path):
    async with gpu_world(tmp_path, gpus=12) as world:
        reply = await world.post("/v1/gpus/reset", {"request_id": fresh_id(), "gpus": [3, 4]}, node=1)
        assert (reply.status_code, reply.json()["detail"]) == (404, "this node has GPUs 0 to 3, not 4")


async def test_a_cuda_checkpoint_takes_one_gpu_and_training_has_no_sleep(tmp_path):
    async with gpu_world(tmp_path) as world, world.driver() as node:
        await run(world, node, BATCH, (0, 1))
        await run(world, node, TRAINING, (2,), "start/training")
        wide = await world.post("/v1/workloads/checkpoint", {"request_id": fresh_id(), "gpus": [0, 1]})
        asleep = await world.post("/v1/workloads/pause", {"request_id": fresh_id(), "gpus": [2]})
    assert wide.json()["type"].endswith(":checkpoint-multi-gpu")
    assert asleep.json()["type"].endswith(":not-pausable")


async def test_operations_are_listed_newest_first_and_old_ones_are_forgotten(tmp_path):
    async with gpu_world(tmp_path) as world, plain_http() as http:
        base = f"http://{world.at()}:{world.agent_port}"
        headers = {"authorization": f"Bearer {TOKEN}"}
        for n in range(260):
            await http.post(f"{base}/v1/node/undrain", json={"request_id": f"request-{n}"}, headers=headers)
        listed = (await http.get(f"{base}/v1/operations")).json()["operations"]
    assert [one["request_id"] for one in (listed[0], listed[-1])] == ["request-259", "request-4"]
