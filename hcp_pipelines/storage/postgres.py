"""Connections to Postgres: URLs by role, a pool for daemons, a plain connection for the rest. No SQL here."""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import psycopg.conninfo
from psycopg_pool import AsyncConnectionPool
from pydantic import SecretStr

from hcp_pipelines.domain.errors import ConfigError, StorageError
from hcp_pipelines.runtime.files import folder_id
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import cluster_home
from hcp_pipelines.storage.roles import HOME_DATABASE, Database, Role
from hcp_pipelines.storage.secrets import create_secret, password

CONNECT_TIMEOUT_S = 5


def address(settings: Settings) -> dict[str, str]:
    """Host and port of the server: the embedded one's socket directory, or those of `HCP_DATABASE_URL`.

    Raises:
        StorageError: the embedded server has never been started here, or what is written down is another state directory's.
    """
    if settings.database_url is not None:
        return external_server(settings.database_url)
    try:
        record = json.loads(settings.at("run", "postgres.json").read_text())
    except (OSError, ValueError):
        raise StorageError(f"No Postgres in {settings.state_dir}: start the platform with `hcp up`.") from None
    if not _is_own(record, settings):
        raise StorageError(
            f"{settings.at()} is a copy, or was moved: the Postgres that it names, in {record['socket_dir']}, is another state "
            "directory's. Use the original; where there is none any more, `hcp up` here (docs/operators.md, Backing up)."
        )
    return {"host": str(record["socket_dir"]), "port": str(record["port"])}


def _is_own(record: Mapping[str, Any], settings: Settings) -> bool:
    """Whether a record of the embedded server was written here, and not copied; earlier versions wrote no folder down."""
    if "folder" in record:
        return bool(record["folder"] == folder_id(settings.at("run")))
    sockets = Path(record["socket_dir"])
    return sockets == settings.socket_dir() or cluster_home.is_of(sockets.parent, settings.at())


def external_server(url: SecretStr) -> dict[str, str]:
    """Host, port and TLS options of `HCP_DATABASE_URL`.

    Raises:
        ConfigError: it is not a connection URL; the message leaves it out, for it holds a password.
    """
    try:
        parts = psycopg.conninfo.conninfo_to_dict(url.get_secret_value())
    except psycopg.Error:
        raise ConfigError(
            "HCP_DATABASE_URL is not a connection URL: it must read like postgresql://LOGIN:PASSWORD@HOST:5432/postgres, "
            "with special characters of the password percent-encoded."
        ) from None
    kept = ("host", "hostaddr", "port", "sslmode", "sslrootcert", "sslcert", "sslkey")
    return {k: str(v) for k, v in parts.items() if k in kept and v is not None}


def dsn(settings: Settings, role: Role, database: Database = Database.HCP) -> str:
    """The libpq connection string of a role; holds the password, so never log it."""
    return psycopg.conninfo.make_conninfo(
        "",
        **address(settings),
        user=role.value,
        password=password(settings, role),
        dbname=database.value,
        connect_timeout=CONNECT_TIMEOUT_S,
        application_name=f"hcp {role.value}",
    )


def dsn_by_file(settings: Settings, role: Role, database: Database) -> str:
    """The libpq connection string of a role without its password: that is in a file of the state folder, which it names.

    Raises:
        StorageError: the password is none that such a file can hold.
    """
    secret = password(settings, role)
    if "\n" in secret:
        raise StorageError(f"the password of {role.value} has a line break: set another one")
    path = settings.at("run", f"{role.value}.pgpass")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    escaped = secret.replace("\\", "\\\\").replace(":", "\\:")
    create_secret(path, f"*:*:*:{role.value}:{escaped}\n")
    parts = psycopg.conninfo.conninfo_to_dict(dsn(settings, role, database))
    del parts["password"]
    return psycopg.conninfo.make_conninfo("", **parts, passfile=str(path.resolve()))


def sqlalchemy_url(settings: Settings, role: Role = Role.DAGSTER) -> str:
    """A role's own database as SQLAlchemy wants it (psycopg 2 by name: plain `postgresql://` picks psycopg 3)."""
    where = address(settings)
    secret = quote(password(settings, role), safe="")
    options = "&".join(f"{k}={quote(v, safe='')}" for k, v in where.items())
    return f"postgresql+psycopg2://{role.value}:{secret}@/{HOME_DATABASE[role].value}?{options}"


def connect(settings: Settings, role: Role, database: Database = Database.HCP) -> psycopg.Connection[tuple[Any, ...]]:
    """An open connection in autocommit mode; use it as a context manager.

    Raises:
        StorageError: the server can't be reached or refuses the role.
    """
    try:
        return psycopg.connect(dsn(settings, role, database), autocommit=True)
    except psycopg.OperationalError as error:
        raise _away(error, role, database) from error


def _away(error: psycopg.OperationalError, role: Role, database: Database = Database.HCP) -> StorageError:
    return StorageError(f"Postgres ({database.value} as {role.value}): {_first_line(error)}{remedy(error)}")


@contextlib.asynccontextmanager
async def reading(settings: Settings, role: Role) -> AsyncIterator[psycopg.AsyncConnection[tuple[Any, ...]]]:
    """A connection to `hcp` in autocommit mode, for a command that looks once.

    Raises:
        StorageError: the server can't be reached, refuses the role, or goes away meanwhile.
    """
    try:
        async with await connect_async(settings, role) as connection:
            yield connection
    except psycopg.OperationalError as error:
        raise _away(error, role) from error


async def connect_async(settings: Settings, role: Role) -> psycopg.AsyncConnection[tuple[Any, ...]]:
    """An open connection to `hcp` in autocommit mode, for a daemon that keeps one and makes it anew.

    Raises:
        StorageError: no server has ever been started here.
        psycopg.OperationalError: it can't be reached now, or refuses the role.
    """
    return await psycopg.AsyncConnection.connect(dsn(settings, role), autocommit=True)


async def open_pool(
    settings: Settings, role: Role, *, min_size: int = 1, max_size: int = 4, database: Database = Database.HCP
) -> AsyncConnectionPool:
    """An open pool of autocommit connections, checked before they are handed out."""
    pool = AsyncConnectionPool(
        dsn(settings, role, database),
        min_size=min_size,
        max_size=max_size,
        kwargs={"autocommit": True},
        check=AsyncConnectionPool.check_connection,
        open=False,
        timeout=10.0,
        reconnect_timeout=60.0,
    )
    await pool.open(wait=False)
    return pool


def remedy(error: BaseException) -> str:
    """What to do where the error says that no server answers, or that the lake began in another folder; else nothing."""
    if "does not match existing data path" in str(error):
        return " The state directory was moved: put it back where it was (docs/operators.md, Backing up)."
    is_away = any(words in str(error) for words in ("No such file or directory", "Connection refused"))
    return ". No server answers there: `hcp status` tells what runs, `hcp up` starts it." if is_away else ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [repr(error)])[0]
