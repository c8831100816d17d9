"""Reads from Postgres what the re-solve rule of `requests.py` compares; decides nothing."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import psycopg


def live_indices(_: object) -> dict[str, float]: return {}
from hcp_pipelines.orchestration.requests import FacilityState, SolveState

FACILITIES_SQL = """
select f.id,
       coalesce(power.id, 0),
       signal.created_at,
       policy.basis_tick_id,
       policy.published_at,
       policy.refresh_due_at,
       policy.body #> '{anchor,indices}',
       policy.body #> '{resolve,relative}'
from facilities f
left join lateral (
    select id from price_data
    where stream = 'power.rt_lmp' and series = f.settlement_point and quality in ('good', 'unusual')
    order by "timestamp" desc, revision desc limit 1
) power on true
left join lateral (
    select created_at from grid_signals
    where facility_id is null or facility_id = f.id
    order by id desc limit 1
) signal on true
left join lateral (
    select basis_tick_id, published_at, refresh_due_at, body from policies
    where facility_id = f.id and status = 'live'
    order by id desc limit 1
) policy on true
where f.status = 'active'
order by f.id
"""


def read_solve_state(connection: "psycopg.Connection[Any]", now: datetime) -> SolveState:
    """What the rule needs, in one consistent read of a few milliseconds; `now` is simulated."""
    newest = connection.execute("select coalesce(max(id), 0) from price_data").fetchone()
    indices = live_indices(connection)
    rows = connection.execute(FACILITIES_SQL).fetchall()
    return SolveState(now, int(newest[0]) if newest else 0, [_facility(row, indices) for row in rows])


def _facility(row: tuple[Any, ...], indices: Mapping[str, float]) -> FacilityState:
    facility_id, power_tick_id, signal_at, basis, published_at, refresh_due_at, anchor, relative = row
    return FacilityState(
        facility_id=facility_id,
        newest_power_tick_id=power_tick_id,
        newest_signal_at=signal_at,
        policy_basis_tick_id=basis,
        policy_published_at=published_at,
        refresh_due_at=refresh_due_at,
        anchor_indices=anchor or {},
        indices=indices,
        relative_bounds=relative or {},
    )
