"""Who comes next, in Postgres: exact however many claim at once, fair by what was really used, and never for ever out of turn."""

import asyncio
import os
import signal
from collections import Counter, defaultdict

import psycopg
import pytest

from hcp_pipelines.domain.workloads import Tier, WorkloadState
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.workloads import store
from hcp_pipelines.workloads.spec import WorkloadSpec
from tests.support.queued import (
    FREE,
    NOON,
    TRAINING,
    add_customer,
    after,
    api,
    connections,
    customer,
    fleet,
    running,
    scheduler,
    submit,
    submitted,
)

__all__ = ["api", "customer", "fleet", "scheduler"]


async def serve(scheduler, count, now=NOON):
    """Work claimed one by one and given its place, as (customer, GPU-seconds)."""
    served = []
    for _ in range(count):
        [claimed] = await store.claim(scheduler, "s", {"H100": 100_000}, 1, now=now)
        await store.schedule(scheduler, [store.Binding(claimed.workload_id, claimed.epoch, "n")], now=now, actor="s")
        served.append((claimed.customer_id, claimed.gpu_count * claimed.requirements["estimated_duration_s"]))
    return served


async def test_twenty_claimers_lose_nothing_and_take_nothing_twice(settings, api, customer, fleet):
    others = [add_customer(fleet, f"c{n}") for n in range(4)]
    for owner in (customer, *others):
        await submitted(api, owner, 40)
    cancelled = [w.workload_id for w in await store.listed(api, store.Filters(), None, 200)][::25]

    async def drain(connection, name):
        mine = []
        while claims := await store.claim(connection, name, {"H100": 100_000}, 3, now=NOON):
            bindings = [store.Binding(c.workload_id, c.epoch, name) for c in claims]
            mine += await store.schedule(connection, bindings, now=NOON, actor=name)
        return mine

    async def cancel(connection):
        return [await try_cancel(connection, workload_id) for workload_id in cancelled]

    async def try_cancel(connection, workload_id):
        await store.cancel(connection, workload_id, None, now=NOON, actor="c")
        return workload_id

    async with connections(settings, Role.SCHEDULER, 20) as many:
        *taken, gone = await asyncio.gather(*(drain(c, f"s{n}") for n, c in enumerate(many)), cancel(api))
    every = [workload_id for mine in taken for workload_id in mine]
    assert len(every) == len(set(every))
    statuses = dict(fleet.execute("select status, count(*) from workloads group by status").fetchall())
    assert statuses == {"scheduled": 200 - len(gone), "cancelled": len(gone)}
    assert set(every) | set(gone) == {row[0] for row in fleet.execute("select id from workloads")}
    held = fleet.execute("select sum(waiting), sum(gpus) from queue_customers").fetchone()
    assert held == (0, 4 * (200 - len(gone)))


async def test_claims_beside_submissions_of_new_customers_and_levels_take_each_once(settings, api, customer, fleet):
    others = [add_customer(fleet, f"c{n}") for n in range(10)]

    async def fill(connection, mine):
        for priority in range(5, 11):
            for owner in mine:
                await submit(connection, owner, WorkloadSpec(is_training=True, priority=priority))
        return []

    async def drain(connection):
        taken = []
        while len(taken) < 30 or sum((await store.depths(connection)).values()):
            claims = await store.claim(connection, "s", {"H100": 100_000}, 5, now=NOON)
            bindings = [store.Binding(c.workload_id, c.epoch, "n") for c in claims]
            taken += await store.schedule(connection, bindings, now=NOON, actor="s")
        return taken

    async with connections(settings, Role.API, 2) as filling, connections(settings, Role.SCHEDULER, 1) as (draining,):
        fills = (fill(connection, others[n::2]) for n, connection in enumerate(filling))
        *_, taken = await asyncio.gather(*fills, drain(draining))
        taken += await drain_rest(draining)
    assert len(taken) == len(set(taken)) == 60
    assert fleet.execute("select sum(waiting) from queue_flows").fetchone() == (0,)


async def drain_rest(scheduler):
    claims = await store.claim(scheduler, "s", {"H100": 100_000}, 100, now=NOON)
    return await store.schedule(
        scheduler, [store.Binding(c.workload_id, c.epoch, "n") for c in claims], now=NOON, actor="s"
    )


async def test_a_claimer_that_dies_in_mid_transaction_holds_nothing(settings, api, scheduler, customer, fleet):
    await submitted(api, customer, 3)

    async def die(dying):
        row = await (await dying.execute("select pg_backend_pid()")).fetchone()
        async with dying.transaction():
            assert len(await store.claim(dying, "dying", FREE, 3, now=NOON)) == 3
            os.kill(row[0], signal.SIGTERM)
            await dying.execute("select 1")

    async with connections(settings, Role.SCHEDULER, 1) as (dying,):
        with pytest.raises(psycopg.OperationalError):
            await die(dying)
    claims = await asyncio.wait_for(store.claim(scheduler, "s", FREE, 3, now=NOON), 60)
    assert [c.epoch for c in claims] == [1, 1, 1]
    assert fleet.execute("select used from queue_shares").fetchone()[0] == pytest.approx(3 * 2400 / (4 * 3))


async def test_customers_that_wait_get_equal_gpu_time_whatever_a_third_floods(api, scheduler, customer, fleet):
    other, flood = add_customer(fleet, "other"), add_customer(fleet, "flood")
    await submitted(api, customer, 40, spec=WorkloadSpec(is_training=True, gpu_count=1, estimated_duration_s=1200))
    await submitted(api, other, 12, spec=WorkloadSpec(is_training=True, gpu_count=8, estimated_duration_s=900))
    await submitted(api, flood, 80, spec=WorkloadSpec(is_training=True, gpu_count=2, estimated_duration_s=60))
    had = Counter()
    largest = 8 * 900
    for owner, gpu_s in await serve(scheduler, 40):
        had[owner] += gpu_s
        assert abs(had[customer] - had[other]) <= 2 * largest
    assert min(had[customer], had[other], had[flood]) > 0
    assert max(had.values()) - min(had.values()) <= 2 * largest


async def test_tiers_and_levels_get_shares_by_their_weights(api, scheduler, customer, fleet):
    free = add_customer(fleet, "free", Tier.FREE)
    spec = WorkloadSpec(is_training=True, priority=10, gpu_count=1, estimated_duration_s=600)
    await submitted(api, customer, 45, spec=spec)  # pro: weight 4
    await submitted(api, free, 20, spec=spec, tier=Tier.FREE)
    had = Counter(owner for owner, _ in await serve(scheduler, 50))
    assert (had[customer], had[free]) == (40, 10)
    urgent = spec.model_copy(update={"priority": 5})
    one = add_customer(fleet, "one-level-up")  # weight 3 of its level, against 1
    fleet.execute("update queue_rules set highest_level = 10")
    await submitted(api, one, 40, spec=urgent)
    await submitted(api, customer, 40, spec=spec)
    had = Counter(owner for owner, _ in await serve(scheduler, 32))
    assert had[one] == pytest.approx(3 * had[customer], abs=3)


async def test_what_turned_out_to_be_shorter_or_longer_is_settled(api, scheduler, customer, fleet):
    liar = add_customer(fleet, "liar")
    await submitted(api, liar, 30, spec=WorkloadSpec(is_training=True, gpu_count=4, estimated_duration_s=1))
    await submitted(api, customer, 30)
    held = [await running(scheduler, holder="n") for _ in range(2)]
    by_owner = {(await store.read(api, one[0], None)).customer_id: one for one in held}
    assert set(by_owner) == {liar, customer}
    await store.complete(scheduler, *by_owner[customer], now=after(600))
    await store.renew(scheduler, "n", now=after(6000))  # 4 GPUs for 6000 s, where 1 s was claimed
    had = Counter(owner for owner, _ in await serve(scheduler, 9, after(6000)))
    assert had[liar] == 0, "it has had ten times what the other has, while it still runs"
    assert await store.complete(scheduler, *by_owner[liar], now=after(6000))
    assert fleet.execute("select count(*) from queue_usage").fetchone()[0] <= 2
    await store.claim(scheduler, "s", FREE, 1, now=after(6000))
    assert fleet.execute("select count(*) from queue_usage").fetchone() == (0,)


async def test_who_was_away_has_saved_nothing_up(api, scheduler, customer, fleet):
    late = add_customer(fleet, "late")
    await submitted(api, customer, 40)
    await serve(scheduler, 20)
    await submitted(api, late, 20)
    had = Counter(owner for owner, _ in await serve(scheduler, 20))
    assert abs(had[late] - had[customer]) <= 2


async def test_old_debts_fade_while_a_customer_is_away(api, scheduler, customer, fleet):
    other = add_customer(fleet, "other")
    await submitted(api, other, 30)
    await serve(scheduler, 1)
    await submitted(api, customer, 10)
    fleet.execute("update queue_shares set used = used + 100000, is_backlogged = false, left_at = %s where customer_id = %s",
                  (NOON, customer))  # fmt: skip
    await store.claim(scheduler, "s", FREE, 1, now=after(2 * 86_400))
    rows = dict(fleet.execute("select customer_id, used from queue_shares").fetchall())
    assert rows[customer] - rows[other] == pytest.approx(25_000, rel=0.05)  # two half-lives


async def test_waiting_lifts_to_the_highest_level_and_no_further(api, scheduler, customer, fleet):
    spec = WorkloadSpec(is_training=True, priority=9)
    await submitted(api, customer, 2, spec=spec)
    assert await store.age(scheduler, now=after(1799)) == 0
    assert await store.age(scheduler, now=after(1800)) == 2
    assert {n: w for n, w in (await store.depths(api)).items() if w} == {8: 2}
    for _ in range(20):
        await store.age(scheduler, now=after(10 * 86_400))
    assert {n: w for n, w in (await store.depths(api)).items() if w} == {2: 2}
    assert [w.priority for w in await store.listed(api, store.Filters(), None, 5)] == [9, 9]


async def test_the_least_urgent_comes_within_the_stated_bound_beside_an_endless_flood(api, scheduler, fleet):
    """The bound of docs/queue.md on one GPU: the last charge times the others' weights, and one piece of work of each."""
    meek, flood = add_customer(fleet, "meek", Tier.FREE), add_customer(fleet, "flood")
    job_s, flood_weight = 60, 4 * 25
    urgent = WorkloadSpec(workload_type="ai_inference_realtime", estimated_duration_s=job_s)
    least = WorkloadSpec(is_training=True, priority=10, estimated_duration_s=job_s)
    await submitted(api, meek, 3, spec=least, tier=Tier.FREE)
    await submitted(api, flood, 130, spec=urgent)
    turns_s, now_s = [], 0
    for _ in range(120):
        await store.age(scheduler, now=after(20 * now_s))  # twenty times as fast: lifted by the second turn
        [(owner, _)] = await serve(scheduler, 1, after(now_s))
        if owner == meek:
            turns_s.append(now_s)
        now_s += job_s
    first, second, third = turns_s
    assert second - first <= job_s / (1 * 1) * flood_weight + 2 * job_s
    assert third - second <= job_s / (1 * 25) * flood_weight + 2 * job_s, (
        "what has waited longest is charged as level 2"
    )


async def test_large_work_that_has_waited_is_passed_by_no_more(api, scheduler, customer, fleet):
    other = add_customer(fleet, "other")
    large = (await submit(api, customer, WorkloadSpec(is_training=True, gpu_count=16))).workload_id
    await submitted(api, other, 20)

    async def claims(free, at):
        return await store.claim(scheduler, "s", {"H100": free}, 5, now=after(at), gpus_most={"H100": 16})

    assert [c.customer_id for c in await claims(8, 10)] == [other, other], "at first smaller work goes where it fits"
    assert await claims(8, 3600) == [], "then what is free is kept"
    assert await claims(12, 3601) == []
    assert [c.workload_id for c in await claims(16, 3602)][:1] == [large]


async def test_what_could_never_fit_here_keeps_nothing(api, scheduler, customer, fleet):
    other = add_customer(fleet, "other")
    await submit(api, customer, WorkloadSpec(is_training=True, gpu_count=16))
    await submitted(api, other, 2)
    found = await store.claim(scheduler, "s", {"H100": 8}, 5, now=after(7200), gpus_most={"H100": 12})
    assert [c.customer_id for c in found] == [other, other]


async def test_a_customer_holds_no_more_gpus_than_its_quota(api, scheduler, customer, fleet):
    await submitted(api, customer, 5)
    fleet.execute("update tier_quotas set max_gpus = 10")
    assert len(await store.claim(scheduler, "s", FREE, 5, now=NOON)) == 2
    assert await store.claim(scheduler, "s", FREE, 5, now=NOON) == []
    fleet.execute("update tier_quotas set max_gpus = 12")
    assert len(await store.claim(scheduler, "s", FREE, 5, now=NOON)) == 1


async def test_deadlines_go_before_in_the_customers_own_turn(api, scheduler, customer):
    await submit(api, customer)
    pressing = await submit(
        api, customer, WorkloadSpec(is_training=True, estimated_duration_s=600, deadline_at=after(1200))
    )
    [first] = await store.claim(scheduler, "s", FREE, 1, now=after(1))
    assert first.workload_id == pressing.workload_id


async def test_a_claim_that_is_given_back_costs_nothing_and_rests(api, scheduler, customer, fleet):
    await submit(api, customer)
    [claimed] = await store.claim(scheduler, "s", FREE, 1, now=NOON)
    back = [(claimed.workload_id, claimed.epoch)]
    assert await store.unclaim(scheduler, back, wait_s=60, reason="no rack has 4 together") == [claimed.workload_id]
    assert await store.unclaim(scheduler, back) == []
    assert await store.claim(scheduler, "s", FREE, 1, now=NOON) == []
    found = await store.read(api, claimed.workload_id, customer)
    assert (found.status, found.reason) == (WorkloadState.QUEUED, "no rack has 4 together")
    assert fleet.execute("select s.used, c.gpus from queue_shares s, queue_customers c").fetchone() == (0, 0)


async def test_many_customers_are_read_as_far_as_their_turns_come(api, scheduler, fleet):
    owners = [add_customer(fleet, f"c{n}") for n in range(80)]
    for owner in owners:
        await submitted(api, owner, 2)
    claims = defaultdict(int)
    while found := await store.claim(scheduler, "s", {"H100": 100_000}, 60, now=NOON):
        for claimed in found:
            claims[claimed.customer_id] += 1
    assert dict(claims) == dict.fromkeys(owners, 2)


async def test_only_kinds_that_are_free_are_claimed(api, scheduler, customer):
    await submit(api, customer, TRAINING)
    assert await store.claim(scheduler, "s", {"H100": 0, "A100": 8}, 5, now=NOON) == []
    assert await store.claim(scheduler, "s", {}, 5, now=NOON) == []
    assert len(await store.claim(scheduler, "s", {"H100": 4, "A100": 8}, 5, now=NOON)) == 1


@pytest.mark.parametrize("written", ["H100", "h100", "H100 SXM5", "h100-sxm5", "GPU", "gpu", None])
async def test_work_is_claimed_however_its_gpu_was_written(api, scheduler, customer, written):
    spec = WorkloadSpec(is_training=True, gpu_type=written)
    made = await submit(api, customer, spec)
    [claimed] = await store.claim(scheduler, "s", {"H100": 8}, 5, now=NOON)
    assert (claimed.workload_id, claimed.gpu_type) == (made.workload_id, "H100")
    assert (await store.read(api, made.workload_id, customer)).spec.get("gpu_type") == written


async def test_work_for_any_type_is_charged_where_it_goes_and_waits_for_any_again(api, scheduler, customer, fleet):
    fleet.execute(
        """insert into device_groups select facility_id, generation, 'h200', feeder_id, type, 'H200 NVL', firmware, cooling_class,
               100000, 8, ladder, jsonb_build_object('gpu_type', 'H200') from device_groups where type = 'GPU' limit 1"""
    )
    await submit(api, customer, WorkloadSpec(is_training=True, gpu_type="GPU", estimated_duration_s=400))
    assert await store.claim(scheduler, "s", {"A100": 8}, 5, now=NOON) == [], "the fleet has none that would do"
    [claimed] = await store.claim(scheduler, "s", {"H200": 8}, 5, now=NOON)
    assert claimed.gpu_type == "H200"
    shares = "select gpu_type, waiting, used from queue_shares where waiting > 0 or used > 0"
    assert fleet.execute(shares).fetchall() == [("H200", 1, 400 / 4 / 3)]
    await store.unclaim(scheduler, [(claimed.workload_id, claimed.epoch)])
    [again] = await store.claim(scheduler, "s", {"H100": 8}, 5, now=NOON)
    assert (again.workload_id, again.gpu_type) == (claimed.workload_id, "H100")
    assert fleet.execute(shares).fetchall() == [("H100", 1, 400 / 4 / 3)]
    await store.schedule(scheduler, [store.Binding(again.workload_id, again.epoch, "n")], now=NOON, actor="s")
    assert (await store.events_after(api, 0, customer, 10))[-1].new_status is WorkloadState.SCHEDULED
    assert fleet.execute("select gpu_type from workload_events order by id desc").fetchone() == ("H100",)


async def test_miners_are_claimed_by_model_or_as_asics(api, scheduler, customer, fleet):
    [(model,), *_] = fleet.execute("select model from device_groups where type = 'ASIC' order by 1").fetchall()
    for free in (model, "ASIC"):
        await submit(api, customer, WorkloadSpec(workload_type="bitcoin_mining", gpu_count=2))
        assert await store.claim(scheduler, "s", FREE, 5, now=NOON) == []
        [claimed] = await store.claim(scheduler, "s", {free: 10}, 5, now=NOON)
        assert claimed.gpu_type == free


async def test_who_ran_longer_than_it_said_is_charged_at_that_ratio_and_an_honest_word_costs_nothing(
    api, scheduler, customer, fleet
):
    liar = add_customer(fleet, "liar")
    said = WorkloadSpec(is_training=True, gpu_count=1, estimated_duration_s=100)
    for owner, ran_s in ((liar, 20_000), (customer, 100)):
        await submit(api, owner, said)
        one = await running(scheduler)
        await store.complete(scheduler, *one, now=after(ran_s))
    for owner in (liar, customer):
        await submit(api, owner, said)
    await store.claim(scheduler, "s", FREE, 2, now=after(20_000))
    charged = dict(
        fleet.execute("select customer_id, charged_gpu_s from workloads where lease_owner is not null").fetchall()
    )
    assert 15_000 < charged[liar] < 20_000
    assert charged[customer] == pytest.approx(100, rel=0.01)


async def test_who_is_not_known_yet_is_charged_what_such_work_takes(api, scheduler, customer, fleet):
    for n, ran_s in enumerate((100, 3000, 5000)):
        await submit(api, add_customer(fleet, f"known{n}"))
        one = await running(scheduler)
        await store.complete(scheduler, *one, now=after(ran_s))
    await store.age(scheduler, now=after(5000))
    assert fleet.execute("select type, run_s from queue_typical").fetchall() == [("model_training", 3000)]
    await submit(api, customer, WorkloadSpec(is_training=True, gpu_count=2, estimated_duration_s=1))
    await submit(api, customer, WorkloadSpec(is_training=True, gpu_count=2, estimated_duration_s=9000))
    await store.claim(scheduler, "s", FREE, 2, now=after(5000))
    rows = fleet.execute("select charged_gpu_s from workloads where customer_id = %s order by number", (customer,))
    assert rows.fetchall() == [(6000,), (18_000,)]


async def test_what_never_fits_neither_lets_a_newcomer_go_first_nor_saves_anything_up(api, scheduler, customer, fleet):
    sly, late = add_customer(fleet, "sly"), add_customer(fleet, "late")
    await submit(api, sly, WorkloadSpec(is_training=True, gpu_count=16))
    await submitted(api, customer, 40)

    async def served(count):
        had = Counter()
        for _ in range(count):
            [claimed] = await store.claim(scheduler, "s", {"H100": 8}, 1, now=NOON)
            binding = store.Binding(claimed.workload_id, claimed.epoch, "n")
            await store.schedule(scheduler, [binding], now=NOON, actor="s")
            had[claimed.customer_id] += 1
        return had

    assert await served(15) == {customer: 15}
    await submitted(api, late, 15)
    had = await served(10)
    assert abs(had[customer] - had[late]) <= 2
    await submitted(api, sly, 15)
    had = await served(15)
    assert max(had.values()) - min(had[owner] for owner in (customer, late, sly)) <= 2
