"""One embedded PostgreSQL for a test session, in each file as set-up left it; a fresh migrated database for each test that asks.

No file finds rows, lake tables or files of another one: which files one process runs, and in which order, changes no test.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from psycopg import sql

from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.account import server_account
from hcp_pipelines.storage.bootstrap import OWNER, USERS, bootstrap
from hcp_pipelines.storage.embedded import EmbeddedPostgres
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Database, Role
from tests.support.room import IN_MEMORY, needed_bytes, room

# A killed server loses nothing without the first two; a machine would, and no test ends one. With the third to connect costs a
# client half of its five thousandths of a second: a password is no secret here.
CHEAP = ("fsync = off", "full_page_writes = off", "scram_iterations = 1")

PLACE = "remade"  # a tablespace in memory, where databases are made anew

MEMORY = ":memory:"
WRITTEN = "select pg_current_wal_insert_lsn()"  # moves with all that is written to any database, or might have been
_connect = duckdb.connect
# What was done to the rows of a database since it was made: also to those of its catalogue, so each new table counts.
CHANGES = "select datid, tup_inserted, tup_updated, tup_deleted from pg_stat_database where datname = %s"
# In the state directory: the server, its passwords, what dbt has read of its project.
KEPT = ("postgres", "secrets", "dbt")
_fresh_at: dict[Path, tuple[Any, ...] | None] = {}


def connect_to_memory(
    database: Any = MEMORY, read_only: bool = False, config: dict[str, Any] | None = None
) -> duckdb.DuckDBPyConnection:
    """As `duckdb.connect`, but what is in memory and has a configuration (the lake) takes extensions without their signatures.

    They are checked anew at each attach: 0.2 of its 0.22 s of CPU, a hundred times in a test. The platform's own processes do.
    """
    if database == MEMORY and config is not None:
        config = config | {"allow_unsigned_extensions": True}
    return _connect(database, read_only, config or {})


duckdb.connect = connect_to_memory


@dataclass(frozen=True)
class SetUp:
    """A running server as `bootstrap` left it, and what tells whether it is so still."""

    settings: Settings
    changes: dict[Database, tuple[Any, ...] | None]
    files: frozenset[Path]


@pytest.fixture(scope="session")
def set_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SetUp]:
    """A running, migrated server for all files of this process."""
    own = Settings(state_dir=tmp_path_factory.mktemp("pg") / "state")
    server = EmbeddedPostgres(own)
    server.prepare()
    with (server.data_dir / "postgresql.conf").open("a") as file:
        file.writelines(f"{line}\n" for line in CHEAP)
    with ExitStack() as over:
        over.callback(shutil.rmtree, server.data_dir.parent, ignore_errors=True)
        place = over.enter_context(room([IN_MEMORY, Path(tempfile.gettempdir())], needed_bytes()))
        if account := server_account():
            os.chown(place, account.pw_uid, account.pw_gid)
        over.callback(server.stop)
        server.spawn()
        server.wait_ready()
        _set_password_anew(server.admin_dsn())
        bootstrap(own)
        with psycopg.connect(server.admin_dsn(), autocommit=True) as connection:
            connection.execute(
                sql.SQL("create tablespace {} location {}").format(sql.Identifier(PLACE), sql.Literal(str(place)))
            )
            for database in Database:
                _disconnect(connection, database)
                names = sql.Identifier(_template(database)), sql.Identifier(database)
                connection.execute(sql.SQL("create database {} template {}").format(*names))
            changes = {database: _changes(connection, database) for database in Database}
        yield SetUp(own, changes, frozenset(_own_files(own)))


def _set_password_anew(dsn: str) -> None:
    """The superuser's is of `initdb`, which knows nothing of `CHEAP`."""
    with psycopg.connect(dsn) as connection:
        role, word = sql.Identifier(connection.info.user), sql.Literal(connection.info.password)
        connection.execute(sql.SQL("alter role {} password {}").format(role, word))


@pytest.fixture(scope="module")
def postgres(set_up: SetUp) -> Settings:
    """Settings whose server, lake and directory no file has used before. Take `settings` unless a file's state will do."""
    put_back(set_up)
    return set_up.settings


def put_back(set_up: SetUp) -> None:
    """Databases and files as `bootstrap` left them; what nobody has touched stays as it is."""
    for path in sorted(_own_files(set_up.settings) - set_up.files, reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    with psycopg.connect(EmbeddedPostgres(set_up.settings).admin_dsn(), autocommit=True) as connection:
        for database in Database:
            _disconnect(connection, database)
            if _changes(connection, database) != set_up.changes[database]:
                _make_anew(connection, database)
                set_up.changes[database] = _changes(connection, database)


@pytest.fixture
def settings(postgres: Settings) -> Settings:
    """Settings whose database `hcp` is freshly migrated and empty; lake and state directory are the file's."""
    fresh_database(postgres)
    return postgres


def fresh_database(postgres: Settings) -> None:
    """Put a freshly migrated, empty `hcp` in place of the one that is there, if anybody has written to the server since."""
    server = EmbeddedPostgres(postgres)
    with psycopg.connect(server.admin_dsn(), autocommit=True) as connection:
        _disconnect(connection, Database.HCP)
        if connection.execute(WRITTEN).fetchone() == _fresh_at.get(postgres.state_dir):
            return
        _make_anew(connection, Database.HCP)
        _fresh_at[postgres.state_dir] = connection.execute(WRITTEN).fetchone()


def _template(database: Database) -> str:
    return f"{database}_template"


def _own_files(settings: Settings) -> set[Path]:
    """All in the state directory but what is kept from file to file."""
    kept = {settings.at(name) for name in KEPT}
    return {path for path in settings.at().rglob("*") if kept.isdisjoint((path, *path.parents))}


def _disconnect(connection: psycopg.Connection[Any], database: Database) -> None:
    """End all sessions, and wait until they have: then they have counted what they did."""
    connection.execute("select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = %s", [database])


def _changes(connection: psycopg.Connection[Any], database: Database) -> tuple[Any, ...] | None:
    return connection.execute(CHANGES, [database]).fetchone()


def _make_anew(connection: psycopg.Connection[Any], database: Database) -> None:
    """In place of what is there, as `bootstrap` left it: a copy of a database has neither its owner nor its rights."""
    name = sql.Identifier(database)
    connection.execute(sql.SQL("drop database if exists {} with (force)").format(name))
    connection.execute(
        sql.SQL("create database {} owner {} template {} tablespace {} strategy file_copy").format(
            name, sql.Identifier(OWNER[database]), sql.Identifier(_template(database)), sql.Identifier(PLACE)
        )
    )
    connection.execute(sql.SQL("revoke all on database {} from public").format(name))
    roles = sql.SQL(", ").join(sql.Identifier(role) for role in USERS[database])
    connection.execute(sql.SQL("grant connect on database {} to {}").format(name, roles))


@pytest.fixture
def database(settings: Settings) -> Iterator["psycopg.Connection[tuple]"]:
    """A connection of the owner to the fresh database."""
    with connect(settings, Role.ADMIN) as connection:
        yield connection
