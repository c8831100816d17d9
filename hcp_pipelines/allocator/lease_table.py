"""The table of leases: its SQL and connection. Who should own what, and for how long, is decided in `leases.py`.

All instants are Postgres' own.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import psycopg
import structlog

from hcp_pipelines.domain.fencing import CATCH_UP_MAX, HIGHEST
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect_async
from hcp_pipelines.storage.roles import Role

ALIVE = "allocator_alive"

_ENSURE = "insert into facility_leases (facility_id) select facility_id from gateway_endpoints on conflict do nothing"
_BEAT = """
    insert into process_cursors (process, cursor, value, updated_at) values (%s, %s, %s, now())
    on conflict (process, cursor) do update set value = excluded.value, updated_at = now()"""
_COUNT = """
    select count(*) from process_cursors
    where cursor = %s and value = 1 and (process = %s or updated_at > now() - make_interval(secs => %s))"""
_RENEW = """
    update facility_leases l set expires_at = now() + make_interval(secs => %s)
    from unnest(%s::text[], %s::bigint[]) as held(facility_id, epoch)
    where l.facility_id = held.facility_id and l.epoch = held.epoch and l.owner = %s and l.expires_at > now()
    returning l.facility_id"""
_LOOK = """
    select l.facility_id, extract(epoch from greatest(l.expires_at, now() - interval '1 hour') - now())::float8
    from facility_leases l join facilities f on f.id = l.facility_id join gateway_endpoints g using (facility_id)
    where f.status = 'active' order by l.facility_id"""
_TAKE = """
    update facility_leases set owner = %s, epoch = epoch + 1, acquired_at = now(),
                               expires_at = now() + make_interval(secs => %s)
    where facility_id = any(%s) and expires_at <= now() returning facility_id, epoch"""
_OUTGROW = """
    update facility_leases set epoch = epoch + least(%(highest)s::bigint - epoch + 1, %(most)s)
    where facility_id = %(facility)s and epoch = %(epoch)s and owner = %(name)s and expires_at > now() and epoch <= %(highest)s
    returning epoch"""
_RELEASE = """
    update facility_leases l set expires_at = now()
    from unnest(%s::text[], %s::bigint[]) as held(facility_id, epoch)
    where l.facility_id = held.facility_id and l.epoch = held.epoch and l.owner = %s"""


class LeaseTable(Protocol):
    """What `leases.LeaseKeeper` needs; facilities come with the epoch under which they are held."""

    async def beat(self, name: str, *, is_alive: bool) -> None:
        """Say that this allocator is there, or has gone."""

    async def ends(self) -> dict[str, float]:
        """Seconds until the lease of each active facility ends; 0 or less where it is free."""

    async def alive(self, name: str, within_s: float) -> int:
        """Allocators that were there within so many seconds, this one counted."""

    async def renew(self, name: str, held: Mapping[str, int], ttl_s: float) -> set[str]:
        """Facilities whose lease still stood and goes on from now."""

    async def take(self, name: str, facility_ids: Sequence[str], ttl_s: float) -> list[tuple[str, int]]:
        """Of those that were free: each with its new epoch, one above the last."""

    async def outgrow(self, name: str, facility_id: str, epoch: int, highest: int) -> int | None:
        """Raise the epoch of a lease that still stands above another, in as large a step as may be; None where it does not."""

    async def release(self, name: str, held: Iterable[tuple[str, int]]) -> None:
        """End leases at once."""

    async def close(self) -> None:
        """Let go of the connection; the next call makes a new one."""


class PostgresLeases:
    """The table in Postgres, on a connection of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def beat(self, name: str, *, is_alive: bool) -> None:
        """In `process_cursors`."""
        await (await self._connected()).execute(_BEAT, (name, ALIVE, int(is_alive)))

    async def ends(self) -> dict[str, float]:
        """A facility that is new has a lease that is free."""
        connection = await self._connected()
        await connection.execute(_ENSURE)
        return {row[0]: row[1] for row in await (await connection.execute(_LOOK)).fetchall()}

    async def alive(self, name: str, within_s: float) -> int:
        """This one counts however old its own word is."""
        row = await (await (await self._connected()).execute(_COUNT, (ALIVE, name, within_s))).fetchone()
        return row[0] if row else 1

    async def renew(self, name: str, held: Mapping[str, int], ttl_s: float) -> set[str]:
        """One statement."""
        parameters = (ttl_s, list(held), list(held.values()), name)
        return {row[0] for row in await (await (await self._connected()).execute(_RENEW, parameters)).fetchall()}

    async def take(self, name: str, facility_ids: Sequence[str], ttl_s: float) -> list[tuple[str, int]]:
        """One statement."""
        cursor = await (await self._connected()).execute(_TAKE, (name, ttl_s, list(facility_ids)))
        return await cursor.fetchall()

    async def outgrow(self, name: str, facility_id: str, epoch: int, highest: int) -> int | None:
        """One statement: the owner stays who it is, and the epoch only grows."""
        parameters = {
            "name": name, "facility": facility_id, "epoch": epoch, "highest": min(highest, HIGHEST), "most": CATCH_UP_MAX,
        }  # fmt: skip
        row = await (await (await self._connected()).execute(_OUTGROW, parameters)).fetchone()
        return row[0] if row else None

    async def release(self, name: str, held: Iterable[tuple[str, int]]) -> None:
        """One statement."""
        leases = list(held)
        await (await self._connected()).execute(_RELEASE, ([f for f, _ in leases], [e for _, e in leases], name))

    async def close(self) -> None:
        """Close it, if it is open."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close()
            except (psycopg.Error, OSError) as error:
                structlog.get_logger("allocator.leases").debug("closing", error=str(error))

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = await connect_async(self._settings, Role.ALLOCATOR)
        return self._connection
