"""API keys: `hcp_PREFIX_SECRET`, 128 random bits, shown once. Kept: the prefix, and an HMAC-SHA256 under a key in `secrets/`.

No slow hash as with passwords: nobody guesses 128 bits, and each request checks one. What the table holds is of no use without
the key of the file.

A key that was made with another is its child: it lives no longer, and is revoked with it.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from hcp_pipelines.domain.errors import ConfigError, NotPermittedError, NotThereError
from hcp_pipelines.operators.audit import note
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.secrets import own_secret, secrets_dir

FORM = re.compile(r"hcp_(?P<prefix>[0-9a-f]{12})_[0-9a-f]{32}")
MOST_PER_USER = 50
PEPPER_BYTES = 32
_ONE_AT_A_TIME = "select from users where id = %s for no key update"
_ENDS_IN_TIME = """
    select (now() + make_interval(days => %(days)s)) <= expires_at or expires_at is null or %(days)s::integer is null, expires_at
    from api_keys where id = %(parent)s and user_id = %(user)s and revoked_at is null"""
_ADD = """
    insert into api_keys (user_id, name, prefix, digest, parent_id, expires_at)
    select %(user)s, %(name)s, %(prefix)s, %(digest)s, %(parent)s::uuid,
           least(now() + make_interval(days => %(days)s), (select expires_at from api_keys where id = %(parent)s))
    where (select count(*) from api_keys where user_id = %(user)s and revoked_at is null) < %(most)s
    returning id, created_at, expires_at"""
_LISTED = """
    select id, name, prefix, created_at, expires_at, revoked_at, parent_id
    from api_keys where user_id = %s order by created_at, id"""
_REVOKE = """
    with recursive line as (
        select id from api_keys where id = %(key)s and user_id = %(user)s and revoked_at is null
        union all select k.id from api_keys k join line on k.parent_id = line.id)
    update api_keys k set revoked_at = now() from line where k.id = line.id and k.revoked_at is null returning k.prefix"""
_REVOKE_ALL = "update api_keys set revoked_at = now() where user_id = %s and revoked_at is null returning prefix"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as listed: its prefix only."""

    id: UUID
    name: str
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    parent_id: UUID | None  # the key that made it


def pepper(settings: Settings) -> bytes:
    """The key under which digests are made, generated at first use.

    Raises:
        ConfigError: others may read its file, or it is not what was generated.
    """
    text = own_secret(settings, "api_keys_pepper", secrets.token_hex(PEPPER_BYTES))
    if not re.fullmatch(rf"[0-9a-f]{{{2 * PEPPER_BYTES}}}", text):
        path = secrets_dir(settings) / "api_keys_pepper"
        raise ConfigError(
            f"{path}: {2 * PEPPER_BYTES} hexadecimal digits are in it, no more; a fresh one opens no key of before"
        )
    return text.encode()


def digest(key: str, under: bytes) -> bytes:
    """What is kept of a key."""
    return hmac.digest(under, key.encode(), hashlib.sha256)


def prefix_of(key: str) -> str | None:
    """The part of a key by which it is found; None where the text is no key."""
    found = FORM.fullmatch(key)
    return found["prefix"] if found else None


def add_key(
    connection: psycopg.Connection[Any],
    under: bytes,
    user_id: UUID,
    name: str,
    days: int | None,
    by: str,
    parent_id: UUID | None = None,
) -> tuple[str, ApiKey]:
    """Make a key of a user, that expires after so many days, or never, or with its parent; the key itself, and as it is listed.

    Raises:
        ConfigError: the user has as many keys as one may have.
        NotPermittedError: it would outlive its parent, or the parent is revoked.
    """
    prefix = secrets.token_hex(6)
    key = f"hcp_{prefix}_{secrets.token_hex(16)}"
    values = {"user": user_id, "name": name, "prefix": prefix, "digest": digest(key, under), "days": days}
    values |= {"parent": parent_id}
    with connection.transaction():
        connection.execute(_ONE_AT_A_TIME, (user_id,))
        if parent_id is not None:
            _refuse_outliving(connection.execute(_ENDS_IN_TIME, values).fetchone())
        row = connection.execute(_ADD, values | {"most": MOST_PER_USER}).fetchone()
        if row is None:
            raise ConfigError(f"a user has at most {MOST_PER_USER} keys that are not revoked: revoke one first")
        note(connection, by, "api_key.added", prefix, name=name, parent_id=str(parent_id) if parent_id else None)
    return key, ApiKey(row[0], name, prefix, row[1], row[2], None, parent_id)


def _refuse_outliving(found: tuple[Any, ...] | None) -> None:
    if found is None:
        raise NotPermittedError("the key that asks is revoked: it makes no other")
    is_in_time, ends_at = found
    if not is_in_time:
        raise NotPermittedError(
            f"a key makes none that outlives it: it ends at {ends_at.isoformat()}; log in for a longer one"
        )


def list_keys(connection: psycopg.Connection[Any], user_id: UUID) -> list[ApiKey]:
    """A user's keys, oldest first."""
    return [ApiKey(*row) for row in connection.execute(_LISTED, (user_id,)).fetchall()]


def revoke_key(connection: psycopg.Connection[Any], key_id: UUID, user_id: UUID, by: str) -> None:
    """The key opens nothing from now on, nor do those that were made with it.

    Raises:
        NotThereError: the user has no such key, or it is revoked already.
    """
    with connection.transaction():
        connection.execute(_ONE_AT_A_TIME, (user_id,))
        revoked = connection.execute(_REVOKE, {"key": key_id, "user": user_id}).fetchall()
        if not revoked:
            raise NotThereError(f"no key {key_id} of yours that is not revoked")
        _note_revoked(connection, by, revoked)


def revoke_keys(connection: psycopg.Connection[Any], user_id: UUID, by: str) -> None:
    """All of a user's keys open nothing from now on."""
    with connection.transaction():
        connection.execute(_ONE_AT_A_TIME, (user_id,))
        _note_revoked(connection, by, connection.execute(_REVOKE_ALL, (user_id,)).fetchall())


def _note_revoked(connection: psycopg.Connection[Any], by: str, prefixes: list[tuple[Any, ...]]) -> None:
    for (prefix,) in prefixes:
        note(connection, by, "api_key.revoked", prefix)
