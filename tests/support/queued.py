"""The queue of customers' work on a real Postgres: a small fleet, customers, work to submit, connections by role."""

import contextlib
from datetime import UTC, datetime, timedelta

import pytest

from hcp_pipelines.domain.workloads import Tier
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.storage.postgres import connect_async
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.workloads import store
from hcp_pipelines.workloads.spec import WorkloadSpec, classify_by_rules

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
TRAINING = WorkloadSpec(is_training=True, gpu_count=4, estimated_duration_s=600)
FREE = {"H100": 1_000}


def after(seconds):
    return NOON + timedelta(seconds=seconds)


def add_customer(database, name, tier=Tier.PRO):
    statement = "insert into customers (name, email, tier) values (%s, %s, %s) returning id"
    return database.execute(statement, (name, f"{name}@example.com", tier)).fetchone()[0]


@pytest.fixture
def fleet(database):
    """A facility with some H100."""
    apply(database, demo_facilities(1, 120)[0], "test")
    return database


@pytest.fixture
def customer(fleet):
    return add_customer(fleet, "one")


@pytest.fixture
async def api(settings):
    async with await connect_async(settings, Role.API) as connection:
        yield connection


@pytest.fixture
async def scheduler(settings):
    async with await connect_async(settings, Role.SCHEDULER) as connection:
        yield connection


@contextlib.asynccontextmanager
async def connections(settings, role, count):
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(await connect_async(settings, role)) for _ in range(count)]


async def submit(connection, customer_id, spec=TRAINING, tier=Tier.PRO, key=None, now=NOON):
    return await store.submit(connection, customer_id, tier, spec, classify_by_rules(spec), key, now=now)


async def submitted(connection, customer_id, count, **given):
    return [(await submit(connection, customer_id, **given)).workload_id for _ in range(count)]


async def scheduled(connection, now=NOON, limit=1, holder="node-1", **bound):
    """Claims with a place, held by a node."""
    claims = await store.claim(connection, "s", FREE, limit, now=now)
    bindings = [store.Binding(c.workload_id, c.epoch, holder, **bound) for c in claims]
    assert len(await store.schedule(connection, bindings, now=now, actor="s")) == len(claims)
    return claims


async def running(connection, now=NOON, **given):
    """One piece of work that runs: (id, epoch)."""
    [claimed] = await scheduled(connection, now, **given)
    await store.start(connection, claimed.workload_id, claimed.epoch, now=now)
    return claimed.workload_id, claimed.epoch
