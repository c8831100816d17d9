"""What Postgres lets go of once work has long been over: only that, only what the lake has, and never the newest row."""

import asyncio
import warnings

import psycopg
import pytest

from hcp_pipelines.collector.copier import Copier
from hcp_pipelines.domain.clock import ManualClock
from hcp_pipelines.orchestration import old_events
from hcp_pipelines.orchestration.old_events import COPIED, forget_old_events
from hcp_pipelines.orchestration.old_work import TABLES, forget_old_work
from hcp_pipelines.orchestration.resources import Platform, fixed
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.workloads import store
from hcp_pipelines.workloads.decisions import Decision, record
from hcp_pipelines.workloads.scheduler import stops
from tests.support.queued import NOON, after, api, customer, fleet, running, scheduler, submit

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from jobs.control import housekeeping_job

__all__ = ["api", "customer", "fleet", "scheduler"]

RAW = [f"raw.{table}" for table in TABLES]
STEPS = (
    "workload_events",
    "work_stops",
    "saved_work",
    "workload_checkpoints",
    "allocation_events",
    "allocations",
    "allocation_headers",
)


@pytest.fixture
def empty_lake(settings):
    clear(settings)
    yield settings
    clear(settings)


def clear(settings):
    with lake.attach(settings) as connection:
        connection.execute("begin")
        for table in (*RAW, *(f"raw.{table}" for table in COPIED)):
            connection.execute(f"drop table if exists lake.{table}")
        there = connection.execute("select table_name from duckdb_tables() where database_name = 'lake'").fetchall()
        if (lake.BATCHES.partition(".")[2],) in there:
            connection.execute(f"delete from lake.{lake.BATCHES} where \"table\" like 'raw.%'")
        connection.execute("commit")


@pytest.fixture
def copier(empty_lake, fleet):
    made = Copier(empty_lake, ManualClock(NOON))
    yield made
    made.close()


def copied(copier):
    while copier.round() == 0.0:
        pass


async def worked(api, scheduler, fleet, customer):
    """Work that runs where a decision sent it, on devices that are desired and settled: its id and epoch."""
    await submit(api, customer)
    work = await running(scheduler, facility_id="hou-1")
    decision = Decision(*work, "placed", "hou-1", "h100", 4, 1.0, 2.0, 50.0, 0.5, "the cheapest", [], NOON)
    await record(scheduler, [decision], NOON)
    [(row,)] = fleet.execute(
        """insert into desired_state (facility_id, group_id, state, slots, generation, reason, actor, valid_until, workload_id,
               lease_epoch)
           values ('hou-1', 'h100', 6, '\\x00000000', 1, 'workload', 'scheduler', clock_timestamp(), %s, %s) returning id""",
        work,
    ).fetchall()
    fleet.execute(
        """insert into desired_outcomes (desired_state_id, facility_id, owner_epoch, state, reason, simulated_at)
           values (%s, 'hou-1', 1, 'holding', '', now()), (%s, 'hou-1', 1, 'settled', '', now())""",
        (row, row),
    )
    return work


def age(fleet, *works):
    """Let work have ended 31 days ago."""
    fleet.execute("alter table workloads disable trigger user")
    fleet.execute(
        "update workloads set updated_at = now() - interval '31 days' where id = any(%s)",
        ([work[0] for work in works],),
    )
    fleet.execute("alter table workloads enable trigger user")


def forget(settings):
    with connect(settings, Role.CONTROL) as connection:
        return forget_old_work(connection, settings)


def housekeeping(settings):
    resources = {"platform": fixed(Platform(state_dir=str(settings.state_dir)))}
    assert housekeeping_job.execute_in_process(resources=resources).success


def kept(fleet, table):
    of = (
        "desired_state d join desired_outcomes o on o.desired_state_id = d.id" if table == "desired_outcomes" else table
    )
    return [row[0] for row in fleet.execute(f"select distinct workload_id from {of} order by 1").fetchall()]


async def test_rows_of_work_that_is_long_over_go_once_they_are_copied(
    api, scheduler, fleet, customer, copier, empty_lake
):
    old, young, busy, newest = [await worked(api, scheduler, fleet, customer) for _ in range(4)]
    for work in (old, young, newest):
        await store.complete(scheduler, *work, now=after(60), result={})
    nothing = dict.fromkeys(TABLES, 0)
    assert forget(empty_lake) == nothing
    age(fleet, old, busy, newest)
    assert forget(empty_lake) == nothing, "the lake has none of it"
    copied(copier)
    await asyncio.to_thread(housekeeping, empty_lake)  # which has event loops of its own
    left = sorted(work[0] for work in (young, busy, newest))
    assert {table: kept(fleet, table) for table in TABLES} == dict.fromkeys(TABLES, left)
    assert forget(empty_lake) == nothing
    copied(copier)
    assert copier.problems()["ahead"] == ""
    with lake.attach(empty_lake, Role.LAKE_READER, read_only=True) as reader:
        counts = [reader.execute(f"select count(*) from lake.{table}").fetchone()[0] for table in RAW]
    assert counts == [8, 4, 4]


async def test_what_is_younger_is_refused_to_its_owner_too(api, scheduler, fleet, customer):
    work = await worked(api, scheduler, fleet, customer)
    await store.complete(scheduler, *work, now=after(60), result={})
    for table in TABLES:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=f"{table} keeps the rows of work"):
            fleet.execute(f"delete from {table}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
            fleet.execute(f"truncate {table} cascade")
    age(fleet, work)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await scheduler.execute("delete from routing_decisions")


async def stepped(api, scheduler, fleet, customer, slot):
    """Work that had a device and saved once, and is done."""
    resource = f"hou-1/{slot:06d}"
    fleet.execute(
        """insert into resources (id, facility_id, group_id, slot, generation, type, subtype)
           select %s, 'hou-1', group_id, %s, 1, 'GPU', 'H100' from device_groups where group_id = 'h100'
           on conflict do nothing""",
        (resource, slot),
    )
    await submit(api, customer)
    work = await running(scheduler, facility_id="hou-1")
    await store.allocate(scheduler, *work, [resource])
    await store.checkpoint(scheduler, *work, location="s3://c/1", progress_s=30, now=after(30))
    await scheduler.execute(
        """insert into work_stops (workload_id, lease_epoch, facility_id, first_slot, slots, gpu_count, progress_s, saved_s,
               stopped_at, due_at, running_since, began_s)
           values (%s, %s, 'hou-1', 0, '\\x00000000', 1, 30, 0, now(), now(), now(), 0)""",
        work,
    )
    await stops.settle(scheduler)
    fleet.execute(
        """insert into saved_work (event_id, facility_id, generation, workload_id, slots, checkpoint, problem, simulated_at)
           values (gen_random_uuid(), 'hou-1', 1, %s, '', 'c', '', now())""",
        (work[0],),
    )
    await store.complete(scheduler, *work, now=after(60), result={})
    return work


async def test_steps_and_devices_of_work_that_is_long_over_go_once_they_are_copied_and_the_work_stays(
    api, scheduler, fleet, customer, copier, empty_lake, monkeypatch
):
    old, young, newest = [await stepped(api, scheduler, fleet, customer, slot) for slot in range(3)]
    nothing = dict.fromkeys(STEPS, 0)

    def forget_steps():
        with connect(empty_lake, Role.CONTROL) as connection:
            return forget_old_events(connection, empty_lake)

    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="keeps the rows of work"):
        fleet.execute("delete from allocations")
    assert forget_steps() == nothing
    age(fleet, old, newest)
    assert forget_steps() == nothing, "the lake has none of it"
    copied(copier)
    monkeypatch.setattr(old_events, "LOOKED_AT", 1)
    assert forget_steps()["workload_checkpoints"] == 1, "the oldest events are looked at, and all of their work goes"
    monkeypatch.undo()
    left = sorted(work[0] for work in (young, newest))
    assert {table: kept(fleet, table) for table in STEPS} == dict.fromkeys(STEPS, left)
    assert forget_steps() == nothing
    assert fleet.execute("select count(*) from workloads").fetchone() == (3,)
    assert await store.events_after(api, 0, None, 100), "streams go on with what is left"
    await asyncio.to_thread(housekeeping, empty_lake)
    copied(copier)
    assert copier.problems()["ahead"] == ""
    with lake.attach(empty_lake, Role.LAKE_READER, read_only=True) as reader:
        assert reader.execute("select count(distinct workload_id) from lake.raw.workload_events").fetchone() == (3,)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await scheduler.execute("delete from workload_events")
