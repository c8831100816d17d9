"""What the scheduler makes of facilities that no allocator commands: nothing begins there, ends there, or counts for long."""

import pytest

from hcp_pipelines.domain.workloads import WorkloadState
from hcp_pipelines.workloads import store
from hcp_pipelines.workloads.spec import WorkloadSpec, WorkloadType
from tests.support.queued import after, api, scheduler, submit
from tests.support.scheduled import FACILITY, customer, lease, open_rows, owner, scheduler_at, settle

__all__ = ["api", "customer", "owner", "scheduler"]


def spec(duration_s=6000.0, **more):
    kind = WorkloadType.MODEL_TRAINING
    return WorkloadSpec(workload_type=kind, gpu_count=8, gpu_type="H100", estimated_duration_s=duration_s, **more)


async def test_nothing_is_placed_where_nobody_commands_and_the_work_is_told_so(
    api, scheduler, owner, database, customer
):
    lease(database, FACILITY, "-infinity")
    one, clock = scheduler_at()
    work = (await submit(api, customer, spec())).workload_id
    await one.round(scheduler)
    assert open_rows(owner) == []
    assert (await store.read(api, work, None)).reason.endswith("nobody commands the facility at present")
    lease(database, FACILITY, "infinity")
    database.execute("update workloads set lease_expires_at = '-infinity'")
    clock.advance(6)
    await one.round(scheduler)
    assert (await store.read(api, work, None)).status is WorkloadState.SCHEDULED


async def test_work_is_not_done_while_nobody_commands_and_is_as_of_its_time_once_somebody_does(
    api, scheduler, owner, database, customer
):
    one, clock = scheduler_at(hold_s=1800)
    work = (await submit(api, customer, spec(700.0, checkpoint_interval_s=60))).workload_id
    await one.round(scheduler)
    settle(owner, after(0))
    await one.round(scheduler)
    database.execute("update facility_leases set expires_at = now() - interval '20 seconds'")
    for _ in range(2):
        clock.advance(400)
        await one.round(scheduler)
    assert (await store.read(api, work, None)).status is WorkloadState.RUNNING
    lease(database, FACILITY, "infinity")
    clock.advance(3)
    await one.round(scheduler)
    clock.advance(3)
    await one.round(scheduler)
    done = await store.read(api, work, None)
    assert (done.status, done.completed_at) == (WorkloadState.COMPLETED, after(700))


@pytest.mark.parametrize(("goes_on_s", "ran_s"), [(2000, 800), (1850, 700)])
async def test_once_gateways_have_fallen_back_what_ran_is_back_at_its_checkpoint(
    api, scheduler, owner, database, customer, goes_on_s, ran_s
):
    one, clock = scheduler_at(hold_s=1800)
    work = (await submit(api, customer, spec(checkpoint_interval_s=600))).workload_id
    await one.round(scheduler)
    settle(owner, after(0))
    await one.round(scheduler)
    clock.advance(700)
    await one.round(scheduler)
    before = (await store.read(api, work, None)).retries_left
    database.execute("update facility_leases set expires_at = now() - interval '1900 seconds'")
    clock.advance(goes_on_s)
    await one.round(scheduler)
    stopped = await store.read(api, work, None)
    assert (stopped.status, stopped.is_waiting, stopped.retries_left) == (WorkloadState.PAUSED, True, before)
    assert stopped.actual_duration_s == pytest.approx(ran_s, abs=5), (
        "nobody commanded the last 1900 s; what is saved was run"
    )
    assert (await store.last_checkpoint(api, work)).progress_s == pytest.approx(700)
    assert open_rows(owner) == []
