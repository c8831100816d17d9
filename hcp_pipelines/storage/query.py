"""`hcp sql`: exactly one SELECT-type statement, as lake_reader, on a connection that can reach the lake and nothing else."""

from dataclasses import dataclass
from typing import Any

import duckdb

from hcp_pipelines.domain.errors import ConfigError, StorageError
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.lake import attach, without_secrets
from hcp_pipelines.storage.roles import Role

READABLE = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


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
    with attach(settings, Role.LAKE_READER, read_only=True) as connection:
        statement = _the_one_statement(connection, query)
        connection.execute("use lake")
        connection.execute(f"set allowed_directories = ['{settings.at('lake')}']")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        try:
            done = connection.execute(statement)
        except duckdb.Error as error:
            raise StorageError(without_secrets(error)) from None
        return QueryResult([column[0] for column in done.description or []], done.fetchall())


def _the_one_statement(connection: duckdb.DuckDBPyConnection, query: str) -> duckdb.Statement:
    try:
        statements = connection.extract_statements(query)
    except duckdb.Error as error:
        raise ConfigError(f"this does not parse: {error}") from None
    if len(statements) != 1:
        raise ConfigError(f"hcp sql takes one statement, this is {len(statements)}: run them one after another")
    if statements[0].type not in READABLE:
        raise ConfigError(
            f"hcp sql only reads: a {statements[0].type.name} is refused. SELECT, FROM, WITH, SHOW, DESCRIBE and EXPLAIN work."
        )
    return statements[0]
