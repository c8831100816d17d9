"""A scheduler may end at any statement, and another goes on: each piece of work ends once, with the time that it was to run."""

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest
import structlog
from prometheus_client import REGISTRY

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.runtime.process import ProcessContext
from hcp_pipelines.settings import child_environment
from hcp_pipelines.storage.postgres import connect_async
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.workloads.scheduler import metrics, service
from hcp_pipelines.workloads.scheduler.service import connect_scheduler
from hcp_pipelines.workloads.spec import WorkloadSpec, WorkloadType
from tests.support.queued import NOON, add_customer, after, api, submit
from tests.support.scheduled import OPEN, as_owner, open_rows, place, say, scheduler_at
from tests.support.waiting import until

__all__ = ["api"]
DURATION_S = 600.0
KINDS = (WorkloadType.MODEL_TRAINING, WorkloadType.AI_INFERENCE_BATCH)


class KilledError(Exception):
    """The process is no more."""


def doomed(connection, statements):
    """A connection whose user is killed after so many statements: none of its later ones is sent."""
    execute, left = connection.execute, [statements]

    async def until_then(*given, **named):
        left[0] -= 1
        if left[0] < 0:
            raise KilledError
        return await execute(*given, **named)

    connection.execute = until_then
    return connection


@pytest.fixture
def owner(settings, database):
    place(database)
    with as_owner(settings) as connection:
        yield connection


async def submit_many(api, database, count, rng, duration_s=DURATION_S):
    customers = [add_customer(database, f"c{n}") for n in range(3)]
    for _ in range(count):
        spec = WorkloadSpec(
            workload_type=rng.choice(KINDS), gpu_type="H100", gpu_count=rng.choice((1, 2, 4, 8, 16)),
            estimated_duration_s=duration_s, checkpoint_interval_s=rng.choice((None, 200)),
        )  # fmt: skip
        await submit(api, rng.choice(customers), spec)


def answer(owner, at, rng, *, settled=0.9):
    """The owner's word on whatever has none: mostly that it is settled."""
    answered = {row[0] for row in owner.execute("select desired_state_id from desired_outcomes").fetchall()}
    for row in owner.execute(OPEN).fetchall():
        if row[0] not in answered:
            say(owner, [row[0]], "settled" if rng.random() < settled else "turned_down", at)


def finals(database):
    """Final events by workload."""
    statement = "select workload_id from workload_events where new_status in ('completed', 'failed', 'cancelled')"
    return Counter(row[0] for row in database.execute(statement).fetchall())


def check_all_is_over(database, owner, count, duration_s=DURATION_S):
    statuses = dict(database.execute("select status, count(*) from workloads group by status").fetchall())
    assert statuses == {"completed": count}
    assert set(finals(database).values()) == {1}
    short = database.execute("select id from workloads where actual_duration_s < %s", (duration_s - 1e-3,)).fetchall()
    assert short == []
    assert open_rows(owner) == []
    assert database.execute("select count(*) from resources where status <> 'available'").fetchone() == (0,)
    assert database.execute(
        "select coalesce(sum(gpus), 0), coalesce(sum(waiting), 0) from queue_customers"
    ).fetchone() == (0, 0)


@pytest.mark.parametrize("seed", [1, 2])
async def test_killed_after_any_statement_each_piece_of_work_ends_once(settings, api, database, owner, seed):
    rng, count = random.Random(seed), 80
    await submit_many(api, database, count, rng)
    at_s, kills = 0.0, 0
    for _ in range(400):
        one, clock = scheduler_at(after(at_s), routing_realtime_spare=0.0)
        async with await connect_async(settings, Role.SCHEDULER) as connection:
            dies = doomed(connection, rng.randrange(1, 150))
            with contextlib.suppress(KilledError):
                for _ in range(rng.randrange(1, 6)):
                    await one.round(dies)
                    answer(owner, clock.now(), rng)
                    step_s = rng.uniform(10, 250)
                    clock.advance(step_s)
                    at_s += step_s
                kills -= 1
            kills += 1
        at_s += rng.uniform(1, 30)
        database.execute(
            "update workloads set lease_expires_at = '-infinity' where lease_owner is null and queued_at is not null"
        )
        if sum(finals(database).values()) == count:
            break
    assert kills > 5
    check_all_is_over(database, owner, count)


CLAIMED = "select count(*) from workloads where lease_owner is not null and queued_at is not null"
BOUND = """
    select (select count(*) from allocations), (select count(*) from desired_state), (select count(*) from routing_decisions),
           (select count(*) from resources where status <> 'available'),
           (select count(*) from workloads where queued_at is null)"""
BATCH = 8


def doomed_at(connection, part, passes, until):
    """A connection whose user is killed at a statement with `part` in it, after so many such, once `until()` is true."""
    execute, left = connection.execute, [passes]

    async def until_then(query, *given, **named):
        left[0] -= part in query
        if left[0] >= 0:
            return await execute(query, *given, **named)
        async with asyncio.timeout(120):
            while not until():
                await asyncio.sleep(0.01)
        raise KilledError

    connection.execute = until_then
    return connection


@pytest.mark.parametrize(
    ("binds_to_the_end", "claimed", "bound"),
    [(False, 2 * BATCH, 0), (True, 0, BATCH)],
    ids=["while it bound one batch and had claimed the next", "while it claimed the next batch, with one bound"],
)
async def test_killed_with_two_batches_on_two_connections(
    settings, api, database, owner, binds_to_the_end, claimed, bound
):
    def numbers(query):
        return database.execute(query).fetchone()

    customer, count = add_customer(database, "one"), 3 * BATCH
    for _ in range(count):
        await submit(
            api,
            customer,
            WorkloadSpec(workload_type=KINDS[0], gpu_type="H100", gpu_count=1, estimated_duration_s=DURATION_S),
        )
    one, clock = scheduler_at(routing_realtime_spare=0.0)
    one.placer.terms = replace(one.placer.terms, batch=BATCH)
    async with await connect_scheduler(settings) as binds, await connect_scheduler(settings) as claims:
        if binds_to_the_end:
            doomed_at(claims, "for no key update skip locked", 1, lambda: True)
        else:
            doomed_at(binds, "into allocations", 0, lambda: numbers(CLAIMED) == (2 * BATCH,))
        with pytest.raises(KilledError):
            await one.round(binds, frozenset(), claims)
    assert (numbers(CLAIMED), set(numbers(BOUND))) == ((claimed,), {bound})

    one, clock = scheduler_at(clock.now(), routing_realtime_spare=0.0)
    async with await connect_scheduler(settings) as connection, await connect_scheduler(settings) as beside:
        for _ in range(10):
            await one.round(connection, frozenset(), beside)
            answer(owner, clock.now(), random.Random(1), settled=1.0)
            clock.advance(DURATION_S / 2)
    check_all_is_over(database, owner, count)
    assert numbers("select count(*) from workload_events where new_status = 'scheduled'") == (count,), "each bound once"


async def test_two_at_work_at_once_though_only_one_should_be_end_nothing_twice(settings, api, database, owner):
    """Should the lock ever fail to keep them apart: Postgres still lets each step be made once."""
    rng, count = random.Random(4), 80
    await submit_many(api, database, count, rng)
    pairs = [scheduler_at(routing_realtime_spare=0.0) for _ in range(2)]

    async def work_on(scheduler, connection):
        """A round; what Postgres refuses is begun anew, as the daemon does."""
        try:
            await scheduler.round(connection)
        except psycopg.Error:
            await connection.rollback()
            await scheduler.begin(connection)

    async with (
        await connect_async(settings, Role.SCHEDULER) as one,
        await connect_async(settings, Role.SCHEDULER) as two,
    ):
        for _ in range(300):
            await asyncio.gather(work_on(pairs[0][0], one), work_on(pairs[1][0], two))
            answer(owner, pairs[0][1].now(), rng)
            step_s = rng.uniform(10, 250)
            for _, clock in pairs:
                clock.advance(step_s)
            database.execute(
                "update workloads set lease_expires_at = '-infinity' where lease_owner is null and queued_at is not null"
            )
            if sum(finals(database).values()) == count:
                break
    check_all_is_over(database, owner, count)


@pytest.fixture
def clock_file(settings):
    """World time for processes of this test: a minute a second, from noon on."""
    path = settings.at("run", "clock.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    anchor = Anchor(datetime.now(UTC), NOON, 60.0)
    path.write_text(anchor.dump())
    yield anchor
    path.unlink()


class Processes:
    """Schedulers as processes of their own."""

    def __init__(self, settings, folder):
        self._env = child_environment(settings, HCP_PRICE_STALENESS_S="1e6", HCP_ROUTING_REALTIME_SPARE="0")
        self._folder, self.running = folder, []

    def start(self):
        argv = [sys.executable, "-m", "hcp_pipelines.workloads.scheduler"]
        with (self._folder / f"scheduler-{time.monotonic_ns()}.log").open("wb") as log:
            self.running.append(subprocess.Popen(argv, env=self._env, stdout=log, stderr=log))

    def kill(self, process):
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.running.remove(process)

    def stop(self):
        for process in self.running:
            process.terminate()
        return [process.wait(timeout=120) for process in self.running]


async def test_two_processes_killed_in_turn_and_postgres_hanging_up_lose_nothing(
    settings, api, database, owner, clock_file, tmp_path
):
    rng, count, duration_s = random.Random(3), 40, 60.0
    await submit_many(api, database, count, rng, duration_s)
    processes = Processes(settings, tmp_path)
    try:
        processes.start()
        processes.start()
        deadline_s, events = time.monotonic() + 200, ["kill", "hang up", "kill"]
        while sum(finals(database).values()) < count:
            assert time.monotonic() < deadline_s, [path.read_text()[-800:] for path in tmp_path.glob("*.log")]
            real_s = (datetime.now(UTC) - clock_file.real_at).total_seconds()
            answer(owner, after(60 * real_s), rng, settled=1.0)
            done = sum(finals(database).values())
            if events and done >= (4 - len(events)) * count // 5:
                if events.pop(0) == "kill":
                    processes.kill(processes.running[rng.randrange(2)])
                    processes.start()
                else:
                    database.execute(
                        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'hcp_scheduler'"
                    )
            await asyncio.sleep(0.05)
        assert events == []
    finally:
        codes = processes.stop()
    assert set(codes) <= {0, -signal.SIGTERM}  # who was started last may still be at its beginning
    check_all_is_over(database, owner, count, duration_s)


def told_gauges():
    names = ("hcp_workload_queue_depth", "hcp_workload_status")
    return [len(one.samples) for one in REGISTRY.collect() if one.name in names]


async def test_who_is_no_longer_at_work_tells_no_depths(settings, api, database, owner, monkeypatch):
    monkeypatch.setattr(service, "BACKOFF_FIRST_S", 600.0)  # it stays away, as where another has taken over
    metrics.STATUS.clear()
    metrics.DEPTH.clear()
    clock = SystemClock(Anchor(datetime.now(UTC), NOON, 1.0))
    context = ProcessContext("scheduler", settings, clock, structlog.get_logger("test"))
    working = asyncio.create_task(service.run_scheduler(context))
    try:
        await until(lambda: all(told_gauges()), "a round was made")
        assert REGISTRY.get_sample_value("hcp_scheduler_is_leader") == 1
        database.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'hcp_scheduler'")
        await until(lambda: REGISTRY.get_sample_value("hcp_scheduler_is_leader") == 0, "it is at work no more")
        assert told_gauges() == [0, 0]
    finally:
        context.stop.set()
        await working
