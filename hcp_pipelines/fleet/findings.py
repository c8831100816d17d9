"""What discovery has to say about a facility apart from the inventory itself, in `audit_log`: recorded once, shown to people."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from hcp_pipelines.fleet.reconcile import Reconciliation

DIFFERS, HELD, RECONCILED = "inventory.differs", "alert.discovery_held", "inventory.reconcile"
SHOWN = 50  # changes in an event
_INSERT = "insert into audit_log (actor, action, subject, detail) values (%s, %s, %s, %s)"
_LAST_DIGEST = """
    select detail ->> 'digest' from audit_log
    where subject = %s and action = 'inventory.differs' order by id desc limit 1"""
_NEWEST = """
    select distinct on (subject) subject, action, actor, recorded_at, detail from audit_log
    where action in ('inventory.reconcile', 'inventory.differs', 'alert.discovery_held') order by subject, id desc"""


@dataclass(frozen=True, slots=True)
class Finding:
    """The last word about a facility. `kind`: applied, differs, held."""

    facility_id: str
    kind: str
    actor: str
    at: datetime
    said: str
    unplaced: int

    def as_dict(self) -> dict[str, object]:
        """As `hcp status --json` prints it."""
        return {"kind": self.kind, "by": self.actor, "at": self.at.isoformat(), "said": self.said} | (
            {"unplaced": self.unplaced} if self.unplaced else {}
        )


def record_held(connection: psycopg.Connection, facility_id: str, actor: str, why: str) -> None:
    """A scan that is not believed for now; it is an alert too."""
    connection.execute(_INSERT, (actor, HELD, facility_id, Jsonb({"why": why, "gateway": actor})))


def record_believed(connection: psycopg.Connection, facility_id: str, actor: str) -> None:
    """The scans are believed again."""
    connection.execute(_INSERT, (actor, RECONCILED, facility_id, Jsonb({"changes": "", "was_held": True})))


def record_differences(connection: psycopg.Connection, facility_id: str, actor: str, found: Reconciliation) -> bool:
    """What applying would change, where it is not applied; whether that is new."""
    changes = [list(one) for one in _changes(found)]
    digest = hashlib.sha256(json.dumps(changes).encode()).hexdigest()
    row = connection.execute(_LAST_DIGEST, (facility_id,)).fetchone()
    if (row[0] if row else None) == digest or (row is None and not changes):
        return False
    detail = {"changes": found.summary, "unplaced": len(found.unplaced), "digest": digest, "devices": changes[:SHOWN]}
    connection.execute(_INSERT, (actor, DIFFERS, facility_id, Jsonb(detail)))
    return True


def newest_findings(connection: psycopg.Connection) -> list[Finding]:
    """The last word about each facility, by id."""
    return [_finding(*row) for row in connection.execute(_NEWEST)]


def _changes(found: Reconciliation) -> Iterator[tuple[str, int, str]]:
    for change in found.changes:
        yield change.kind.value, change.slot, (change.found.address if change.found else change.before.address)


def _finding(facility_id: str, action: str, actor: str, at: datetime, detail: dict[str, Any]) -> Finding:
    kind = {DIFFERS: "differs", HELD: "held", RECONCILED: "applied"}[action]
    said = detail.get("why") or detail.get("changes") or "no difference"
    return Finding(facility_id, kind, actor, at, said, int(detail.get("unplaced", 0)))
