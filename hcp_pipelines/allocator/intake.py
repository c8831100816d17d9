"""What comes in from Postgres: tick rows, policies, facilities. LISTEN wakes, queries decide, a slow poll covers the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from hcp_pipelines.allocator.approvals import Approved, Question, ask, read_approved
from hcp_pipelines.allocator.market import TickRow, row_of
from hcp_pipelines.allocator.obligation_table import Rows, read_obligations
from hcp_pipelines.allocator.standing import Standing, read_standing
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.fleet.inventory import (
    FACILITIES_SQL,
    GROUPS_SQL,
    RAMPS_SQL,
    FacilityInventory,
    InventoryRows,
    inventories_from_rows,
)
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.platform import know_platform
from hcp_pipelines.storage.postgres import connect_async
from hcp_pipelines.storage.prices import recent_ticks
from hcp_pipelines.storage.roles import Role

CHANNELS = ("hcp_tick", "hcp_policy", "hcp_facility", "hcp_directive", "hcp_desired")
POLL_S = 1.0
LOOK_BACK_IDS = 500  # a slow poll looks at these again: ids are given out before they are committed
ROWS_AT_ONCE = 5_000
RECENT_PER_SERIES = 9
POLICIES_LOOKED_AT = 3

_TICKS = """
    select id, stream, series, "timestamp", value, quality, revision, created_at, metadata ->> 'mark_ns'
    from price_data where id > %s order by id limit %s"""
_POLICIES = """
    select p.facility_id, p.id, p.basis_tick_id, p.digest, p.body
    from unnest(%s::text[]) as f(id)
    cross join lateral (
        select * from policies where facility_id = f.id and status = 'live' order by basis_tick_id desc limit %s) p
    order by p.facility_id, p.basis_tick_id desc"""
_ADVANCE = "select advance_maintenance(%s, %s)"
_ENDPOINTS = "select facility_id, address from gateway_endpoints"
_ADMISSION = """
    insert into policy_admissions (policy_id, facility_id, allocator, is_admitted, reason)
    select %s, l.facility_id, l.owner, %s, %s from facility_leases l
    where l.facility_id = %s and l.owner = %s and l.expires_at > now()"""


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A live policy as published."""

    facility_id: str
    policy_id: int
    basis_tick_id: int
    digest: str
    body: dict[str, Any]


class Intake:
    """The allocator's reading connection."""

    def __init__(self, settings: Settings, clock: SystemClock) -> None:
        self._settings, self._clock = settings, clock
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self.last_id = 0

    async def connection(self) -> psycopg.AsyncConnection[Any]:
        """The open connection; made anew when the old one broke."""
        if self._connection is None or self._connection.closed:
            self._connection = await connect_async(self._settings, Role.ALLOCATOR)
        return self._connection

    async def close(self) -> None:
        """Close it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def recent(self) -> list[TickRow]:
        """The newest rows of every series, oldest first: what a fresh start knows of the market."""
        connection = await self.connection()
        await know_platform(connection)
        ticks = sorted(await recent_ticks(connection, RECENT_PER_SERIES), key=lambda t: t.id or 0)
        self.last_id = max((t.id or 0 for t in ticks), default=0)
        return [
            TickRow(t.id or 0, t.stream.value, t.series, t.source_at, t.value, t.quality.value, t.revision)
            for t in ticks
        ]

    async def new_ticks(self, *, looks_back: bool) -> list[TickRow]:
        """Rows since the last call, in order of id; with `looks_back` the last few hundred once more."""
        after = max(self.last_id - LOOK_BACK_IDS, 0) if looks_back else self.last_id
        cursor = await (await self.connection()).execute(_TICKS, (after, ROWS_AT_ONCE), prepare=True)
        rows = await cursor.fetchall()
        now_ns, real_now = self._clock.monotonic_ns(), self._clock.real_now()
        if rows:
            self.last_id = max(self.last_id, rows[-1][0])
        return [row_of(row, now_ns, real_now) for row in rows]

    async def policies(self, facility_ids: Sequence[str]) -> list[PolicyRow]:
        """The newest live policies of some facilities, newest first within each: of the newest tick, not the last to come in."""
        cursor = await (await self.connection()).execute(_POLICIES, (list(facility_ids), POLICIES_LOOKED_AT))
        return [PolicyRow(*row) for row in await cursor.fetchall()]

    async def inventories(self) -> list[FacilityInventory]:
        """Every facility at its current generation."""
        connection = await self.connection()
        rows = [
            await (await connection.execute(query, (None, None))).fetchall()
            for query in (FACILITIES_SQL, GROUPS_SQL, RAMPS_SQL)
        ]
        return inventories_from_rows(InventoryRows(*rows))

    async def addresses(self) -> dict[str, str]:
        """The gRPC target of each facility's gateway."""
        cursor = await (await self.connection()).execute(_ENDPOINTS)
        return dict(await cursor.fetchall())

    async def standing(self, facility_ids: Sequence[str]) -> dict[str, Standing]:
        """What stands over some facilities besides their policies, once maintenance has taken the steps that are due."""
        connection, now = await self.connection(), self._clock.now()
        await connection.execute(_ADVANCE, (list(facility_ids), now))
        return await read_standing(connection, facility_ids, now)

    async def obligations(self, facility_ids: Sequence[str]) -> dict[str, Rows]:
        """The obligations of some facilities, with the grid's signals."""
        return await read_obligations(await self.connection(), facility_ids)

    async def approved(self, facility_ids: Sequence[str]) -> dict[str, Approved]:
        """What somebody has approved for some facilities, and is still good."""
        return await read_approved(await self.connection(), facility_ids, self._clock.now())

    async def ask(self, facility_id: str, question: Question, asked_by: str) -> None:
        """Put something before an operator."""
        await ask(await self.connection(), facility_id, question, asked_by, self._clock.now())

    async def record_admission(self, row: PolicyRow, allocator: str, reason: str) -> bool:
        """Keep that a policy is taken (`reason` empty) or refused, and why; whether the allocator owns the facility."""
        values = (row.policy_id, reason == "", reason, row.facility_id, allocator)
        return (await (await self.connection()).execute(_ADMISSION, values)).rowcount == 1
