"""The collector's rounds on a real Postgres and a real lake: each row once, whatever the order of commits and deaths."""

import contextlib
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psycopg
import pytest

from hcp_pipelines.collector import source as source_module
from hcp_pipelines.collector import upkeep
from hcp_pipelines.collector.copier import HELD_BACK_S, POLL_S, Copier
from hcp_pipelines.collector.tables import APPENDED, REPLACED
from hcp_pipelines.domain.clock import ManualClock
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.embedded import EmbeddedPostgres
from hcp_pipelines.storage.postgres import connect, dsn
from hcp_pipelines.storage.roles import Database, Role

AT = datetime(2025, 1, 1, 12, tzinfo=UTC)
LEFT_OUT = {
    "policies": {"body"},
    "facilities": {"lockouts_version"},
    "workload_events": {"transaction_id"},
    "desired_state": {"valid_until", "superseded_by"},
    "billing_terms": {"terms"},
    "work_stops": {"due_at"},
}
JOURNAL = """
insert into switch_journal (event, facility_id, owner, epoch, command_id, assignment, generation, group_id, to_state,
    devices, slots, reason, steps_ms, simulated_at)
select 'commanded', 'hou-1', 'allocator-a', 1, %s, n, 1, 's21', 0, 10, '\\x00ff'::bytea, 'economics', '{"plan": 3}', %s
from generate_series(1, %s::integer) n
"""
PRICES = """
insert into price_data (stream, series, "timestamp", price_type, value, unit, source, quality, metadata, received_at)
select 'power_rt_lmp', 'HB_WEST', %s + n * interval '5 minutes', 'electricity', n, 'usd_per_mwh', 'ercot', 'good',
    '{"a": "é"}', now() from generate_series(1, %s::integer) n
"""


def clear(settings):
    with lake.attach(settings) as connection:
        connection.execute("begin")
        for table in (*APPENDED, *REPLACED):
            connection.execute(f"drop table if exists lake.{table.target}")
        connection.execute(f"delete from lake.{lake.BATCHES} where \"table\" like 'raw.%'")
        connection.execute("commit")


@pytest.fixture(scope="module")
def reader(postgres):
    """An analyst's connection."""
    with lake.attach(postgres, Role.LAKE_READER, read_only=True) as connection:
        yield connection


@pytest.fixture
def hcp(settings, database):
    """The owner's connection to a fresh `hcp` with one facility; the lake's raw tables are not there yet."""
    clear(settings)
    add_facility(database, "hou-1")
    return database


@pytest.fixture
def clock():
    return ManualClock(AT)


@pytest.fixture
def copier(settings, hcp, clock):
    made = Copier(settings, clock)
    yield made
    made.close()


def add_facility(connection, name):
    connection.execute(
        """insert into facilities (id, name, location, capacity_mw, pue, settlement_point, document_version,
           document_digest, document) values (%s, 'Houston', '{"lat": 29.7}', 75, 1.1, 'HB_HOUSTON', 1, 'd', '{}')""",
        (name,),
    )


def journal(connection, rows=1):
    connection.execute(JOURNAL, (uuid.uuid4(), AT, rows))


def caught_up(copier):
    """Two rounds in a row with nothing to do: the first may have ended a mark that was read while somebody was writing."""
    idle = 0
    for _ in range(50):
        idle = idle + 1 if copier.round() == POLL_S else 0
        if idle == 2:
            return
    raise AssertionError("50 rounds and not done")


def query(reader, sql):
    return reader.execute(sql).fetchall()


def journal_ids(reader):
    return [row[0] for row in query(reader, "select id from lake.raw.switch_journal order by id")]


def test_the_columns_are_those_of_postgres(hcp):
    for table in (*APPENDED, *REPLACED):
        rows = hcp.execute(
            "select column_name, udt_name from information_schema.columns where table_name = %s", (table.source,)
        ).fetchall()
        expected = {row for row in rows if row[0] not in LEFT_OUT.get(table.source, ())}
        assert {(c.name, c.type) for c in table.columns} == expected, table.source


def test_the_tables_are_there_before_any_row(hcp, reader, copier):
    assert copier.round() == 0.0
    assert copier.is_open
    for table in (*APPENDED, *REPLACED):
        described = query(reader, f"describe lake.{table.target}")
        assert [row[0] for row in described] == [c.name for c in table.columns]
        assert query(reader, f"select count(*) from lake.{table.target}") == [(0,)]


def test_every_row_is_copied_once_and_the_reader_sees_it(hcp, reader, copier):
    journal(hcp, 3)
    hcp.execute(PRICES, (AT, 2))
    hcp.execute(
        """insert into policies (facility_id, status, basis_tick_id, solved_at, refresh_due_at, expires_at,
           inventory_generation, obligations_version, schema_version, digest, body)
           select 'hou-1', 'live', max(id), now(), now(), now(), 1, 0, 1, 'x', '{}' from price_data"""
    )
    hcp.execute(
        """insert into allocation_history ("timestamp", facility_id, resource_id, resource_type, recommended_workload,
           actual_workload, devices, expected_profit) values (now(), 'hou-1', 'hou-1/s21', 'ASIC', 'a', 'b', 1, 2.5)"""
    )
    caught_up(copier)
    caught_up(copier)
    row = query(reader, "select * exclude (recorded_at) from lake.raw.switch_journal where assignment = 2")[0]
    assert row[0:5] == (2, "commanded", "hou-1", "allocator-a", 1)
    assert b"\x00\xff" in row
    assert '{"plan": 3}' in row
    assert AT in row
    assert journal_ids(reader) == [1, 2, 3]
    assert query(reader, "select value, metadata from lake.raw.price_ticks order by id") == [
        (1.0, '{"a": "é"}'),
        (2.0, '{"a": "é"}'),
    ]
    assert query(reader, "select basis_tick_id, digest from lake.raw.policies") == [(2, "x")]
    assert query(reader, "select expected_profit, actual_profit from lake.raw.allocation_history") == [(2.5, None)]
    assert copier.problems() == {"copy": "", "lag": "", "ahead": ""}


def test_a_restart_copies_nothing_twice(settings, hcp, reader, clock):
    for _ in range(3):
        journal(hcp, 2)
        restarted = Copier(settings, clock)
        caught_up(restarted)
        restarted.close()
    assert journal_ids(reader) == [1, 2, 3, 4, 5, 6]


def test_many_small_batches_catch_up_in_order(hcp, reader, copier, monkeypatch):
    monkeypatch.setattr(source_module, "BATCH_ROWS", 4)
    monkeypatch.setattr(source_module, "CHUNK_ROWS", 3)
    journal(hcp, 20)
    assert copier.round() == 0.0
    assert copier.round() == 0.0
    assert journal_ids(reader) == [1, 2, 3, 4, 5, 6]
    caught_up(copier)
    assert journal_ids(reader) == list(range(1, 21))


def test_a_batch_is_bounded_in_bytes(hcp, reader, copier, monkeypatch):
    monkeypatch.setattr(source_module, "BATCH_BYTES", 1)
    monkeypatch.setattr(source_module, "CHUNK_ROWS", 2)
    journal(hcp, 5)
    copier.round()
    copier.round()
    assert journal_ids(reader) == [1, 2]


def test_a_lower_id_that_becomes_visible_later_is_copied(settings, hcp, reader, copier, clock):
    caught_up(copier)
    with connect(settings, Role.ADMIN) as slow:
        with slow.transaction():
            journal(slow, 2)
            journal(hcp, 2)
            assert copier.round() == HELD_BACK_S
            clock.advance(40)
            assert copier.round() == HELD_BACK_S
            assert journal_ids(reader) == []
            assert "raw.switch_journal by 40 s (open since then: transaction" in copier.problems()["lag"]
        caught_up(copier)
    caught_up(copier)
    assert journal_ids(reader) == [1, 2, 3, 4]
    assert copier.problems()["lag"] == ""


def test_writers_that_began_after_the_mark_hold_nothing_back(settings, hcp, reader, copier):
    caught_up(copier)
    with connect(settings, Role.ADMIN) as first, connect(settings, Role.ADMIN) as second:
        with second.transaction():
            with first.transaction():
                journal(first)
                journal(hcp)
                assert copier.round() == HELD_BACK_S
                journal(second)
            assert copier.round() == POLL_S
            assert journal_ids(reader) == [1, 2]
        caught_up(copier)
    assert journal_ids(reader) == [1, 2, 3]


def test_rolled_back_ids_hold_nothing_back(hcp, reader, copier):
    with hcp.transaction(force_rollback=True):
        journal(hcp, 3)
    journal(hcp)
    caught_up(copier)
    assert journal_ids(reader) == [4]


def write_transactions(settings, count):
    with connect(settings, Role.ADMIN) as connection:
        for number in range(count):
            with connection.transaction(force_rollback=number % 5 == 0):
                journal(connection)
                connection.execute(
                    "select pg_sleep(random() * 0.02)"
                )  # ids are taken in one order, committed in another


def test_four_writers_at_once_lose_and_double_nothing(settings, hcp, reader, copier):
    caught_up(copier)
    with ThreadPoolExecutor(4) as threads:
        writers = [threads.submit(write_transactions, settings, 60) for _ in range(4)]
        while not all(w.done() for w in writers):
            copier.round()
    for writer in writers:
        writer.result()
    caught_up(copier)
    written = [row[0] for row in hcp.execute("select id from switch_journal order by id").fetchall()]
    assert len(written) == 4 * 48
    assert journal_ids(reader) == written


class Killed(BaseException):
    """Stands for kill -9: nobody catches it and nothing after it runs."""


def test_a_kill_right_after_the_lakes_commit_doubles_nothing(settings, hcp, reader, copier, clock, monkeypatch):
    caught_up(copier)
    journal(hcp, 3)
    commit = lake.write

    def write_and_die(*args, **kwargs):
        commit(*args, **kwargs)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(lake, "write", write_and_die)
        with pytest.raises(Killed):
            copier.round()
    copier.close()
    journal(hcp)
    successor = Copier(settings, clock)
    caught_up(successor)
    successor.close()
    assert journal_ids(reader) == [1, 2, 3, 4]


def test_a_kill_before_the_lakes_commit_loses_nothing(hcp, reader, copier, monkeypatch):
    caught_up(copier)
    journal(hcp, 3)

    def refuse(*args, **kwargs):
        raise StorageError("the lake is away")

    with monkeypatch.context() as patched:
        patched.setattr(lake, "write", refuse)
        with pytest.raises(StorageError, match="away"):
            copier.round()
    assert not copier.is_open
    assert copier.problems()["copy"] == "the lake is away"
    caught_up(copier)
    assert journal_ids(reader) == [1, 2, 3]


def test_small_tables_are_replaced_when_they_change(hcp, reader, copier):
    caught_up(copier)
    names = "select id, status from lake.raw.facilities order by id"
    assert query(reader, names) == [("hou-1", "active")]
    add_facility(hcp, "nor-1")
    hcp.execute("update facilities set status = 'maintenance' where id = 'hou-1'")
    caught_up(copier)
    assert query(reader, names) == [("hou-1", "maintenance"), ("nor-1", "active")]
    hcp.execute("delete from facilities where id = 'nor-1'")
    hcp.execute("update facilities set status = 'active' where id = 'hou-1'")
    copier.close()
    caught_up(copier)
    assert query(reader, names) == [("hou-1", "active")], "content that was there before comes back too"


def test_unchanged_small_tables_are_left_alone(hcp, reader, copier):
    caught_up(copier)
    snapshot = "select max(snapshot_id) from ducklake_snapshots('lake')"
    before = query(reader, snapshot)
    caught_up(copier)
    copier.close()
    caught_up(copier)
    assert query(reader, snapshot) == before


def test_device_groups_come_with_their_ladders(hcp, reader, copier):
    hcp.execute("insert into inventory_generations values ('hou-1', 1, 10, 'd', 'first')")
    hcp.execute("insert into feeders values ('hou-1', 'f1', 25)")
    hcp.execute(
        "insert into device_groups values ('hou-1', 1, 's21', 'f1', 'ASIC', 'S21', 'x', 'air', 0, 10, '[1]', '{}')"
    )
    caught_up(copier)
    assert query(reader, "select group_id, devices, ladder from lake.raw.device_groups") == [("s21", 10, "[1]")]


def test_a_lost_connection_is_made_again(settings, hcp, reader, copier):
    caught_up(copier)
    journal(hcp)
    with psycopg.connect(EmbeddedPostgres(settings).admin_dsn(), autocommit=True) as admin:
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename in ('hcp_collector', 'lake_writer')"
        )
    with pytest.raises(StorageError):
        copier.round()
    assert copier.problems()["copy"]
    journal(hcp)
    caught_up(copier)
    assert journal_ids(reader) == [1, 2]


def test_a_second_collector_is_refused(settings, hcp, copier, clock):
    caught_up(copier)
    with pytest.raises(StorageError, match="another collector"):
        Copier(settings, clock).round()


def test_a_lake_of_another_platform_is_reported(settings, hcp, copier):
    caught_up(copier)
    journal(hcp, 3)
    caught_up(copier)
    with lake.attach(settings) as connection:
        connection.execute(
            f"insert into lake.{lake.BATCHES} values ('raw.switch_journal', '99', 1, now())"  # as if more had been copied
        )
    copier.close()
    caught_up(copier)
    assert "id 99, switch_journal ends at 3" in copier.problems()["ahead"]


def test_a_column_of_a_later_migration_is_added(settings, hcp, reader, copier):
    with lake.attach(settings) as connection:
        connection.execute("create table lake.raw.switch_journal (id bigint)")
    journal(hcp)
    caught_up(copier)
    assert query(reader, "select id, command_id is not null from lake.raw.switch_journal") == [(1, True)]


def test_the_collector_can_write_neither_journal_nor_prices(settings, hcp):
    with (
        psycopg.connect(dsn(settings, Role.COLLECTOR)) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("delete from price_data")


def test_a_commit_under_way_is_waited_for(settings, hcp, copier, monkeypatch):
    with connect(settings, Role.LAKE_WRITER, Database.LAKE) as connection:
        with connection.transaction(), monkeypatch.context() as patch:
            patch.setattr("hcp_pipelines.collector.sink.SETTLE_POLLS", 2)
            connection.execute("lock table ducklake_snapshot in row exclusive mode")
            with pytest.raises(StorageError, match="take longer"):
                copier.round()
        assert until_it_has_the_lock(copier) == 0.0


def until_it_has_the_lock(copier):
    """A server process that was let go of keeps its lock until it notices."""
    for _ in range(100):
        with contextlib.suppress(StorageError):
            return copier.round()
        time.sleep(0.1)
    return copier.round()


def parquet_files(settings):
    return list(settings.at("lake", "raw", "switch_journal").rglob("*.parquet"))


def test_small_batches_make_no_files_and_upkeep_keeps_few(settings, hcp, reader, copier, clock, monkeypatch):
    aged = {k: v.replace("30 minutes", "0 seconds").replace("10 minutes", "0 seconds") for k, v in upkeep.STEPS.items()}
    monkeypatch.setattr(upkeep, "STEPS", aged)
    before = set(parquet_files(settings))
    for _ in range(3):
        for _ in range(3):
            journal(hcp, 2)
            caught_up(copier)
        done = upkeep.keep_up(settings)
        assert done.failed == {}
        assert done.after.snapshots <= 3, "the newest, and the first of an hour or two"
    assert len(set(parquet_files(settings)) - before) <= 2, "9 batches, merged"
    count = f"select count(*) from lake.{lake.BATCHES} where \"table\" = 'raw.switch_journal'"
    assert query(reader, count) == [(1,)]
    copier.close()
    journal(hcp)
    caught_up(copier)
    assert journal_ids(reader) == list(range(1, 20))


def test_upkeep_of_a_young_lake_finds_nothing_to_expire_and_fails_nothing(settings, hcp, copier):
    journal(hcp, 2)
    caught_up(copier)
    assert upkeep.keep_up(settings).failed == {}


def test_upkeep_keeps_a_snapshot_of_each_hour_for_a_day(settings, hcp, reader, copier):
    journal(hcp, 2)
    caught_up(copier)
    then = query(reader, "select max(snapshot_id) from ducklake_snapshots('lake')")[0][0]
    journal(hcp, 2)
    caught_up(copier)
    ages = {then - 2: "30 hours", then - 1: "10 hours 40 minutes", then: "10 hours", then + 1: "9 hours 50 minutes"}
    with connect(settings, Role.ADMIN, Database.LAKE) as catalogue:
        for snapshot, age in ages.items():
            catalogue.execute(
                """update ducklake_snapshot set snapshot_time = date_trunc('hour', now()) + '30 min' - %s::interval
                   where snapshot_id = %s""",
                (age, snapshot),
            )
    assert upkeep.keep_up(settings).failed == {}
    left = {row[0] for row in query(reader, "select snapshot_id from ducklake_snapshots('lake')")}
    assert left & set(ages) == {then - 1, then}, "the first of each hour of the last day"
    assert len(query(reader, f"from lake.raw.switch_journal at (version => {then})")) == 2
    assert len(journal_ids(reader)) == 4


def test_a_step_of_upkeep_that_fails_is_told_and_the_others_are_done(settings, hcp, copier, monkeypatch):
    monkeypatch.setattr(
        upkeep, "STEPS", {"merge_files": "call no_such_function()", "flush_inlined": upkeep.STEPS["flush_inlined"]}
    )
    done = upkeep.keep_up(settings)
    assert list(done.failed) == ["merge_files"]
    assert "no_such_function" in done.failed["merge_files"]
    assert list(done.took_s) == ["merge_files", "flush_inlined"]
