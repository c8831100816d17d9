"""What one file of tests leaves is not there for the next one of the same process (`tests/support/postgres.py`)."""

import polars as pl
import psycopg

from hcp_pipelines.storage import lake
from hcp_pipelines.storage.embedded import EmbeddedPostgres
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Database, Role
from tests.support.platform import RunningPlatform
from tests.support.postgres import put_back

DATABASES = """
    select oid, datname, pg_get_userbyid(datdba), datacl::text from pg_database
    where datname not like '%\\_template'"""
LEFT = Database.LAKE, Database.DAGSTER


def databases(settings):
    with psycopg.connect(EmbeddedPostgres(settings).admin_dsn()) as connection:
        return {name: (oid, owner, rights) for oid, name, owner, rights in connection.execute(DATABASES).fetchall()}


def test_what_was_written_is_gone_and_the_rest_is_as_it_was(set_up, postgres):
    before = databases(postgres)
    lake.write(postgres, "raw.left_behind", pl.DataFrame({"power_kw": [1.0] * 5000}), "first")
    with connect(postgres, Role.DAGSTER, Database.DAGSTER) as connection:
        connection.execute("create table left_behind (n integer)")
    postgres.at("run", "left").mkdir(parents=True)
    postgres.at("run", "left", "behind.json").write_text("{}")
    assert list(postgres.at("lake").rglob("*.parquet"))
    put_back(set_up)
    with lake.attach(postgres, Role.LAKE_READER, read_only=True) as connection:
        assert connection.execute(
            "select count(*) from duckdb_tables() where table_name = 'left_behind'"
        ).fetchall() == [(0,)]
        assert connection.execute("select count(*) from lake.raw._batches").fetchall() == [(0,)]
    with connect(postgres, Role.DAGSTER, Database.DAGSTER) as connection:
        assert connection.execute("select to_regclass('left_behind')").fetchall() == [(None,)]
    assert not [*postgres.at("run").glob("left*"), *postgres.at("lake").rglob("*.parquet")]
    after = databases(postgres)
    assert {name: said[1:] for name, said in after.items()} == {name: said[1:] for name, said in before.items()}
    assert {name for name, said in after.items() if said != before[name]} == set(LEFT), "what nobody wrote to stays"


def test_a_platform_is_asked_again_where_its_server_has_ended_the_connection(postgres):
    platform = RunningPlatform(postgres.state_dir)
    [(pid,)] = platform.query("select pg_backend_pid()")
    assert platform.query("select pg_backend_pid()") == [(pid,)], "one connection for all that is asked"
    with psycopg.connect(EmbeddedPostgres(postgres).admin_dsn(), autocommit=True) as server:
        server.execute("select pg_terminate_backend(%s, 10000)", [pid])
    [(other,)] = platform.query("select pg_backend_pid()")
    assert other != pid
    platform.destroy()
