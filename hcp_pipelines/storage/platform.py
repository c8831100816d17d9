"""Which platform this is, read once by each process at its start: ticks count from 1 in every database, traces must not."""

from typing import Any

import psycopg

from hcp_pipelines.runtime.spans import name_platform

_NAME = """
    select c.system_identifier || '/' || d.oid from pg_control_system() c, pg_database d
    where d.datname = current_database()"""  # the server's cluster, and the database in it


async def know_platform(connection: psycopg.AsyncConnection[Any]) -> None:
    """Have traces of this process named after the database that numbers the ticks."""
    _take(await (await connection.execute(_NAME)).fetchone())


def know_platform_at_once(connection: psycopg.Connection[Any]) -> None:
    """As `know_platform`, for who has a connection that waits."""
    _take(connection.execute(_NAME).fetchone())


def _take(row: tuple[Any, ...] | None) -> None:
    if row is not None:
        name_platform(str(row[0]))
