"""From work in a real queue to blocks of a published policy, with the rights of hcp_control alone."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.domain.workloads import Tier
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.fleet.document import FacilityFile
from hcp_pipelines.fleet.solve_sites import load_sites
from hcp_pipelines.optimizer.inputs import FacilityInputs
from hcp_pipelines.optimizer.queue.live import with_queue
from hcp_pipelines.optimizer.queue.read import read_queue
from hcp_pipelines.optimizer.solve import solve_facility
from hcp_pipelines.policy.schema import Policy
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.workloads import store
from hcp_pipelines.workloads.spec import WorkloadSpec
from tests.support.queued import NOON, add_customer, after, api, scheduled, scheduler, submit

__all__ = ["api", "scheduler"]

INDICES = {"hashprice": 50.0, "gpu.H100": 2.0}
STATES = [{"state": "inference_realtime", "power_kw": 1.31}, {"state": "training", "power_kw": 1.4}]
LATER = after(1800)
HOUR = 3600.0


@pytest.fixture
def fleet(database):
    """A facility whose 20 GPUs work for the queue, beside one that is run as ever."""
    plain, other = demo_facilities(2, 240)
    document = plain.document()
    for group in document["groups"]:
        if group["type"] == "GPU":
            group |= {"scheduled": True, "states": STATES}
    apply(database, FacilityFile.model_validate(document), "test")
    apply(database, other, "test")
    return database


@pytest.fixture
def control(settings):
    with connect(settings, Role.CONTROL) as connection:
        yield connection


@pytest.fixture
def customer(fleet):
    return add_customer(fleet, "one")


def training(gpu_count=4, hours=1.0, **more):
    return WorkloadSpec(is_training=True, gpu_count=gpu_count, estimated_duration_s=hours * HOUR, **more)


async def run(scheduler, slots, rate=1.5, now=NOON):
    """Work that has been claimed, holds these slots and runs: (id, epoch)."""
    [claimed] = await scheduled(scheduler, now, facility_id="hou-1", usd_per_gpu_hour=rate)
    await scheduler.execute(
        """insert into desired_state (
               facility_id, group_id, state, slots, generation, reason, actor, valid_until, workload_id, lease_epoch)
           values ('hou-1', 'h100', %s, %s, 1, 'workload', 'scheduler', clock_timestamp() + interval '1 hour', %s, %s)""",
        (DeviceState.TRAINING, np.array(slots, "<u4").tobytes(), claimed.workload_id, claimed.epoch),
    )
    await store.start(scheduler, claimed.workload_id, claimed.epoch, now=now)
    return claimed.workload_id, claimed.epoch


async def test_what_waits_is_read_as_it_was_asked_for(control, api, customer):
    due = NOON + timedelta(hours=5)
    await submit(
        api,
        customer,
        training(
            hours=2,
            deadline_at=due,
            max_usd_per_gpu_hour=1.25,
            memory_gb=40,
            sla_parameters={"facility": "hou-1", "region": 7},
        ),
    )
    await submit(api, customer, WorkloadSpec(model_name="llama", max_latency_ms=100), tier=Tier.ENTERPRISE)
    queue = read_queue(control, LATER)
    first, second = queue.work.sort("number").to_dicts()
    assert first == {
        "number": first["number"], "type": "model_training", "gpu_type": "H100", "gpus": 4, "memory_gb": 40.0,
        "is_interruptible": True, "credit_fraction": 0.1, "limit_usd_per_gpu_hour": 1.25, "agreed_usd_per_gpu_hour": None,
        "estimated_s": 7200.0, "saved_s": 0.0, "unsaved_s": 0.0, "due_in_s": 4.5 * HOUR, "start_in_s": 1800.0,
        "level": 5, "facility_id": None, "group_id": None, "in_facility": "hou-1", "not_facility": None, "region": None,
    }  # fmt: skip
    assert (second["type"], second["is_interruptible"], second["credit_fraction"]) == (
        "ai_inference_realtime",
        False,
        0.25,
    )
    assert (second["due_in_s"], second["limit_usd_per_gpu_hour"]) == (None, None)
    assert queue.spare_gpu_fraction == 0.05


async def test_what_runs_has_its_group_its_rate_and_what_it_has_not_saved(control, api, scheduler, customer):
    await submit(api, customer, training())
    workload_id, epoch = await run(scheduler, [0, 1, 2, 3])
    [fresh] = read_queue(control, LATER).work.to_dicts()
    assert (fresh["facility_id"], fresh["group_id"], fresh["gpus"], fresh["agreed_usd_per_gpu_hour"]) == (
        "hou-1",
        "h100",
        4,
        1.5,
    )
    assert (fresh["saved_s"], fresh["unsaved_s"]) == (0.0, 1800.0)
    await store.checkpoint(scheduler, workload_id, epoch, now=after(1500), location="x", progress_s=1500.0)
    [saved] = read_queue(control, LATER).work.to_dicts()
    assert (saved["saved_s"], saved["unsaved_s"]) == (1500.0, 300.0)


async def test_what_ran_and_lost_its_next_place_before_it_began_has_what_it_saved(control, api, scheduler, customer):
    await submit(api, customer, training())
    workload_id, epoch = await run(scheduler, [0, 1, 2, 3])
    await store.checkpoint(scheduler, workload_id, epoch, now=after(1500), location="x", progress_s=1500.0)
    await store.fail(scheduler, workload_id, epoch, now=after(1600), reason="its node is gone")
    [again] = await scheduled(scheduler, after(1700))
    await store.requeue(scheduler, again.workload_id, again.epoch, now=after(1710), reason="its place is gone")
    [waiting] = read_queue(control, LATER).work.to_dicts()
    assert (waiting["group_id"], waiting["saved_s"], waiting["unsaved_s"]) == (None, 1500.0, 0.0)


async def test_what_is_over_expired_mining_or_not_yet_there_is_no_demand(control, api, scheduler, fleet, customer):
    await submit(api, customer, training(gpu_count=1))
    done, epoch = await run(scheduler, [0])
    await store.complete(scheduler, done, epoch, now=after(60), result={})
    await submit(api, customer, training(gpu_count=2))
    await run(scheduler, [1, 2])
    fleet.execute("update desired_state set valid_until = clock_timestamp()")
    await submit(api, customer, WorkloadSpec(workload_type="bitcoin_mining", gpu_type="ASIC"))
    await submit(api, customer, training(), now=LATER + timedelta(seconds=1))
    [only] = read_queue(control, LATER).work.to_dicts()
    assert (only["gpus"], only["group_id"]) == (2, None)  # it is held, and stands nowhere


async def test_the_solve_asks_for_the_queues_work_where_groups_are_scheduled_and_nowhere_else(
    control, api, scheduler, customer, fleet
):
    await submit(api, customer, training(gpu_count=4))
    await run(scheduler, [0, 1, 2, 3])
    await submit(api, customer, training(gpu_count=2))
    await run(scheduler, [4, 5], rate=0.1)
    await submit(api, customer, training(gpu_count=16))
    sites = load_sites(control)
    assert [g.is_scheduled for site in sites for g in site.groups if g.gpu_type] == [True, False]
    plain = [_inputs(site) for site in sites]
    hou, nor = with_queue(control, plain, LATER)
    assert nor is plain[1]
    policy = Policy.model_validate_json(solve_facility(hou).model_dump_json())
    assert policy.anchor.devices_by_state["h100"] == {"training": 6, "idle": 14}
    wanted = policy.anchor.target_by_state["h100"]
    assert wanted == {"training": 14, "idle": 6}  # both that have a place, and room for a node's work to come
    [left] = policy.unplaced
    assert (left.jobs, left.gpus, left.than_usd_per_gpu_hour) == (1, 16, 0.1)
    spike = solve_facility(replace(hou, decision_price_usd_per_mwh=1000.0)).anchor.target_by_state["h100"]
    assert spike["training"] == 12  # what pays 0.10 is not worth it


def _inputs(site):
    return FacilityInputs(site, 1, LATER, 30.0, INDICES)
