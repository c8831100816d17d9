"""The audit log as operators' actions write it, refused attempts included."""

from typing import Any

import psycopg
from psycopg.types.json import Jsonb

_NOTE = "insert into audit_log (actor, action, subject, detail) values (%s, %s, %s, %s)"


def note(connection: psycopg.Connection[Any], actor: str, action: str, subject: str, **detail: object) -> None:
    """Keep who did, or tried, what to what."""
    connection.execute(_NOTE, (actor, action, subject, Jsonb(detail)))
