"""One embedded PostgreSQL for a test session; a fresh copy of the migrated database for each test that asks."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from psycopg import sql

from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.bootstrap import USERS, bootstrap
from hcp_pipelines.storage.embedded import EmbeddedPostgres
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Database, Role

TEMPLATE = "hcp_template"
# Half of the time of a fresh database. A killed server loses nothing by it; a machine would, and no test ends one.
DURABILITY = ("fsync", "full_page_writes")

MEMORY = ":memory:"
WRITTEN = "select pg_current_wal_insert_lsn()"  # moves with all that is written to any database, or might have been
_connect = duckdb.connect
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


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A running, migrated server; the settings of its state directory. Use `settings` unless a session's state will do."""
    own = Settings(state_dir=tmp_path_factory.mktemp("pg") / "state")
    server = EmbeddedPostgres(own)
    server.prepare()
    server.spawn()
    try:
        server.wait_ready()
        bootstrap(own)
        with psycopg.connect(server.admin_dsn(), autocommit=True) as connection:
            for name in DURABILITY:
                connection.execute(sql.SQL("alter system set {} = off").format(sql.Identifier(name)))
            connection.execute("select pg_reload_conf()")
            connection.execute(sql.SQL("create database {} template hcp").format(sql.Identifier(TEMPLATE)))
        yield own
    finally:
        server.stop()
        shutil.rmtree(server.data_dir.parent, ignore_errors=True)


@pytest.fixture
def settings(postgres: Settings) -> Settings:
    """Settings whose database `hcp` is freshly migrated and empty; the state directory is the session's."""
    fresh_database(postgres)
    return postgres


def fresh_database(postgres: Settings) -> None:
    """Put a freshly migrated, empty `hcp` in place of the one that is there, if anybody has written to the server since."""
    server = EmbeddedPostgres(postgres)
    with psycopg.connect(server.admin_dsn(), autocommit=True) as connection:
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = 'hcp'")
        if connection.execute(WRITTEN).fetchone() == _fresh_at.get(postgres.state_dir):
            return
        connection.execute("drop database if exists hcp with (force)")
        connection.execute(
            sql.SQL("create database hcp template {} strategy file_copy").format(sql.Identifier(TEMPLATE))
        )
        connection.execute("revoke all on database hcp from public")
        roles = sql.SQL(", ").join(sql.Identifier(role.value) for role in USERS[Database.HCP])
        connection.execute(sql.SQL("grant connect on database hcp to {}").format(roles))
        _fresh_at[postgres.state_dir] = connection.execute(WRITTEN).fetchone()


@pytest.fixture
def database(settings: Settings) -> Iterator["psycopg.Connection[tuple]"]:
    """A connection of the owner to the fresh database."""
    with connect(settings, Role.ADMIN) as connection:
        yield connection
