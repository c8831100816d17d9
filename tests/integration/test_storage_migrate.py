"""Migrations: forward only, all or nothing, one at a time, and never rewritten."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.storage.embedded import EmbeddedPostgres
from hcp_pipelines.storage.migrate import FOLDER, migrate

NAME = "migrations_tried"


@pytest.fixture
def empty(postgres):
    """Connection string of an empty database."""
    admin = EmbeddedPostgres(postgres).admin_dsn()
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"drop database if exists {NAME} with (force)")
        connection.execute(f"create database {NAME} template template0")
        yield psycopg.conninfo.make_conninfo(admin, dbname=NAME)
        connection.execute(f"drop database {NAME} with (force)")


@pytest.fixture
def connection(empty):
    with psycopg.connect(empty, autocommit=True) as connection:
        yield connection


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "0001_create_things.sql").write_text("create table things (id integer); insert into things values (1);")
    (tmp_path / "0002_widen_things.sql").write_text("alter table things add column name text;")
    (tmp_path / "notes.sql").write_text("not a migration")
    return tmp_path


def count(connection, table):
    return connection.execute(f"select count(*) from {table}").fetchone()[0]


def test_a_second_run_does_nothing(connection, folder):
    assert migrate(connection, folder) == ["0001_create_things.sql", "0002_widen_things.sql"]
    before = connection.execute("select * from schema_migrations order by name").fetchall()
    assert migrate(connection, folder) == []
    assert connection.execute("select * from schema_migrations order by name").fetchall() == before
    assert count(connection, "things") == 1


def test_only_what_is_missing_is_applied(connection, folder):
    migrate(connection, folder)
    (folder / "0003_fill_things.sql").write_text("insert into things values (2, '100 %');")
    assert migrate(connection, folder) == ["0003_fill_things.sql"]
    assert count(connection, "things") == 2


def test_two_at_once_apply_each_once(empty):
    def run(_):
        with psycopg.connect(empty, autocommit=True) as own:
            return migrate(own)

    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(run, range(4)))
    names = [path.name for path in sorted(FOLDER.glob("*.sql"))]
    assert sorted(applied) == [[], [], [], names]


def test_a_changed_migration_is_refused_and_named(connection, folder):
    migrate(connection, folder)
    (folder / "0001_create_things.sql").write_text("create table things (id bigint);")
    (folder / "0003_never.sql").write_text("create table never ();")
    with pytest.raises(StorageError, match=r"0001_create_things\.sql was changed after.*new migration"):
        migrate(connection, folder)
    assert connection.execute("select to_regclass('never')").fetchone() == (None,)


def test_a_failing_migration_leaves_nothing_of_itself_and_all_before_it(connection, folder):
    (folder / "0003_break_things.sql").write_text("create table halfway (); insert into nowhere values (1);")
    with pytest.raises(StorageError, match=r'0003_break_things\.sql.*"nowhere" does not exist') as caught:
        migrate(connection, folder)
    assert "Nothing of it was applied" in str(caught.value)
    assert connection.execute("select to_regclass('halfway')").fetchone() == (None,)
    assert count(connection, "schema_migrations") == 2
    (folder / "0003_break_things.sql").write_text("create table halfway ();")
    assert migrate(connection, folder) == ["0003_break_things.sql"], "the lock is free again"


def test_a_database_of_a_newer_version_is_refused(connection, folder):
    migrate(connection, folder)
    (folder / "0002_widen_things.sql").unlink()
    with pytest.raises(StorageError, match=r"0002_widen_things\.sql, which this version of HCP does not know"):
        migrate(connection, folder)


def test_a_number_that_is_past_is_refused(connection, folder):
    migrate(connection, folder)
    (folder / "0001_zz_late.sql").write_text("create table late ();")
    with pytest.raises(StorageError, match=r"0001_zz_late\.sql comes before 0002_widen_things\.sql.*next number"):
        migrate(connection, folder)
