"""The scheduler's rounds on a real Postgres: from the queue to devices, to an end, back to the queue, and to more urgent work."""

from pathlib import Path

import psycopg
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from hcp_pipelines.alerts.conditions import _work
from hcp_pipelines.domain.workloads import WorkloadState
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.workloads import store
from hcp_pipelines.workloads.decisions import decisions_of, devices_of
from hcp_pipelines.workloads.spec import WorkloadSpec, WorkloadType
from tests.support.queued import NOON, add_customer, after, api, scheduler, submit
from tests.support.scheduled import (
    FACILITY,
    customer,
    keep,
    look_again,
    open_rows,
    owner,
    place,
    say,
    scheduler_at,
    settle,
    tell_policy,
    tell_price,
)

__all__ = ["api", "customer", "owner", "scheduler"]
EVENTS = Path(__file__).resolve().parents[2] / "docs" / "events.md"
BEGUN = EVENTS.read_text().partition("```sql\n")[2].partition("```")[0]
HOUR = 3600.0


def spec(gpus=8, kind=WorkloadType.MODEL_TRAINING, **more):
    return WorkloadSpec(workload_type=kind, gpu_count=gpus, gpu_type="H100", estimated_duration_s=HOUR, **more)


async def status(connection, workload_id):
    found = await store.read(connection, workload_id, None)
    return found.status, found.is_waiting


async def test_work_gets_whole_nodes_runs_for_its_time_and_is_done_once(api, scheduler, owner, customer):
    one, clock = scheduler_at()
    big = (await submit(api, customer, spec(16))).workload_id
    small = (await submit(api, customer, spec(3))).workload_id
    await one.round(scheduler)
    rows = {row[1]: row for row in open_rows(owner)}
    assert rows[big][2:4] == (6, list(range(16)))
    assert len({slot // 8 for slot in rows[small][3]}) == 1
    assert await status(api, big) == (WorkloadState.SCHEDULED, False)
    told = {
        name: REGISTRY.get_sample_value("hcp_workload_status", {"status": name}) for name in ("queued", "scheduled")
    }
    level = {"priority": str((await store.read(api, small, None)).priority)}
    assert REGISTRY.get_sample_value("hcp_workload_queue_depth", level) == 2, "as the round began to look"
    assert told == {"queued": 2, "scheduled": 2}

    settle(owner, after(100))
    clock.advance(120)
    await one.round(scheduler)
    assert await status(api, big) == (WorkloadState.RUNNING, False)
    begun = await (await api.execute(BEGUN)).fetchall()
    first = min(slot for *_, slot in begun)  # of the facility; rows tell a group's own
    of = {work: sorted(slot - first for _, each, *_, slot in begun if each == work) for work in (big, small)}
    assert of == {work: sorted(rows[work][3]) for work in (big, small)}
    assert {(at, facility, group) for at, _, facility, group, _ in begun} == {(after(100), FACILITY, "h100")}
    clock.advance(HOUR)
    await one.round(scheduler)
    done = await store.read(api, big, None)
    assert done.status is WorkloadState.COMPLETED
    assert done.completed_at == after(100 + HOUR)
    assert done.used_gpu_s == 16 * HOUR
    assert open_rows(owner) == []
    assert owner.execute("select count(*) from resources where status <> 'available'").fetchone() == (0,)


async def test_work_that_was_taken_in_by_a_clock_ahead_of_the_schedulers_runs_for_its_whole_time(
    api, scheduler, owner, customer
):
    one, clock = scheduler_at()
    work = (await submit(api, customer, spec(8), now=after(30))).workload_id
    await one.round(scheduler)
    settle(owner, after(10))
    clock.advance(10)
    await one.round(scheduler)
    assert one.book.held[work].since == after(30), "no step is before the one before it"
    clock.advance(HOUR + 20)
    await one.round(scheduler)
    done = await store.read(api, work, None)
    assert (done.status, done.completed_at) == (WorkloadState.COMPLETED, after(HOUR + 30))
    assert done.actual_duration_s == pytest.approx(HOUR)


async def test_the_facility_files_islands_and_racks_are_what_work_is_packed_by(api, scheduler, owner, database):
    place(database, topology={"node": 8, "island": 4, "rack_nodes": 2})
    customer = add_customer(database, "one")
    one, _ = scheduler_at()
    for _ in range(2):
        await submit(api, customer, spec(3))
        await one.round(scheduler)
    small = [row[3] for row in open_rows(owner)]
    assert [{slot // 4 for slot in slots} for slots in small] == [{0}, {1}]
    await submit(api, customer, spec(16, sla_parameters={"colocation": "rack"}))
    await one.round(scheduler)
    [large] = [row[3] for row in open_rows(owner) if len(row[3]) == 16]
    assert large == list(range(16, 32)), "a rack of its own: of the first one a node is broken"


async def test_a_decision_says_why_here_and_why_not_there(api, scheduler, database, customer):
    place(database, number=1)
    one, _ = scheduler_at()
    near_houston = {"client_lat": 29.8, "client_lon": -95.3}
    asked = spec(1, WorkloadType.AI_INFERENCE_REALTIME, max_latency_ms=8, sla_parameters=near_houston)
    here = (await submit(api, customer, asked)).workload_id
    await one.round(scheduler)
    [decision] = await decisions_of(scheduler, here)
    assert (decision.outcome, decision.facility_id, decision.group_id) == ("placed", FACILITY, "h100")
    assert decision.reason.startswith("Latency: 5ms, Cost: $0.0")
    assert 0 < decision.confidence <= 1
    words = dict(decision.explanation)
    assert words["hou-1/h100"] == pytest.approx(decision.score, abs=0.01)
    assert words["nor-1/h100"].endswith("ms away, 8.0 ms are allowed")
    taken = database.execute("select id from resources where status = 'allocated'").fetchall()
    assert await devices_of(scheduler, decision) == [row[0] for row in taken]


async def test_what_is_turned_down_is_saved_and_goes_on_where_it_stood_at_no_cost_to_its_retries(
    api, scheduler, owner, database, customer
):
    one, clock = scheduler_at()
    work = (await submit(api, customer, spec(8))).workload_id
    await one.round(scheduler)
    settle(owner, after(0), tells_saved=True)
    await one.round(scheduler)
    clock.advance(1000)
    before = await store.read(api, work, None)
    [(row, _, _, slots, _)] = open_rows(owner)
    say(owner, [row], "turned_down", after(1000), "tick 7", tells_saved=True)
    await one.round(scheduler)
    assert await status(api, work) == (WorkloadState.PAUSED, True)
    stood = await store.read(api, work, None)
    assert stood.retries_left == before.retries_left
    events = await store.events_after(api, 0, None, 100)
    assert [event.reason for event in events if event.new_status is WorkloadState.PAUSED] == [
        "turned down: less may work there for now"
    ] * 2
    keep(owner, work, slots, after(1010), "a/1")
    await one.round(scheduler)
    assert (await store.last_checkpoint(api, work)).progress_s == 1000
    assert open_rows(owner) == []

    look_again(database)
    clock.advance(20)
    await one.round(scheduler)
    assert open_rows(owner) == [], "where an owner turned work down nothing begins before prices change"
    clock.advance(480)
    tell_price(database, 25.0, after(1500))
    look_again(database)
    await one.round(scheduler, frozenset({"hcp_tick"}))
    settle(owner, after(1600))
    clock.advance(200)
    await one.round(scheduler)
    clock.advance(HOUR - 1000)
    await one.round(scheduler)
    done = await store.read(api, work, None)
    assert (done.status, done.completed_at) == (WorkloadState.COMPLETED, after(1600 + HOUR - 1000))
    assert done.used_gpu_s == pytest.approx(8 * HOUR)


async def test_refused_devices_cost_a_retry_and_are_left_alone(api, scheduler, owner, database, customer):
    one, clock = scheduler_at()
    work = (await submit(api, customer, spec(8))).workload_id
    await one.round(scheduler)
    [(row, *_, slots, _)] = open_rows(owner)
    before = (await store.read(api, work, None)).retries_left
    say(owner, [row], "refused", after(0), "slots outside the group")
    await one.round(scheduler)
    found = await store.read(api, work, None)
    assert (found.status, found.retries_left) == (WorkloadState.QUEUED, before - 1)
    look_again(database)
    clock.advance(120)
    await one.round(scheduler)
    [(_, *_, others, _)] = open_rows(owner)
    assert not set(slots) & set(others)


async def test_checkpoints_come_at_their_interval_and_a_broken_device_costs_no_more_than_that(
    api, scheduler, owner, database, customer
):
    one, clock = scheduler_at()
    work = (await submit(api, customer, spec(8, checkpoint_interval_s=600))).workload_id
    await one.round(scheduler)
    settle(owner, after(0))
    await one.round(scheduler)
    for _ in range(2):
        clock.advance(620)
        await one.round(scheduler)
    assert (await store.last_checkpoint(api, work)).progress_s == pytest.approx(1240)
    broken = database.execute(
        "update resources set status = 'failed' where id = (select min(resource_id) from allocations) returning id"
    ).fetchone()[0]
    clock.advance(100)
    await one.round(scheduler)
    found = await store.read(api, work, None)
    assert (found.status, found.is_waiting, found.reason) == (WorkloadState.PAUSED, True, f"{broken} has failed")
    assert (await store.last_checkpoint(api, work)).progress_s == pytest.approx(1240)


async def test_the_policys_bounds_hold_along_the_ladder(api, scheduler, owner, database, customer):
    tell_price(database, 31.0, after(1))
    tell_policy(database, 64, levels=(40, 24, 16))
    one, _ = scheduler_at(routing_realtime_spare=0.0)
    for kind in (WorkloadType.MODEL_TRAINING, WorkloadType.AI_INFERENCE_BATCH):
        for _ in range(5):
            await submit(api, customer, spec(8, kind))
    await one.round(scheduler)
    by_state = {}
    for _, _, state, slots, _ in open_rows(owner):
        by_state[state] = by_state.get(state, 0) + len(slots)
    assert sum(by_state.values()) == 24
    assert by_state.get(6, 0) <= 16


async def test_urgent_work_takes_the_place_of_what_costs_least_and_both_priorities_are_said(
    api, scheduler, owner, customer
):
    one, clock = scheduler_at(routing_realtime_spare=0.0)
    works = [
        (await submit(api, customer, spec(8, checkpoint_interval_s=None if n else 60))).workload_id for n in range(8)
    ]
    await one.round(scheduler)
    settle(owner, after(0))
    await one.round(scheduler)
    clock.advance(1000)
    await one.round(scheduler)
    urgent = (await submit(api, customer, spec(4, WorkloadType.AI_INFERENCE_REALTIME))).workload_id
    clock.advance(2)
    with capture_logs() as logged:
        await one.round(scheduler)
    assert await status(api, urgent) == (WorkloadState.SCHEDULED, False)
    found = {work: await store.read(api, work, None) for work in works}
    [victim] = [work for work, is_at in found.items() if is_at.status is WorkloadState.PAUSED]
    assert victim == works[0], "the one with a fresh checkpoint loses least"
    assert found[victim].reason == "pre-empted for more urgent work", (
        "another customer's work is not this one's to know"
    )
    [told] = [line for line in logged if line["event"] == "work gives way"]
    assert (told["workload_id"], told["priority"], told["victims"]) == (str(urgent), 2, [(str(victim), 5)])
    assert (await store.last_checkpoint(api, victim)).progress_s == pytest.approx(1000), "nobody has confirmed more"


async def test_where_nothing_may_give_way_that_is_said(api, scheduler, owner, customer):
    one, clock = scheduler_at(routing_realtime_spare=0.0)
    for _ in range(8):
        await submit(api, customer, spec(8, interruptible=False))
    await one.round(scheduler)
    urgent = (await submit(api, customer, spec(4, WorkloadType.AI_INFERENCE_REALTIME))).workload_id
    clock.advance(2)
    await one.round(scheduler)
    found = await store.read(api, urgent, None)
    assert (found.status, found.is_waiting) == (WorkloadState.QUEUED, True)
    [decision] = await decisions_of(scheduler, urgent)
    assert decision.outcome == "overflow"
    assert "not carried out" in decision.reason


async def test_operators_are_told_of_refused_devices_and_of_real_time_work_without_room(
    settings, api, scheduler, owner, customer
):
    one, clock = scheduler_at(routing_realtime_spare=0.0)
    for _ in range(8):
        await submit(api, customer, spec(8, interruptible=False))
    await one.round(scheduler)
    say(owner, [open_rows(owner)[0][0]], "refused", after(0), "another generation")
    await submit(api, customer, spec(64, WorkloadType.AI_INFERENCE_REALTIME))
    clock.advance(2)
    await one.round(scheduler)
    with connect(settings, Role.OPERATOR) as connection:
        told = {condition.key: condition.summary for condition in _work(connection)}
    assert told["work_refused/hou-1"].endswith("the last: another generation")
    assert told["work_unserved/realtime"].startswith(
        "1 pieces of real-time work find no room: no suitable resources available"
    )


async def test_cancelled_work_lets_its_devices_go(api, scheduler, owner, customer):
    one, clock = scheduler_at()
    work = (await submit(api, customer, spec(8))).workload_id
    await one.round(scheduler)
    await store.cancel(api, work, None, now=NOON, actor="c")
    clock.advance(3)
    await one.round(scheduler)
    assert open_rows(owner) == []
    assert one.book.held == {}


async def test_who_takes_over_goes_on_with_what_the_other_held(settings, api, scheduler, owner, database, customer):
    first, _ = scheduler_at()
    work = (await submit(api, customer, spec(8, checkpoint_interval_s=600))).workload_id
    await first.round(scheduler)
    settle(owner, after(0))
    await first.round(scheduler)
    second, clock = scheduler_at()
    clock.advance(700)
    await second.round(scheduler)
    assert (await store.last_checkpoint(api, work)).progress_s == pytest.approx(700)
    third, clock = scheduler_at()
    clock.advance(HOUR)
    await third.round(scheduler)
    done = await store.read(api, work, None)
    assert (done.status, done.completed_at) == (WorkloadState.COMPLETED, after(HOUR))


async def test_where_its_lease_ran_out_meanwhile_work_is_done_by_then_or_back_at_its_checkpoint(
    api, scheduler, owner, database, customer
):
    """Devices whose lease has run out rest: what the clock says since is no progress, and is not charged."""
    first, clock = scheduler_at()
    long = (await submit(api, customer, spec(8, checkpoint_interval_s=600))).workload_id
    short = (await submit(api, customer, spec(8).model_copy(update={"estimated_duration_s": 700.0}))).workload_id
    await first.round(scheduler)
    settle(owner, after(0))
    await first.round(scheduler)
    clock.advance(600)
    await first.round(scheduler)
    before = (await store.read(api, long, None)).retries_left
    database.execute("update desired_state set valid_until = clock_timestamp() - interval '100 seconds'")
    second, clock = scheduler_at(after(1000))
    await second.begin(scheduler)
    stopped = await store.read(api, long, None)
    assert (stopped.status, stopped.is_waiting, stopped.retries_left) == (WorkloadState.PAUSED, True, before)
    assert stopped.actual_duration_s == pytest.approx(900, abs=5)
    assert (await store.last_checkpoint(api, long)).progress_s == pytest.approx(600)
    done = await store.read(api, short, None)
    assert (done.status, done.completed_at) == (WorkloadState.COMPLETED, after(700))


async def test_a_group_that_the_file_does_not_leave_to_the_scheduler_gets_nothing(api, scheduler, owner, database):
    place(database, scheduled=False)
    work = (await submit(api, add_customer(database, "one"), spec(8))).workload_id
    one, _ = scheduler_at()
    await one.round(scheduler)
    assert open_rows(owner) == []
    assert await status(api, work) == (WorkloadState.QUEUED, True)


def test_the_scheduler_may_not_touch_what_the_owner_writes(settings, database):
    place(database)
    statement = """
        insert into desired_outcomes (desired_state_id, facility_id, owner_epoch, state, reason, simulated_at)
        values (1, 'hou-1', 1, 'settled', '', now())"""
    with connect(settings, Role.SCHEDULER) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


async def test_an_old_rate_of_gpus_is_none(api, scheduler, owner, database, customer):
    """Work with a limit waits until the rate is known again; who sets none goes at no rate rather than at an old one."""
    one, clock = scheduler_at(after(7300), gpu_staleness_s=7200)
    limited = (await submit(api, customer, spec(8, max_usd_per_gpu_hour=5.0))).workload_id
    free = (await submit(api, customer, spec(8))).workload_id
    await one.round(scheduler)
    assert await status(api, limited) == (WorkloadState.QUEUED, True)
    found = dict(database.execute("select id, usd_per_gpu_hour from workloads where id = %s", (free,)).fetchall())
    assert found == {free: None}
    tell_price(database, 30.0, after(7300))
    look_again(database)
    clock.advance(6)
    await one.round(scheduler, frozenset({"hcp_tick"}))
    assert await status(api, limited) == (WorkloadState.SCHEDULED, False)


async def test_customers_are_told_no_names_of_staff_nor_prices(api, scheduler, owner, database, customer):
    """Who locked what out, and at which price less may work, is for operators: decisions, outcomes and the log have it."""
    place(database, number=1)
    lock = "insert into lockouts (facility_id, scope, holder, reason) values ('hou-1', 'site', 'jane', 'arc flash')"
    database.execute(lock)
    one, _ = scheduler_at()
    here = (await submit(api, customer, spec(8, sla_parameters={"facility": FACILITY}))).workload_id
    there = (await submit(api, customer, spec(8))).workload_id
    await one.round(scheduler)
    waits = await store.read(api, here, None)
    assert "locked out (site)" in waits.reason
    assert "jane" not in waits.reason
    [decision] = await decisions_of(scheduler, here)
    assert dict(decision.explanation)["hou-1/h100"] == "locked out (site) by jane: arc flash"
    say(owner, [open_rows(owner)[0][0]], "turned_down", after(0), "tick 7 at 55.00 $/MWh: the policy lets 8 devices")
    with capture_logs() as logged:
        await one.round(scheduler)
    events = [event.reason for event in await store.events_after(api, 0, None, 100) if event.workload_id == there]
    assert "turned down: less may work there for now" in events
    assert not [reason for reason in events if "tick" in reason]
    [line] = [line for line in logged if line["event"] == "work is turned down"]
    assert line["reason"].startswith("tick 7 at 55.00")


async def test_work_is_told_why_it_waits_where_every_group_is_closed(api, scheduler, owner, database, customer):
    lock = "insert into lockouts (facility_id, scope, holder, reason) values ('hou-1', 'site', 'jane', 'arc flash')"
    database.execute(lock)
    one, _ = scheduler_at()
    work = (await submit(api, customer, spec(8))).workload_id
    await one.round(scheduler)
    waits = await store.read(api, work, None)
    assert (waits.status, waits.is_waiting) == (WorkloadState.QUEUED, True)
    assert waits.reason == "no suitable resources available: locked out (site)"
    [decision] = await decisions_of(scheduler, work)
    assert dict(decision.explanation)["hou-1/h100"] == "locked out (site) by jane: arc flash"
    database.execute("update lockouts set removed_at = now(), removed_by = 'jane'")
    look_again(database)
    await one.round(scheduler, frozenset({"hcp_directive"}))
    assert await status(api, work) == (WorkloadState.SCHEDULED, False)
