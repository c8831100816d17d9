"""`desired_state` and `desired_outcomes` on a real server: who may write what, who is woken, what is in force."""

from datetime import UTC, datetime

import numpy as np
import psycopg
import pytest

from hcp_pipelines.allocator.desired_table import DesiredOutcome, read_desired, write_desired
from hcp_pipelines.storage.postgres import connect, connect_async
from hcp_pipelines.storage.roles import Role
from tests.support.queued import add_customer, fleet, submit

__all__ = ["fleet"]

AT = datetime(2025, 1, 1, 12, tzinfo=UTC)
INSERT = """
    insert into desired_state (facility_id, group_id, state, slots, generation, priority, reason, actor, valid_from, valid_until,
        workload_id, lease_epoch, order_index)
    values (%(facility)s, %(group)s, %(state)s, %(slots)s, 1, %(priority)s, 'workload x', 'scheduler',
        clock_timestamp() + %(from_s)s * interval '1 s', clock_timestamp() + %(lasts_s)s * interval '1 s', %(workload)s,
        %(epoch)s, %(order)s) returning id"""


def packed(*slots):
    return np.array(slots, dtype="<u4").tobytes()


@pytest.fixture
async def workloads(fleet, settings):
    """Ids of two."""
    customer = add_customer(fleet, "one")
    async with await connect_async(settings, Role.API) as api:
        return [(await submit(api, customer)).workload_id for _ in range(2)]


@pytest.fixture
def scheduler(settings):
    with connect(settings, Role.SCHEDULER) as connection:
        connection.autocommit = True
        yield connection


def desire(connection, workload, **changes):
    row = {
        "facility": "hou-1", "group": "h100", "state": 5, "slots": packed(0, 1), "priority": 50, "from_s": 0.0, "lasts_s": 90.0,
        "workload": workload, "epoch": 1, "order": 0,
    }  # fmt: skip
    return connection.execute(INSERT, row | changes).fetchone()[0]


async def in_force(settings, *facilities):
    async with await connect_async(settings, Role.ALLOCATOR) as connection:
        return await read_desired(connection, facilities or ["hou-1"], 1000.0)


async def test_what_is_in_force_comes_in_line_and_says_whose_epoch_is_over(settings, scheduler, workloads):
    first, second = workloads
    old = desire(scheduler, first, priority=90)
    late = desire(scheduler, second, priority=10, slots=packed(7))
    ahead = desire(scheduler, second, priority=10, order=-1, slots=packed(5, 70_000), state=6)
    desire(scheduler, second, lasts_s=-1.0, from_s=-2.0)
    desire(scheduler, second, from_s=60.0)
    gone = desire(scheduler, second, slots=packed(9))
    new = desire(scheduler, first, epoch=2, slots=packed(3))
    scheduler.execute("update desired_state set superseded_by = %s where id = %s", (new, gone))
    found = await in_force(settings, "hou-1", "nor-1")
    rows = found["hou-1"]
    assert rows.ids == [old, new, ahead, late]
    assert rows.is_outdated == [True, False, False, False]
    assert (rows.states, rows.sizes) == ([5, 5, 6, 5], [2, 1, 2, 1])
    assert rows.slots == packed(0, 1, 3, 5, 70_000, 7)
    assert all(1_080.0 < end <= 1_090.0 for end in rows.ends_at_s)
    assert found["nor-1"].ids == ()


def test_the_scheduler_renews_and_takes_back_and_changes_nothing_else(scheduler, workloads, settings):
    row = desire(scheduler, workloads[0])
    scheduler.execute("update desired_state set valid_until = valid_until + interval '60 s' where id = %s", (row,))
    for denied in ("update desired_state set priority = 99", "update desired_state set slots = '\\x00000000'",
                   "delete from desired_state", "truncate desired_state",
                   "insert into desired_outcomes (desired_state_id, facility_id, owner_epoch, state, reason, simulated_at)"
                   " values (1, 'hou-1', 1, 'settled', '', now())"):  # fmt: skip
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            scheduler.execute(denied)
    for role in (Role.API, Role.ALLOCATOR, Role.CONTROL, Role.COLLECTOR, Role.OPERATOR):
        with connect(settings, role) as other, pytest.raises(psycopg.errors.InsufficientPrivilege):
            desire(other, workloads[0])


NONSENSE = (
    {"slots": b""}, {"slots": b"\x00\x00\x00"}, {"slots": packed(*range(1_000_001))}, {"priority": 101}, {"priority": -1},
    {"state": 7}, {"state": -1}, {"lasts_s": float("inf")},
)  # fmt: skip


def test_what_makes_no_sense_is_not_stored(scheduler, workloads):
    for changes in NONSENSE:
        with pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.DatetimeFieldOverflow)):
            desire(scheduler, workloads[0], **changes)
    assert scheduler.execute("select count(*) from desired_state").fetchone() == (0,)


def heard(connection, timeout_s):
    return [(n.channel, n.payload) for n in connection.notifies(timeout=timeout_s, stop_after=1)]


def test_an_owner_is_woken_by_every_change_but_a_renewal(scheduler, workloads, settings):
    with connect(settings, Role.ALLOCATOR) as allocator:
        allocator.autocommit = True
        allocator.execute("listen hcp_desired")
        with scheduler.transaction():
            rows = [desire(scheduler, w) for w in workloads]
        assert heard(allocator, 10) == [("hcp_desired", "hou-1")], "once a statement's facility and transaction"
        scheduler.execute("update desired_state set valid_until = valid_until + interval '60 s'")
        scheduler.execute("update desired_state set superseded_by = %s where id = %s", rows[::-1])
        assert heard(allocator, 10) == [("hcp_desired", "hou-1")]
        scheduler.execute("update desired_state set valid_until = clock_timestamp() where id = %s", (rows[1],))
        assert heard(allocator, 10) == [("hcp_desired", "hou-1")]
        assert heard(allocator, 0.05) == [], "the renewal woke nobody"


async def test_the_scheduler_hears_the_newest_word_on_its_rows(scheduler, workloads, settings):
    row = desire(scheduler, workloads[0])
    scheduler.execute("listen hcp_desired_outcome")
    news = [DesiredOutcome(row, "hou-1", 3, state, "why", AT) for state in ("holding", "settled")]
    async with await connect_async(settings, Role.ALLOCATOR) as allocator:
        await write_desired(allocator, news)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await allocator.execute("update desired_outcomes set state = 'refused'")
    stored = scheduler.execute("select id, state, reason, owner_epoch, simulated_at from desired_outcomes order by id")
    first, second = stored.fetchall()
    assert (first[1:], second[1:]) == (("holding", "why", 3, AT), ("settled", "why", 3, AT))
    assert heard(scheduler, 10) == [("hcp_desired_outcome", str(second[0]))]
