"""Devices of work: all or none, each once, let go when the work is; checkpoints under the epoch that holds it."""

import asyncio

import psycopg
import pytest

from hcp_pipelines.domain.workloads import WorkloadState
from hcp_pipelines.storage.migrate import FOLDER
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.workloads import store
from tests.support.queued import (
    NOON,
    add_customer,
    after,
    api,
    connections,
    customer,
    fleet,
    running,
    scheduled,
    scheduler,
    submit,
    submitted,
)

__all__ = ["api", "customer", "fleet", "scheduler"]


@pytest.fixture
def gpus(fleet):
    rows = fleet.execute("select id from resources where type = 'GPU' order by slot").fetchall()
    return [row[0] for row in rows]


def statuses(fleet, ids):
    return [row[0] for row in fleet.execute("select status from resources where id = any(%s) order by id", (ids,))]


async def test_devices_are_allocated_together_and_let_go_when_the_work_ends(api, scheduler, customer, fleet, gpus):
    await submit(api, customer)
    workload_id, epoch = await running(scheduler)
    allocation = await store.allocate(scheduler, workload_id, epoch, gpus[:4])
    [found] = await store.allocations_of(api, workload_id)
    assert (found.allocation_id, found.status, list(found.resource_ids)) == (allocation, "active", gpus[:4])
    assert statuses(fleet, gpus[:5]) == ["allocated"] * 4 + ["available"]
    await store.complete(scheduler, workload_id, epoch, now=after(60))
    assert statuses(fleet, gpus[:4]) == ["available"] * 4
    [found] = await store.allocations_of(api, workload_id)
    assert found.status == "released"
    assert found.released_at is not None
    events = fleet.execute("select event, resources from allocation_events order by id").fetchall()
    assert events == [("allocation.created", 4), ("allocation.released", 4)]
    with pytest.raises(store.AllocationError, match="allocation already released"):
        await store.release(scheduler, allocation)


async def test_one_device_that_is_not_available_and_none_is_allocated(api, scheduler, customer, fleet, gpus):
    await submit(api, customer)
    workload_id, epoch = await running(scheduler)
    fleet.execute("update resources set status = 'maintenance' where id = %s", (gpus[3],))
    with pytest.raises(store.AllocationError, match=f"1 of 4 devices are not available, {gpus[3]}"):
        await store.allocate(scheduler, workload_id, epoch, gpus[:4])
    assert statuses(fleet, gpus[:4]) == ["available"] * 3 + ["maintenance"]
    assert fleet.execute("select count(*) from allocation_headers").fetchone() == (0,)
    for wanted in ([], ["nowhere/1"]):
        with pytest.raises(store.AllocationError):
            await store.allocate(scheduler, workload_id, epoch, wanted)
    await store.allocate(scheduler, workload_id, epoch, gpus[4:8])
    with pytest.raises(store.AllocationError, match="has devices already"):
        await store.allocate(scheduler, workload_id, epoch, gpus[8:10])


async def test_of_many_that_want_the_same_devices_at_once_one_gets_them(
    settings, api, scheduler, customer, fleet, gpus
):
    await submitted(api, customer, 12)
    claims = await scheduled(scheduler, limit=12)
    async with connections(settings, Role.SCHEDULER, 12) as many:
        asked = (
            store.allocate(c, work.workload_id, work.epoch, gpus[n % 3 : n % 3 + 4])
            for n, (c, work) in enumerate(zip(many, claims, strict=True))
        )
        answers = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(a) for a in answers if isinstance(a, Exception)} == {store.AllocationError}
    rows = fleet.execute("select resource_id from allocations where released_at is null").fetchall()
    assert len(rows) == len(set(rows)) == 4 * sum(not isinstance(a, Exception) for a in answers) == 4


async def test_a_device_that_failed_meanwhile_is_not_made_available(api, scheduler, customer, fleet, gpus):
    await submit(api, customer)
    workload_id, epoch = await running(scheduler)
    allocation = await store.allocate(scheduler, workload_id, epoch, gpus[:4])
    fleet.execute("update resources set status = 'failed' where id = %s", (gpus[0],))
    await store.release(scheduler, allocation, reason="node lost", has_failed=True)
    assert statuses(fleet, gpus[:4]) == ["failed"] + ["available"] * 3  # ER-30
    assert (await store.allocations_of(api, workload_id))[0].status == "failed"
    with pytest.raises(store.AllocationError, match="there is no allocation"):
        await store.release(scheduler, workload_id)


async def test_a_lost_nodes_devices_go_with_its_work_and_its_late_word_gets_none(api, scheduler, customer, fleet, gpus):
    await submit(api, customer)
    workload_id, epoch = await running(scheduler, holder="dead")
    await store.allocate(scheduler, workload_id, epoch, gpus[:4])
    await store.renew(scheduler, "dead", now=after(1), lease_s=0)
    assert len(await store.reap(scheduler, now=after(60))) == 1
    assert statuses(fleet, gpus[:4]) == ["available"] * 4
    with pytest.raises(store.LeaseLostError):
        await store.allocate(scheduler, workload_id, epoch, gpus[:4])


async def test_preempted_work_goes_on_from_its_last_checkpoint(api, scheduler, customer, fleet, gpus):
    await submit(api, customer)
    workload_id, epoch = await running(scheduler, usd_per_gpu_hour=2.0)
    await store.allocate(scheduler, workload_id, epoch, gpus[:4])
    assert await store.last_checkpoint(scheduler, workload_id) is None
    await store.pause(scheduler, workload_id, epoch, now=after(300), reason="more urgent work")
    await store.checkpoint(scheduler, workload_id, epoch, now=after(310), location="s3://c/1", progress_s=300)
    await store.requeue(scheduler, workload_id, epoch, now=after(310), reason="more urgent work")
    assert statuses(fleet, gpus[:4]) == ["available"] * 4
    with pytest.raises(store.LeaseLostError):
        await store.checkpoint(scheduler, workload_id, epoch, now=after(311), location="s3://c/2", progress_s=1)
    _, second = await running(scheduler, after(900), usd_per_gpu_hour=4.0)
    await store.allocate(scheduler, workload_id, second, gpus[:4])
    last = await store.last_checkpoint(scheduler, workload_id)
    assert (last.location, last.progress_s, last.epoch, second > epoch) == ("s3://c/1", 300, epoch, True)
    await store.complete(scheduler, workload_id, second, now=after(1200))
    found = await store.read(api, workload_id, customer)
    assert (found.status, found.actual_duration_s) == (WorkloadState.COMPLETED, 600)
    had = await store.allocations_of(api, workload_id)
    assert [one.used_gpu_s for one in had] == [1200, 1200]
    assert [float(one.cost) for one in had] == pytest.approx([4 / 3, 2 / 3], abs=1e-5), "each at its own rate"
    assert float(found.cost) == pytest.approx(sum(float(one.cost) for one in had), abs=1e-5)


async def accounted(api, workload_id, customer):
    """What each allocation cost and used, newest first, after a look that this is all that the work cost."""
    found = await store.read(api, workload_id, customer)
    lines = [(float(one.cost), one.used_gpu_s) for one in await store.allocations_of(api, workload_id)]
    assert float(found.cost) == pytest.approx(sum(cost for cost, _ in lines), abs=1e-5)
    return lines


@pytest.mark.parametrize("again", [False, True], ids=["none-come", "others-come"])
async def test_what_runs_on_without_devices_is_of_those_that_come_or_that_it_had_last(
    api, scheduler, customer, fleet, gpus, again
):
    await submit(api, customer)
    workload_id, epoch = await running(scheduler, usd_per_gpu_hour=2.0)
    await store.release(scheduler, await store.allocate(scheduler, workload_id, epoch, gpus[:4]), reason="by hand")
    [had] = await store.allocations_of(api, workload_id)
    assert (float(had.cost), had.used_gpu_s) == (0, 0), "of a run under way nobody knows yet"
    if again:
        await store.allocate(scheduler, workload_id, epoch, gpus[4:8])
    await store.complete(scheduler, workload_id, epoch, now=after(3600))
    lines = await accounted(api, workload_id, customer)
    assert lines == [(8, 14400), (0, 0)] if again else lines == [(8, 14400)]


async def test_what_work_had_cost_before_lines_had_costs_is_not_told_of_those_that_come(
    api, scheduler, customer, fleet, gpus
):
    await submit(api, customer)
    workload_id, epoch = await running(scheduler, usd_per_gpu_hour=2.0)
    await store.allocate(scheduler, workload_id, epoch, gpus[:4])
    await store.pause(scheduler, workload_id, epoch, now=after(3600), reason="more urgent work")
    await store.requeue(scheduler, workload_id, epoch, now=after(3610), reason="more urgent work")
    fleet.execute("update allocations set cost = null, usage_metrics = default")
    fleet.execute("drop function account_for_the_rest")
    fleet.execute((FOLDER / "0062_account_for_allocations.sql").read_bytes())
    _, second = await running(scheduler, after(4000), usd_per_gpu_hour=2.0)
    await store.allocate(scheduler, workload_id, second, gpus[:4])
    await store.complete(scheduler, workload_id, second, now=after(4060))
    lines = await accounted(api, workload_id, customer)
    assert lines == [pytest.approx((8 / 60, 240), abs=1e-5), (8, 14400)]


async def test_nobody_but_the_scheduler_allocates_and_nobody_rewrites_what_was(api, scheduler, customer, fleet, gpus):
    await submit(api, customer)
    workload_id, epoch = await running(scheduler)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await store.allocate(api, workload_id, epoch, gpus[:4])
    allocation = await store.allocate(scheduler, workload_id, epoch, gpus[:4])
    for statement in (
        "update allocations set released_at = now()",
        "delete from allocation_headers",
        "update resources set type = 'CPU'",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await scheduler.execute(statement)
    with pytest.raises(psycopg.errors.CheckViolation, match="invalid allocation transition from active to pending"):
        await scheduler.execute("update allocation_headers set status = 'pending' where id = %s", (allocation,))
    other = await submit(api, add_customer(fleet, "other"), now=NOON)
    assert await store.allocations_of(api, other.workload_id) == []


async def test_a_release_and_the_reaper_wait_for_each_other_in_one_order(
    settings, api, scheduler, customer, fleet, gpus
):
    """The release is held up by a device, and has yet to write its event, which refers to the work that the reaper has locked."""
    await submit(api, customer)
    workload_id, epoch = await running(scheduler, holder="dead")
    allocation = await store.allocate(scheduler, workload_id, epoch, gpus[:4])
    await store.renew(scheduler, "dead", now=after(1), lease_s=0)
    async with connections(settings, Role.SCHEDULER, 2) as (releasing, reaping):
        async with scheduler.transaction():
            await scheduler.execute("select id from resources where id = %s for no key update", (gpus[0],))
            release = asyncio.create_task(store.release(releasing, allocation))
            await until_waiting(fleet, 1)
            reap = asyncio.create_task(store.reap(reaping, now=after(60)))
            await until_waiting(fleet, 2)
        released, reaped = await asyncio.gather(release, reap, return_exceptions=True)
    assert released is None
    assert [(r.workload_id, r.status) for r in reaped] == [(workload_id, WorkloadState.PAUSED)]
    assert statuses(fleet, gpus[:4]) == ["available"] * 4


async def until_waiting(database, count):
    """So many sessions of this database wait for a lock."""
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    async with asyncio.timeout(120):
        while database.execute(waiting).fetchone()[0] < count:
            await asyncio.sleep(0.01)
