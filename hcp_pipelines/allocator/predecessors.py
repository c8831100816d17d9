"""What a new owner, or a preview, reads of owners before it: how far the journal is, ramps, switches, memory. No writing."""

from datetime import datetime, timedelta
from typing import Any

import psycopg

from hcp_pipelines.allocator.decide import NO_POLICY, LastPolicy
from hcp_pipelines.allocator.devices import Switched

SWITCHES_COUNT = timedelta(hours=1)  # simulated; minimum times above that are forgotten with their owner
Connection = psycopg.AsyncConnection[Any]

_READ_CURSOR = "select value from process_cursors where process = 'gateway_log' and cursor = %s"
_BOOKINGS = """
    select extract(epoch from least(a.simulated_at, c.simulated_at + case c.event when 'commanded' then %s else '0' end))::float8,
        c.feeder_id, c.mw_delta
    from switch_journal c
    left join switch_journal a on a.command_id = c.command_id and a.assignment = c.assignment and a.event = 'acked'
    where c.facility_id = %s and c.event in ('commanded', 'observed') and c.simulated_at > %s and c.mw_delta <> 0
    order by 1, c.id"""
_READ_MEMORY = "select memory from owner_memory where facility_id = %s"
_LAST_POLICY = """
    select p.basis_tick_id, extract(epoch from p.expires_at)::float8
    from policy_admissions a join policies p on p.id = a.policy_id
    where a.facility_id = %s and a.is_admitted order by a.id desc limit 1"""
_SWITCHES = """
    select extract(epoch from least(a.simulated_at, c.simulated_at + %s))::float8, c.from_state, c.mw_delta, c.slots
    from switch_journal c
    left join switch_journal a on a.command_id = c.command_id and a.assignment = c.assignment and a.event = 'acked'
    where c.facility_id = %s and c.generation = %s and c.event = 'commanded' and c.simulated_at > %s and c.mw_delta <> 0
      and not exists (select from switch_journal o
                      where o.command_id = c.command_id and o.assignment = c.assignment and o.event = 'expired')
    order by 1, c.id"""


async def read_cursor(connection: Connection, facility_id: str) -> int:
    """Up to which sequence number the gateway's log is in the journal."""
    row = await (await connection.execute(_READ_CURSOR, (facility_id,))).fetchone()
    return row[0] if row else 0


async def read_memory(connection: Connection, facility_id: str) -> dict[str, Any]:
    """What the owner before knew; empty where there was none."""
    row = await (await connection.execute(_READ_MEMORY, (facility_id,))).fetchone()
    return row[0] if row else {}


async def read_last_policy(connection: Connection, facility_id: str) -> LastPolicy:
    """The last policy that an owner took."""
    row = await (await connection.execute(_LAST_POLICY, (facility_id,))).fetchone()
    return LastPolicy(*row) if row else NO_POLICY


async def read_bookings(
    connection: Connection, facility_id: str, since: datetime, within: timedelta
) -> list[tuple[float, str, float]]:
    """What used up the ramps since a simulated instant: (Unix seconds, feeder, signed MW), in order of time.

    A command counts from its ack, at the latest so long after its plan (`within`, simulated): its commit may have taken long.
    """
    rows = await (await connection.execute(_BOOKINGS, (within, facility_id, since - within))).fetchall()
    return [row for row in rows if row[0] > since.timestamp()]


async def read_switches(
    connection: Connection, facility_id: str, generation: int, now: datetime, within: timedelta
) -> list[Switched]:
    """What was commanded to a generation's devices in the last hour and may have left, oldest first; when: as `read_bookings`."""
    since = now - SWITCHES_COUNT
    rows = await (await connection.execute(_SWITCHES, (within, facility_id, generation, since - within))).fetchall()
    return [Switched(*row) for row in rows if row[0] > since.timestamp()]
