"""`hcp sql`: exactly one SELECT-type statement, as lake_reader, on a connection that can reach the lake and nothing else."""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import duckdb

from hcp_pipelines.domain.errors import ConfigError, StorageError
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.lake import attach, without_secrets
from hcp_pipelines.storage.object_store import data_path, quoted
from hcp_pipelines.storage.roles import Role

READABLE = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
# Table functions that only look. Every other one is refused, for a SELECT from DuckLake's housekeeping or from DuckDB's
# logging writes and removes files, whatever the catalogue says to it afterwards.
LOOKING_FUNCTIONS = frozenset(
    """
    generate_series glob json_each json_tree pg_timezone_names range repeat summary unnest parquet_bloom_probe
    parquet_file_metadata parquet_full_metadata parquet_kv_metadata parquet_metadata parquet_scan parquet_schema
    read_blob read_csv read_csv_auto read_json read_json_auto read_json_objects read_ndjson read_parquet read_text
    duckdb_columns duckdb_databases duckdb_extensions duckdb_functions duckdb_keywords duckdb_memory duckdb_schemas
    duckdb_settings duckdb_tables duckdb_types duckdb_views pragma_database_size pragma_platform pragma_show
    pragma_table_info pragma_version ducklake_current_snapshot ducklake_last_committed_snapshot ducklake_list_files
    ducklake_options ducklake_settings ducklake_snapshots ducklake_table_changes ducklake_table_deletions
    ducklake_table_info ducklake_table_insertions
    """.split()  # noqa: SIM905 - a list of names, a line each, would be a page
)
_TABLE_FUNCTIONS = (
    "select distinct function_name from duckdb_functions() where function_type in ('table', 'table_macro', 'pragma')"
)
_NAME = re.compile(r'"(?P<quoted>(?:[^"]|"")*)"|(?P<plain>\w+)')


@dataclass(frozen=True)
class QueryResult:
    """Column names and rows."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


def run_select(settings: Settings, query: str) -> QueryResult:
    """The answer to one read-only statement on the lake.

    A locked configuration alone would still let COPY write into the lake's folder, which is why only SELECT-type
    statements are taken.

    Raises:
        ConfigError: not exactly one statement of SELECT type, or it does not parse.
        StorageError: it failed.
    """
    _refuse_all_but_one_reading_statement(query)
    with attach(settings, Role.LAKE_READER, read_only=True, hides_password=True) as connection:
        _refuse_acting_functions(connection, query)
        connection.execute("use lake")
        connection.execute(f"set allowed_directories = [{quoted(data_path(settings).rstrip('/'))}]")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        try:
            done = connection.execute(query)
            return QueryResult([column[0] for column in done.description or []], done.fetchall())
        except duckdb.Error as error:
            raise StorageError(without_secrets(error)) from None


def _refuse_all_but_one_reading_statement(query: str) -> None:
    try:
        with duckdb.connect() as connection:
            statements = connection.extract_statements(query)
    except duckdb.Error as error:
        raise ConfigError(f"this does not parse: {error}") from None
    if len(statements) != 1:
        raise ConfigError(f"hcp sql takes one statement, this is {len(statements)}: run them one after another")
    words = _words(query)
    is_pragma = words[0].lower().startswith("pragma")  # some of them are rewritten to a SELECT
    if is_pragma or statements[0].type not in READABLE:
        kind = "PRAGMA" if is_pragma else statements[0].type.name
        raise ConfigError(
            f"hcp sql only reads: {kind} is refused. SELECT, FROM, WITH, SHOW, DESCRIBE and EXPLAIN work."
        )
    if statements[0].type == duckdb.StatementType.EXPLAIN:
        _refuse_all_but_one_reading_statement(_explained(words))  # EXPLAIN ANALYZE carries out what it explains


def _explained(words: list[str]) -> str:
    """What follows EXPLAIN, ANALYZE and the bracket with options; an EXPLAIN in some other form is refused with it."""
    rest = words[1:]
    while rest and _bare(rest[0]) in ("analyze", "analyse", "verbose"):
        rest = rest[1:]
    behind = _behind_bracket(rest)
    is_query = not behind or _bare(behind[0]) in ("union", "except", "intersect", "order", "limit", "offset")
    return "".join(rest if is_query else behind)


def _behind_bracket(words: list[str]) -> list[str]:
    """What follows the bracket that the words begin with; nothing where they begin with something else."""
    depth = 0
    for n, word in enumerate(words):
        depth += word.startswith("(") - word.startswith(")")
        if depth == 0:
            return words[n + 1 :] if n else []
    return []


def _bare(word: str) -> str:
    """A token without the space and comments behind it, in lower case."""
    found = _NAME.match(word)
    return (found["plain"] or "").lower() if found else ""


def _refuse_acting_functions(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    refused = sorted(_called(_words(query)) & _acting_functions(connection))
    if refused:
        raise ConfigError(f"hcp sql only reads: {refused[0]}() may change the lake or its files, and is refused.")


def _words(query: str) -> list[str]:
    """The tokens of a query; a comment belongs to the token before it."""
    text = query.encode()  # the positions count bytes
    starts = [position for position, _ in duckdb.tokenize(query)]
    return [text[a:b].decode() for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]


def _called(words: list[str]) -> set[str]:
    """The names that stand before an opening bracket, without quotes and in lower case."""
    names = (_NAME.match(word) for word, following in pairwise(words) if following.startswith("("))
    return {(name["quoted"] or name["plain"] or "").lower() for name in names if name}


def _acting_functions(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """Table functions that do more than look; DuckLake's go by a second name, without the prefix."""
    known = {row[0] for row in connection.execute(_TABLE_FUNCTIONS).fetchall()}
    acting = known - LOOKING_FUNCTIONS
    return acting | {name.removeprefix("ducklake_") for name in acting}
