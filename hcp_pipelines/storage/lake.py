"""The DuckLake: attach it, and the one way to write to it.

Every write takes a Postgres advisory lock for its table (commits on one table collide otherwise), is one transaction
together with its batch id, and is counted after the commit. A commit can take seconds: never on the decision path.
"""

import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import duckdb
import duckdb_extensions
import psycopg
import pyarrow as pa

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import object_store
from hcp_pipelines.storage.postgres import connect, dsn, dsn_by_file, remedy
from hcp_pipelines.storage.roles import Database, Role

if TYPE_CHECKING:
    import polars as pl  # not at run time: 25 MB for the daemons that only hand over Arrow

EXTENSIONS = ("ducklake", "postgres_scanner")
RAW = "raw"
SCHEMAS = (RAW, "core", "marts")
INLINING = "data_inlining_row_limit"
INLINED_ROWS = (
    1000  # smaller batches go to the catalogue, not to a Parquet file of their own; the lake's upkeep writes them out
)
BATCHES = "raw._batches"
WRITE_ATTEMPTS = 5
RETRY_WAIT_S = 0.2
_TABLE_NAME = re.compile(r"[a-z][a-z0-9_]*\.[a-z_][a-z0-9_]*")

Frame: TypeAlias = "pl.DataFrame | pa.Table"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Window:
    """Rows whose `column` is in [start, end), of these facilities alone if any are named: what a `replace` replaces."""

    column: str
    start: datetime
    end: datetime
    facilities: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What a write did: rows written, or 0 with `was_known` when the batch was there already."""

    rows: int
    was_known: bool


def install_extensions(settings: Settings) -> None:
    """Put the wheels' DuckDB extensions where any DuckDB session of this user finds them; no network."""
    for name in (*EXTENSIONS, *object_store.extensions(settings)):
        _install(name)


@cache
def _install(name: str) -> None:
    duckdb_extensions.import_extension(name)


def attach_statement(settings: Settings, role: Role, *, read_only: bool, hides_password: bool = False) -> str:
    """The ATTACH of the lake as `lake`; holds the role's password unless that is hidden, so never log it."""
    source = (dsn_by_file if hides_password else dsn)(settings, role, Database.LAKE).replace("'", "''")
    options = ["read_only"] if read_only else []
    if role is Role.LAKE_WRITER:
        options.append(f"data_path {object_store.quoted(object_store.data_path(settings))}")
    suffix = f" ({', '.join(options)})" if options else ""
    return f"attach 'ducklake:postgres:{source}' as lake{suffix}"


@contextmanager
def attach(
    settings: Settings,
    role: Role = Role.LAKE_WRITER,
    *,
    read_only: bool = False,
    memory: str = "1GB",
    threads: int = 2,
    hides_password: bool = False,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection with the lake attached as `lake`, UTC, settings for concurrent commits.

    `hides_password`: it is not in what DuckDB tells of itself, for whoever may ask it anything.

    Raises:
        StorageError: the catalogue can't be reached or refuses the role.
    """
    install_extensions(settings)
    connection = duckdb.connect(
        config={"memory_limit": memory, "threads": threads, "autoinstall_known_extensions": False}
    )
    try:
        for statement in (
            "load ducklake",
            "load postgres_scanner",
            "set timezone = 'UTC'",
            "set ducklake_max_retry_count = 100",
            "set ducklake_retry_wait_ms = 10",
            "set ducklake_retry_backoff = 1.1",
            *object_store.statements(settings),
            attach_statement(settings, role, read_only=read_only, hides_password=hides_password),
        ):
            connection.execute(statement)
    except duckdb.Error as error:
        connection.close()
        raise StorageError(
            f"the lake can't be attached as {role.value}: {without_secrets(error)}{remedy(error)}"
        ) from None
    try:
        yield connection
    finally:
        connection.close()


def initialise(settings: Settings) -> None:
    """Make the lake's schemas and the table of batches, if they are not there."""
    if not object_store.is_remote(settings):
        settings.at("lake").mkdir(mode=0o700, parents=True, exist_ok=True)
    with attach(settings) as connection:
        for schema in SCHEMAS:
            connection.execute(f"create schema if not exists lake.{schema}")
        _inline_small_batches(connection)
        connection.execute(
            f"create table if not exists lake.{BATCHES} "
            '("table" varchar, batch_id varchar, "rows" bigint, written_at timestamptz)'
        )


def _inline_small_batches(connection: duckdb.DuckDBPyConnection) -> None:
    """Once, before there is a view: DuckLake 1.0 crashes the process that sets this option of a schema with views."""
    told = "select count(*) from ducklake_options('lake') where option_name = ? and scope_entry = ?"
    if not _count(connection, told, [INLINING, RAW]):
        connection.execute(f"call lake.set_option('{INLINING}', '{INLINED_ROWS}', schema => '{RAW}')")


def write_analyst_script(settings: Settings) -> None:
    """`.hcp/analyst.sql`: what a plain DuckDB session executes to read the lake as lake_reader.

    The role's password is in a file beside it, which the script names. A store's keys are in neither, for they may write: an
    analyst has their own (AWS's environment or profile).
    """
    install_extensions(settings)
    path = settings.at("analyst.sql")
    statement = attach_statement(settings, Role.LAKE_READER, read_only=True, hides_password=True)
    first = ("load ducklake", "load postgres_scanner", "set timezone = 'UTC'")
    text = "; ".join([*first, *object_store.statements(settings, with_keys=False), statement, "use lake"]) + ";\n"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(path)


def write(
    target: Settings | duckdb.DuckDBPyConnection,
    table: str,
    frame: Frame,
    batch_id: str,
    mode: Literal["append", "replace"] = "append",
    window: Window | None = None,
    settings: Settings | None = None,
    beside: Mapping[str, Frame] | None = None,
) -> WriteResult:
    """Write a frame to `schema.table`, which is made from the frame's columns if it is not there.

    `append` of a batch id that is already there writes nothing. `replace` puts the frame in the place of the window's rows, or
    of all rows. `target` is the settings, or an attached connection together with `settings` (for the lock). `beside`: rows that
    are appended to other tables in the same transaction; only this table's writer may write to them.

    Raises:
        StorageError: the name is wrong, the commit failed every time, or the rows found are not those written.
    """
    for name in (table, *(beside or ())):
        if not _TABLE_NAME.fullmatch(name):
            raise StorageError(f"{name!r} is not a lake table: schema.table in lower case")
    owner = settings if settings is not None else target
    if not isinstance(owner, Settings):
        raise StorageError("write() on a connection needs the settings too, for the table's lock")
    own = attach(owner) if isinstance(target, Settings) else contextlib.nullcontext(target)
    with own as connection, table_lock(owner, table):
        return retried(
            lambda: _write_once(connection, table, frame, batch_id, mode, window, beside or {}),
            f"batch {batch_id} of {table}",
        )


def retried(attempt: Callable[[], T], what: str) -> T:
    """What an attempt comes to, which is made again where another commit was in its way.

    Raises:
        StorageError: it failed every time, or by what no further attempt mends; the message says of `what`.
    """
    for n in range(1, WRITE_ATTEMPTS + 1):
        try:
            return attempt()
        except duckdb.Error as error:
            if n == WRITE_ATTEMPTS or not _is_worth_a_retry(error):
                raise StorageError(f"{what}: {without_secrets(error)}") from None
            time.sleep(RETRY_WAIT_S * n)
    raise AssertionError("unreachable")


def _write_once(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    frame: Frame,
    batch_id: str,
    mode: str,
    window: Window | None,
    beside: Mapping[str, Frame],
) -> WriteResult:
    known = f'select count(*) from lake.{BATCHES} where "table" = ? and batch_id = ?'  # noqa: S608 - our constant
    rows = len(frame)
    _register(connection, "incoming", frame)
    try:
        connection.execute("begin")
        connection.execute(f"create table if not exists lake.{table} as select * from incoming limit 0")  # noqa: S608
        if mode == "append" and _count(connection, known, [table, batch_id]):
            connection.execute("rollback")
            return WriteResult(0, was_known=True)
        if mode == "replace":
            _delete(connection, table, window)
        before = _count(connection, f"select count(*) from lake.{table}")  # noqa: S608 - the name was checked
        connection.execute(f"insert into lake.{table} by name select * from incoming")  # noqa: S608
        connection.execute(f'delete from lake.{BATCHES} where "table" = ? and batch_id = ?', [table, batch_id])  # noqa: S608
        connection.execute(f"insert into lake.{BATCHES} values (?, ?, ?, now())", [table, batch_id, rows])  # noqa: S608
        for other, more in beside.items():
            _register(connection, "beside", more)
            connection.execute(f"create table if not exists lake.{other} as select * from beside limit 0")  # noqa: S608
            connection.execute(f"insert into lake.{other} by name select * from beside")  # noqa: S608
        connection.execute("commit")
    except duckdb.Error:
        with contextlib.suppress(duckdb.Error):
            connection.execute("rollback")
        raise
    finally:
        for name in ("incoming", "beside"):
            connection.unregister(name)  # after the rollback: a transaction that failed would keep the name
    after = _count(connection, f"select count(*) from lake.{table}")  # noqa: S608
    if after != before + rows:
        raise StorageError(f"batch {batch_id} of {table}: {after} rows after the commit, {before + rows} expected")
    return WriteResult(rows, was_known=False)


def _register(connection: duckdb.DuckDBPyConnection, name: str, frame: Frame) -> None:
    connection.register(name, frame if isinstance(frame, pa.Table) else frame.to_arrow())


def _delete(connection: duckdb.DuckDBPyConnection, table: str, window: Window | None) -> None:
    if window is None:
        connection.execute(f"delete from lake.{table}")  # noqa: S608 - the name was checked
        return
    column = '"' + window.column.replace('"', '""') + '"'
    statement = f"delete from lake.{table} where {column} >= ? and {column} < ?"  # noqa: S608 - the names were checked
    parameters: list[Any] = [window.start, window.end]
    if window.facilities is not None:
        statement += " and facility_id in (select unnest(?::varchar[]))"
        parameters.append(list(window.facilities))
    connection.execute(statement, parameters)


def _count(connection: duckdb.DuckDBPyConnection, query: str, parameters: list[Any] | None = None) -> int:
    row = connection.execute(query, parameters or []).fetchone()
    return int(row[0]) if row else 0


@contextmanager
def table_lock(settings: Settings, *tables: str) -> Iterator[None]:
    """One writer a table at a time, over all processes; the server drops the locks with their holder.

    Several tables are locked in one order, so that no two wait for each other.
    """
    names = sorted(tables)
    try:
        with connect(settings, Role.LAKE_WRITER, Database.LAKE) as holder:
            for name in names:
                holder.execute("select pg_advisory_lock(%s)", (_lock_key(name),))
            yield
    except psycopg.Error as error:
        raise StorageError(f"the lock of {', '.join(names)} was lost: {str(error).strip()}") from error


def _lock_key(table: str) -> int:
    return int.from_bytes(hashlib.sha256(f"lake:{table}".encode()).digest()[:8], signed=True)


def _is_worth_a_retry(error: duckdb.Error) -> bool:
    text = str(error)
    return any(
        word in text for word in ("Failed to commit", "conflict", "could not serialize", "deadlock", "connection")
    )


def without_secrets(said: object) -> str:
    """An error's or a value's text without passwords that DuckDB likes to quote: the connection string's, the store's secret."""
    return re.sub(r"(?i)(\bsecret ')[^']*|(password=)\S+", lambda found: f"{found[1] or found[2]}…", str(said))
