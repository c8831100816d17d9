"""Plain SQL migrations: numbered, forward only, each in one transaction, all under one advisory lock."""

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import psycopg

from hcp_pipelines.domain.errors import StorageError

FOLDER = Path(__file__).parent / "migrations"
_LOCK = 4_852_043  # advisory lock of migrations
_TABLE = """
    create table if not exists schema_migrations (
        name text primary key, digest text not null, applied_at timestamptz not null default now())"""


def migrate(connection: psycopg.Connection[Any], folder: Path = FOLDER) -> list[str]:
    """Apply what is missing; the names of the migrations applied now.

    Raises:
        StorageError: an applied migration was changed or is unknown here, a new one has a number that is past, or one fails.
    """
    applied: list[str] = []
    connection.execute("select pg_advisory_lock(%s)", (_LOCK,))
    try:
        connection.execute(_TABLE)
        known = dict(connection.execute("select name, digest from schema_migrations").fetchall())
        paths = sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))
        _refuse_wrong_order(known.keys(), [path.name for path in paths])
        for path in paths:
            text = path.read_text()
            digest = hashlib.sha256(text.encode()).hexdigest()
            if path.name in known:
                _refuse_change(path.name, known[path.name], digest)
                continue
            _apply(connection, path.name, text, digest)
            applied.append(path.name)
    finally:
        connection.execute("select pg_advisory_unlock(%s)", (_LOCK,))
    return applied


def _apply(connection: psycopg.Connection[Any], name: str, text: str, digest: str) -> None:
    try:
        with connection.transaction():
            connection.execute(text.encode())
            connection.execute("insert into schema_migrations (name, digest) values (%s, %s)", (name, digest))
    except psycopg.Error as error:
        raise StorageError(f"migration {name}: {error}. Nothing of it was applied.") from error


def _refuse_wrong_order(known: Collection[str], names: Sequence[str]) -> None:
    """Forward only: the applied ones are the first of those there are."""
    if unknown := sorted(set(known) - set(names)):
        raise StorageError(
            f"the database has migration {unknown[-1]}, which this version of HCP does not know: "
            "run the version that applied it, or a newer one."
        )
    if late := [name for name in names[: len(known)] if name not in known]:
        raise StorageError(
            f"migration {late[0]} comes before {max(known)}, which is applied already. Give it the next number."
        )


def _refuse_change(name: str, was: str, now: str) -> None:
    if was != now:
        raise StorageError(
            f"migration {name} was changed after it had been applied (digest {was[:12]} then, {now[:12]} now). "
            "Restore it and put the change into a new migration."
        )
