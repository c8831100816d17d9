"""The life of a workload: the table of transitions in Postgres itself, leases and epochs, ends that come once."""

import asyncio
import itertools
import re

import psycopg
import pytest

from hcp_pipelines.domain.workloads import TRANSITIONS, Tier, WorkloadState
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.workloads import allocations, binding, claiming, lifecycle, store
from hcp_pipelines.workloads.scheduler import stops
from hcp_pipelines.workloads.spec import classify_by_rules
from tests.support.queued import (
    NOON,
    TRAINING,
    after,
    api,
    customer,
    fleet,
    running,
    scheduled,
    scheduler,
    submit,
    submitted,
)

__all__ = ["api", "customer", "fleet", "scheduler"]

S = WorkloadState
OF_ONE = (
    lifecycle._SCHEDULE, lifecycle._MOVE, lifecycle._TO_QUEUE, lifecycle._DROP_CLAIM, allocations._HELD, allocations._CHECKPOINT,
    stops._KEEP, stops._WAKE, stops._GO_BACK, binding._STANDING, claiming._LOCK, claiming._UNCLAIM,
)  # fmt: skip


def raw(database, customer, status):
    """A workload that has come to a state by legal steps, past all of our code."""
    ways = {
        S.QUEUED: [], S.SCHEDULED: [S.SCHEDULED], S.RUNNING: [S.SCHEDULED, S.RUNNING], S.CANCELLED: [S.CANCELLED],
        S.PAUSED: [S.SCHEDULED, S.RUNNING, S.PAUSED], S.COMPLETED: [S.SCHEDULED, S.RUNNING, S.COMPLETED],
        S.FAILED: [S.SCHEDULED, S.RUNNING, S.FAILED],
    }  # fmt: skip
    statement = (
        "insert into workloads (customer_id, type, priority, requirements) values (%s, %s, 5, '{}') returning id"
    )
    workload_id = database.execute(statement, (customer, "model_training")).fetchone()[0]
    for step in ways[status]:
        move(database, workload_id, step)
    return workload_id


def move(database, workload_id, status):
    """Whatever else a state asks for is given, so that only the transition itself can be refused."""
    database.execute(
        """update workloads set status = %(to)s, queued_at = case when %(to)s = 'queued' then now() end,
               lease_owner = case when %(to)s in ('scheduled', 'running', 'paused') then 'n' end,
               lease_epoch = lease_epoch + 1
           where id = %(id)s""",
        {"to": status, "id": workload_id},
    )


def test_every_transition_that_the_table_lacks_is_refused_by_the_database(database, customer):
    refused = 0
    for old, new in itertools.permutations(WorkloadState, 2):
        workload_id = raw(database, customer, old)
        if new in TRANSITIONS[old]:
            move(database, workload_id, new)
            continue
        with pytest.raises(psycopg.errors.CheckViolation, match=f"invalid state transition from {old} to {new}"):
            move(database, workload_id, new)
        refused += 1
    assert refused == 42 - sum(map(len, TRANSITIONS.values()))


def test_work_is_found_by_its_id_whatever_statistics_say(database, customer):
    """By these nothing waits or is held, so that the partial indices of what does seem to cost nothing."""
    with database.transaction(force_rollback=True):
        database.execute("set local session_replication_role = replica")
        database.execute("set local enable_seqscan = off")
        database.execute(
            """insert into workloads (customer_id, type, priority, requirements, status, level)
               select %s, 'model_training', 5, '{}', 'completed', 5 from generate_series(1, 2000)""",
            (customer,),
        )
        database.execute("analyze workloads")
        for statement in OF_ONE:
            plain = re.sub(r"%\((now|at)\)s", "now()", re.sub(r"%b|%s", "%()s", statement))
            pieces = re.split(r"%\(\w*\)s", plain)
            by_number = "".join(f"{piece}${n}" for n, piece in enumerate(pieces[:-1], start=1)) + pieces[-1]
            plan = "\n".join(row[0] for row in database.execute(f"explain (generic_plan) {by_number}"))
            assert set(re.findall(r"\b(?:idx_)?workloads_\w+", plan)) == {"workloads_pkey"}, plan


def test_each_step_has_its_event_whoever_makes_it(database, customer):
    raw(database, customer, S.COMPLETED)
    rows = database.execute("select old_status, new_status from workload_events order by id").fetchall()
    assert rows == [(None, "queued"), ("queued", "scheduled"), ("scheduled", "running"), ("running", "completed")]
    for statement in (
        "update workload_events set reason = 'x'",
        "delete from workload_events",
        "delete from workloads",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"append-only|keeps the rows of work"):
            database.execute(statement)


def test_a_workload_begins_queued_and_no_state_is_unknown(database, customer):
    for status, words in (("running", "begins queued"), ("done", "begins queued")):
        with pytest.raises(psycopg.errors.CheckViolation, match=words):
            database.execute(
                """insert into workloads (customer_id, type, priority, requirements, status)
                   values (%s, 'model_training', 5, '{}', %s)""",
                (customer, status),
            )
    workload_id = raw(database, customer, S.QUEUED)
    with pytest.raises(psycopg.errors.CheckViolation):
        move(database, workload_id, "something else")
    with pytest.raises(psycopg.errors.CheckViolation, match='"held"'):
        database.execute("update workloads set status = 'scheduled', queued_at = null where id = %s", (workload_id,))


@pytest.mark.parametrize("role", [Role.API, Role.SCHEDULER, Role.CONTROL, Role.COLLECTOR, Role.ALLOCATOR])
def test_nobody_forges_an_event_or_a_count(settings, database, customer, role):
    workload_id = raw(database, customer, S.QUEUED)
    forged = """
        insert into workload_events (workload_id, customer_id, new_status, is_waiting, lease_epoch, reason, actor, occurred_at)
        values (%s, %s, 'completed', false, 1, '', '', now())"""
    with connect(settings, role) as connection:
        for statement, values in (
            (forged, (workload_id, customer)),
            ("update queue_customers set waiting = 0", ()),
            ("update workloads set customer_id = customer_id", ()),
            ("update workloads set cost = 0", ()),
            ("delete from workloads", ()),
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement, values)


async def test_the_api_takes_in_and_cancels_and_runs_nothing(api, customer):
    await submit(api, customer)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await store.claim(api, "api", {"H100": 8}, 1, now=NOON)
    for column in ("status = 'scheduled'", "lease_owner = 'me'", "priority = 1"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await api.execute(f"update workloads set {column}")


async def test_a_life_from_submission_to_its_cost(api, scheduler, customer):
    workload_id = (await submit(api, customer)).workload_id
    _, epoch = await running(scheduler, after(60), usd_per_gpu_hour=2.0)
    await store.pause(scheduler, workload_id, epoch, now=after(960), reason="price spike")
    await store.resume(scheduler, workload_id, epoch, now=after(2000))
    assert await store.complete(scheduler, workload_id, epoch, now=after(2900), result={"loss": 0.1})
    found = await store.read(api, workload_id, customer)
    assert (found.status, found.result, found.holder) == (S.COMPLETED, {"loss": 0.1}, None)
    assert (found.scheduled_at, found.started_at, found.completed_at) == (after(60), after(60), after(2900))
    assert found.actual_duration_s == 1800  # the pause isn't counted, the time before it is (ER-24)
    assert (found.used_gpu_s, float(found.cost)) == (7200, 4.0)
    told = [(e.old_status, e.new_status) for e in await store.events_after(api, 0, customer, 100)]
    assert told == [
        (None, S.QUEUED), (S.QUEUED, S.SCHEDULED), (S.SCHEDULED, S.RUNNING), (S.RUNNING, S.PAUSED), (S.PAUSED, S.RUNNING),
        (S.RUNNING, S.COMPLETED),
    ]  # fmt: skip


async def test_completion_counts_once_and_under_the_right_epoch(api, scheduler, customer):
    await submit(api, customer)
    workload_id, epoch = await running(scheduler)
    with pytest.raises(store.LeaseLostError, match="lost it"):
        await store.complete(scheduler, workload_id, epoch - 1, now=after(1))
    assert await store.complete(scheduler, workload_id, epoch, now=after(1), result={"n": 1})
    assert not await store.complete(scheduler, workload_id, epoch, now=after(2), result={"n": 2})
    assert (await store.read(api, workload_id, None)).result == {"n": 1}
    with pytest.raises(store.TransitionError, match="invalid state transition from completed to failed"):
        await store.fail(scheduler, workload_id, epoch, now=after(3), reason="late")
    with pytest.raises(store.TransitionError, match="invalid state transition from completed to cancelled"):
        await store.cancel(api, workload_id, customer, now=after(3), actor="c")


async def test_what_has_no_place_yet_can_not_run_and_what_has_left_does_not_come_back(api, scheduler, customer):
    await submit(api, customer)
    [claimed] = await store.claim(scheduler, "s", {"H100": 8}, 1, now=NOON)
    with pytest.raises(store.TransitionError, match="invalid state transition from queued to running"):
        await store.start(scheduler, claimed.workload_id, claimed.epoch, now=NOON)
    with pytest.raises(store.UnknownWorkloadError):
        await store.start(scheduler, customer, 1, now=NOON)
    await store.cancel(api, claimed.workload_id, customer, now=after(1), actor="c")
    binding = store.Binding(claimed.workload_id, claimed.epoch, "n")
    assert await store.schedule(scheduler, [binding], now=after(2), actor="s") == []


async def test_the_work_of_a_dead_node_runs_elsewhere_and_ends_once(api, scheduler, customer):
    await submit(api, customer)
    workload_id, first = await running(scheduler, holder="dead")
    assert await store.renew(scheduler, "dead", now=after(10), lease_s=0) == [(workload_id, first)]
    [reaped] = await store.reap(scheduler, now=after(100))
    assert (reaped.holder, reaped.was_claim, reaped.status) == ("dead", False, S.PAUSED)
    assert await store.reap(scheduler, now=after(100)) == []
    with pytest.raises(store.LeaseLostError):
        await store.complete(scheduler, workload_id, first, now=after(101))
    assert await store.renew(scheduler, "dead", now=after(101)) == []
    again, second = await running(scheduler, after(200), holder="alive")
    assert (again, second > first) == (workload_id, True)
    with pytest.raises(store.LeaseLostError):
        await store.complete(scheduler, workload_id, first, now=after(201))
    assert await store.complete(scheduler, workload_id, second, now=after(300))
    found = await store.read(api, workload_id, customer)
    assert (found.actual_duration_s, found.retries_left, found.started_at) == (200, 2, NOON)


async def test_claims_of_a_dead_scheduler_are_free_again(api, scheduler, customer, fleet):
    await submitted(api, customer, 2)
    await store.claim(scheduler, "dead", {"H100": 8}, 2, now=NOON, lease_s=0)
    assert await store.claim(scheduler, "s", {"H100": 8}, 2, now=NOON) == []
    reaped = await store.reap(scheduler, now=NOON)
    assert [(r.was_claim, r.status) for r in reaped] == [(True, S.QUEUED)] * 2
    assert len(await store.claim(scheduler, "s", {"H100": 8}, 2, now=NOON)) == 2
    assert fleet.execute("select waiting, gpus from queue_customers").fetchone() == (2, 8)


async def test_retries_end_in_an_honest_failure(api, scheduler, customer):
    await submit(api, customer)
    for left in (2, 1, 0):
        [claimed] = await scheduled(scheduler)
        status = await store.fail(scheduler, claimed.workload_id, claimed.epoch, now=after(1), reason="no image")
        assert status is S.QUEUED
        assert (await store.read(api, claimed.workload_id, None)).retries_left == left
    workload_id, epoch = await running(scheduler)
    assert await store.fail(scheduler, workload_id, epoch, now=after(2), reason="no image") is S.FAILED
    found = await store.read(api, workload_id, None)
    assert (found.status, found.reason, found.is_waiting) == (S.FAILED, "no image", False)


async def test_work_that_may_not_be_retried_fails_at_once(api, scheduler, customer):
    await submit(api, customer)
    [claimed] = await scheduled(scheduler)
    failed = await store.fail(
        scheduler, claimed.workload_id, claimed.epoch, now=NOON, reason="bad model", may_retry=False
    )
    assert failed is S.FAILED


async def test_preempted_work_is_paused_waits_and_runs_again(api, scheduler, customer, fleet):
    await submit(api, customer)
    workload_id, epoch = await running(scheduler)
    assert await store.requeue(scheduler, workload_id, epoch, now=after(100), reason="made room") is S.PAUSED
    waits = await store.read(api, workload_id, customer)
    assert (waits.status, waits.is_waiting, waits.retries_left) == (S.PAUSED, True, 3)
    assert sum((await store.depths(api)).values()) == 1
    with pytest.raises(store.LeaseLostError):
        await store.resume(scheduler, workload_id, epoch, now=after(101))
    assert (await running(scheduler, after(200)))[0] == workload_id
    assert sum((await store.depths(api)).values()) == 0
    assert fleet.execute("select waiting, gpus from queue_customers").fetchone() == (0, 4)


async def test_a_paused_one_that_gives_up_its_gpus_waits_under_its_own_event(api, scheduler, customer):
    await submit(api, customer)
    workload_id, epoch = await running(scheduler)
    await store.pause(scheduler, workload_id, epoch, now=after(1), reason="spike")
    await store.requeue(scheduler, workload_id, epoch, now=after(2), reason="long spike")
    last = (await store.events_after(api, 0, customer, 100))[-1]
    assert (last.old_status, last.new_status, last.is_waiting, last.reason) == (S.PAUSED, S.PAUSED, True, "long spike")


async def test_cancelling_races_completion_and_one_of_them_wins(settings, api, scheduler, customer):
    outcomes = []
    for _ in range(15):
        await submit(api, customer)
        workload_id, epoch = await running(scheduler)
        results = await asyncio.gather(
            store.complete(scheduler, workload_id, epoch, now=after(1)),
            store.cancel(api, workload_id, customer, now=after(1), actor="c"),
            return_exceptions=True,
        )
        refused = [r for r in results if isinstance(r, Exception)]
        assert [type(r) for r in refused] == [store.TransitionError]
        status = (await store.read(api, workload_id, customer)).status
        assert status is (S.CANCELLED if results[0] in refused else S.COMPLETED)
        ends = [e for e in await store.events_after(api, 0, customer, 1000) if e.workload_id == workload_id]
        assert [e.new_status for e in ends if e.new_status.is_final] == [status]
        outcomes.append(status)
    assert len(outcomes) == 15


async def test_customers_are_told_no_names_but_their_own(api, scheduler, customer, fleet):
    fleet.execute(
        """insert into users (name, role, customer_id, password_hash, created_by)
           values ('own', 'customer', %s, '$argon2id$x', 't'), ('bob.staff', 'operator', null, '$argon2id$x', 't')""",
        (customer,),
    )

    async def told(workload_id):
        found = await store.read(api, workload_id, customer)
        [listed] = [
            w for w in await store.listed(api, store.Filters(customer), None, 9) if w.workload_id == workload_id
        ]
        assert (listed.actor, listed.holder) == (found.actor, found.holder)
        return found.actor, found.holder

    by_own, by_staff = [
        await store.submit(api, customer, Tier.PRO, TRAINING, classify_by_rules(TRAINING), now=NOON, by=store.By(name))
        for name in ("own", "bob.staff")
    ]
    assert await told(by_own.workload_id) == ("own", None)
    assert await told(by_staff.workload_id) == ("operator", None)
    workload_id, _ = await running(scheduler, holder="gateway-hou-1.internal")
    assert await told(workload_id) == ("node", "node")
    await store.renew(scheduler, "gateway-hou-1.internal", now=after(1), lease_s=0)
    await store.reap(scheduler, now=after(2))
    await store.cancel(api, by_staff.workload_id, None, now=after(3), actor="bob.staff")
    assert await told(by_staff.workload_id) == ("operator", None)
    events = await store.events_after(api, 0, customer, 100)
    assert [e.actor for e in events] == ["own", "operator", "scheduler", "node", "node", "operator"]
    assert not [e for e in events if "gateway" in e.reason or "bob" in e.reason]
    staff = await store.events_after(api, 0, None, 100)
    assert [e.actor for e in staff][-2:] == ["gateway-hou-1.internal", "bob.staff"]
    assert [e.for_customer().actor for e in staff] == [e.actor for e in events]
    assert (await store.read(api, by_staff.workload_id, None)).actor == "bob.staff"


async def test_a_step_that_is_said_again_is_answered_and_changes_nothing(api, scheduler, customer):
    await submit(api, customer)
    workload_id, epoch = await running(scheduler)
    await store.start(scheduler, workload_id, epoch, now=after(50), reason="again")
    await store.pause(scheduler, workload_id, epoch, now=after(60), reason="spike")
    await store.pause(scheduler, workload_id, epoch, now=after(70), reason="again")
    found = await store.read(api, workload_id, None)
    assert (found.changed_at, found.reason, found.started_at) == (after(60), "spike", NOON)
    assert [e.reason for e in await store.events_after(api, 0, None, 9)] == ["", "", "", "spike"]
