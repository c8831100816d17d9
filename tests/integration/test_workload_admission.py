"""Taking work in: once per idempotency key, within quotas and room, refused early where the fleet could never run it."""

import asyncio
import os
import signal
from collections import Counter
from uuid import UUID

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from hcp_pipelines.domain.workloads import Tier, WorkloadState, WorkloadType
from hcp_pipelines.storage.postgres import dsn
from hcp_pipelines.storage.roles import Database, Role
from hcp_pipelines.workloads import store
from hcp_pipelines.workloads.spec import Classified, WorkloadSpec, classify_by_rules
from tests.support.queued import (
    NOON,
    TRAINING,
    add_customer,
    after,
    api,
    connections,
    customer,
    fleet,
    scheduled,
    scheduler,
    submit,
    submitted,
)

__all__ = ["api", "customer", "fleet", "scheduler"]


SYDNEY = {"sla_parameters": {"client_lat": -33.87, "client_lon": 151.21}}


def limit(database, table, **values):
    assignments = ", ".join(f"{name} = %s" for name in values)
    assert database.execute(f"update {table} set {assignments}", list(values.values())).rowcount >= 1


async def patiently(connection, owner, **given):
    """As clients do: again where too many submissions of the customer were under way."""
    while True:
        try:
            return await submit(connection, owner, **given)
        except store.QueueFullError:
            await asyncio.sleep(0.01)


async def test_what_is_submitted_is_queued_with_its_priority_and_position(api, customer, fleet):
    first = await submit(api, customer)
    assert (first.status, first.priority, first.queue_position, first.is_repeat) == (WorkloadState.QUEUED, 5, 1, False)
    other = add_customer(fleet, "other", Tier.FREE)
    assert (await submit(api, other, tier=Tier.FREE)).queue_position == 2
    urgent = await submit(api, customer, WorkloadSpec(workload_type="ai_inference_realtime"))
    assert (urgent.priority, urgent.queue_position) == (2, 1)
    assert await store.depths(api) == {n: {2: 1, 5: 1, 6: 1}.get(n, 0) for n in range(1, 11)}
    found = await store.read(api, first.workload_id, customer)
    assert found.type is WorkloadType.MODEL_TRAINING
    assert found.spec == {"is_training": True, "gpu_count": 4, "estimated_duration_s": 600.0}
    assert found.requirements["gpu_type"] == "H100"
    assert found.submitted_at == NOON


async def test_one_key_takes_work_in_once_however_many_ask_at_a_time(settings, api, customer, fleet):
    async with connections(settings, Role.API, 12) as many:
        answers = await asyncio.gather(*(patiently(c, customer, key="once") for c in many))
    assert len({a.workload_id for a in answers}) == 1
    assert Counter(a.is_repeat for a in answers) == {True: 11, False: 1}
    assert fleet.execute("select count(*) from workloads").fetchone() == (1,)
    with pytest.raises(store.KeyReusedError, match="came with another request"):
        await submit(api, customer, WorkloadSpec(gpu_count=9), key="once")
    another = await submit(api, add_customer(fleet, "other"), key="once")
    assert not another.is_repeat, "keys are each customer's own"


async def test_a_repeat_tells_the_first_one_as_it_is_by_now_and_costs_no_quota(api, scheduler, customer, fleet):
    first = await submit(api, customer, key="k")
    await scheduled(scheduler)
    limit(fleet, "tier_quotas", max_waiting=0)
    again = await submit(api, customer, key="k")
    assert (again.workload_id, again.status, again.is_repeat) == (first.workload_id, WorkloadState.SCHEDULED, True)


async def test_a_quota_is_exact_under_concurrency(settings, customer, fleet):
    limit(fleet, "tier_quotas", max_waiting=7)
    async with connections(settings, Role.API, 20) as many:
        answers = await asyncio.gather(*(patiently(c, customer) for c in many), return_exceptions=True)
    assert Counter(type(a) for a in answers) == {store.Submitted: 7, store.QuotaError: 13}
    assert fleet.execute("select waiting from queue_customers").fetchone() == (7,)


async def test_a_customers_own_quota_stands_before_the_tiers(api, customer, fleet):
    fleet.execute(
        "insert into customer_quotas (customer_id, max_waiting, max_gpus, updated_by) values (%s, 1, 3, 'test')",
        (customer,),
    )
    with pytest.raises(store.NotAdmittedError, match="may hold 3 at a time: ask for fewer"):
        await submit(api, customer)
    await submit(api, customer, WorkloadSpec(gpu_count=3))
    with pytest.raises(store.QuotaError, match="the limit is 1"):
        await submit(api, customer, WorkloadSpec())
    limit(fleet, "customer_quotas", refused_because="unpaid since May")
    with pytest.raises(store.NotAdmittedError, match="unpaid since May"):
        await submit(api, customer, WorkloadSpec())


async def test_a_full_queue_says_when_to_come_again(api, scheduler, customer, fleet):
    limit(fleet, "queue_levels", max_waiting=2)
    await submitted(api, customer, 2)
    with pytest.raises(store.QueueFullError, match="queue is full: priority 5 holds 2 of 2") as refused:
        await submit(api, customer)
    assert refused.value.retry_after_s == 60  # nothing has left it lately
    await submit(api, customer, WorkloadSpec(workload_type="bitcoin_mining"))
    limit(fleet, "queue_rules", max_waiting=3)
    with pytest.raises(store.QueueFullError, match="the queue holds 3 of 3"):
        await submit(api, customer, WorkloadSpec())
    await scheduled(scheduler)
    limit(fleet, "queue_rules", max_waiting=2)
    with pytest.raises(store.QueueFullError) as refused:
        await submit(api, customer, WorkloadSpec())
    assert 1 <= refused.value.retry_after_s < 60
    assert fleet.execute("select count(*) from workloads").fetchone() == (3,), "what is refused leaves no row (ER-40)"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"gpu_type": "B300"}, "no facility has B300 as GPU: there are H100"),
        ({"sla_parameters": {"facility": "nope"}}, "sla_parameters.facility is nope, there are hou-1"),
        ({"gpu_count": 500}, "500 H100 at one facility"),
        ({"memory_gb": 141}, "H100 has 80"),
        ({"gpu_type": "H100", "sla_parameters": {"weights_gib": 140}}, "140 GB a GPU are asked for, H100 has 80"),
        ({"gpu_count": 2, "sla_parameters": {"weights_gib": 400, "gpus_each": 8}}, "200 GB a GPU"),
        ({"deadline_at": "2025-01-01T12:30:00Z", "estimated_duration_s": 1801}, "can't be met"),
        ({"max_latency_ms": 4.9}, "4.9 is asked for, the nearest facility that would do is 5 ms away"),
        (SYDNEY | {"max_latency_ms": 212}, r"212 is asked for, the nearest facility that would do is 212\.3 ms away"),
        (SYDNEY | {"workload_type": "ai_inference_realtime"}, "100 is what its class allows"),
    ],
)
async def test_what_can_never_run_here_is_refused_at_once(api, customer, spec, words):
    with pytest.raises(store.NotAdmittedError, match=words) as refused:
        await submit(api, customer, WorkloadSpec.model_validate(spec))
    assert refused.value.reason


async def test_a_customer_that_is_not_there_is_told_so(api, fleet):
    with pytest.raises(store.NotAdmittedError, match="there is no customer"):
        await submit(api, UUID(int=1))


async def test_memory_deadline_and_latency_that_can_be_had_are_taken(api, customer):
    await submit(api, customer, WorkloadSpec(max_latency_ms=5))
    await submit(api, customer, WorkloadSpec.model_validate(SYDNEY | {"max_latency_ms": 212.3}))
    await submit(api, customer, WorkloadSpec(memory_gb=80, deadline_at=after(3600), estimated_duration_s=3600))
    await submit(api, customer, WorkloadSpec(gpu_type="H100 SXM5"))
    over_two = {"weights_gib": 140, "gpus_each": 2}
    await submit(api, customer, WorkloadSpec(gpu_type="H100", gpu_count=2, sla_parameters=over_two))
    mining = await submit(api, customer, WorkloadSpec(workload_type="bitcoin_mining", gpu_count=50))
    assert mining.reasons[-1] == "miners follow their facility's policy and none is left to customers' work: it waits"


async def test_customers_see_their_own_and_pages_leave_nothing_out(api, customer, fleet):
    other = add_customer(fleet, "other")
    own = await submitted(api, customer, 7)
    foreign = (await submit(api, other, WorkloadSpec())).workload_id
    for look in (store.read(api, foreign, customer), store.cancel(api, foreign, customer, now=NOON, actor="c")):
        with pytest.raises(store.UnknownWorkloadError, match="there is no workload"):
            await look
    pages, last = [], None
    while page := await store.listed(api, store.Filters(customer_id=customer), last, 3):
        pages += page
        last = page[-1].number
    assert [w.workload_id for w in pages] == own[::-1]
    batch = store.Filters(type=WorkloadType.AI_INFERENCE_BATCH, priority=6, status=WorkloadState.QUEUED)
    assert [w.workload_id for w in await store.listed(api, batch, None, 10)] == [foreign]
    assert await store.listed(api, store.Filters(submitted_from=after(1)), None, 10) == []
    assert {e.customer_id for e in await store.events_after(api, 0, customer, 100)} == {customer}


async def test_no_event_is_lost_whichever_transaction_ends_first(settings, api, customer, fleet):
    async with connections(settings, Role.API, 2) as (early, late):
        async with early.transaction():
            slow = (await submit(early, customer)).workload_id  # has the lower id, and is seen later
            fast = (await submit(late, add_customer(fleet, "other"))).workload_id
            assert await store.events_after(api, 0, None, 10) == []
        told = await store.events_after(api, 0, None, 10)
        assert {e.workload_id for e in told} == {slow, fast}
        rest = await submit(late, customer)
        assert [e.workload_id for e in await store.events_after(api, told[-1].id, None, 10)] == [rest.workload_id]
        assert await store.events_after(api, await store.last_event(api), None, 10) == []


async def test_writers_of_other_databases_hold_no_event_back(settings, api, customer):
    with psycopg.connect(dsn(settings, Role.LAKE_WRITER, Database.LAKE)) as elsewhere:
        elsewhere.execute("create table under_way ()")  # and no commit
        one = await submit(api, customer)
        assert [e.workload_id for e in await store.events_after(api, 0, None, 10)] == [one.workload_id]
        elsewhere.rollback()


async def test_transitions_wake_who_listens(api, scheduler, customer):
    await scheduler.execute("listen hcp_workload")
    await submit(api, customer)
    woken = [n async for n in scheduler.notifies(timeout=60, stop_after=1)]
    assert [n.channel for n in woken] == ["hcp_workload"]


async def test_a_client_that_dies_before_its_commit_leaves_nothing_and_holds_nobody_up(settings, api, customer, fleet):
    async def die(dying):
        row = await (await dying.execute("select pg_backend_pid()")).fetchone()
        async with dying.transaction():
            await submit(dying, customer, key="k")
            os.kill(row[0], signal.SIGTERM)  # the server's process of this connection: as when the client is gone
            await dying.execute("select 1")

    async with connections(settings, Role.API, 1) as (dying,):
        with pytest.raises(psycopg.OperationalError):
            await die(dying)
    answer = await asyncio.wait_for(submit(api, customer, key="k"), 60)
    assert not answer.is_repeat
    assert fleet.execute("select count(*), sum(waiting) from queue_customers").fetchone() == (1, 1)


async def test_a_key_is_free_again_after_its_day(api, customer, fleet):
    first = await submit(api, customer, key="nightly")
    assert (await submit(api, customer, key="nightly")).is_repeat
    limit(fleet, "queue_rules", key_kept_s=1e-6)
    again = await submit(api, customer, WorkloadSpec(gpu_count=3), key="nightly")
    assert (again.is_repeat, again.workload_id == first.workload_id) == (False, False)
    limit(fleet, "queue_rules", key_kept_s=86_400)
    repeat = await submit(api, customer, WorkloadSpec(gpu_count=3), key="nightly")
    assert (repeat.is_repeat, repeat.workload_id) == (True, again.workload_id), "the newest holds the key"


async def test_a_repeat_is_known_whatever_its_numbers(api, customer):
    for number in (0.1, 1e-5, 5e-324, 1.7976931348623157e308, 1e22, -0.0, 12345678.9):
        spec = WorkloadSpec(sla_parameters={"n": number}, estimated_duration_s=0.1)
        assert not (await submit(api, customer, spec, key=str(number))).is_repeat
        assert (await submit(api, customer, spec, key=str(number))).is_repeat


async def test_a_repeat_is_of_the_class_under_which_the_first_was_taken(api, customer):
    spec = WorkloadSpec(model_name="ours")
    first = await submit(api, customer, spec, key="k")
    other = Classified(WorkloadType.MODEL_TRAINING, 5, 0.9, ("learnt anew since",), is_flagged=False)
    again = await store.submit(api, customer, Tier.PRO, spec, other, "k", now=NOON)
    assert (again.type, again.confidence, again.reasons, again.is_flagged) == (
        first.type, first.confidence, first.reasons, True,
    )  # fmt: skip
    assert first.type is WorkloadType.AI_INFERENCE_BATCH


async def test_one_customers_submissions_at_once_leave_connections_to_the_others(settings, customer, fleet):
    """A pool like the API's, while something holds up the first of fifty: the one of another customer goes by."""
    other = add_customer(fleet, "other")
    pool = AsyncConnectionPool(dsn(settings, Role.API), min_size=8, max_size=8, kwargs={"autocommit": True}, open=False)

    async def ask(owner):
        async with pool.connection() as connection:
            return await submit(connection, owner)

    async with pool:
        await pool.wait()
        with fleet.transaction():
            fleet.execute("insert into queue_customers (customer_id) values (%s)", (customer,))
            many = [asyncio.create_task(ask(customer)) for _ in range(50)]
            assert await asyncio.wait_for(ask(other), 60)
            refused = [task.exception() for task in many if task.done()]
        assert {(type(answer), answer.retry_after_s) for answer in refused} == {(store.QueueFullError, 1)}
        answers = await asyncio.gather(*many, return_exceptions=True)
        assert {type(answer) for answer in answers} <= {store.QueueFullError, store.Submitted}


async def test_who_submitted_and_cancelled_by_which_request_is_in_the_audit_log(api, customer, fleet):
    made = await store.submit(
        api, customer, Tier.PRO, TRAINING, classify_by_rules(TRAINING), now=NOON, by=store.By("ann", "r-1")
    )
    for request_id in ("r-2", "r-3"):
        await store.cancel(
            api, made.workload_id, customer, now=after(1), actor="bob", reason="too late", request_id=request_id
        )
    with pytest.raises(store.NotAdmittedError):
        await submit(api, customer, WorkloadSpec(gpu_type="B9000"))
    rows = fleet.execute(
        "select actor, action, subject, detail from audit_log where action like 'workload.%' order by id"
    )
    subject = f"workload/{made.workload_id}"
    assert rows.fetchall() == [
        ("ann", "workload.submit", subject, {"customer_id": str(customer), "request_id": "r-1"}),
        ("bob", "workload.cancel", subject, {"reason": "too late", "request_id": "r-2"}),
    ]


async def test_a_second_cancel_changes_nothing(api, customer, fleet):
    made = await submit(api, customer)
    for second, actor in enumerate(("ann", "bob"), 1):
        await store.cancel(api, made.workload_id, customer, now=after(second), actor=actor, reason=f"by {actor}")
    found = await store.read(api, made.workload_id, None)
    assert (found.actor, found.reason, found.changed_at, found.completed_at) == ("ann", "by ann", after(1), after(1))
    with pytest.raises(store.UnknownWorkloadError):
        await store.cancel(api, made.workload_id, add_customer(fleet, "other"), now=after(3), actor="eve")
