"""Work that stands still: kept where its devices said so, else lost in the books; and whose clock stands as nobody knows."""

import pytest

from hcp_pipelines.domain.workloads import WorkloadState
from hcp_pipelines.workloads import store
from tests.integration.test_scheduler_turned_down import started
from tests.support.queued import after, api, scheduler
from tests.support.scheduled import customer, keep, look_again, open_rows, owner, say, scheduler_at

__all__ = ["api", "customer", "owner", "scheduler"]
STOP = "select outcome, progress_s, saved_s, lost_gpu_s, problem from work_stops where workload_id = %s"


async def stopped(api, scheduler, owner, customer, database):
    """Work whose devices tell what they keep, turned down for a price a thousand seconds after it began."""
    one, clock, work, slots = await started(api, scheduler, owner, customer, checkpoint_interval_s=100)
    say(owner, [open_rows(owner)[0][0]], "settled", after(0), tells_saved=True, epoch=2)
    await one.round(scheduler)
    clock.advance(1000)
    say(owner, [open_rows(owner)[0][0]], "turned_down", after(1000), "less may work", 2, "room", tells_saved=True)
    await one.round(scheduler)
    found = await store.read(api, work, None)
    assert (found.is_waiting, await store.last_checkpoint(api, work)) == (True, None), "nothing is taken for granted"
    assert database.execute(STOP, (work,)).fetchone()[:2] == ("awaited", pytest.approx(1000))
    return one, clock, work, slots


async def placed_again(one, clock, scheduler, owner, database):
    """The row with which it goes on."""
    look_again(database)
    clock.advance(130)
    await one.round(scheduler)
    [row] = open_rows(owner)
    return row


async def test_what_all_devices_have_kept_is_a_checkpoint_and_it_goes_on_where_it_sleeps(
    api, scheduler, owner, database, customer
):
    one, clock, work, slots = await stopped(api, scheduler, owner, customer, database)
    keep(owner, work, slots[:4], after(1060), "a/1")
    await one.round(scheduler)
    assert database.execute(STOP, (work,)).fetchone()[0] == "awaited", "half of them have said nothing"
    keep(owner, work, slots[4:], after(1060), "a/2")
    await one.round(scheduler)
    assert database.execute(STOP, (work,)).fetchone() == ("kept", pytest.approx(1000), 0.0, 0.0, "")
    kept = await store.last_checkpoint(api, work)
    assert (kept.location, kept.progress_s) == ("a/2", pytest.approx(1000))
    other, later = scheduler_at(clock.now(), routing_realtime_spare=0.0)
    row = await placed_again(other, later, scheduler, owner, database)
    assert row[1] == work, "it need not wait any longer"
    assert row[3] == slots
    assert other.room.slept[work][1].tolist() == slots, "as whoever takes over reads it"
    assert database.execute("select checkpoint from desired_state where id = %s", (row[0],)).fetchone() == ("a/2",)


async def test_a_checkpoint_that_can_not_be_loaded_costs_a_retry_and_is_not_offered_again(
    api, scheduler, owner, database, customer
):
    one, clock, work, slots = await stopped(api, scheduler, owner, customer, database)
    database.execute(
        """insert into workload_checkpoints (workload_id, lease_epoch, location, progress_s, detail, taken_at)
           select %s, 1, l, s, jsonb_build_object('checkpoint', n), now()
           from (values ('a/8', 300, 'a/8'), ('noted', 350, '')) as told (l, s, n)""",
        (work,),
    )
    keep(owner, work, slots, after(1060), "a/9")
    await one.round(scheduler)
    retries = (await store.read(api, work, None)).retries_left
    await placed_again(one, clock, scheduler, owner, database)
    for tries, (name, began_s) in enumerate([("a/9", 1000.0), ("a/8", 300.0), ("", 0.0)]):
        [[row, *_]] = open_rows(owner)
        assert database.execute("select checkpoint from desired_state where id = %s", (row,)).fetchone() == (name,)
        assert one.book.held[work].began_s == pytest.approx(began_s)
        say(owner, [row], "refused", clock.now(), f"{name} can't be loaded", 2, "work")
        await one.round(scheduler)
        found = await store.read(api, work, None)
        assert found.retries_left == retries - min(tries + 1, 2)
    assert found.status is WorkloadState.FAILED, "from its beginning it can't run either"
    assert one.follower.avoided == [], "nothing is wrong with the devices"


async def test_what_one_device_could_not_keep_is_lost_and_the_books_say_so(api, scheduler, owner, database, customer):
    one, clock, work, slots = await stopped(api, scheduler, owner, customer, database)
    keep(owner, work, slots[:7], after(1060), "a/1")
    keep(owner, work, slots[7:], after(1060), problem="checkpoint: no space left")
    await one.round(scheduler)
    lost = ("not_kept", pytest.approx(1000), 0.0, pytest.approx(8000), "checkpoint: no space left")
    assert database.execute(STOP, (work,)).fetchone() == lost
    assert await store.last_checkpoint(api, work) is None
    row = await placed_again(one, clock, scheduler, owner, database)
    assert one.book.held[work].began_s == 0.0, "from the beginning"
    assert database.execute("select checkpoint from desired_state where id = %s", (row[0],)).fetchone() == ("",)


async def test_what_is_not_told_in_time_is_lost_also_where_another_scheduler_has_to_say_it(
    api, scheduler, owner, database, customer
):
    one, _, work, slots = await stopped(api, scheduler, owner, customer, database)
    await one.round(scheduler)
    assert open_rows(owner) == [], "it waits for the word"
    database.execute("update work_stops set due_at = now()")
    other, _ = scheduler_at(after(1400))
    await other.round(scheduler)
    outcome, _, _, lost_gpu_s, problem = database.execute(STOP, (work,)).fetchone()
    assert (outcome, lost_gpu_s) == ("untold", pytest.approx(8000))
    assert problem == "8 of its 8 devices did not say in time that they have kept it"
    keep(owner, work, slots, after(1060), "late")
    await other.round(scheduler)
    assert await store.last_checkpoint(api, work) is None, "a late word changes nothing"


@pytest.mark.parametrize(
    ("problem", "told_s", "expected"),
    [
        ("", 990, ("kept", pytest.approx(990), 0.0, 0.0, "")),
        ("no space", 990, ("not_kept", pytest.approx(990), 0.0, pytest.approx(7920), "no space")),
        ("", -10, ("untold", pytest.approx(3000), 0.0, pytest.approx(24_000), "")),
    ],
)
async def test_what_a_gateway_kept_before_its_owner_could_say_so_counts_as_of_then(
    api, scheduler, owner, database, customer, problem, told_s, expected
):
    one, clock, work, slots = await started(api, scheduler, owner, customer, checkpoint_interval_s=100)
    say(owner, [open_rows(owner)[0][0]], "settled", after(0), tells_saved=True, epoch=2)
    await one.round(scheduler)
    clock.advance(3000)
    keep(owner, work, slots, after(told_s), "a/1", problem)
    say(owner, [open_rows(owner)[0][0]], "turned_down", after(3000), "held", 2, "held", tells_saved=True)
    await one.round(scheduler)
    assert database.execute(STOP, (work,)).fetchone()[0] == "awaited", "a later word may come"
    database.execute("update work_stops set due_at = now()")
    await one.round(scheduler)
    found = database.execute(STOP, (work,)).fetchone()
    assert found[:4] == expected[:4]
    assert expected[4] in found[4]
    kept = await store.last_checkpoint(api, work)
    assert (kept and (kept.location, kept.progress_s)) == (("a/1", expected[1]) if expected[0] == "kept" else None)


async def test_a_word_of_the_stop_goes_before_one_of_an_earlier_pause_of_the_same_run(
    api, scheduler, owner, database, customer
):
    one, _, work, slots = await stopped(api, scheduler, owner, customer, database)
    keep(owner, work, slots, after(500), "early")
    keep(owner, work, slots, after(1060), "a/1")
    await one.round(scheduler)
    assert database.execute(STOP, (work,)).fetchone()[:2] == ("kept", pytest.approx(1000))
    assert (await store.last_checkpoint(api, work)).location == "a/1"


async def test_where_nobody_can_tell_it_is_lost_at_once_and_the_books_say_untold(
    api, scheduler, owner, database, customer
):
    one, clock, work, _ = await started(api, scheduler, owner, customer)
    clock.advance(1000)
    say(owner, [open_rows(owner)[0][0]], "turned_down", after(1000), "less may work", cause="room")
    await one.round(scheduler)
    assert await store.last_checkpoint(api, work) is None
    await one.round(scheduler)
    assert database.execute(STOP, (work,)).fetchone()[:4] == ("untold", 1000.0, 0.0, 8000.0), "nobody is waited for"


async def test_a_silent_gateway_stops_the_clock_until_it_is_heard_of(api, scheduler, owner, database, customer):
    one, clock, work, _ = await started(api, scheduler, owner, customer)
    [row] = [row[0] for row in open_rows(owner)]
    clock.advance(1000)
    say(owner, [row], "holding", after(1000), "its gateway has not been heard of", cause="silent")
    await one.round(scheduler)
    assert (await store.read(api, work, None)).status is WorkloadState.PAUSED
    clock.advance(9000)
    await one.round(scheduler)
    other, later = scheduler_at(after(10_000))
    await other.round(scheduler)
    assert (await store.read(api, work, None)).status is WorkloadState.PAUSED, "it is neither done nor given back"
    say(owner, [row], "settled", after(10_000))
    await other.round(scheduler)
    assert (await store.read(api, work, None)).status is WorkloadState.RUNNING
    assert other.book.held[work].due_at == after(15_000), "six thousand seconds, less the thousand before"
    third, later = scheduler_at(after(11_000))
    await third.round(scheduler)
    assert third.book.held[work].due_at == after(15_000), "as whoever takes over reads it"
    later.advance(4_001)
    await third.round(scheduler)
    assert (await store.read(api, work, None)).status is WorkloadState.COMPLETED
