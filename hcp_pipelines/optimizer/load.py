"""Reading a solve's inputs from Postgres: newest actionable ticks, present states, armed obligations. No writing.

Inventory comes as `SiteInputs` from the caller (`fleet.solve_sites.load_sites`), since fleet stands above the optimizer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg

from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.domain.ticks import BITCOIN, Stream
from hcp_pipelines.economics.mining import HASHPRICE, hashprice_usd_per_ph_day
from hcp_pipelines.economics.power import decision_price_of
from hcp_pipelines.optimizer.inputs import FacilityInputs, InputsNotReadyError, SiteInputs

LMPS_LOOKED_AT = 9  # newest values a series; three intervals of LMPs
JOURNAL_ROWS_LOOKED_AT = 5_000  # newest rows a facility, to find what its groups were last commanded
_NETWORK = ("difficulty", "fees_btc_per_block", "height")

_TICKS_SQL = """
    select w.stream, w.series, t.id, t."timestamp", t.value
    from unnest(%(streams)s::text[], %(series)s::text[]) as w(stream, series)
    cross join lateral (
        select id, "timestamp", value from price_data p
        where p.stream = w.stream and p.series = w.series and p.quality in ('good', 'unusual')
          and p."timestamp" <= %(now)s and (%(max_id)s::bigint is null or p.id <= %(max_id)s)
        order by p."timestamp" desc, p.revision desc limit %(limit)s) t
    order by w.stream, w.series, t."timestamp", t.id"""
_PRESENT_SQL = """
    select f.id, j.group_id, j.to_state
    from unnest(%s::text[], %s::bigint[]) as f(id, generation)
    cross join lateral (
        select distinct on (group_id) group_id, to_state from (
            select id, group_id, to_state, event, generation from switch_journal
            where facility_id = f.id order by id desc limit %s) newest
        where event = 'commanded' and newest.generation = f.generation order by group_id, id desc) j"""
_ARMED_SQL = """
    select facility_id, sum(mw)::float8 from grid_obligations
    where facility_id = any(%s) and status = 'armed' group by facility_id"""


@dataclass(frozen=True, slots=True)
class Value:
    """A value with the tick it came by."""

    tick_id: int
    source_at: datetime
    value: float


@dataclass(frozen=True, slots=True)
class Markets:
    """Newest values of each (stream, series), oldest first, as known at `now`."""

    now: datetime
    values: Mapping[tuple[str, str], Sequence[Value]] = field(default_factory=dict)

    def newest(self, stream: Stream, series: str) -> Value:
        """The newest value.

        Raises:
            InputsNotReadyError: there is none.
        """
        found = self.values.get((stream.value, series))
        if not found:
            raise InputsNotReadyError(f"no actionable value of {stream.value} {series} yet; is the feed running?")
        return found[-1]

    def age_s(self, value: Value) -> float:
        """How old a value is, seconds of world time."""
        return max(0.0, (self.now - value.source_at).total_seconds())


def load_markets(
    connection: psycopg.Connection, sites: Sequence[SiteInputs], now: datetime, max_tick_id: int | None = None
) -> Markets:
    """The series that the sites need, point-in-time: nothing from after `now` or past `max_tick_id`."""
    wanted = [(Stream.POWER_RT_LMP.value, point) for point in dict.fromkeys(s.settlement_point for s in sites)]
    wanted += [(Stream.BTC_USD.value, BITCOIN), *((Stream.BTC_NETWORK.value, name) for name in _NETWORK)]
    gpu_types = dict.fromkeys(i.removeprefix("gpu.") for s in sites for i in s.indices if i.startswith("gpu."))
    wanted += [(Stream.GPU_SPOT.value, gpu_type) for gpu_type in gpu_types]
    parameters = {
        "streams": [stream for stream, _ in wanted],
        "series": [series for _, series in wanted],
        "now": now,
        "max_id": max_tick_id,
        "limit": LMPS_LOOKED_AT,
    }
    values: dict[tuple[str, str], dict[datetime, Value]] = {}
    for stream, series, tick_id, source_at, value in connection.execute(_TICKS_SQL, parameters).fetchall():
        values.setdefault((stream, series), {})[source_at] = Value(tick_id, source_at, value)  # the last revision wins
    return Markets(now, {key: list(by_instant.values()) for key, by_instant in values.items()})


def load_inputs(
    connection: psycopg.Connection,
    sites: Sequence[SiteInputs],
    now: datetime,
    options: Mapping[str, Any] | None = None,
    max_tick_id: int | None = None,
) -> list[FacilityInputs]:
    """Inputs of each site's solve at the world instant `now`.

    Args:
        connection: with the rights of hcp_control.
        sites: of `fleet.solve_sites.load_sites`.
        now: the world's instant; nothing from after it is looked at.
        options: `refresh_after_s`, `expires_after_s`, `run_id` of FacilityInputs.
        max_tick_id: ticks beyond it are not looked at (re-runs, replays).

    Raises:
        InputsNotReadyError: a series that a site needs has no value yet.
    """
    markets = load_markets(connection, sites, now, max_tick_id)
    present = load_present(connection, sites)
    armed: dict[str, float] = dict(connection.execute(_ARMED_SQL, ([s.facility_id for s in sites],)).fetchall())
    return [
        facility_inputs(site, markets, present.get(site.facility_id, {}), armed.get(site.facility_id, 0.0), options)
        for site in sites
    ]


def facility_inputs(
    site: SiteInputs,
    markets: Markets,
    present: Mapping[str, Mapping[DeviceState, int]],
    floor_mw: float = 0.0,
    options: Mapping[str, Any] | None = None,
) -> FacilityInputs:
    """One site's inputs from market values. Pure; the basis is the newest tick that entered."""
    used = {Stream.POWER_RT_LMP: [markets.newest(Stream.POWER_RT_LMP, site.settlement_point)]}
    indices: dict[str, float] = {}
    for name in site.indices:
        if name == HASHPRICE:
            price = markets.newest(Stream.BTC_USD, BITCOIN)
            network = [markets.newest(Stream.BTC_NETWORK, series) for series in _NETWORK]
            used |= {Stream.BTC_USD: [price], Stream.BTC_NETWORK: network}
            difficulty, fees, height = (v.value for v in network)
            indices[name] = hashprice_usd_per_ph_day(price.value, difficulty, fees, int(height))
        else:
            rate = markets.newest(Stream.GPU_SPOT, name.removeprefix("gpu."))
            used.setdefault(Stream.GPU_SPOT, []).append(rate)
            indices[name] = rate.value
    lmps = [(v.source_at, v.value) for v in markets.values[Stream.POWER_RT_LMP.value, site.settlement_point]]
    return FacilityInputs(
        site=site,
        basis_tick_id=max(v.tick_id for values in used.values() for v in values),
        solved_at=markets.now,
        decision_price_usd_per_mwh=decision_price_of(lmps),
        indices=indices,
        input_age_s={s.value: max(markets.age_s(v) for v in values) for s, values in used.items()},
        present=present,
        floor_mw=floor_mw,
        **(options or {}),
    )


def load_present(
    connection: psycopg.Connection, sites: Sequence[SiteInputs]
) -> dict[str, dict[str, dict[DeviceState, int]]]:
    """Where each group was last sent, all of it: what a running ramp has not reached yet counts as reached."""
    devices = {(s.facility_id, g.group_id): g.devices for s in sites for g in s.groups}
    ids, generations = [s.facility_id for s in sites], [s.generation for s in sites]
    rows = connection.execute(_PRESENT_SQL, (ids, generations, JOURNAL_ROWS_LOOKED_AT)).fetchall()
    present: dict[str, dict[str, dict[DeviceState, int]]] = {}
    for facility_id, group_id, state in rows:
        count = devices.get((facility_id, group_id))
        if count is not None:
            present.setdefault(facility_id, {})[group_id] = {DeviceState(state): count}
    return present
