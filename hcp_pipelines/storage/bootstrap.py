"""From an empty server to the platform's databases: roles, passwords, rights, migrations, the lake's catalogue.

Idempotent, and the same for the embedded server and for `HCP_DATABASE_URL`.
"""

from typing import Any

import psycopg
from psycopg import sql

from hcp_pipelines.domain.errors import ConfigError, StorageError
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.embedded import EmbeddedPostgres
from hcp_pipelines.storage.migrate import migrate
from hcp_pipelines.storage.postgres import connect, external_server
from hcp_pipelines.storage.roles import HOME_DATABASE, Database, Role
from hcp_pipelines.storage.secrets import password

OWNER = {
    Database.HCP: Role.ADMIN,
    Database.DAGSTER: Role.DAGSTER,
    Database.LAKE: Role.LAKE_WRITER,
    Database.MLFLOW: Role.MLFLOW,
}
USERS = {
    Database.HCP: (
        Role.ADMIN,
        Role.FEED,
        Role.CONTROL,
        Role.ALLOCATOR,
        Role.API,
        Role.OPERATOR,
        Role.COLLECTOR,
        Role.FLEET,
        Role.SCHEDULER,
    ),
    Database.DAGSTER: (Role.ADMIN, Role.DAGSTER),
    Database.LAKE: (Role.ADMIN, Role.LAKE_WRITER, Role.LAKE_READER),
    Database.MLFLOW: (Role.ADMIN, Role.MLFLOW),
}
READER_CONNECTIONS = (
    60  # of the server's 200: a session of DuckDB opens several, and analysts must leave the platform its own
)
READER_LIMITS = {"idle_in_transaction_session_timeout": "60s", "statement_timeout": "300s"}


def bootstrap(settings: Settings) -> None:
    """Make roles, databases, schema and lake; changes nothing that is already so.

    Raises:
        StorageError: the server refuses; the message says what.
    """
    try:
        with psycopg.connect(_superuser_dsn(settings), autocommit=True) as connection:
            _refuse_own_login(settings, connection)
            for role in Role:
                _make_role(settings, connection, role)
            for database in Database:
                _make_database(connection, database)
            if settings.database_url is None:
                connection.execute("revoke all on database postgres, template1 from public")
    except psycopg.Error as error:
        raise StorageError(f"the database can't be set up: {str(error).strip()}") from error
    with connect(settings, Role.ADMIN) as connection:
        migrate(connection)
        connection.execute(
            "update approval_limit set mw = %s, updated_at = now() where mw <> %s", 2 * (settings.approval_mw,)
        )
    for role in (Role.DAGSTER, Role.MLFLOW):
        with connect(settings, role, HOME_DATABASE[role]) as connection:
            connection.execute("revoke all on schema public from public")
    with connect(settings, Role.LAKE_WRITER, Database.LAKE) as connection:
        _prepare_lake(connection)
    lake.initialise(settings)
    lake.write_analyst_script(settings)


def _superuser_dsn(settings: Settings) -> str:
    if settings.database_url is not None:
        external_server(settings.database_url)
        return settings.database_url.get_secret_value()
    return EmbeddedPostgres(settings).admin_dsn()


def _refuse_own_login(settings: Settings, connection: psycopg.Connection[Any]) -> None:
    """Setting up the roles would take the rights and the password of a login that is one of them."""
    login = connection.info.user
    if settings.database_url is not None and login in set(Role):
        raise ConfigError(
            f"HCP_DATABASE_URL logs in as {login!r}, a role that the platform makes itself: use another login, "
            "a superuser or one with CREATEDB and CREATEROLE."
        )


def _make_role(settings: Settings, connection: psycopg.Connection[Any], role: Role) -> None:
    secret = password(settings, role, create=True)
    if role is Role.ADMIN and settings.database_url is None:
        return  # the superuser that initdb made
    if connection.execute("select 1 from pg_roles where rolname = %s", (role.value,)).fetchone():
        statement = "alter role {} login password {}"  # naming the other attributes takes a superuser
    else:
        statement = "create role {} login nosuperuser nocreatedb nocreaterole noreplication password {}"
    # as the verifier that the server keeps: a statement may end up in its log
    verifier = connection.pgconn.encrypt_password(secret.encode(), role.value.encode(), b"scram-sha-256").decode()
    connection.execute(sql.SQL(statement).format(sql.Identifier(role.value), sql.Literal(verifier)))
    if role is Role.LAKE_READER:
        limit = sql.SQL("alter role {} connection limit {}")
        connection.execute(limit.format(sql.Identifier(role.value), sql.Literal(READER_CONNECTIONS)))
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
    """As lake_writer, who owns the catalogue: lake_reader may look, also at tables that are still to come."""
    connection.execute("revoke all on schema public from public")
    connection.execute("grant usage on schema public to lake_reader")
    connection.execute("grant select on all tables in schema public to lake_reader")
    connection.execute("alter default privileges in schema public grant select on tables to lake_reader")
