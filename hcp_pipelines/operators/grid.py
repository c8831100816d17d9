"""Grid obligations as operators take them on, give them back, and list them.

What a status means, and what can't be met, is in `policy.obligations`; a facility's owner carries it out. What the grid says is
passed on in `grid_word`. Instants are simulated.
"""

import math
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.errors import ExclusionViolation

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.fleet.inventory import FacilityInventory
from hcp_pipelines.fleet.obligations import flexible_of
from hcp_pipelines.operators.accounts import Operator
from hcp_pipelines.operators.audit import note
from hcp_pipelines.operators.availability import CountedOn
from hcp_pipelines.operators.orders import require
from hcp_pipelines.policy.obligations import Obligation, Status, refusal_of
from hcp_pipelines.policy.outlook import not_on

BASELINE_RULE = "meter at the deployment"
_STANDING = """
    select id, programme, status, mw, lower(during), upper(during), notice_s, duration_s, recovery_s, tranche
    from grid_obligations where facility_id = %s and status in ('awarded', 'armed', 'deployed', 'recovering') order by id"""
# two awards at once would sell the same load in two tranches; foreign keys of an owner's inserts don't wait for this lock
_ALONE = "select 1 from facilities where id = %s for no key update"
_AWARD = """
    insert into grid_obligations (facility_id, programme, status, mw, tranche, during, baseline_rule, notice_s, duration_s,
        recovery_s, penalty_usd_per_mwh)
    values (%s, %s, 'awarded', %s, %s, tstzrange(%s, %s), %s, %s, %s, %s, %s) returning id"""
_ONE = """
    select facility_id, status, lower(during), upper(during) from grid_obligations where id = %s for update"""
_WITHDRAW = "update grid_obligations set status = 'withdrawn', reason = %s, updated_at = now() where id = %s"
_LIST = """
    select id, facility_id, programme, status, mw, tranche, lower(during), upper(during), notice_s, duration_s, recovery_s,
           penalty_usd_per_mwh, deployed_at, recalled_at, baseline_mw, delivered_fraction, reason
    from grid_obligations where %s::text is null or facility_id = %s order by id desc limit %s"""


@dataclass(frozen=True)
class Award:
    """MW of a programme over an interval, to be taken on."""

    programme: str
    mw: float
    starts_at: datetime
    ends_at: datetime
    notice_s: float
    duration_s: float
    recovery_s: float
    penalty_usd_per_mwh: float
    tranche: str = "all"

    def at(self, facility_id: str) -> Obligation:
        """The obligation that it would be."""
        return Obligation(
            0, facility_id, self.programme, Status.AWARDED, self.mw, self.starts_at.timestamp(), self.ends_at.timestamp(),
            self.notice_s, self.duration_s, self.recovery_s, self.tranche,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Listed:
    """An obligation as listed; `delivered_fraction` is the least of the MW sold at any sample of its last event."""

    obligation_id: int
    facility_id: str
    programme: str
    status: str
    mw: float
    tranche: str
    starts_at: datetime
    ends_at: datetime
    notice_s: float
    duration_s: float
    recovery_s: float
    penalty_usd_per_mwh: float
    deployed_at: datetime | None
    recalled_at: datetime | None
    baseline_mw: float | None
    delivered_fraction: float | None
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def award(
    connection: psycopg.Connection[Any],
    operator: Operator,
    inventory: FacilityInventory,
    asked: Award,
    there_is: CountedOn,
    now: datetime,
    reason: str,
) -> int:
    """Take an obligation on, or refuse it with the reason; its id.

    Raises:
        NotPermittedError: the operator may only look.
        ConfigError: it is over already, can't be met, or its MW are sold.
    """
    facility_id = inventory.facility_id
    require(connection, operator, "award", facility_id)
    with connection.transaction():
        connection.execute(_ALONE, (facility_id,))
        refusal = _impossible(asked, now) or _unmeetable(connection, inventory, asked.at(facility_id), there_is)
        number = None if refusal else _insert(connection, operator, facility_id, asked, reason)
    if number is None:
        refusal = refusal or _sold(connection, facility_id, asked)
        note(connection, operator.name, "award.refused", facility_id, reason=refusal, **_said(asked))
        raise ConfigError(f"{facility_id}: {asked.programme} is not taken on: {refusal}")
    return number


def withdraw(connection: psycopg.Connection[Any], operator: Operator, number: int, reason: str) -> str:
    """Give an award back before it is armed; its facility.

    Raises:
        NotPermittedError: the operator may only look.
        ConfigError: there is no such obligation, or it is armed already.
    """
    require(connection, operator, "withdraw", name_of(number))
    with connection.transaction():
        facility_id, status, _, _ = locked_row(connection, number)
        if status not in ("offered", "awarded"):
            raise ConfigError(f"{name_of(number)} is {status}: only what is not armed yet can be withdrawn")
        connection.execute(_WITHDRAW, (f"withdrawn: {reason}", number))
        note(connection, operator.name, "obligation.withdrawn", name_of(number), facility_id=facility_id, reason=reason)
    return facility_id


def list_obligations(
    connection: psycopg.Connection[Any], facility_id: str | None = None, limit: int = 50
) -> list[Listed]:
    """The newest obligations, newest first."""
    return [Listed(*row) for row in connection.execute(_LIST, (facility_id, facility_id, limit)).fetchall()]


def locked_row(connection: psycopg.Connection[Any], number: int) -> tuple[str, str, datetime, datetime]:
    """(facility, status, start, end) of an obligation, which nobody else changes until this transaction ends.

    Raises:
        ConfigError: there is none of that id.
    """
    row = connection.execute(_ONE, (number,)).fetchone()
    if row is None:
        raise ConfigError(f"no {name_of(number)}: `hcp grid list` shows those there are")
    facility_id, status, starts_at, ends_at = row
    return facility_id, status, starts_at, ends_at


def name_of(number: int) -> str:
    """An obligation's name in the audit log and in messages."""
    return f"obligation/{number}"


def _insert(
    connection: psycopg.Connection[Any], operator: Operator, facility_id: str, asked: Award, reason: str
) -> int | None:
    """The new row's id; None where the same MW are sold already."""
    values = (
        facility_id, asked.programme, asked.mw, asked.tranche, asked.starts_at, asked.ends_at, BASELINE_RULE, asked.notice_s,
        asked.duration_s, asked.recovery_s, asked.penalty_usd_per_mwh,
    )  # fmt: skip
    try:
        with connection.transaction():
            row = connection.execute(_AWARD, values).fetchone()
            assert row is not None
            said = {"facility_id": facility_id, "reason": reason, **_said(asked)}
            note(connection, operator.name, "obligation.awarded", name_of(row[0]), **said)
    except ExclusionViolation:
        return None
    return int(row[0])


def _said(asked: Award) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, datetime) else value for key, value in asdict(asked).items()}


def _impossible(asked: Award, now: datetime) -> str:
    if not 0.0 <= asked.penalty_usd_per_mwh < math.inf:
        return f"a penalty of {asked.penalty_usd_per_mwh:g} $/MWh: it is 0 or more, and a number"
    if asked.ends_at > now:
        return ""
    return f"it ends at {asked.ends_at:%Y-%m-%d %H:%M}Z, it is {now:%Y-%m-%d %H:%M}Z, simulated"


def _unmeetable(
    connection: psycopg.Connection[Any], inventory: FacilityInventory, mine: Obligation, there_is: CountedOn
) -> str:
    flexible = flexible_of(inventory, there_is.unavailable_in(inventory, mine.start_s, mine.end_s))
    standing = _standing(connection, mine.facility_id)
    feeder_of = {group.group_id: group.feeder_id for group in inventory.groups}
    refusal = refusal_of(mine, flexible, standing)
    refusal = refusal or not_on(mine, flexible, feeder_of, there_is.outlook, standing)
    away = ", ".join(each.name for each in there_is.away_in(mine.start_s, mine.end_s))
    return f"{refusal}; without the devices of {away}" if refusal and away else refusal


def _sold(connection: psycopg.Connection[Any], facility_id: str, asked: Award) -> str:
    mine = asked.at(facility_id)
    overlapping = [
        o
        for o in _standing(connection, facility_id)
        if o.tranche == asked.tranche and o.start_s < mine.end_s and mine.start_s < o.end_s
    ]
    names = ", ".join(f"{name_of(o.obligation_id)} ({o.programme}, {o.mw:g} MW)" for o in overlapping)
    return f"tranche {asked.tranche!r} is sold in that time already: {names}; another part of the load is another --tranche"


def _standing(connection: psycopg.Connection[Any], facility_id: str) -> list[Obligation]:
    rows = connection.execute(_STANDING, (facility_id,)).fetchall()
    return [
        Obligation(
            number, facility_id, programme, Status(status), mw, start.timestamp(), end.timestamp(), notice_s, duration_s,
            recovery_s, tranche,
        )
        for number, programme, status, mw, start, end, notice_s, duration_s, recovery_s, tranche in rows
    ]  # fmt: skip
