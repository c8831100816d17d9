"""The audit log as operators' actions write it, refused attempts included."""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

_NOTE = "insert into audit_log (actor, action, subject, detail) values (%s, %s, %s, %s)"
_COMES_BY: ContextVar[Mapping[str, str]] = ContextVar("comes_by", default={})  # noqa: B039 - never changed in place


def comes_by(**how: str) -> None:
    """What is done from here on in this task comes by this: a request's id, address and role. It is kept with each note."""
    _COMES_BY.set(how)


def note(connection: psycopg.Connection[Any], actor: str, action: str, subject: str, **detail: object) -> None:
    """Keep who did, or tried, what to what."""
    connection.execute(_NOTE, _values(actor, action, subject, detail))


async def note_async(
    connection: psycopg.AsyncConnection[Any], actor: str, action: str, subject: str, **detail: object
) -> None:
    """The same, on a connection that does not block."""
    await connection.execute(_NOTE, _values(actor, action, subject, detail))


def _values(actor: str, action: str, subject: str, detail: Mapping[str, object]) -> tuple[object, ...]:
    return actor, action, subject, Jsonb({**_COMES_BY.get(), **detail})
