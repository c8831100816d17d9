"""HCP_DATABASE_URL: a PostgreSQL of somebody else's, over TCP with passwords; the rights of its login are all we have."""

import duckdb
import polars as pl
import psycopg
import pytest
import sqlalchemy
from psycopg import sql

from hcp_pipelines.domain.errors import ConfigError, StorageError
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.bootstrap import bootstrap
from hcp_pipelines.storage.postgres import connect, sqlalchemy_url
from hcp_pipelines.storage.roles import Database, Role
from tests.support.site_postgres import PASSWORD, QUOTED, SUPERUSER, free_port, site_postgres


@pytest.fixture(scope="module")
def site_server():
    """The port of a server that this test made by itself."""
    with site_postgres() as port:
        yield port


def settings_for(port, state_dir, user=SUPERUSER, password=QUOTED):
    return Settings(state_dir=state_dir, database_url=f"postgresql://{user}:{password}@127.0.0.1:{port}/postgres")


@pytest.fixture
def as_superuser(site_server, tmp_path):
    drop_everything(site_server)
    return settings_for(site_server, tmp_path)


def drop_everything(port):
    login = {"host": "127.0.0.1", "port": port, "user": SUPERUSER, "password": PASSWORD, "dbname": "postgres"}
    with psycopg.connect(**login, autocommit=True) as connection:
        for database in Database:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(database)))
        for role in (*(r.value for r in Role), "deployer"):
            connection.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(role)))
        connection.execute(
            "create role deployer login createdb createrole nosuperuser password 'deployer' connection limit 5"
        )


def works(settings):
    with connect(settings, Role.ADMIN) as connection:
        migrations = connection.execute("select count(*) from schema_migrations").fetchone()[0]
        assert migrations >= 2
        assert connection.execute("select rolsuper from pg_roles where rolname = current_user").fetchone() == (False,)
    lake.write(settings, "raw.readings", pl.DataFrame({"power_kw": [1.5, 2.5]}), "first")
    with lake.attach(settings, Role.LAKE_READER, read_only=True) as connection:
        assert connection.execute("select sum(power_kw) from lake.raw.readings").fetchone() == (4.0,)
    with lake.attach(settings, Role.LAKE_READER) as connection, pytest.raises(duckdb.Error, match="permission denied"):
        connection.execute("insert into lake.raw.readings values (9)")
    with connect(settings, Role.DAGSTER, Database.DAGSTER) as connection:
        connection.execute("create table runs (id integer)")
        connection.execute("drop table runs")
    with pytest.raises(StorageError, match="permission denied for database"):
        connect(settings, Role.DAGSTER, Database.HCP)
    return migrations


def test_a_superuser_sets_everything_up_and_a_second_time_changes_nothing(as_superuser):
    bootstrap(as_superuser)
    first = works(as_superuser)
    bootstrap(as_superuser)
    assert works(as_superuser) == first


def test_createdb_and_createrole_are_enough(site_server, tmp_path):
    drop_everything(site_server)
    settings = settings_for(site_server, tmp_path, "deployer", "deployer")
    bootstrap(settings)
    first = works(settings)
    bootstrap(settings)
    assert works(settings) == first


def test_dagster_finds_its_database_there(as_superuser):
    bootstrap(as_superuser)
    engine = sqlalchemy.create_engine(sqlalchemy_url(as_superuser))
    try:
        with engine.connect() as connection:
            row = connection.execute(sqlalchemy.text("select current_user, current_database()")).one()
    finally:
        engine.dispose()
    assert tuple(row) == ("dagster", "dagster")


def test_a_login_that_is_one_of_our_roles_is_refused_before_it_loses_its_rights(as_superuser, site_server, tmp_path):
    bootstrap(as_superuser)
    with psycopg.connect(as_superuser.database_url.get_secret_value(), autocommit=True) as connection:
        connection.execute("alter role hcp_admin superuser password 'mine'")
    with pytest.raises(ConfigError, match="logs in as 'hcp_admin'"):
        bootstrap(settings_for(site_server, tmp_path / "other", "hcp_admin", "mine"))
    with psycopg.connect(as_superuser.database_url.get_secret_value()) as connection:
        assert connection.execute("select rolsuper from pg_roles where rolname = 'hcp_admin'").fetchone() == (True,)


def test_a_wrong_password_is_an_error_without_the_password(site_server, tmp_path):
    with pytest.raises(StorageError, match="password authentication failed") as caught:
        bootstrap(settings_for(site_server, tmp_path, password="not-the-one"))
    assert "not-the-one" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgres//dba:hunter2@host/db", "hunter2"])
def test_a_url_that_is_none_is_an_error_without_the_password(tmp_path, url):
    with pytest.raises(ConfigError, match="HCP_DATABASE_URL is not a connection URL") as caught:
        bootstrap(Settings(state_dir=tmp_path, database_url=url))
    assert "hunter2" not in str(caught.value)


def test_a_server_that_is_away_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"can't be set up.*127\.0\.0\.1"):
        bootstrap(settings_for(free_port(), tmp_path))
