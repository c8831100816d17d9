"""What `hcp status` tells: the supervisor's view of its processes, and the database's view of the loop."""

import json
from typing import TYPE_CHECKING, Any

import psycopg

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.domain.errors import NotRunningError, StorageError
from hcp_pipelines.domain.ticks import BITCOIN
from hcp_pipelines.fleet.findings import newest_findings
from hcp_pipelines.operators.listing import what_stands
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.lock import owner_pid
from hcp_pipelines.supervisor.memory import tree_pss_mb
from hcp_pipelines.supervisor.telemetry import read_telemetry

if TYPE_CHECKING:
    from hcp_pipelines.operators.contact import Contact

Status = dict[str, Any]

_NEWEST_IDS = """
    select (select max(id) from price_data), (select max(id) from policies), (select max(id) from switch_journal)"""
_TICKS = """
    select stream, count(*), max("timestamp"), count(*) filter (where quality in ('absurd', 'out_of_order'))
    from price_data where id > %s group by stream order by stream"""
_REJECTED = """
    select metadata -> 'rejected' from price_data where stream = 'btc.usd' and series = %s
    order by "timestamp" desc, revision desc limit %s"""
LEFT_OUT_OF = 12  # bitcoin prices in a row: two minutes at real speed; one that trades seldom is left out for a moment
_POLICIES = """
    select count(*), (array_agg(run_id order by id desc))[1], max(solved_at), count(distinct facility_id)
    from policies where status = 'live' and id > %s"""
_SWITCHES = """
    select coalesce(sum(devices) filter (where event = 'acked'), 0),
           coalesce(sum(devices) filter (where event = 'settled'), 0),
           coalesce(sum(failed), 0),
           count(*) filter (where event = 'commanded')
    from switch_journal where id > %s"""
_LAST_SWITCHES = """
    select c.facility_id, c.group_id, c.to_state, c.devices, a.devices, s.devices, c.reason,
           c.decision_price_usd_per_mwh, c.simulated_at, c.recorded_at
    from switch_journal c
    left join switch_journal a on (a.command_id, a.assignment, a.event) = (c.command_id, c.assignment, 'acked')
    left join switch_journal s on (s.command_id, s.assignment, s.event) = (c.command_id, c.assignment, 'settled')
    where c.event = 'commanded' order by c.id desc limit 5"""
_LATENCY = """
    select percentile_cont(array[0.5, 0.95, 0.99]) within group (order by (steps_ms ->> 'ack')::float8), count(*)
    from (
        select steps_ms from switch_journal where event = 'acked' and steps_ms ? 'ack' order by id desc limit 1000
    ) newest"""


def read_status(settings: Settings) -> Status:
    """The platform's state as `hcp status --json` prints it (keys: DESIGN §10).

    Raises:
        NotRunningError: nothing runs on this state directory.
    """
    pid = owner_pid(settings.at("run", "supervisor.lock"))
    try:
        seen: Status = json.loads(settings.at("run", "status.json").read_text())
    except (OSError, ValueError):
        seen = {}
    if pid is None:
        raise NotRunningError(f"No platform runs on {settings.state_dir}. Start one with `make run` or `hcp up`.")
    loop = read_loop(settings)
    processes = [p | {"pss_mb": tree_pss_mb(p["pid"]) if p["pid"] else 0.0} for p in seen.get("processes", [])]
    healthy = bool(processes) and all(p["healthy"] for p in processes) and not loop.get("error")
    own_mb = tree_pss_mb(pid, apart=[p["pid"] for p in processes])
    memory_mb = round(sum(p["pss_mb"] for p in processes) + own_mb, 1)
    known = {"healthy": healthy, "supervisor_pid": pid, "memory_mb": memory_mb, "processes": processes}
    devices = {one.facility_id: one.as_dict() for one in read_contacts(settings)}
    return known | {"urls": seen.get("urls", {}), "devices": devices} | loop


def read_contacts(settings: Settings) -> "list[Contact]":
    """Who answers and who is known, by facility; empty where Postgres can't be asked."""
    from hcp_pipelines.operators.contact import contacts  # brings gRPC: not for every process that looks

    try:
        with connect(settings, Role.OPERATOR) as connection:
            return contacts(settings, connection)
    except (psycopg.Error, StorageError, OSError):
        return []


def read_loop(settings: Settings, newest: int | None = None) -> Status:
    """Ticks, policies, switches and latency from Postgres; `error` where it can't be asked.

    Args:
        settings: of the platform.
        newest: only rows of so many ids are looked at, which costs the same however many there are; None counts all.
    """
    try:
        with connect(settings, Role.OPERATOR) as connection:
            loop = _read_loop(connection, world_clock(settings), _before(connection, newest))
            return loop | {"telemetry": read_telemetry(settings)}
    except (psycopg.Error, StorageError, OSError) as error:
        return {"ticks": {}, "policies": {}, "switches": {}, "latency_ms": {}, "error": f"Postgres: {error}"}


def world_clock(settings: Settings) -> SystemClock:
    """The clock of the platform's world; the real one where none was written."""
    try:
        return SystemClock(Anchor.load(settings.at("run", "clock.json")))
    except OSError:
        return SystemClock()


def _before(connection: psycopg.Connection, newest: int | None) -> tuple[int, int, int]:
    """The ids of price_data, policies and switch_journal after which rows are looked at."""
    if newest is None:
        return 0, 0, 0
    ticks, policies, switches = connection.execute(_NEWEST_IDS).fetchone() or (0, 0, 0)
    return (ticks or 0) - newest, (policies or 0) - newest, (switches or 0) - newest


def _read_loop(connection: psycopg.Connection, clock: SystemClock, before: tuple[int, int, int]) -> Status:
    now = clock.now()
    ticks_before, policies_before, switches_before = before
    ticks = {
        stream: {
            "count": count,
            "last_at": last.isoformat(),
            "age_s": round((now - last).total_seconds(), 1),
            "bad": bad,
        }
        for stream, count, last, bad in connection.execute(_TICKS, (ticks_before,))
    }
    solved = connection.execute(_POLICIES, (policies_before,)).fetchone()
    count, run_id, solved_at, facilities = solved or (0, None, None, 0)
    acked, settled, failed, commands = connection.execute(_SWITCHES, (switches_before,)).fetchone() or (0, 0, 0, 0)
    quantiles, samples = connection.execute(_LATENCY).fetchone() or (None, 0)
    p50, p95, p99 = quantiles or (None, None, None)
    return {
        "simulated_at": now.isoformat(),
        "ticks": ticks,
        "exchanges_left_out": _left_out(connection),
        "policies": {
            "count": count,
            "facilities": facilities,
            "last_run_id": run_id,
            "age_s": round((now - solved_at).total_seconds(), 1) if solved_at else None,
        },
        "switches": {
            "commands": commands,
            "acked": int(acked),
            "settled": int(settled),
            "failed": int(failed),
            "last": [_switch(row) for row in connection.execute(_LAST_SWITCHES)],
        },
        "latency_ms": {"tick_to_ack": {"p50": p50, "p95": p95, "p99": p99, "samples": samples}},
        "standing": what_stands(connection, now).counts(),
        "discovery": {one.facility_id: one.as_dict() for one in newest_findings(connection)},
    }


def _left_out(connection: psycopg.Connection) -> dict[str, str]:
    """The exchanges that none of the newest bitcoin prices is made of, each with the newest reason."""
    told = [rejected for (rejected,) in connection.execute(_REJECTED, (BITCOIN, LEFT_OUT_OF)) if rejected is not None]
    if len(told) < LEFT_OUT_OF:
        return {}
    return {venue: why for venue, why in told[0].items() if all(venue in each for each in told)}


_SWITCH_KEYS = (
    "facility_id", "group_id", "to_state", "commanded", "acked", "settled", "reason",
    "decision_price_usd_per_mwh", "simulated_at", "at",
)  # fmt: skip


def _switch(row: tuple[Any, ...]) -> Status:
    switch = dict(zip(_SWITCH_KEYS, row, strict=True))
    switch["simulated_at"], switch["at"] = switch["simulated_at"].isoformat(), switch["at"].isoformat()
    return switch
