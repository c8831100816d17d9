"""Learnt models as rows of `models`: versions of a name, of which one is champion and serves. What is in them is not known here.

At most one version of a name is its challenger: it is asked beside the champion and is in no decision. A promotion, the row that
archives the champion before it and the audit row are one transaction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import psycopg
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from hcp_pipelines.domain.errors import ConfigError, ModelError, NotThereError

Status = Literal["champion", "challenger", "archived"]
PROMOTE, CHALLENGE, ARCHIVE, ROLL_BACK = "model.promote", "model.challenge", "model.archive", "model.rollback"
LET_GO = "model.let_go"
_ACTIONS: Mapping[Status, str] = {"champion": PROMOTE, "challenger": CHALLENGE, "archived": ARCHIVE}

_WITH_STATUS = "select version, digest, trained_until from models where name = %s and status = %s"
_ARTEFACT = "select artefact from models where name = %s and version = %s"
_NEWEST = "select max(created_at) from models where name = %s"
_NEXT = "select coalesce(max(version), 0) + 1 from models where name = %s"
_LOCK = "select pg_advisory_xact_lock(hashtext('models/' || %s))"
_SET = "update models set status = %s where name = %s and version = %s"
_INSERT = """
    insert into models (name, version, status, digest, trained_until, metadata, artefact, actor, reason, created_at)
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""
_AUDIT = "insert into audit_log (actor, action, subject, detail) values (%s, %s, %s, %s)"
_LISTED = """
    select name, version, status, digest, trained_until, created_at, actor, reason, metadata
    from models where %s::text is null or name = %s order by name, version desc limit %s"""
_ONE = """
    select name, version, status, digest, trained_until, created_at, actor, reason, metadata, is_whole, is_kept
    from models where name = %s and version = %s"""
_NAMES = "select distinct name from models order by name"
_OLD = """
    select version from (select version, status, is_kept, row_number() over (order by version desc) as nth
      from models where name = %s) of_name
    where status = 'archived' and is_kept and nth > %s and version is distinct from %s order by version"""
_GONE = "select version from models where name = %s and not is_kept order by version"
_EMPTY = "select let_go_of_models(%s, %s)"
_REIGNS = """
    select action, (detail ->> 'before')::integer from audit_log
    where action in ('model.promote', 'model.rollback')
    and subject in (select name || ' ' || version from models where name = %s) order by id desc"""


@dataclass(frozen=True, slots=True)
class Serving:
    """A version that is asked, without its content."""

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


@dataclass(frozen=True, slots=True)
class Version:
    """A version as it is listed. `actor` and `reason` are of its making.

    `is_whole`: its bytes are those that were kept; `is_kept`: they were not let go of.
    """

    name: str
    version: int
    status: Status
    digest: str
    trained_until: datetime
    created_at: datetime
    actor: str
    reason: str
    metadata: Mapping[str, Any]
    is_whole: bool
    is_kept: bool


def champion(connection: "psycopg.Connection[Any]", name: str) -> Serving | None:
    """The champion of a name; None where none has been promoted."""
    return _with_status(connection, name, "champion")


def challenger(connection: "psycopg.Connection[Any]", name: str) -> Serving | None:
    """The version that is asked beside the champion; None where there is none."""
    return _with_status(connection, name, "challenger")


def artefact(connection: "psycopg.Connection[Any]", serving: Serving) -> bytes:
    """The content of a version, as it is in the table now."""
    row = connection.execute(_ARTEFACT, (serving.name, serving.version)).fetchone()
    return b"" if row is None else bytes(row[0])


def newest_at(connection: "psycopg.Connection[Any]", name: str) -> datetime | None:
    """When the newest version of a name was made, world time; promoted or not."""
    row = connection.execute(_NEWEST, (name,)).fetchone()
    return None if row is None else row[0]


def find(connection: "psycopg.Connection[Any]", name: str, version: int) -> Version:
    """A version.

    Raises:
        NotThereError: there is none.
    """
    with connection.cursor(row_factory=class_row(Version)) as cursor:
        found = cursor.execute(_ONE, (name, version)).fetchone()
    if found is None:
        raise NotThereError(f"{name} has no version {version}: `hcp model list` shows what there is")
    return found


def keep(connection: "psycopg.Connection[Any]", model: Kept, status: Status, actor: str, reason: str) -> int:
    """Keep a model as the next version of its name; champion or challenger, it takes the place of the one before. The version."""
    with connection.transaction():
        connection.execute(_LOCK, (model.name,))
        row = connection.execute(_NEXT, (model.name,)).fetchone()
        assert row is not None
        version = int(row[0])
        before = None if status == "archived" else _vacate(connection, model.name, status)
        connection.execute(
            _INSERT,
            (
                model.name, version, status, model.digest, model.trained_until, Jsonb(dict(model.metadata)), model.artefact,
                actor, reason, model.created_at,
            ),
        )  # fmt: skip
        detail = {"digest": model.digest, "reason": reason, "before": before}
        connection.execute(_AUDIT, (actor, _ACTIONS[status], f"{model.name} {version}", Jsonb(detail)))
    return version


def promote(
    connection: "psycopg.Connection[Any]", name: str, version: int, actor: str, reason: str, evidence: Mapping[str, Any]
) -> int | None:
    """Make a version the champion; the version whose place it takes, if any.

    Raises:
        NotThereError: there is no such version.
        ConfigError: it is the champion already.
        ModelError: its bytes are not those that were kept.
    """
    with connection.transaction():
        connection.execute(_LOCK, (name,))
        return _promote(connection, find(connection, name, version), PROMOTE, actor, reason, evidence)


def promote_measured(
    connection: "psycopg.Connection[Any]",
    name: str,
    version: int,
    against: int | None,
    actor: str,
    reason: str,
    evidence: Mapping[str, Any],
) -> None:
    """Promote a challenger that was measured against a champion (None: where none served), if both still are what they were.

    Raises:
        NotThereError: there is no such version.
        ConfigError: another serves by now, or the version is the challenger no more.
        ModelError: its bytes are not those that were kept.
    """
    with connection.transaction():
        connection.execute(_LOCK, (name,))
        chosen, serving = find(connection, name, version), champion(connection, name)
        now_serving = serving.version if serving else None
        if now_serving != against:
            raise ConfigError(
                f"{name} {version} was measured against {against or 'none'}, {now_serving or 'none'} serves now"
            )
        if chosen.status != "challenger":
            raise ConfigError(f"{name} {version} is {chosen.status} by now, not the challenger")
        _promote(connection, chosen, PROMOTE, actor, reason, evidence)


def roll_back(connection: "psycopg.Connection[Any]", name: str, actor: str, reason: str) -> tuple[int, int]:
    """Make the champion again whose place the present one took: the version that went, and the one that serves.

    Done again it goes one further back: what was rolled back from is not come back to.

    Raises:
        ConfigError: nothing serves, or nothing served before.
        ModelError: the bytes of the one before are not those that were kept.
    """
    with connection.transaction():
        connection.execute(_LOCK, (name,))
        serving = champion(connection, name)
        if serving is None:
            raise ConfigError(f"no version of {name} serves: there is nothing to go back from")
        earlier = _before_this_reign(connection, name)
        if earlier is None:
            raise ConfigError(f"{name} {serving.version} took no other's place: there is nothing to go back to")
        before = find(connection, name, earlier)
        _promote(connection, before, ROLL_BACK, actor, reason, {})
    return serving.version, before.version


def names(connection: "psycopg.Connection[Any]") -> list[str]:
    """All names of which there are versions."""
    return [row[0] for row in connection.execute(_NAMES).fetchall()]


def let_go(connection: "psycopg.Connection[Any]", name: str, newest: int, actor: str) -> list[int]:
    """Empty the bytes of old versions: which. Their rows and evidence stay.

    The newest so many stay whole, and whoever serves, is asked, or would serve after `roll_back`.
    """
    with connection.transaction():
        connection.execute(_LOCK, (name,))
        before = _before_this_reign(connection, name)
        old = [row[0] for row in connection.execute(_OLD, (name, newest, before)).fetchall()]
        if old:
            connection.execute(_EMPTY, (name, old))
            detail = {"versions": old, "newest_kept": newest}
            connection.execute(_AUDIT, (actor, LET_GO, name, Jsonb(detail)))
    return old


def let_go_of(connection: "psycopg.Connection[Any]", name: str) -> list[int]:
    """The versions whose bytes were let go of, now or before."""
    return [row[0] for row in connection.execute(_GONE, (name,)).fetchall()]


def listed(connection: "psycopg.Connection[Any]", limit: int = 50, name: str | None = None) -> list[dict[str, Any]]:
    """Versions by name, newest first, without their content; of one name, if it is given."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_LISTED, (name, name, limit)).fetchall()


def _before_this_reign(connection: "psycopg.Connection[Any]", name: str) -> int | None:
    """Whose place the champion took when its present reign began; each return undoes the newest promotion not yet undone."""
    undone = 0
    for action, before in connection.execute(_REIGNS, (name,)):
        if action == ROLL_BACK:
            undone += 1
        elif undone:
            undone -= 1
        else:
            return None if before is None else int(before)
    return None


def _with_status(connection: "psycopg.Connection[Any]", name: str, status: Status) -> Serving | None:
    row = connection.execute(_WITH_STATUS, (name, status)).fetchone()
    return None if row is None else Serving(name, *row)


def _promote(
    connection: "psycopg.Connection[Any]",
    chosen: Version,
    action: str,
    actor: str,
    reason: str,
    evidence: Mapping[str, Any],
) -> int | None:
    if chosen.status == "champion":
        raise ConfigError(f"{chosen.name} {chosen.version} is the champion already")
    if not chosen.is_kept:
        raise ModelError(
            f"{chosen.name} {chosen.version} is too old: its bytes were let go of (HCP_MODELS_KEPT); learn it anew"
        )
    if not chosen.is_whole:
        raise ModelError(
            f"{chosen.name} {chosen.version} is not what was kept: its bytes have another digest than {chosen.digest[:12]}…"
        )
    before = _vacate(connection, chosen.name, "champion")
    connection.execute(_SET, ("champion", chosen.name, chosen.version))
    detail = {"digest": chosen.digest, "reason": reason, "before": before, "evidence": dict(evidence)}
    connection.execute(_AUDIT, (actor, action, f"{chosen.name} {chosen.version}", Jsonb(detail)))
    return before


def _vacate(connection: "psycopg.Connection[Any]", name: str, status: Status) -> int | None:
    """Archive who holds a place; its version, if anybody did."""
    before = _with_status(connection, name, status)
    if before is not None:
        connection.execute(_SET, ("archived", name, before.version))
    return None if before is None else before.version
