"""Reads from Postgres what the re-solve rule of `requests.py` compares; decides nothing."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import psycopg

from hcp_pipelines.domain.ticks import BITCOIN
from hcp_pipelines.economics.mining import HASHPRICE, hashprice_usd_per_ph_day
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
      and "timestamp" <= %s
    order by "timestamp" desc, revision desc limit 1
) power on true
left join lateral (
    select created_at from grid_signals
    where facility_id is null or facility_id = f.id
    order by id desc limit 1
) signal on true
left join lateral (
    select basis_tick_id, published_at, refresh_due_at, body from policies
    where facility_id = f.id and status = 'live' and inventory_generation = (
        select generation from inventory_generations g where g.facility_id = f.id and g.is_current)
        and policies.obligations_version = f.obligations_version
    order by id desc limit 1
) policy on true
where f.status = 'active'
order by f.id
"""


INDEX_SQL = f"""
select w.stream, w.series, t.value
from (
    values ('btc.usd', '{BITCOIN}'), ('btc.network', 'difficulty'), ('btc.network', 'fees_btc_per_block'),
           ('btc.network', 'height')
    union all
    select 'gpu.spot', unnest(%s::text[])
) as w (stream, series)
cross join lateral (
    select value from price_data p
    where p.stream = w.stream and p.series = w.series and p.quality in ('good', 'unusual')
    order by p."timestamp" desc, p.revision desc limit 1
) t
"""  # noqa: S608 - our constant


def read_solve_state(connection: "psycopg.Connection[Any]", now: datetime) -> SolveState:
    """What the rule needs, in three short reads; `now` is simulated."""
    newest = connection.execute("select coalesce(max(id), 0) from price_data").fetchone()
    rows = connection.execute(FACILITIES_SQL, (now,)).fetchall()
    gpu_types = {name.removeprefix("gpu.") for row in rows for name in row[6] or {} if name.startswith("gpu.")}
    indices = live_indices(connection.execute(INDEX_SQL, (sorted(gpu_types),)).fetchall())
    return SolveState(now, int(newest[0]) if newest else 0, [_facility(row, indices) for row in rows])


def live_indices(rows: list[tuple[Any, ...]]) -> dict[str, float]:
    """The indices that policies are solved on, of the newest values by stream and series; what is missing is left out."""
    values = {(stream, series): float(value) for stream, series, value in rows}
    indices = {f"gpu.{series}": value for (stream, series), value in values.items() if stream == "gpu.spot"}
    network = [values.get(("btc.network", name)) for name in ("difficulty", "fees_btc_per_block", "height")]
    price, (difficulty, fees, height) = values.get(("btc.usd", BITCOIN)), network
    if price is not None and difficulty is not None and fees is not None and height is not None:
        indices[HASHPRICE] = hashprice_usd_per_ph_day(price, difficulty, fees, int(height))
    return indices


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
