"""Who may order: operators by name and role, and how one proves to be one. Until the API has accounts, with a token file.

`secrets/operators/NAME.token` holds a token; Postgres and `secrets/operators.yaml` know its SHA-256. The latter is what gateways
read, which take orders without Postgres. What operators order is in `orders`.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import psycopg
import yaml

from hcp_pipelines.domain.errors import ConfigError, NotPermittedError
from hcp_pipelines.operators.audit import note
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.secrets import create_secret, secrets_dir

TOKEN_BYTES = 32
NAME = re.compile(r"[a-z][a-z0-9._-]{0,40}")
_ADD = """
    insert into operators (name, role, token_sha256, created_by) values (%s, %s, %s, %s) on conflict do nothing returning name"""
_DISABLE = "update operators set disabled_at = now() where name = %s and disabled_at is null returning name"
_LIST = "select name, role, created_by, created_at, disabled_at from operators order by name"
_ONE = "select role, token_sha256 from operators where name = %s and disabled_at is null"
_ONE_AT_A_TIME = (
    "select pg_advisory_xact_lock(hashtextextended('list of operators', 0))"  # until what is listed is committed
)
_ACTIVE = "select name, role, token_sha256 from operators where disabled_at is null order by name"


class OperatorRole(StrEnum):
    """What an operator may do: look; order and release; also undo what others hold."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def may(self, least: "OperatorRole") -> bool:
        """Whether this role includes another.

        >>> OperatorRole.ADMIN.may(OperatorRole.OPERATOR), OperatorRole.VIEWER.may(OperatorRole.OPERATOR)
        (True, False)
        """
        order = list(OperatorRole)
        return order.index(self) >= order.index(least)


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody who has proved to be this operator."""

    name: str
    role: OperatorRole


@dataclass(frozen=True, slots=True)
class Account:
    """An operator as listed."""

    name: str
    role: OperatorRole
    created_by: str
    created_at: datetime
    disabled_at: datetime | None


def token_file(settings: Settings, name: str) -> Path:
    """Where an operator's token is kept.

    Raises:
        ConfigError: the name is none.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"operator {name!r}: a name is lower-case letters, digits, '.', '_' and '-', at most 41 of them"
        )
    return secrets_dir(settings) / "operators" / f"{name}.token"


def gateways_list(settings: Settings) -> Path:
    """The file that gateways read: name, role and the token's SHA-256 of each operator who is not disabled."""
    return secrets_dir(settings) / "operators.yaml"


def add(settings: Settings, connection: psycopg.Connection[Any], name: str, role: OperatorRole, by: str) -> Path:
    """Make an operator; the file with the token.

    Raises:
        ConfigError: the name is taken, or is none.
    """
    path = token_file(settings, name)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    with connection.transaction():
        connection.execute(_ONE_AT_A_TIME)
        if connection.execute(_ADD, (name, role.value, _digest(token), by)).fetchone() is None:
            raise ConfigError(
                f"operator {name!r} exists already, or did: take another name; `hcp operator list` shows them"
            )
        note(connection, by, "operator.added", name, role=role.value)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        create_secret(path, token)
        _write_gateways_list(settings, connection)
    return path


def disable(settings: Settings, connection: psycopg.Connection[Any], name: str, by: str) -> None:
    """From now on the operator's token opens nothing; what they ordered stands until it is released.

    Raises:
        ConfigError: there is no such operator, or it is disabled already.
    """
    path = token_file(settings, name)
    with connection.transaction():
        connection.execute(_ONE_AT_A_TIME)
        if connection.execute(_DISABLE, (name,)).fetchone() is None:
            raise ConfigError(f"no operator {name!r} that is not disabled; `hcp operator list` shows those there are")
        note(connection, by, "operator.disabled", name)
        _write_gateways_list(settings, connection)
    path.unlink(missing_ok=True)


def list_operators(connection: psycopg.Connection[Any]) -> list[Account]:
    """All operators by name, disabled ones too."""
    return [Account(n, OperatorRole(r), by, at, off) for n, r, by, at, off in connection.execute(_LIST).fetchall()]


def authenticate(connection: psycopg.Connection[Any], name: str, token: str) -> Operator:
    """The operator whose token this is; a wrong one is kept in the audit log.

    Raises:
        NotPermittedError: there is no such operator, or the token is not theirs.
    """
    row = connection.execute(_ONE, (name,)).fetchone()
    if row is None or not hmac.compare_digest(row[1], _digest(token)):
        note(connection, name, "operator.refused", name, reason="unknown or disabled" if row is None else "wrong token")
        raise NotPermittedError(
            f"operator {name!r}: not known here, disabled, or the token is another one; `hcp operator list` shows those there are"
        )
    return Operator(name, OperatorRole(row[0]))


def read_token(settings: Settings, name: str) -> str:
    """The token from `HCP_OPERATOR_TOKEN_FILE`, or from the operator's own file.

    Raises:
        ConfigError: there is none, or others may read it.
    """
    own = token_file(settings, name)
    path = settings.operator_token_file or own
    try:
        mode, token = path.stat().st_mode, path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"operator {name!r}: no token in {path} ({type(error).__name__}). `hcp operator add {name} --role operator` makes "
            "operator and token; HCP_OPERATOR_TOKEN_FILE names another file."
        ) from None
    if mode & 0o077:
        raise ConfigError(f"{path}: others may read this token: chmod 600 {path}")
    return token


def _write_gateways_list(settings: Settings, connection: psycopg.Connection[Any]) -> None:
    rows = connection.execute(_ACTIVE).fetchall()
    document = {"operators": {name: {"role": role, "token_sha256": digest} for name, role, digest in rows}}
    create_secret(gateways_list(settings), yaml.safe_dump(document))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
