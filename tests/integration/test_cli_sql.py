"""`hcp sql`: one statement that reads, in three formats; everything else is refused, and nothing is left behind."""

import json
import re
from datetime import UTC, datetime

import polars as pl
import psycopg
import pytest

from hcp_pipelines.storage import lake
from hcp_pipelines.storage.embedded import EmbeddedPostgres
from hcp_pipelines.supervisor.doctor import _lake
from tests.support.cli import hcp

__all__ = ["hcp"]

TABLE = "raw.cli_readings"
ROWS = 2000


@pytest.fixture(scope="module")
def readings(postgres):
    """The state directory of a lake with a table of two batches."""
    for n in range(2):
        frame = pl.DataFrame(
            {
                "name": ["a, b", 'say "x"'] * (ROWS // 2),
                "power_kw": [1.5, None] * (ROWS // 2),
                "measured_at": [datetime(2025, 1, 1, tzinfo=UTC)] * ROWS,
            }
        )
        lake.write(postgres, TABLE, frame, str(n))
    return postgres


@pytest.fixture
def sql(hcp, readings):
    return lambda query, *more, **environment: hcp(
        "sql", query, "--state-dir", readings.state_dir, *more, **environment
    )


QUERY = f"select name, power_kw, measured_at from {TABLE} order by name limit 1"


def test_table(sql):
    done = sql(QUERY)
    assert done.code == 0
    assert [word in done.out for word in ("name", "power_kw", "a, b", "1.5")] == [True] * 4
    assert done.err == "1 rows\n"


def test_a_table_wider_than_the_terminal_is_shown_a_record_each(sql):
    done = sql("select " + ", ".join(f"{n} as column_{n}" for n in range(40)), COLUMNS="80")
    assert done.code == 0
    assert "row 1" in done.out
    assert [line.split() for line in done.out.splitlines() if "column_39" in line] == [["column_39", "39"]]


def test_csv(sql):
    done = sql(QUERY, "--format", "csv")
    assert (done.code, done.err) == (0, "")
    assert done.out == 'name,power_kw,measured_at\n"a, b",1.5,2025-01-01 00:00:00+00:00\n'


def test_json(sql):
    done = sql(f"select *, power_kw / 1000 as power_mw from ({QUERY})", "--format", "json")
    assert done.code == 0
    [row] = json.loads(done.out)
    assert row == {"name": "a, b", "power_kw": 1.5, "measured_at": "2025-01-01T00:00:00+00:00", "power_mw": 0.0015}


def test_no_rows(sql):
    assert json.loads(sql(f"from {TABLE} where false", "--format", "json").out) == []
    assert sql("select 1 as one where false", "--format", "csv").out == "one\n"


@pytest.mark.parametrize(
    "query",
    [
        f"from {TABLE} limit 1",
        f"with x as (select 1 as one) select * from x, {TABLE} limit 1",
        f"describe {TABLE}",
        f"summarize {TABLE}",
        f"explain select * from {TABLE}",
        f"explain (format json) select * from {TABLE}",
        f"explain analyze ((select * from {TABLE})) union all (select * from {TABLE})",
        "show all tables",
        "values (1)",
        "from snapshots()",
        "from ducklake_table_info('lake')",
        "select 'ducklake_cleanup_old_files' as word, range(3), 1 -- flush_inlined_data()",
        f"select count(*) from {TABLE};",
        f"-- how many?\nselect count(*) from {TABLE}",
    ],
)
def test_what_reads_is_taken(sql, query):
    done = sql(query)
    assert done.code == 0, done.err


def files(readings):
    return sorted(path for path in readings.at("lake").rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("query", "word"),
    [
        (f"copy {TABLE} to 'FILE'", "COPY"),
        (f"copy (select 1) to '{TABLE}.parquet'", "COPY"),
        ("explain analyze copy (select 1) to 'LAKE/raw/mine.parquet'", "COPY"),
        ("/* x */ EXPLAIN (analyze, format json) copy (select ')') to 'LAKE/raw/mine.parquet'", "COPY"),
        ("explain analyze create table memory.main.mine as select 1 as one", "CREATE"),
        (f"insert into {TABLE} values ('x', 1, now())", "INSERT"),
        (f"explain analyze insert into {TABLE} values ('x', 1, now())", "INSERT"),
        (f"update {TABLE} set power_kw = 0", "UPDATE"),
        (f"delete from {TABLE}", "DELETE"),
        (f"drop table {TABLE}", "DROP"),
        ("create table raw.mine as select 1 as one", "CREATE"),
        (f"alter table {TABLE} drop column name", "ALTER"),
        ("attach ':memory:' as other", "ATTACH"),
        ("detach lake", "DETACH"),
        ("set memory_limit = '1TB'", "SET"),
        ("pragma database_list", "PRAGMA"),
        ("/* x */ PRAGMA enable_profiling", "PRAGMA"),
        ("call lake.set_option('parquet_compression', 'zstd')", "CALL"),
        ("export database 'FILE'", "EXPORT"),
        ("install httpfs", "LOAD"),
        ("begin", "TRANSACTION"),
        ("from ducklake_flush_inlined_data('lake')", r"ducklake_flush_inlined_data\(\)"),
        ("from lake.merge_adjacent_files()", r"merge_adjacent_files\(\)"),
        (
            "select * from \"Ducklake_Cleanup_Old_Files\" /* x */ ('lake', cleanup_all => true)",
            r"cleanup_old_files\(\)",
        ),
        ("from ducklake_delete_orphaned_files('lake', cleanup_all => true)", r"delete_orphaned_files\(\)"),
        ("explain analyze select * from ducklake_merge_adjacent_files('lake')", r"merge_adjacent_files\(\)"),
        ("from query('from ducklake_flush_inlined_data(''lake'')')", r"query\(\)"),
        ("from postgres_execute('__ducklake_metadata_lake', 'select 1')", r"postgres_execute\(\)"),
        ("from enable_logging(storage => 'file')", r"enable_logging\(\)"),
    ],
)
def test_what_does_more_than_read_is_refused_as_wrong_usage(sql, readings, tmp_path, query, word):
    before = files(readings)
    done = sql(query.replace("FILE", str(tmp_path / "out")).replace("LAKE", str(readings.at("lake"))))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("hcp: hcp sql only reads: ")
    assert re.search(word, done.err)
    assert "Traceback" not in done.err
    assert files(readings) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("query", "number"), [("select 1; select 2", 2), ("", 0), ("-- nothing", 0), ("--nothing", 0), (";", 0)]
)
def test_it_is_one_statement(sql, query, number):
    done = sql(query)
    assert done.code == 2
    assert f"takes one statement, this is {number}" in done.err


def test_what_does_not_parse_is_wrong_usage_and_shows_where(sql):
    done = sql("selec 1")
    assert done.code == 2
    assert 'syntax error at or near "selec"' in done.err


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("from raw.no_such_table", "no_such_table"),
        ("select no_such_column from " + TABLE, "no_such_column"),
        ("select cast(name as integer) from " + TABLE, "Could not convert string"),
        ("select * from read_text('/etc/hostname')", "disabled by configuration"),
        ("select * from '/etc/passwd'", "/etc/passwd"),
    ],
)
def test_a_query_that_fails_says_why_without_a_traceback(sql, query, words):
    done = sql(query)
    assert (done.code, done.out) == (1, "")
    assert words in done.err
    assert "Traceback" not in done.err
    assert "defect" not in done.err


def test_an_unknown_format_is_wrong_usage_and_names_those_there_are(sql):
    done = sql("select 1", "--format", "xml")
    assert done.code == 2
    assert all(word in done.err for word in ("'xml'", "table", "csv", "json"))


def test_what_the_lake_holds_drives_neither_the_table_nor_the_terminal(sql):
    done = sql("select '[/tmp/x] [bold]y[/bold]' as a, chr(27) || '[2J' || chr(7) as b")
    assert done.code == 0, done.err
    assert "[/tmp/x] [bold]y[/bold]" in done.out
    assert r"\x1b[2J\x07" in done.out
    assert "\x1b" not in done.out


@pytest.mark.parametrize(
    "query",
    [
        "from duckdb_databases",
        "select d, list(path) over () from duckdb_databases() d",
        "select replace(path, 'pass', '') as path from duckdb_databases()",
        "from duckdb_settings()",
    ],
)
def test_what_duckdb_tells_of_its_connection_has_no_password(sql, readings, query):
    done = sql(query, "--format", "csv")
    assert done.code == 0, done.err
    assert readings.at("secrets", "lake_reader").read_text().strip() not in done.out
    if "databases" in query:
        assert "user=lake_reader" in done.out
    assert readings.at("run", "lake_reader.pgpass").stat().st_mode & 0o777 == 0o600


def test_a_password_with_signs_that_mean_something_in_a_file_of_passwords_is_taken_as_it_is(sql, readings):
    secret = readings.at("secrets", "lake_reader")
    before = secret.read_text()
    set_password = psycopg.sql.SQL("alter role lake_reader password {}")
    with psycopg.connect(EmbeddedPostgres(readings).admin_dsn(), autocommit=True) as admin:
        for strange in ("a:b\\c:*'", "a\nb"):
            admin.execute(set_password.format(strange))
            secret.write_text(strange)
            done = sql("select 1 as one", "--format", "csv")
            assert (done.code == 0) == ("\n" not in strange), done.err
            assert strange not in done.err
        admin.execute(set_password.format(before))
    secret.write_text(before)


def test_the_doctor_says_of_a_lake_without_marts_that_they_are_not_built_yet(readings):
    found = _lake(readings)
    assert (found.is_well, found.found) == (False, "the marts are not built yet")
