"""The one way to write to the lake: idempotent by batch, windows replaced, nothing lost between writers, no secrets told."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.orchestration.lake_state import has_tables
from hcp_pipelines.runtime.files import folder_id
from hcp_pipelines.storage import lake, lake_tables
from hcp_pipelines.storage.lake import Window, write
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.storage.secrets import password

START = datetime(2025, 1, 1, tzinfo=UTC)


def frame(values, start=START):
    return pl.DataFrame(
        {"measured_at": [start + timedelta(minutes=n) for n in range(len(values))], "power_kw": values},
        schema={"measured_at": pl.Datetime("us", "UTC"), "power_kw": pl.Float64},
    )


def read(settings, query):
    with lake.attach(settings, Role.LAKE_READER, read_only=True) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture
def table(postgres, request):
    """A table's name, of this test alone."""
    name = f"raw.{request.node.name.removeprefix('test_').partition('[')[0][:50]}"
    yield name
    with lake.attach(postgres) as connection:
        connection.execute(f"drop table if exists lake.{name}")


def test_appending_a_batch_again_writes_nothing(postgres, table):
    first = write(postgres, table, frame([1.0, 2.0]), "a")
    again = write(postgres, table, frame([1.0, 2.0]), "a")
    other = write(postgres, table, frame([3.0]).to_arrow(), "b")
    assert (first.rows, first.was_known) == (2, False)
    assert (again.rows, again.was_known) == (0, True)
    assert (other.rows, other.was_known) == (1, False)
    assert read(postgres, f"select sum(power_kw), count(*) from lake.{table}") == [(6.0, 3)]
    batches = read(postgres, f"""select batch_id, "rows" from lake.raw._batches where "table" = '{table}' order by 1""")
    assert batches == [("a", 2), ("b", 1)]


def test_the_same_batch_of_another_table_is_another_batch(postgres, table):
    write(postgres, table, frame([1.0]), "same")
    assert not write(postgres, f"{table}_too", frame([1.0]), "same").was_known


def test_a_replaced_window_is_half_open(postgres, table):
    write(postgres, table, frame([1.0, 2.0, 3.0, 4.0]), "a")
    window = Window("measured_at", START + timedelta(minutes=1), START + timedelta(minutes=3))
    for _ in range(2):
        assert write(postgres, table, frame([20.0], window.start), "day", "replace", window).rows == 1
    rows = read(postgres, f"select power_kw from lake.{table} order by measured_at")
    assert rows == [(1.0,), (20.0,), (4.0,)]


def test_replace_without_a_window_replaces_all_and_an_empty_frame_empties(postgres, table):
    write(postgres, table, frame([1.0, 2.0]), "a")
    write(postgres, table, frame([5.0]), "b", "replace")
    assert read(postgres, f"select power_kw from lake.{table}") == [(5.0,)]
    write(postgres, table, frame([]), "c", "replace")
    assert read(postgres, f"select count(*) from lake.{table}") == [(0,)]


def test_columns_are_matched_by_name_and_instants_stay_utc(postgres, table):
    write(postgres, table, frame([1.0]), "a")
    write(postgres, table, frame([2.0]).select("power_kw", "measured_at"), "b")
    assert read(postgres, f"select power_kw, measured_at from lake.{table} order by 1") == [(1.0, START), (2.0, START)]


@pytest.mark.parametrize(
    "name",
    [
        "readings",
        "raw.",
        ".x",
        "Raw.x",
        "raw.x y",
        "raw.x;drop",
        'raw."x"',
        "raw.x\n",
        "lake.raw.x",
        "raw.x--",
        "raw.1x",
    ],
)
def test_a_name_that_is_no_table_is_refused(postgres, name):
    with pytest.raises(StorageError, match=r"is not a lake table: schema\.table"):
        write(postgres, name, frame([1.0]), "a")


def test_a_column_that_the_table_lacks_is_an_error_and_writes_nothing(postgres, table):
    write(postgres, table, frame([1.0]), "a")
    with pytest.raises(StorageError, match=f"batch b of {table}.*surprise"):
        write(postgres, table, pl.DataFrame({"surprise": [1]}), "b")
    assert read(postgres, f"select count(*) from lake.{table}") == [(1,)]
    assert not write(postgres, table, frame([2.0]), "b").was_known


def test_an_attached_connection_can_be_used_again_after_a_failed_write(postgres, table):
    with lake.attach(postgres) as connection:
        write(connection, table, frame([1.0]), "a", settings=postgres)
        with pytest.raises(StorageError):
            write(connection, table, pl.DataFrame({"surprise": [1]}), "b", settings=postgres)
        write(connection, table, frame([2.0]), "b", settings=postgres)
        assert connection.execute(f"select count(*) from lake.{table}").fetchone() == (2,)
        with pytest.raises(StorageError, match="needs the settings"):
            write(connection, table, frame([1.0]), "c")


BATCHES, ROWS = 3, 50


def test_threads_on_one_table_lose_and_double_nothing(postgres, table):
    def run(writer):
        return [
            write(postgres, table, frame([float(writer)] * ROWS), f"{writer}/{n % BATCHES}") for n in range(BATCHES + 1)
        ]

    with ThreadPoolExecutor(2) as pool:
        results = [result for each in pool.map(run, (1, 2)) for result in each]
    assert sum(result.was_known for result in results) == 2
    rows = read(postgres, f"select power_kw, count(*) from lake.{table} group by 1 order by 1")
    assert rows == [(1.0, BATCHES * ROWS), (2.0, BATCHES * ROWS)]


def test_two_that_give_an_older_table_its_new_columns_at_once_lose_no_batch(postgres, table):
    write(postgres, table, frame([1.0]), "old")
    together = threading.Barrier(2)

    def run(writer):
        done = []
        with lake.attach(postgres) as connection:
            for n in range(3):
                newer = frame([2.0]).with_columns(pl.lit(writer).alias(f"column_{n}"))
                together.wait(60)
                lake_tables.ensure(connection, postgres, {table: newer.to_arrow().schema})
                done.append(write(connection, table, newer, f"{writer}/{n}", settings=postgres).rows)
        return done

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, (1, 2))) == [[1, 1, 1], [1, 1, 1]]
    columns = "count(column_0), count(column_1), count(column_2)"
    assert read(postgres, f"select count(*), {columns} from lake.{table}") == [(7, 2, 2, 2)]


def test_tables_are_made_all_or_none(postgres, table):
    """In one commit; an attached connection can be used again after one that failed."""
    schema = frame([]).to_arrow().schema
    with lake.attach(postgres) as connection:
        with pytest.raises(StorageError, match=rf"making {table} and 1 more: .*there_is_none"):
            lake_tables.ensure(connection, postgres, {table: schema, "there_is_none.nowhere": schema})
        assert not has_tables(postgres, [table])
        lake_tables.ensure(connection, postgres, {table: schema})
    assert has_tables(postgres, [table])


WRITER = """
import json, sys
import polars as pl
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.lake import write
settings, (table, name, mode) = Settings(state_dir=sys.argv[1]), sys.argv[2:]
for n in range(3):
    write(settings, table, pl.DataFrame({"writer": [name] * 50}), f"{name}/{n}", mode)
"""


def test_processes_on_one_table_and_on_another_lose_nothing(postgres, table):
    other = f"{table}_other"
    argv = [sys.executable, "-c", WRITER, str(postgres.state_dir)]
    jobs = [(table, "a", "append"), (table, "b", "append"), (other, "c", "replace")]
    writers = [subprocess.Popen([*argv, *job], stderr=subprocess.PIPE, text=True) for job in jobs]
    complaints = [writer.communicate()[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0], json.dumps(complaints)
    assert read(postgres, f"select writer, count(*) from lake.{table} group by 1 order by 1") == [
        ("a", 150),
        ("b", 150),
    ]
    assert read(postgres, f"select writer, count(*) from lake.{other} group by 1") == [("c", 50)]
    batches = read(postgres, f"""select count(*) from lake.raw._batches where "table" in ('{table}', '{other}')""")
    assert batches == [(9,)]


def test_the_reader_can_not_write_through_the_helper(postgres, table):
    with lake.attach(postgres, Role.LAKE_READER) as connection, pytest.raises(StorageError, match="permission denied"):
        write(connection, table, frame([1.0]), "a", settings=postgres)


def test_no_error_tells_the_password(postgres, table):
    secrets = [password(postgres, role) for role in (Role.LAKE_WRITER, Role.LAKE_READER)]
    elsewhere = postgres.model_copy(update={"state_dir": postgres.state_dir.parent / "moved"})
    for part in ("secrets", "run"):
        elsewhere.at(part).mkdir(parents=True, exist_ok=True)
    for role in Role:
        elsewhere.at("secrets", role.value).write_text(password(postgres, role))
    record = {"socket_dir": "/nonexistent", "port": 5432, "folder": folder_id(elsewhere.at("run"))}
    elsewhere.at("run", "postgres.json").write_text(json.dumps(record))
    attempts = (
        lambda: write(elsewhere, table, frame([1.0]), "a"),
        lambda: lake.attach(elsewhere).__enter__(),
        lambda: lake.initialise(elsewhere),
        lambda: lake.attach(elsewhere, Role.LAKE_READER, read_only=True).__enter__(),
    )
    for attempt in attempts:
        with pytest.raises(StorageError) as caught:
            attempt()
        told = f"{caught.value} {caught.value.__cause__}"
        assert "nonexistent" in told
        assert not [secret for secret in secrets if secret in told]
