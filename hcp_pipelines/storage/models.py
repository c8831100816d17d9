"""Learnt models as rows of `models`: versions of a name, of which one is champion and serves. What is in them is not known here.

A promotion, the row that archives the champion before it and the audit row are one transaction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import psycopg
from psycopg.types.json import Jsonb

Status = Literal["champion", "archived"]

_CHAMPION = "select version, digest, trained_until from models where name = %s and status = 'champion'"
_ARTEFACT = "select artefact from models where name = %s and version = %s"
_NEWEST = "select max(created_at) from models where name = %s"
_NEXT = "select coalesce(max(version), 0) + 1 from models where name = %s"
_INSERT = """
    insert into models (name, version, status, digest, trained_until, metadata, artefact, actor, reason, created_at)
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""
_AUDIT = "insert into audit_log (actor, action, subject, detail) values (%s, %s, %s, %s)"
_LISTED = """
    select name, version, status, digest, trained_until, created_at, actor, reason, metadata
    from models order by name, version desc limit %s"""


@dataclass(frozen=True, slots=True)
class Serving:
    """The champion of a name, without its content."""

    name: str
    version: int
    digest: str
    trained_until: datetime


@dataclass(frozen=True, slots=True)
class Kept:
    """A model to keep. `created_at` is world time, as `trained_until`; `metadata` is for people: scores, what it learnt from."""

    name: str
    digest: str
    artefact: bytes
    trained_until: datetime
    created_at: datetime
    metadata: Mapping[str, Any]


def champion(connection: "psycopg.Connection[Any]", name: str) -> Serving | None:
    """The champion of a name; None where none has been promoted."""
    row = connection.execute(_CHAMPION, (name,)).fetchone()
    return None if row is None else Serving(name, *row)


def artefact(connection: "psycopg.Connection[Any]", serving: Serving) -> bytes:
    """The content of a version, as it is in the table now."""
    row = connection.execute(_ARTEFACT, (serving.name, serving.version)).fetchone()
    return b"" if row is None else bytes(row[0])


def newest_at(connection: "psycopg.Connection[Any]", name: str) -> datetime | None:
    """When the newest version of a name was made, world time; promoted or not."""
    row = connection.execute(_NEWEST, (name,)).fetchone()
    return None if row is None else row[0]


def keep(connection: "psycopg.Connection[Any]", model: Kept, status: Status, actor: str, reason: str) -> int:
    """Keep a model as the next version of its name; as champion it takes the place of the one before. The version."""
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(hashtext('models/' || %s))", (model.name,))
        row = connection.execute(_NEXT, (model.name,)).fetchone()
        assert row is not None
        version = int(row[0])
        before = champion(connection, model.name) if status == "champion" else None
        if before is not None:
            connection.execute(
                "update models set status = 'archived' where name = %s and version = %s", (model.name, before.version)
            )
        connection.execute(
            _INSERT,
            (
                model.name, version, status, model.digest, model.trained_until, Jsonb(dict(model.metadata)), model.artefact,
                actor, reason, model.created_at,
            ),
        )  # fmt: skip
        detail = {"digest": model.digest, "reason": reason, "before": before.version if before else None}
        action = "model.promote" if status == "champion" else "model.archive"
        connection.execute(_AUDIT, (actor, action, f"{model.name} {version}", Jsonb(detail)))
    return version


def listed(connection: "psycopg.Connection[Any]", limit: int = 50) -> list[dict[str, Any]]:
    """Versions by name, newest first, without their content."""
    cursor = connection.execute(_LISTED, (limit,))
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
