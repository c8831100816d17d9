"""`hcp workload explain`: where work went and why, or why it waits, as an operator on the platform's machine reads it."""

import asyncio
import json

import pytest

from hcp_pipelines.storage.postgres import connect_async
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.workloads.spec import WorkloadSpec, WorkloadType
from tests.support.cli import hcp
from tests.support.queued import add_customer, submit
from tests.support.scheduled import place, scheduler_at

__all__ = ["hcp"]


async def submit_and_schedule(settings, customer, *gpus, rounds=1):
    """Training of so many GPUs each, one after the other, and a round of the scheduler; the workloads."""
    async with (
        await connect_async(settings, Role.API) as api,
        await connect_async(settings, Role.SCHEDULER) as scheduler,
    ):
        specs = [WorkloadSpec(workload_type=WorkloadType.MODEL_TRAINING, gpu_count=n, gpu_type="H100") for n in gpus]
        works = [(await submit(api, customer, spec)).workload_id for spec in specs]
        for _ in range(rounds):
            await scheduler_at()[0].round(scheduler)
        return works


def test_a_place_is_told_with_its_score_and_work_without_one_with_each_groups_reason(hcp, settings, database):
    place(database)
    place(database, number=1, scheduled=False)
    customer = add_customer(database, "one")
    [undecided] = asyncio.run(submit_and_schedule(settings, customer, 1, rounds=0))
    assert "No decision yet" in hcp("workload", "explain", undecided, "--state-dir", settings.state_dir).out
    database.execute("select cancel_workload(%s, null, now(), 'c', '')", (undecided,))
    placed, late = asyncio.run(submit_and_schedule(settings, customer, 56, 16))

    told = hcp("workload", "explain", placed, "--state-dir", settings.state_dir)
    assert told.code == 0
    assert f"{placed}: scheduled: Latency: 5ms, Cost: $" in told.out
    assert "placed at hou-1/h100" in told.out
    assert "56 devices: hou-1/" in told.out
    assert "the facility file doesn't leave this group to the scheduler" in told.out

    waits = json.loads(hcp("workload", "explain", late, "--json", "--state-dir", settings.state_dir).out)
    [decision] = waits["items"]
    assert (waits["status"], decision["outcome"], decision["target_resources"]) == ("queued", "overflow", [])
    assert {one["group"]: one["why_not"] for one in decision["groups"]}[
        "hou-1/h100"
    ] == "4 to be had of 16: 8 of 64 are free"
    assert decision["cloud"]["usd"] == pytest.approx(16 * 2.5 * 8)  # training that said nothing of its duration
    assert decision["cost_usd_per_hour"] == pytest.approx(16 * 2.5)
    assert hcp("workload", "explain", "no-id", "--state-dir", settings.state_dir).code == 2
