"""Repair cases: devices that quarantine or a person has given up on, until a person says what became of them.

Cases of quarantine are opened by Postgres from what the facility's owner remembers. A case puts nothing to sleep: who has
a device in hand locks it. As its case is closed it comes out of quarantine, unless it is retired. Instants are simulated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.fleet.inventory import FacilityInventory
from hcp_pipelines.operators.accounts import Operator
from hcp_pipelines.operators.audit import note
from hcp_pipelines.operators.building import slots_of
from hcp_pipelines.operators.orders import require

RETIRED = "retired"
OUTCOMES = ("repaired", "replaced", RETIRED, "nothing_found")
PART_MAX = 100  # characters
_OPEN = """
    insert into repair_cases (facility_id, slot, group_id, model, reason, opened_by, opened_at)
    values (%s, %s, %s, %s, %s, %s, %s)
    on conflict (facility_id, slot) where closed_at is null do nothing returning id"""
_CLOSE = """
    update repair_cases set outcome = %(outcome)s, part = %(part)s, closing_words = %(words)s, closed_by = %(by)s,
        closed_at = greatest(opened_at, %(now)s)
    where id = %(id)s and closed_at is null returning facility_id, slot"""
_LIST = """
    select id, facility_id, slot, group_id, model, reason, opened_by, opened_at, outcome, part, closing_words, closed_by,
           closed_at
    from repair_cases where (%(all)s or closed_at is null) and (%(facility)s::text is null or facility_id = %(facility)s)
    order by closed_at is not null, id desc limit 500"""
_TIMES = """
    select facility_id, group_id, model, open, closed, nothing_found, mean_time_to_repair_s, parts from repair_times
    order by facility_id, group_id, model"""


@dataclass(frozen=True, slots=True)
class Case:
    """A case as listed."""

    number: int
    facility_id: str
    slot: int
    group_id: str
    model: str
    reason: str
    opened_by: str
    opened_at: datetime
    outcome: str | None
    part: str
    closing_words: str
    closed_by: str | None
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Times:
    """Of a group: cases, how long a repair or replacement took on average, and spares used."""

    facility_id: str
    group_id: str
    model: str
    open: int
    closed: int
    nothing_found: int
    mean_time_to_repair_s: float | None
    parts: int


def open_cases(
    connection: psycopg.Connection[Any],
    operator: Operator,
    inventory: FacilityInventory,
    texts: Sequence[str],
    reason: str,
    now: datetime,
) -> list[int]:
    """Open a case each for some slots; those that have an open one keep it.

    Raises:
        NotPermittedError: the operator may only look.
        ConfigError: no slots, or one without a device.
    """
    require(connection, operator, "repair", inventory.facility_id)
    opened = list[int]()
    with connection.transaction():
        for slot in slots_of(inventory, texts).tolist():
            group = next(g for g in inventory.groups if g.first_slot <= slot < g.first_slot + g.devices)
            values = (inventory.facility_id, slot, group.group_id, group.model, reason, operator.name, now)
            row = connection.execute(_OPEN, values).fetchone()
            if row is not None:
                opened.append(row[0])
                note(
                    connection, operator.name, "repair.opened", f"repair/{row[0]}", facility_id=inventory.facility_id,
                    slot=slot, reason=reason,
                )  # fmt: skip
    return opened


def close_case(
    connection: psycopg.Connection[Any],
    operator: Operator,
    number: int,
    outcome: str,
    part: str,
    words: str,
    now: datetime,
) -> tuple[str, int]:
    """Say what became of a case; its facility and slot.

    Raises:
        NotPermittedError: the operator may only look.
        ConfigError: there is no such case (any more), or the part's name is too long.
    """
    name = f"repair/{number}"
    require(connection, operator, "repair.close", name)
    if len(part) > PART_MAX or not (part == "" or part.isprintable()):
        raise ConfigError(f"part: at most {PART_MAX} printable characters, these are {len(part)}")
    with connection.transaction():
        values = {"outcome": outcome, "part": part, "words": words, "by": operator.name, "now": now, "id": number}
        row = connection.execute(_CLOSE, values).fetchone()
        if row is None:
            raise ConfigError(f"{name} is not open (any more): `hcp repair list` shows those that are")
        note(connection, operator.name, "repair.closed", name, outcome=outcome, part=part, reason=words)
    return str(row[0]), int(row[1])


def list_cases(connection: psycopg.Connection[Any], facility_id: str | None, *, with_closed: bool) -> list[Case]:
    """Cases, open ones first, newest first, at most 500."""
    rows = connection.execute(_LIST, {"all": with_closed, "facility": facility_id}).fetchall()
    return [Case(*row) for row in rows]


def repair_times(connection: psycopg.Connection[Any]) -> list[Times]:
    """How long repairs took, by group and model."""
    return [Times(*row) for row in connection.execute(_TIMES).fetchall()]
