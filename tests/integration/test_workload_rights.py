"""What whoever gets hold of the scheduler's role can't do: a statement for each right that it has not."""

import psycopg
import pytest

from hcp_pipelines.storage.roles import Role
from hcp_pipelines.workloads import store
from tests.support.queued import NOON, after, api, connections, customer, fleet, running, scheduler, submit, submitted

__all__ = ["api", "customer", "fleet", "scheduler"]

OVER = "update workloads set {} where status = 'completed'"
WAITS = "update workloads set {} where status = 'queued'"
RUNS = "update workloads set {} where status = 'running'"
REFUSED = [
    *(
        OVER.format(change)
        for change in ("reason = 'x'", "result = null", "charged_gpu_s = 0", "retries_left = retries_left - 1")
    ),
    OVER.format("lease_expires_at = now()"),
    RUNS.format("retries_left = retries_left + 1"),
    RUNS.format("retries_left = 0"),
    RUNS.format("usd_per_gpu_hour = 0"),
    RUNS.format("facility_id = null"),
    RUNS.format("placement = '{}'"),
    RUNS.format("result = '{\"loss\": 0}'"),
    RUNS.format("charged_gpu_s = 0"),
    RUNS.format("gpu_type = 'B300'"),
    RUNS.format("lease_owner = 'me'"),
    RUNS.format("lease_epoch = lease_epoch + 1"),
    RUNS.format("changed_at = changed_at - interval '1 hour'"),
    WAITS.format("level = 1"),
    WAITS.format("queued_at = queued_at - interval '1 day'"),
    WAITS.format("lease_owner = 'me', lease_epoch = 9, gpu_type = 'B300'"),
    *(
        WAITS.format(f"{column} = {column}")
        for column in ("customer_id", "priority", "tier", "spec", "gpu_count", "gpu_types")
    ),
    *(RUNS.format(f"{column} = {column}") for column in ("cost", "used_gpu_s", "actual_duration_s", "running_since")),
    "insert into workloads (customer_id, type, priority, requirements) select id, 'model_training', 1, '{}' from customers",
    """insert into workload_events (workload_id, customer_id, new_status, is_waiting, lease_epoch, reason, actor, occurred_at)
       select id, customer_id, 'completed', false, 1, '', '', now() from workloads""",
    "select name from customers",
    "select email from customers",
    "select * from users",
    "select * from api_keys",
    "select * from process_cursors",
    "insert into process_cursors (process, cursor, value) values ('allocator', 'x', 1)",
    "update queue_customers set gpus = 0",
    "update queue_customers set ran_gpu_s = 0",
    "update queue_shares set waiting = 0",
    "update queue_flows set waiting = 0",
    "update queue_rules set max_waiting = 1",
    "update queue_levels set weight = 1",
    "update tier_quotas set weight = 1",
    "insert into customer_quotas (customer_id, updated_by) select id, 'me' from customers",
    "insert into queue_typical (type, run_s) values ('x', 1)",
    "insert into queue_usage (customer_id, gpu_type, level, gpu_s) select id, 'H100', 1, -1 from customers",
    "update resources set status = 'maintenance' where status = 'available'",
    "update resources set status = 'available' where status = 'allocated'",
    "update resources set specifications = '{}'",
    "insert into allocation_headers (workload_id, status) select id, 'released' from workloads limit 1",
    "insert into allocations (workload_id, resource_id, released_at) select id, 'x', now() from workloads limit 1",
    "update allocations set released_at = now()",
    "update workload_checkpoints set progress_s = 0",
    "update audit_log set actor = 'x'",
    "delete from workloads",
]


async def is_refused(connection, statement):
    try:
        await connection.execute(statement)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.CheckViolation):
        return True
    return False


async def test_none_of_it_is_the_schedulers_to_do(settings, api, customer, fleet):
    gpus = [row[0] for row in fleet.execute("select id from resources where type = 'GPU' order by slot limit 4")]
    async with connections(settings, Role.SCHEDULER, 1) as (scheduler,):
        await submitted(api, customer, 2)
        done = await running(scheduler)
        await store.complete(scheduler, *done, now=after(1))
        runs = await running(scheduler, facility_id=fleet.execute("select id from facilities").fetchone()[0],
                             placement={"rack": 1}, usd_per_gpu_hour=2.0)  # fmt: skip
        await store.allocate(scheduler, *runs, gpus)
        await submit(api, customer, now=NOON)
        before = fleet.execute("select w::text from workloads w order by number").fetchall()
        passed = [statement for statement in REFUSED if not await is_refused(scheduler, statement)]
        assert passed == []
        assert fleet.execute("select w::text from workloads w order by number").fetchall() == before
        assert await store.complete(scheduler, *runs, now=after(2))


async def test_nobody_changes_work_that_is_over(api, scheduler, customer, fleet):
    await submit(api, customer)
    done = await running(scheduler)
    await store.complete(scheduler, *done, now=after(1))
    with pytest.raises(psycopg.errors.CheckViolation, match="is completed: nothing of it changes any more"):
        fleet.execute("update workloads set cost = 1")
