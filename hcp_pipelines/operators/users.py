"""Accounts of the API (docs/api.md): who may log in, in which role. Operators with a token file are in `accounts`.

A user is disabled, never deleted. A change of password or a disabling raises the session version, or ends it: tokens of before
open nothing. Postgres announces it (`hcp_account`), so that a running API knows at once.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import psycopg

from hcp_pipelines.domain.errors import ConfigError, NotThereError, TakenError
from hcp_pipelines.operators.audit import note
from hcp_pipelines.operators.passwords import generated, hashed

FIRST_ADMIN = "admin"
TIERS = ("free", "pro", "enterprise")
NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,99}")
_ADD = """
    insert into users (name, role, customer_id, password_hash, is_password_generated, created_by)
    values (%s, %s, %s, %s, %s, %s) on conflict (name) do nothing returning id"""
_CHANGE = """
    update users set password_hash = %s, is_password_generated = %s, session_version = session_version + 1
    where id = %s and disabled_at is null returning name"""
_DISABLE = "update users set disabled_at = now() where id = %s and disabled_at is null returning name"
_END_SESSIONS = "update users set session_version = session_version + 1 where id = %s returning name"
_ID = "select id from users where name = %s"
_CUSTOMER = """
    insert into customers (name, email, tier) values (%s, %s, %s) on conflict (email) do nothing returning id"""
_LISTED = """
    select u.id, u.name, u.role, u.customer_id, u.is_password_generated, u.created_by, u.created_at, u.disabled_at
    from users u where u.name > %s order by u.name limit %s"""
_CUSTOMERS = "select id, name, email, tier, created_at from customers where email > %s order by email limit %s"
_CUSTOMER_ID = "select id from customers where email = %s"
_GENERATED = "select name from users where is_password_generated and disabled_at is null order by name limit 1"


class UserRole(StrEnum):
    """What an account of the API may do (docs/api.md)."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    CUSTOMER = "customer"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class User:
    """An account as listed."""

    id: UUID
    name: str
    role: UserRole
    customer_id: UUID | None
    is_password_generated: bool
    created_by: str
    created_at: datetime
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer as listed."""

    id: UUID
    name: str
    email: str
    tier: str
    created_at: datetime


def add_user(
    connection: psycopg.Connection[Any],
    name: str,
    role: UserRole,
    password: str,
    by: str,
    customer_id: UUID | None = None,
    is_generated: bool = False,
) -> UUID:
    """Make an account; its id.

    Raises:
        TakenError: the name is another account's.
        ConfigError: the name is none, the password is too short, or role and customer don't go together.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"user {name!r}: a name is lower-case letters, digits and '.', '_', '@', '+', '-', at most 100 of them"
        )
    if (role is UserRole.CUSTOMER) != (customer_id is not None):
        raise ConfigError(f"user {name!r}: the role customer needs a customer, and no other role has one")
    with connection.transaction():
        try:
            row = connection.execute(
                _ADD, (name, role.value, customer_id, hashed(password), is_generated, by)
            ).fetchone()
        except psycopg.errors.ForeignKeyViolation:
            raise ConfigError(f"user {name!r}: there is no customer {customer_id}") from None
        if row is None:
            raise TakenError(f"user {name!r} exists already, or did: take another name")
        note(connection, by, "user.added", name, role=role.value, customer_id=str(customer_id) if customer_id else None)
    user_id: UUID = row[0]
    return user_id


def add_first_admin(connection: psycopg.Connection[Any], by: str) -> str | None:
    """Make `admin` where there is no account yet; its generated password, which is kept nowhere. None where there is one."""
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(hashtextextended('first user', 0))")
        if connection.execute("select exists (select from users)").fetchone() == (True,):
            return None
        password = generated()
        add_user(connection, FIRST_ADMIN, UserRole.ADMIN, password, by, is_generated=True)
    return password


def set_password(
    connection: psycopg.Connection[Any], user_id: UUID, password: str, by: str, is_generated: bool = False
) -> None:
    """Another password; all sessions end.

    Raises:
        ConfigError: it is too short.
        NotThereError: there is no such user, or it is disabled.
    """
    with connection.transaction():
        note(connection, by, "user.password", _changed(connection, _CHANGE, (hashed(password), is_generated, user_id)))


def disable_user(connection: psycopg.Connection[Any], user_id: UUID, by: str) -> None:
    """Neither password, sessions nor keys open anything from now on.

    Raises:
        NotThereError: there is no such user, or it is disabled already.
    """
    with connection.transaction():
        note(connection, by, "user.disabled", _changed(connection, _DISABLE, (user_id,)))


def end_sessions(connection: psycopg.Connection[Any], user_id: UUID, by: str) -> None:
    """Tokens given out until now open nothing; keys go on.

    Raises:
        NotThereError: there is no such user.
    """
    with connection.transaction():
        note(connection, by, "user.sessions_ended", _changed(connection, _END_SESSIONS, (user_id,)))


def user_id_of(connection: psycopg.Connection[Any], name: str) -> UUID:
    """The id of a name.

    Raises:
        NotThereError: there is no such user.
    """
    row = connection.execute(_ID, (name,)).fetchone()
    if row is None:
        raise NotThereError(f"no user {name!r}; `hcp user list` shows those there are")
    user_id: UUID = row[0]
    return user_id


def add_customer(connection: psycopg.Connection[Any], name: str, email: str, tier: str, by: str) -> UUID:
    """Make a customer; its id.

    Raises:
        TakenError: the e-mail address is another customer's.
        ConfigError: there is no such tier.
    """
    if tier not in TIERS:
        raise ConfigError(f"tier {tier!r}: there are {', '.join(TIERS)}")
    with connection.transaction():
        row = connection.execute(_CUSTOMER, (name, email, tier)).fetchone()
        if row is None:
            raise TakenError(f"{email} is another customer's: an e-mail address belongs to one")
        note(connection, by, "customer.added", email, tier=tier)
    customer_id: UUID = row[0]
    return customer_id


def customer_id_of(connection: psycopg.Connection[Any], email: str) -> UUID:
    """The id of a customer by e-mail address.

    Raises:
        NotThereError: there is none.
    """
    row = connection.execute(_CUSTOMER_ID, (email,)).fetchone()
    if row is None:
        raise NotThereError(f"no customer with the address {email}")
    customer_id: UUID = row[0]
    return customer_id


def list_users(connection: psycopg.Connection[Any], after: str = "", limit: int = 1000) -> list[User]:
    """Accounts by name, disabled ones too, those behind a name."""
    rows = connection.execute(_LISTED, (after, limit)).fetchall()
    return [User(row[0], row[1], UserRole(row[2]), *row[3:]) for row in rows]


def list_customers(connection: psycopg.Connection[Any], after: str = "", limit: int = 1000) -> list[Customer]:
    """Customers by e-mail address, those behind one."""
    return [Customer(*row) for row in connection.execute(_CUSTOMERS, (after, limit)).fetchall()]


def with_generated_password(connection: psycopg.Connection[Any]) -> str | None:
    """The name of an account whose password was generated and never changed; None where there is none."""
    row = connection.execute(_GENERATED).fetchone()
    return None if row is None else str(row[0])


def _changed(connection: psycopg.Connection[Any], statement: Any, values: tuple[object, ...]) -> str:
    row = connection.execute(statement, values).fetchone()
    if row is None:
        raise NotThereError(f"no user {values[-1]} that is not disabled")
    return str(row[0])
