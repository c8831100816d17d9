"""The allocator's SQL on a real server: fencing by lease, outcomes once, what never left is closed, leases change hands."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg.types.json import Jsonb

from hcp_pipelines.allocator import leases
from hcp_pipelines.allocator.decide import NO_POLICY, LastPolicy
from hcp_pipelines.allocator.intake import Intake
from hcp_pipelines.allocator.journal import (
    Batch,
    CommandRow,
    HistoryRow,
    MemoryRow,
    Observation,
    Outcome,
    expire,
    write_batch,
    write_commands,
)
from hcp_pipelines.allocator.lease_table import PostgresLeases
from hcp_pipelines.allocator.predecessors import (
    read_bookings,
    read_cursor,
    read_last_policy,
    read_memory,
    read_switches,
)
from hcp_pipelines.allocator.store import PostgresStore
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.storage.postgres import dsn
from hcp_pipelines.storage.roles import Role

AT = datetime(2025, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def fleet(settings, database):
    for document in demo_facilities(3, 60):
        apply(database, document, "test")
        database.execute(
            "insert into gateway_endpoints (facility_id, address, gateway) values (%s, 'unix:/x', 'gateway-1')",
            (document.facility_id,),
        )
    return settings


@pytest.fixture
async def connection(fleet):
    async with await psycopg.AsyncConnection.connect(dsn(fleet, Role.ALLOCATOR), autocommit=True) as opened:
        yield opened


async def test_commits_that_want_to_leave_at_once_share_a_connection(fleet, database):
    store = PostgresStore(fleet, SystemClock())
    try:
        assert await asyncio.gather(*(store.write_commands("a", []) for _ in range(5))) == [set()] * 5
        asked = "select count(*) from pg_stat_activity where usename = 'hcp_allocator' and datname = current_database()"
        assert database.execute(asked).fetchone() == (1,)
    finally:
        await store.close()


def owned_by(database, owner, epoch=1, facility="hou-1", for_s=60):
    database.execute(
        """insert into facility_leases (facility_id, owner, epoch, expires_at) values (%s, %s, %s, now() + %s)
           on conflict (facility_id) do update set owner = excluded.owner, epoch = excluded.epoch,
           expires_at = excluded.expires_at""",
        (facility, owner, epoch, timedelta(seconds=for_s)),
    )


def command(command_id=None, epoch=1, assignment=0, at=AT, mw=-0.5):
    return CommandRow(
        "hou-1", epoch, command_id or uuid.uuid4(), assignment, 1, "s21", "feeder-1", 0, 3, 0, 4, b"\x01\x02", mw, None,
        None, 40.0, 1.5, "economics", "", "policy", {"read": 1.0}, at,
    )  # fmt: skip


def events(database, command_id):
    rows = database.execute("select event from switch_journal where command_id = %s order by id", (command_id,))
    return [event for (event,) in rows]


@pytest.mark.parametrize(
    ("owner", "epoch", "for_s"),
    [
        pytest.param("allocator-b", 1, 60, id="another owner"),
        pytest.param("allocator-a", 2, 60, id="a later epoch"),
        pytest.param("allocator-a", 1, -1, id="an expired lease"),
    ],
)
async def test_a_command_without_a_standing_lease_is_not_written(database, connection, owner, epoch, for_s):
    owned_by(database, owner, epoch, for_s=for_s)
    row = command()
    assert await write_commands(connection, "allocator-a", [row]) == set()
    assert events(database, row.command_id) == []


async def test_outcomes_take_the_commands_facts_and_repeating_them_changes_nothing(database, connection):
    owned_by(database, "allocator-a")
    row, another = command(), command()
    assert await write_commands(connection, "allocator-a", [row, another]) == {"hou-1"}
    batch = Batch(
        outcomes=[
            Outcome(
                "hou-1",
                "acked",
                str(row.command_id),
                0,
                AT,
                devices=3,
                refused=1,
                detail="locked",
                steps_ms={"ack": 9.5},
            ),
            Outcome("hou-1", "settled", str(row.command_id), 0, AT, devices=2, failed=1),
            Outcome("hou-1", "acked", str(uuid.uuid4()), 0, AT, devices=1),
            Outcome("nor-1", "settled", str(another.command_id), 0, AT, devices=4),
        ],
    )
    batch.note_seq("hou-1", 12)
    batch.note_seq("hou-1", 8)
    await write_batch(connection, batch)
    await write_batch(connection, batch)
    assert events(database, row.command_id) == ["commanded", "acked", "settled"]
    assert events(database, another.command_id) == ["commanded"], "a gateway speaks of its own facility alone"
    acked = database.execute(
        """select group_id, to_state, devices, refused, reason, reason_detail, mw_delta, steps_ms ->> 'ack'
           from switch_journal where event = 'acked'"""
    ).fetchall()
    assert acked == [("s21", 0, 3, 1, "economics", "locked", 0.0, "9.5")]
    assert await read_cursor(connection, "hou-1") == 12
    assert await read_cursor(connection, "nor-1") == 0


async def test_what_never_left_is_closed_once_and_what_was_acked_is_left_alone(database, connection):
    owned_by(database, "allocator-a")
    lost, done = command(), command()
    await write_commands(connection, "allocator-a", [lost, done])
    await write_batch(connection, Batch(outcomes=[Outcome("hou-1", "acked", str(done.command_id), 0, AT, devices=4)]))
    assert await expire(connection, "hou-1", AT, timedelta(seconds=30)) == 0, "it may be in flight"
    assert await expire(connection, "hou-1", AT) == 1
    assert await expire(connection, "hou-1", AT) == 0
    assert events(database, lost.command_id) == ["commanded", "expired"]
    assert events(database, done.command_id) == ["commanded", "acked"]


async def test_a_successor_reads_what_used_up_the_ramps(database, connection):
    owned_by(database, "allocator-a")
    early, late = command(at=AT - timedelta(minutes=9), mw=-1.0), command(at=AT, mw=0.25)
    await write_commands(connection, "allocator-a", [late, early])
    since = AT - timedelta(minutes=5)
    assert await read_bookings(connection, "hou-1", since, timedelta()) == [(AT.timestamp(), "feeder-1", 0.25)]
    assert len(await read_bookings(connection, "hou-1", AT - timedelta(minutes=10), timedelta())) == 2


async def test_what_was_journalled_counts_from_when_it_left_at_the_latest(database, connection):
    owned_by(database, "allocator-a")
    acked, late, unknown = command(mw=-1.0), command(mw=-2.0), command(mw=-3.0)
    await write_commands(connection, "allocator-a", [acked, late, unknown])
    soon, later, within = AT + timedelta(seconds=40), AT + timedelta(hours=1), timedelta(seconds=100)
    outcomes = [
        Outcome("hou-1", "acked", str(c.command_id), 0, at, devices=4) for c, at in ((acked, soon), (late, later))
    ]
    await write_batch(connection, Batch(outcomes=outcomes))
    left = {-1.0: soon, -2.0: AT + within, -3.0: AT + within}
    expected = sorted((at.timestamp(), mw) for mw, at in left.items())
    bookings = await read_bookings(connection, "hou-1", AT + timedelta(seconds=30), within)
    assert sorted((at_s, mw) for at_s, _, mw in bookings) == expected
    assert [at_s for at_s, _, _ in bookings] == sorted(at_s for at_s, _, _ in bookings)
    switches = await read_switches(connection, "hou-1", acked.generation, AT + timedelta(minutes=61), within)
    assert sorted((s.at_s, s.mw_delta) for s in switches) == [e for e in expected if e[1] != -1.0]


async def test_a_successor_reads_what_was_switched_within_the_hour_and_may_have_left(database, connection):
    owned_by(database, "allocator-a")
    long_ago, late, early, never_left = (
        command(at=AT - timedelta(minutes=61), mw=-1.0), command(at=AT, mw=0.25),
        command(at=AT - timedelta(minutes=9), mw=-1.0), command(at=AT),
    )  # fmt: skip
    await write_commands(connection, "allocator-a", [late, early, long_ago, never_left])
    acked = [Outcome("hou-1", "acked", str(c.command_id), 0, AT, devices=4) for c in (late, early, long_ago)]
    await write_batch(connection, Batch(outcomes=acked))
    await expire(connection, "hou-1", AT)
    found = await read_switches(connection, "hou-1", late.generation, AT, timedelta())
    assert [(s.at_s, s.mw_delta, s.slots) for s in found] == [
        (early.simulated_at.timestamp(), -1.0, early.slots), (AT.timestamp(), 0.25, late.slots),
    ]  # fmt: skip
    assert await read_switches(connection, "hou-1", late.generation + 1, AT, timedelta()) == [], "other slots"


async def test_observations_and_history_are_kept(database, connection):
    seen = Observation(
        "hou-1", "allocator-a", 1, uuid.uuid4(), 0, 1, "s21", "feeder-1", None, 0, 7, b"", "local_safety", "thermal",
        "gateway", AT,
    )  # fmt: skip
    history = HistoryRow(AT, "hou-1", "hou-1/s21", "ASIC", "curtailed", "bitcoin_mining", 7, 1.5, None, None)
    await write_batch(connection, Batch(observations=[seen], history=[history]))
    assert database.execute("select event, actor, devices from switch_journal").fetchall() == [
        ("observed", "gateway", 7)
    ]
    assert database.execute("select recommended_workload, devices from allocation_history").fetchall() == [
        ("curtailed", 7)
    ]


async def test_two_allocators_share_the_facilities_and_one_takes_over_when_the_other_falls_silent(fleet, database):
    held, keepers = {}, {}

    async def lost(facility_id):
        held.pop(facility_id, None)

    def keeper(name):
        made = leases.LeaseKeeper(
            PostgresLeases(fleet), name, SystemClock(), lambda lease: held.update({lease.facility_id: name}), lost
        )
        keepers[name] = made
        return made

    a, b = keeper("a"), keeper("b")
    tasks = [asyncio.create_task(job()) for k in (a, b) for job in (k.run, k.watch)]
    try:
        await until(lambda: len(held) == 3 and set(held.values()) == {"a", "b"})
        epochs = dict(database.execute("select facility_id, epoch from facility_leases").fetchall())
        for task in tasks[:2]:  # a dies without a word
            task.cancel()
        await until(lambda: set(held.values()) == {"b"} and len(b.held) == 3, within_s=5.0)
        after = dict(database.execute("select facility_id, epoch from facility_leases").fetchall())
        assert all(after[f] > epochs[f] for f in a.held), "each takeover bumps the epoch"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await a.give_up()
        await b.give_up()


async def until(condition, within_s=120.0):
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.05)


async def test_the_intake_reads_each_tick_once_and_looks_back_when_asked(fleet, database):
    intake = Intake(fleet, SystemClock())

    def insert(value, minute):
        database.execute(
            """insert into price_data (stream, series, "timestamp", price_type, value, unit, source, quality, received_at)
               values ('power.rt_lmp', 'HB_NORTH', %s, 'electricity', %s, 'USD/MWh', 'ERCOT', 'good', now())""",
            (AT + timedelta(minutes=minute), value),
        )

    try:
        insert(10.0, 0)
        assert [r.value for r in await intake.recent()] == [10.0]
        assert await intake.new_ticks(looks_back=False) == []
        insert(20.0, 5)
        fresh = await intake.new_ticks(looks_back=False)
        assert [r.value for r in fresh] == [20.0]
        assert fresh[0].origin_ns > 0
        assert [r.value for r in await intake.new_ticks(looks_back=True)] == [10.0, 20.0]
        assert {i.facility_id for i in await intake.inventories()} == {"hou-1", "nor-1", "hub-1"}
    finally:
        await intake.close()


async def test_memory_is_kept_by_the_highest_epoch_and_read_by_the_next(connection):
    def row(epoch, **memory):
        return Batch(memories={"hou-1": MemoryRow("hou-1", epoch, AT, memory)})

    assert await read_memory(connection, "hou-1") == {}
    for epoch, guard in ((2, "a"), (1, "an old owner's, late"), (3, "b")):
        await write_batch(connection, row(epoch, guard=guard))
    assert await read_memory(connection, "hou-1") == {"guard": "b"}


async def test_what_a_gateway_did_by_itself_is_on_the_ramp_windows_of_the_next_owner(connection):
    def observed(mw):
        return Observation(
            "hou-1", "alloc-a", 1, uuid.uuid4(), 0, 1, "s21", "feeder-1", None, 0, 5, b"", "fallback_plan", "", "gateway",
            AT, mw,
        )  # fmt: skip

    await write_batch(connection, Batch(observations=[observed(-0.4), observed(0.0)]))
    bookings = await read_bookings(connection, "hou-1", AT - timedelta(seconds=1), timedelta(seconds=100))
    assert bookings == [(AT.timestamp(), "feeder-1", -0.4)]


async def test_the_policy_of_the_newest_tick_comes_first_and_not_the_last_to_come_in(fleet, database, connection):
    """A successor has none in force to hold an old one against."""
    intake = Intake(fleet, SystemClock())
    for minute in (0, 5):
        database.execute(
            """insert into price_data (stream, series, "timestamp", price_type, value, unit, source, quality, received_at)
               values ('power.rt_lmp', 'HB_NORTH', %s, 'electricity', 1, 'USD/MWh', 'ERCOT', 'good', now())""",
            (AT + timedelta(minutes=minute),),
        )
    old, new = (row[0] for row in database.execute("select id from price_data order by id").fetchall())
    for basis in (new, old):
        database.execute(
            """insert into policies (facility_id, status, basis_tick_id, solved_at, refresh_due_at, expires_at,
                                     inventory_generation, obligations_version, schema_version, digest, body)
               values ('hou-1', 'live', %s, %s, %s, %s, 1, 0, 1, '', %s)""",
            (basis, AT, AT, AT + timedelta(hours=6), Jsonb({"basis": basis})),
        )
    try:
        newest, other = await intake.policies(["hou-1"])
        assert (newest.body["basis"], other.body["basis"]) == (new, old)
        assert await read_last_policy(connection, "hou-1") == NO_POLICY
        assert not await intake.record_admission(newest, "alloc-a", ""), "nobody's lease stands"
        owned_by(database, "alloc-a")
        assert await intake.record_admission(newest, "alloc-a", "")
        assert await intake.record_admission(other, "alloc-a", "basis: it is old")
        assert not await intake.record_admission(other, "alloc-b", ""), "stopped past its lease, and woken"
        assert await read_last_policy(connection, "hou-1") == LastPolicy(new, (AT + timedelta(hours=6)).timestamp())
    finally:
        await intake.close()
