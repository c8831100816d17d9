"""From an empty server to the platform's three databases: roles, passwords, rights, migrations, the lake's catalogue.

Idempotent, and the same for the embedded server and for `HCP_DATABASE_URL`.
"""

from typing import Any

import psycopg
from psycopg import sql

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.embedded import EmbeddedPostgres
from hcp_pipelines.storage.migrate import migrate
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Database, Role
from hcp_pipelines.storage.secrets import password

OWNER = {Database.HCP: Role.ADMIN, Database.DAGSTER: Role.DAGSTER, Database.LAKE: Role.LAKE_WRITER}
USERS = {
    Database.HCP: (Role.ADMIN, Role.FEED, Role.CONTROL, Role.ALLOCATOR, Role.API, Role.COLLECTOR),
    Database.DAGSTER: (Role.ADMIN, Role.DAGSTER),
    Database.LAKE: (Role.ADMIN, Role.LAKE_WRITER, Role.LAKE_READER),
}
READER_LIMITS = {"idle_in_transaction_session_timeout": "60s", "statement_timeout": "300s"}


def bootstrap(settings: Settings) -> None:
    """Make roles, databases, schema and lake; changes nothing that is already so.

    Raises:
        StorageError: the server refuses; the message says what.
    """
    try:
        with psycopg.connect(_superuser_dsn(settings), autocommit=True) as connection:
            for role in Role:
                _make_role(settings, connection, role)
            for database in Database:
                _make_database(connection, database)
    except psycopg.Error as error:
        raise StorageError(f"the database can't be set up: {str(error).strip()}") from error
    with connect(settings, Role.ADMIN) as connection:
        migrate(connection)
    with connect(settings, Role.ADMIN, Database.LAKE) as connection:
        _prepare_lake(connection)
    lake.initialise(settings)
    lake.write_analyst_script(settings)


def _superuser_dsn(settings: Settings) -> str:
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    return EmbeddedPostgres(settings).admin_dsn()


def _make_role(settings: Settings, connection: psycopg.Connection[Any], role: Role) -> None:
    secret = password(settings, role, create=True)
    if role is Role.ADMIN and settings.database_url is None:
        return  # the superuser that initdb made
    exists = connection.execute("select 1 from pg_roles where rolname = %s", (role.value,)).fetchone()
    verb = sql.SQL("alter" if exists else "create")
    attributes = sql.SQL("login nosuperuser nocreatedb nocreaterole noreplication password {}").format(
        sql.Literal(secret)
    )
    connection.execute(sql.SQL("{} role {} {}").format(verb, sql.Identifier(role.value), attributes))
    if role is Role.LAKE_READER:
        for name, value in READER_LIMITS.items():
            connection.execute(
                sql.SQL("alter role {} set {} = {}").format(
                    sql.Identifier(role.value), sql.Identifier(name), sql.Literal(value)
                )
            )


def _make_database(connection: psycopg.Connection[Any], database: Database) -> None:
    name, owner = sql.Identifier(database.value), sql.Identifier(OWNER[database].value)
    if not connection.execute("select 1 from pg_database where datname = %s", (database.value,)).fetchone():
        # an external server's login may need to be a member of the owner to give a database to it
        me = connection.execute("select current_user").fetchone()
        if me and me[0] != OWNER[database].value:
            connection.execute(sql.SQL("grant {} to current_user").format(owner))
        connection.execute(
            sql.SQL("create database {} owner {} encoding 'UTF8' template template0").format(name, owner)
        )
    connection.execute(sql.SQL("revoke all on database {} from public").format(name))
    for role in USERS[database]:
        connection.execute(sql.SQL("grant connect on database {} to {}").format(name, sql.Identifier(role.value)))


def _prepare_lake(connection: psycopg.Connection[Any]) -> None:
    """The catalogue is lake_writer's; lake_reader may look, also at tables that are still to come."""
    connection.execute("revoke all on schema public from public")
    connection.execute("grant usage, create on schema public to lake_writer")
    connection.execute("grant usage on schema public to lake_reader")
    connection.execute("grant select on all tables in schema public to lake_reader")
    connection.execute(
        "alter default privileges for role lake_writer in schema public grant select on tables to lake_reader"
    )
