"""What an owner turns down for its devices' sake: who loses what, and where the work goes next."""

import asyncio

import numpy as np
import psycopg
import pytest
from psycopg.types.json import Jsonb

from hcp_pipelines.allocator.working import Working
from hcp_pipelines.domain.workloads import WorkloadState
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.workloads import store
from hcp_pipelines.workloads.scheduler.outcomes import OwnersWord
from hcp_pipelines.workloads.spec import WorkloadSpec, WorkloadType
from tests.support.queued import NOON, after, api, scheduler, submit
from tests.support.scheduled import (
    customer,
    facility_file,
    keep,
    look_again,
    open_rows,
    owner,
    say,
    scheduler_at,
    settle,
)

__all__ = ["api", "customer", "owner", "scheduler"]
DEAD = "1 of its 8 devices do not answer, or are in quarantine"
_REMEMBER = """insert into owner_memory (facility_id, epoch, simulated_at, memory) values ('hou-1', 1, now(), %s)
               on conflict (facility_id) do update set memory = excluded.memory"""
_FOUND = """select r.slot, r.status, count(a)
            from resources r left join allocations a on a.resource_id = r.id and a.released_at is null
            where r.facility_id = 'hou-1' and r.slot = any(%s) group by r.slot, r.status order by r.slot"""
_WAITS = (
    "select 1 from pg_stat_activity where pid = %s and state = 'active' and wait_event in ('PgSleep', 'transactionid')"
)


def spec(**more):
    kind = WorkloadType.MODEL_TRAINING
    return WorkloadSpec(workload_type=kind, gpu_count=8, gpu_type="H100", estimated_duration_s=6000.0, **more)


async def started(api, scheduler, owner, customer, *, tells_saved=False, **more):
    """A scheduler with one piece of work that runs since noon: (scheduler, clock, id, its slots)."""
    one, clock = scheduler_at(routing_realtime_spare=0.0)
    work = (await submit(api, customer, spec(**more))).workload_id
    await one.round(scheduler)
    settle(owner, after(0), tells_saved=tells_saved)
    await one.round(scheduler)
    return one, clock, work, open_rows(owner)[0][3]


@pytest.mark.parametrize("what", ["dead", "dark"])
async def test_dead_devices_save_nothing_and_the_work_goes_elsewhere_at_once(
    api, scheduler, owner, database, customer, what
):
    one, clock, work, slots = await started(api, scheduler, owner, customer, checkpoint_interval_s=600)
    clock.advance(700)
    await one.round(scheduler)
    clock.advance(300)
    before = (await store.read(api, work, None)).retries_left
    say(owner, [open_rows(owner)[0][0]], "turned_down", after(1000), DEAD, cause=what)
    await one.round(scheduler)
    found = await store.read(api, work, None)
    assert (found.is_waiting, found.retries_left) == (True, before - 1)
    assert (await store.last_checkpoint(api, work)).progress_s == pytest.approx(700), (
        "nothing was saved by dead devices"
    )
    look_again(database)
    clock.advance(6)
    await one.round(scheduler)
    [(_, again, _, others, _)] = open_rows(owner)
    assert again == work
    assert not set(slots) & set(others)


async def test_a_run_ends_no_earlier_than_its_last_checkpoint_however_late_that_is_heard(
    api, scheduler, owner, database, customer
):
    one, clock, work, _ = await started(api, scheduler, owner, customer, checkpoint_interval_s=600)
    [row] = [row[0] for row in open_rows(owner)]
    clock.advance(700)
    await one.round(scheduler)
    say(owner, [row], "holding", after(650), "its gateway is not heard of", cause="silent")
    await one.round(scheduler)
    assert (await store.read(api, work, None)).actual_duration_s == pytest.approx(700), "as much as is saved"
    say(owner, [row], "settled", after(690))
    await one.round(scheduler)
    assert one.book.held[work].due_at == after(6000), "it ran on from where it was paused, not before"
    clock.advance(700)
    await one.round(scheduler)
    assert (await store.last_checkpoint(api, work)).progress_s == pytest.approx(1400)
    say(owner, [row], "turned_down", after(1350), "the price is too high")
    await one.round(scheduler)
    found = await store.read(api, work, None)
    assert (found.is_waiting, found.actual_duration_s) == (True, pytest.approx(1400))
    look_again(database)
    clock.advance(600)
    await one.round(scheduler)
    settle(owner, after(2000))
    await one.round(scheduler)
    clock.advance(4600)
    await one.round(scheduler)
    found = await store.read(api, work, None)
    assert (found.status, found.completed_at) == (WorkloadState.COMPLETED, after(6600))
    assert found.actual_duration_s == pytest.approx(6000), "no less than it takes"


async def test_work_that_can_not_run_fails_at_once_with_its_reason_and_leaves_its_devices_to_others(
    api, scheduler, owner, database, customer
):
    one, clock = scheduler_at(routing_realtime_spare=0.0)
    work = (await submit(api, customer, spec())).workload_id
    await one.round(scheduler)
    [(row, _, _, slots, _)] = open_rows(owner)
    say(owner, [row], "refused", after(60), "ckpt-7 can't be loaded", cause="work")
    clock.advance(60)
    await one.round(scheduler)
    found = await store.read(api, work, None)
    assert (found.status, found.reason) == (WorkloadState.FAILED, "it could not start: ckpt-7 can't be loaded")
    assert one.follower.avoided == []
    await submit(api, customer, spec())
    await one.round(scheduler)
    assert open_rows(owner)[0][3] == slots


async def test_what_its_owner_has_quarantined_has_failed_until_it_is_forgiven(
    api, scheduler, owner, database, customer
):
    one, clock, work, slots = await started(api, scheduler, owner, customer)
    slot = database.execute("select min(slot) from resources where status = 'allocated'").fetchone()[0]
    found = "select status, metadata ? 'failed_by' from resources where slot = %s and facility_id = 'hou-1'"

    owner.execute(_REMEMBER, (Jsonb({"quarantined_slots": [slot]}),))
    assert database.execute(found, (slot,)).fetchone() == ("failed", True)
    await one.begin(scheduler)
    waits = await store.read(api, work, None)
    assert (waits.is_waiting, waits.reason) == (True, f"hou-1/{slot:06d} has failed")
    look_again(database)
    clock.advance(700)
    await one.round(scheduler)
    [(_, again, _, others, _)] = open_rows(owner)
    assert again == work
    assert slots[0] not in others
    owner.execute(_REMEMBER, (Jsonb({"quarantined_slots": []}),))
    assert database.execute(found, (slot,)).fetchone() == ("available", False)
    database.execute("update resources set status = 'failed' where slot = %s", (slot,))
    owner.execute(_REMEMBER, (Jsonb({"mix": {}}),))
    assert database.execute(found, (slot,)).fetchone() == ("failed", False), "who else says so is not overruled"


async def test_devices_are_let_go_and_marked_in_turn(api, scheduler, owner, database, customer):
    one, *_ = await started(api, scheduler, owner, customer)
    for _ in range(2):
        await submit(api, customer, spec())
    await one.round(scheduler)
    rows = "select header_id from allocations where released_at is null group by 1 order by min(resource_id)"
    lowest, middle, highest = [header for (header,) in database.execute(rows)]
    allocated = "select slot from resources where status = 'allocated' order by 1"
    slots = [slot for (slot,) in database.execute(allocated)]
    assert len(slots) == 24
    end = "update allocation_headers set status = 'released' where id = %s"

    async def remembering(*quarantined):
        task = asyncio.create_task(asyncio.to_thread(owner.execute, _REMEMBER, (remembered(*quarantined),)))
        async with asyncio.timeout(60):
            while not database.execute(_WAITS, (owner.info.backend_pid,)).fetchone():
                await asyncio.sleep(0.005)
        return task

    def remembered(*quarantined):
        return Jsonb({"quarantined_slots": quarantined})

    owner.execute(_REMEMBER, (remembered(slots[0], slots[23]),))
    with psycopg.connect(database.info.dsn, password=database.info.password) as other:
        other.execute(end, (lowest,))
        forgives = await remembering(slots[23])
        other.commit()
        await forgives
        assert database.execute(_FOUND, ([slots[0]],)).fetchone() == (slots[0], "available", 0)

        other.execute(end, (highest,))
        marks = await remembering(slots[8], slots[22])
        other.execute(end, (middle,))  # neither waits for the other in a circle
        other.commit()
        await marks
    found = database.execute(_FOUND, ([slots[8], slots[22], slots[23]],)).fetchall()
    assert found == [(slots[8], "failed", 0), (slots[22], "failed", 0), (slots[23], "available", 0)]


async def test_one_silent_device_is_no_livelock(api, scheduler, owner, database, customer):
    """Three pieces of work, one GPU that is silent: each is given other devices, and the group stays open."""
    one, clock = scheduler_at(routing_realtime_spare=0.0)
    for _ in range(3):
        await submit(api, customer, spec())
    answered = set[int]()
    for _ in range(3):
        await one.round(scheduler)
        for row, _, _, slots, _ in open_rows(owner):
            if row not in answered:
                answered.add(row)
                is_dead = 0 in slots
                say(
                    owner,
                    [row],
                    "turned_down" if is_dead else "settled",
                    clock.now(),
                    DEAD,
                    cause="dead" if is_dead else "",
                )
        await one.round(scheduler)
        clock.advance(6)
        look_again(database)
    running = database.execute("select count(*) from workloads where status = 'running'").fetchone()[0]
    assert running == 3
    assert sum(0 in row[3] for row in open_rows(owner)) == 0


async def test_locked_devices_cost_no_retry_and_leave_the_rest_of_their_group_open(
    api, scheduler, owner, database, customer
):
    one, clock, work, slots = await started(api, scheduler, owner, customer, tells_saved=True)
    clock.advance(1000)
    before = (await store.read(api, work, None)).retries_left
    [row] = [row[0] for row in open_rows(owner)]
    say(owner, [row], "turned_down", after(1000), "2 of its 8 devices are locked out", cause="locked", tells_saved=True)
    keep(owner, work, slots, after(1010), "a/1")
    await one.round(scheduler)
    await one.round(scheduler)
    found = await store.read(api, work, None)
    assert (found.status, found.retries_left) == (WorkloadState.SCHEDULED, before)
    assert (await store.last_checkpoint(api, work)).progress_s == pytest.approx(1000)
    [(_, _, _, others, _)] = open_rows(owner)
    assert not set(slots) & set(others)


def test_the_owners_own_words_are_understood():
    """The allocator's reasons, as it makes them: a change of them there shows here."""

    class Devices:
        dark = np.zeros(1, dtype=bool)

        def usable(self):
            return np.ones(1, dtype=bool)

    class Owner:
        devices, out, held = Devices(), Devices.dark, Devices.dark

    causes = list(Working._kept_out(Owner()))
    words = [OwnersWord(1, "turned_down", "3 of its 8 devices", NOON, (1, 1), cause) for cause in causes]
    assert all(word.is_of_devices for word in words)
    assert [word.is_of_broken for word in words] == [False, False, True, True]


async def test_a_changed_facility_file_costs_no_retry_and_no_progress(api, scheduler, owner, database, customer):
    """Its row is refused as of an older inventory: it goes on, on the same devices if they are the best, under the new one."""
    one, clock, work, slots = await started(api, scheduler, owner, customer, tells_saved=True)
    clock.advance(1000)
    before = (await store.read(api, work, None)).retries_left
    apply(database, facility_file(72), "test")
    say(
        owner,
        [open_rows(owner)[0][0]],
        "refused",
        after(1000),
        "inventory generation 1; hou-1 has 2",
        cause="inventory",
        tells_saved=True,
    )
    keep(owner, work, slots, after(1010), "a/1")
    await one.round(scheduler)
    await one.round(scheduler)
    found = await store.read(api, work, None)
    assert (found.status, found.retries_left) == (WorkloadState.SCHEDULED, before)
    assert (await store.last_checkpoint(api, work)).progress_s == pytest.approx(1000)
    assert open_rows(owner)[0][3] == slots, "nothing is wrong with them"
    desired = "select generation from desired_state where id = %s"
    assert owner.execute(desired, (open_rows(owner)[0][0],)).fetchone() == (2,)


async def test_devices_are_left_alone_in_the_worlds_time(api, scheduler, owner, database, customer):
    """A world that runs sixty times as fast mends them sixty times as fast."""
    one, clock = scheduler_at(speed=60.0, routing_realtime_spare=0.0)
    await submit(api, customer, spec())
    await one.round(scheduler)
    say(owner, [open_rows(owner)[0][0]], "turned_down", after(0), DEAD, cause="dead")
    await one.round(scheduler)
    assert one.room.free[0] == 64 - 8
    clock.advance(650)
    await one.begin(scheduler)
    assert one.room.free[0] == 64
