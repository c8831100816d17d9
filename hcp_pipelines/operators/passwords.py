"""Passwords of the API's users: argon2id, and the same work whether or not there is such a user."""

import secrets
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from hcp_pipelines.domain.errors import ConfigError

SHORTEST, LONGEST = 12, 200  # characters
# Source: OWASP's password storage cheat sheet, argon2id with 19 MiB, two passes, one lane: some 20 ms of one core.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def hashed(password: str) -> str:
    """The argon2id hash that is kept.

    Raises:
        ConfigError: too short or too long.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise ConfigError(f"a password has {SHORTEST} to {LONGEST} characters, this has {len(password)}")
    return _HASHER.hash(password)


def is_right(kept: str | None, password: str) -> bool:
    """Whether the password is the one that was hashed; None, of an unknown user, costs the same and is never right."""
    try:
        return _HASHER.verify(kept or _of_nobody(), password[: LONGEST + 1]) and kept is not None
    except (VerificationError, InvalidHashError):
        return False


def generated() -> str:
    """A password of 128 random bits."""
    return secrets.token_urlsafe(16)


@cache
def _of_nobody() -> str:
    return _HASHER.hash(secrets.token_urlsafe(16))
