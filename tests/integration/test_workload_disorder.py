"""Everything at once in random order: nothing deadlocks, no count drifts, every life is a legal one, nothing ends twice."""

import asyncio
import random

import pytest

from hcp_pipelines.domain.workloads import TRANSITIONS, Tier, WorkloadState
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.workloads import admission, store
from hcp_pipelines.workloads.spec import WorkloadSpec, classify_by_rules
from tests.support.queued import add_customer, after, api, connections, fleet, scheduler, submit

__all__ = ["api", "fleet", "scheduler"]
_WAITS = "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')"

STEPS, HOLDERS = 60, ("n1", "n2", "n3")


class Disorder:
    """Clients that submit and cancel, schedulers, and nodes that finish, fail, die or speak too late."""

    def __init__(self, seed, customers, gpus):
        self.random, self.customers, self.gpus = random.Random(seed), customers, gpus
        self.seconds, self.submitted, self.held, self.done, self.is_over = 0, [], [], [], False

    def now(self):
        self.seconds += 7
        return after(self.seconds)

    async def client(self, connection):
        for _ in range(STEPS):
            if self.submitted and self.random.random() < 0.25:
                await self.told(
                    store.cancel(connection, self.random.choice(self.submitted), None, now=self.now(), actor="c")
                )
                continue
            spec = WorkloadSpec(
                is_training=True, gpu_count=self.random.choice((1, 2, 4)), priority=self.random.randint(5, 10)
            )
            key = str(self.random.randint(1, 200))
            made = await self.told(
                submit(connection, self.random.choice(self.customers), spec, key=key, now=self.now())
            )
            if made:
                self.submitted.append(made.workload_id)

    async def scheduler(self, connection):
        for _ in range(STEPS):
            await store.age(connection, now=self.now())
            lease_s = self.random.choice((0, 30))
            claims = await store.claim(connection, "s", {"H100": 12}, 4, now=self.now(), lease_s=lease_s)
            kept = [c for c in claims if self.random.random() < 0.8]
            bindings = [store.Binding(c.workload_id, c.epoch, self.random.choice(HOLDERS)) for c in kept]
            taken = await store.schedule(connection, bindings, now=self.now(), actor="s", lease_s=lease_s)
            self.held += [(c.workload_id, c.epoch) for c in kept if c.workload_id in set(taken)]
            if self.random.random() < 0.5:
                await store.unclaim(connection, [(c.workload_id, c.epoch) for c in claims if c not in kept])
            await store.reap(connection, now=self.now())

    async def node(self, connection):
        while not self.is_over:
            await store.renew(
                connection, self.random.choice(HOLDERS), now=self.now(), lease_s=self.random.choice((0, 30))
            )
            if self.held:
                late = self.random.random() < 0.2
                workload_id, epoch = self.random.choice(self.held if late else self.held[-6:])
                await self.step(connection, workload_id, epoch)

    async def until_over(self, clients, schedulers):
        await asyncio.gather(*(self.client(c) for c in clients), *(self.scheduler(c) for c in schedulers))
        self.is_over = True

    async def step(self, connection, workload_id, epoch):
        act, now = self.random.randrange(8), self.now()
        if act <= 1:
            await self.told(store.start(connection, workload_id, epoch, now=now))
        elif act == 2:
            await self.told(store.pause(connection, workload_id, epoch, now=now, reason="spike"))
        elif act == 3:
            await self.told(store.requeue(connection, workload_id, epoch, now=now, reason="room"))
        elif act == 4:
            await self.told(store.fail(connection, workload_id, epoch, now=now, reason="broke"))
        elif act == 5:
            wanted = self.random.sample(self.gpus, 3)
            await self.told(store.allocate(connection, workload_id, epoch, wanted))
        elif await self.told(store.complete(connection, workload_id, epoch, now=now)):
            self.done.append(workload_id)

    async def told(self, asked):
        """Its answer, or None where it was refused; anything else that goes wrong ends the test."""
        try:
            return await asked
        except store.QueueError:
            return None


@pytest.mark.parametrize("seed", [1, 2])
async def test_whatever_happens_at_once_the_books_agree(settings, fleet, seed):
    customers = [add_customer(fleet, f"c{n}", Tier.ENTERPRISE) for n in range(3)]
    gpus = [row[0] for row in fleet.execute("select id from resources where type = 'GPU'")]
    world = Disorder(seed, customers, gpus)
    async with connections(settings, Role.API, 3) as clients, connections(settings, Role.SCHEDULER, 5) as others:
        await asyncio.gather(world.until_over(clients, others[:2]), *(world.node(c) for c in others[2:]))
    assert len(world.done) == len(set(world.done)) > 0
    completed = {row[0] for row in fleet.execute("select id from workloads where status = 'completed'")}
    assert completed == set(world.done)
    check_counts(fleet)
    check_lives(fleet)


@pytest.mark.parametrize("what", ["age", "claim"])
async def test_submissions_of_several_levels_and_the_scheduler_wait_for_each_other_in_one_order(
    settings, fleet, api, scheduler, monkeypatch, what
):
    """The second submission of a transaction is only asked for once the scheduler waits for what the first one has locked."""
    customer, real, asked, first_is_in = add_customer(fleet, "one"), admission._ask, 0, asyncio.Event()
    await store.submit_all(api, customer, Tier.PRO, [one_of(9), one_of(8)], now=after(0))
    fleet.execute("update workloads set ages_at = case when level = 9 then %s end", (after(0),))

    async def ask(*given):
        nonlocal asked
        asked += 1
        if asked == 2:
            await (await api.execute("select 1")).fetchone()  # what was sent is done
            first_is_in.set()
            while not fleet.execute(_WAITS).fetchone()[0]:
                await asyncio.sleep(0.01)
        return await real(*given)

    async def schedule():
        await first_is_in.wait()
        if what == "age":
            return await store.age(scheduler, now=after(86_400), limit=1)
        return len(
            await store.claim(scheduler, "s", {"H100": 1}, 1, now=after(60))
        )  # too few: levels are written alone

    monkeypatch.setattr(admission, "_ask", ask)
    made, done = await asyncio.gather(
        store.submit_all(api, customer, Tier.PRO, [one_of(8), one_of(9)], now=after(1)), schedule()
    )
    assert [type(one) for one in made] == [store.Submitted] * 2
    assert done == (what == "age")
    check_counts(fleet)


def one_of(level):
    spec = WorkloadSpec(workload_type="ai_inference_batch", gpu_count=4, estimated_duration_s=600, priority=level)
    return store.Submission(spec, classify_by_rules(spec))


def check_counts(fleet):
    """What triggers have counted is what there is."""
    counted = fleet.execute(
        """select q.customer_id, q.waiting, q.gpus, coalesce(w.waiting, 0), coalesce(w.gpus, 0)
           from queue_customers q left join (
               select customer_id, count(queued_at) as waiting,
                      coalesce(sum(gpu_count) filter (where lease_owner is not null), 0) as gpus
               from workloads group by customer_id) w using (customer_id)"""
    ).fetchall()
    assert counted
    assert [row for row in counted if row[1:3] != row[3:5]] == []
    drifted = fleet.execute(
        """select * from queue_flows f where waiting <> (
               select count(*) from workloads w
               where w.customer_id = f.customer_id and w.level = f.level and w.queued_at is not null)"""
    ).fetchall()
    assert drifted == []
    unsettled = "select count(*) from workloads where lease_owner is null and abs(charged_gpu_s - used_gpu_s) > 1e-6"
    assert fleet.execute(unsettled).fetchone() == (0,)
    stray = """select count(*) from resources r where (status = 'allocated') <> exists (
                   select from allocations a join allocation_headers h on h.id = a.header_id
                   join workloads w on w.id = h.workload_id
                   where a.resource_id = r.id and a.released_at is null and h.status = 'active' and w.lease_owner is not null)"""
    assert fleet.execute(stray).fetchone() == (0,)


def check_lives(fleet):
    """The events of each piece of work are a legal chain that ends where it is."""
    lives = fleet.execute(
        """select w.status, array_agg(e.old_status order by e.id), array_agg(e.new_status order by e.id)
           from workloads w join workload_events e on e.workload_id = w.id group by w.id"""
    ).fetchall()
    for status, old, new in lives:
        assert (old[0], new[0], new[-1]) == (None, "queued", status)
        assert old[1:] == new[:-1]
        for before, then in zip(old[1:], new[1:], strict=True):
            assert before == then == "paused" or WorkloadState(then) in TRANSITIONS[WorkloadState(before)]
    assert {status for status, _, _ in lives} >= {"queued", "completed", "cancelled"}
