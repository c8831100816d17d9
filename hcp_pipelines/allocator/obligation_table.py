"""A facility's grid obligations in Postgres: the rows with the grid's signals, and what its owner writes back.

Written only under a lease that stands, and only from the status that was read: the statement itself looks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import psycopg

from hcp_pipelines.policy.obligations import Delivery, Obligation, Signals, Status

Connection = psycopg.AsyncConnection[Any]

_ROWS = """
    select id, facility_id, programme, status, mw, lower(during), upper(during), notice_s, duration_s, recovery_s, tranche,
           deployed_at, recalled_at, baseline_mw, delivered_fraction, metered_at, longest_gap_s, reason,
           penalty_usd_per_mwh
    from grid_obligations
    where facility_id = any(%s) and status in ('awarded', 'armed', 'deployed', 'recovering') order by id"""
_SIGNALS = """
    select (payload ->> 'obligation_id')::bigint, kind, max(effective_at) from grid_signals
    where facility_id = any(%s) and kind in ('deploy', 'recall') and payload ? 'obligation_id' group by 1, 2"""
_BASE_POINTS = """
    select distinct on (facility_id) facility_id, id, (payload ->> 'mw')::float8, effective_at, source from grid_signals
    where facility_id = any(%s) and kind = 'base_point' order by facility_id, effective_at desc, id desc"""
_WRITE = """
    update grid_obligations o set status = %s, deployed_at = %s, recalled_at = %s, baseline_mw = %s, delivered_fraction = %s,
        metered_at = %s, longest_gap_s = %s, reason = %s, updated_at = now()
    from facility_leases l
    where o.id = %s and o.status = %s and l.facility_id = o.facility_id and l.owner = %s and l.epoch = %s
        and l.expires_at > now()"""


@dataclass(frozen=True, slots=True)
class BasePoint:
    """What the market last told a controllable load to draw."""

    signal_id: int
    mw: float
    at_s: float
    source: str


@dataclass(frozen=True)
class Rows:
    """What Postgres has of one facility."""

    obligations: tuple[Obligation, ...] = ()
    signals: Mapping[int, Signals] = field(default_factory=dict)
    base_point: BasePoint | None = None


async def read_obligations(connection: Connection, facility_ids: Sequence[str]) -> dict[str, Rows]:
    """What Postgres has of some facilities, each one named."""
    ids = list(facility_ids)
    rows = [_obligation(row) for row in await (await connection.execute(_ROWS, (ids,))).fetchall()]
    signals: dict[int, Signals] = {}
    for number, kind, at in await (await connection.execute(_SIGNALS, (ids,))).fetchall():
        known = signals.get(number, Signals())
        at_s = at.timestamp()
        signals[number] = replace(known, **{"deploy_at_s" if kind == "deploy" else "recall_at_s": at_s})
    points = {
        row[0]: BasePoint(row[1], row[2], row[3].timestamp(), row[4])
        for row in await (await connection.execute(_BASE_POINTS, (ids,))).fetchall()
        if row[2] is not None and math.isfinite(row[2]) and row[2] >= 0
    }
    return {
        facility_id: Rows(tuple(o for o in rows if o.facility_id == facility_id), signals, points.get(facility_id))
        for facility_id in ids
    }


async def write_obligation(
    connection: Connection, owner: str, epoch: int, before: Status, obligation: Obligation
) -> bool:
    """Write what became of one, under a lease that stands; whether it was written."""
    delivery = obligation.delivery
    values = (
        obligation.status.value, _instant(obligation.deployed_at_s), _instant(obligation.recalled_at_s),
        obligation.baseline_mw, delivery.least if math.isfinite(delivery.least) else None, _instant(delivery.last_at_s),
        delivery.longest_gap_s, obligation.reason, obligation.obligation_id, before.value, owner, epoch,
    )  # fmt: skip
    return (await connection.execute(_WRITE, values)).rowcount == 1


def _obligation(row: Sequence[Any]) -> Obligation:
    (number, facility_id, programme, status, mw, start, end, notice_s, duration_s, recovery_s, tranche, deployed_at,
     recalled_at, baseline_mw, delivered, metered_at, gap_s, reason, penalty_usd_per_mwh) = row  # fmt: skip
    delivery = Delivery(math.inf if delivered is None else delivered, _seconds(metered_at), gap_s)
    return Obligation(
        number, facility_id, programme, Status(status), mw, start.timestamp(), end.timestamp(), notice_s, duration_s,
        recovery_s, tranche, _seconds(deployed_at), _seconds(recalled_at), baseline_mw, delivery, reason,
        penalty_usd_per_mwh,
    )  # fmt: skip


def _instant(at_s: float | None) -> datetime | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, tz=UTC)


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
