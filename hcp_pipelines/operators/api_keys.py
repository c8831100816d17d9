"""API keys: `hcp_PREFIX_SECRET`, 128 random bits, shown once. Kept: the prefix, and an HMAC-SHA256 under a key in `secrets/`.

No slow hash as with passwords: nobody guesses 128 bits, and each request checks one. What the table holds is of no use without
the key of the file.
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

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.operators.audit import note
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.secrets import create_secret, secrets_dir

FORM = re.compile(r"hcp_(?P<prefix>[0-9a-f]{12})_[0-9a-f]{32}")
MOST_PER_USER = 50
_ADD = """
    insert into api_keys (user_id, name, prefix, digest, expires_at)
    select %(user)s, %(name)s, %(prefix)s, %(digest)s, now() + make_interval(days => %(days)s)
    where (select count(*) from api_keys where user_id = %(user)s and revoked_at is null) < %(most)s
    returning id, created_at, expires_at"""
_LISTED = """
    select id, name, prefix, created_at, expires_at, revoked_at from api_keys where user_id = %s order by created_at, id"""
_REVOKE = (
    "update api_keys set revoked_at = now() where id = %s and user_id = %s and revoked_at is null returning prefix"
)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as listed: its prefix only."""

    id: UUID
    name: str
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def pepper(settings: Settings) -> bytes:
    """The key under which digests are made, generated at first use."""
    path = secrets_dir(settings) / "api_keys_pepper"
    if not path.exists():
        create_secret(path, secrets.token_hex(32))
    return path.read_text().encode()


def digest(key: str, under: bytes) -> bytes:
    """What is kept of a key."""
    return hmac.digest(under, key.encode(), hashlib.sha256)


def prefix_of(key: str) -> str | None:
    """The part of a key by which it is found; None where the text is no key."""
    found = FORM.fullmatch(key)
    return found["prefix"] if found else None


def add_key(
    connection: psycopg.Connection[Any], under: bytes, user_id: UUID, name: str, days: int | None, by: str
) -> tuple[str, ApiKey]:
    """Make a key of a user, that expires after so many days or never; the key itself, and as it is listed.

    Raises:
        ConfigError: the user has as many keys as one may have.
    """
    prefix = secrets.token_hex(6)
    key = f"hcp_{prefix}_{secrets.token_hex(16)}"
    values = {"user": user_id, "name": name, "prefix": prefix, "digest": digest(key, under), "days": days}
    with connection.transaction():
        row = connection.execute(_ADD, values | {"most": MOST_PER_USER}).fetchone()
        if row is None:
            raise ConfigError(f"a user has at most {MOST_PER_USER} keys that are not revoked: revoke one first")
        note(connection, by, "api_key.added", prefix, name=name)
    return key, ApiKey(row[0], name, prefix, row[1], row[2], None)


def list_keys(connection: psycopg.Connection[Any], user_id: UUID) -> list[ApiKey]:
    """A user's keys, oldest first."""
    return [ApiKey(*row) for row in connection.execute(_LISTED, (user_id,)).fetchall()]


def revoke_key(connection: psycopg.Connection[Any], key_id: UUID, user_id: UUID, by: str) -> None:
    """The key opens nothing from now on.

    Raises:
        ConfigError: the user has no such key, or it is revoked already.
    """
    with connection.transaction():
        row = connection.execute(_REVOKE, (key_id, user_id)).fetchone()
        if row is None:
            raise ConfigError(f"no key {key_id} of yours that is not revoked")
        note(connection, by, "api_key.revoked", row[0])
