"""What owners say became of desired rows, and what others did to held work. Reading only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from hcp_pipelines.workloads.binding import slots_of_bytes
from hcp_pipelines.workloads.claiming import Connection
from hcp_pipelines.workloads.routing.packing import Ints

OVERLAP = 1_000  # ids are drawn before commits: so many are looked at again
_BROKEN = frozenset({"dark", "dead"})  # causes (docs/desired-state.md)
_OF_DEVICES = _BROKEN | {"locked", "held"}

_AFTER = """
    select desired_state_id, state, reason, simulated_at, owner_epoch, id, cause, slots, tells_saved from desired_outcomes
    where id > %s order by id"""
_OF_ROWS = """
    select distinct on (desired_state_id)
        desired_state_id, state, reason, simulated_at, owner_epoch, id, cause, slots, tells_saved
    from desired_outcomes where desired_state_id = any(%s) order by desired_state_id, owner_epoch desc, id desc"""
_LAST = "select coalesce(max(id), 0) from desired_outcomes"
_GONE = """
    select id from workloads where id = any(%s) and (lease_owner is distinct from %s or queued_at is not null)"""
_CLAIMS = "select id, lease_epoch from workloads where lease_owner = %s and queued_at is not null"
_UNOWNED = """
    select f.id, extract(epoch from now() - greatest(coalesce(l.expires_at, '-infinity'), now() - interval '1 year'))::float8
    from unnest(%s::text[]) as f (id) left join facility_leases l on l.facility_id = f.id
    where coalesce(l.expires_at, '-infinity') < now() - make_interval(secs => %s)"""
_STRAY = """
    select d.id from desired_state d join workloads w on w.id = d.workload_id
    where d.facility_id = any(%s) and d.superseded_by is null and d.valid_until > clock_timestamp() and d.actor = %s
        and (w.lease_owner is distinct from %s or w.lease_epoch <> d.lease_epoch or w.queued_at is not null)"""
_URGENT = """
    select exists (
        select from workloads where queued_at is not null and lease_owner is null and lease_expires_at <= now()
            and (type = 'ai_inference_realtime'
                 or deadline_at < %s::timestamptz + make_interval(secs => estimated_duration_s + %s)))"""


@dataclass(frozen=True, slots=True)
class OwnersWord:
    """What an owner said of a desired row; the higher `key` is the later word."""

    desired_id: int
    state: str
    reason: str
    at: datetime
    key: tuple[int, int]
    cause: str = ""
    slots: Ints | None = None  # of its devices those that are why
    tells_saved: bool = False

    @property
    def is_of_devices(self) -> bool:
        """Whether the devices themselves are why, not what may work in their group."""
        return self.cause in _OF_DEVICES

    @property
    def is_of_broken(self) -> bool:
        """Whether some of the devices are dead: what they did since the last checkpoint is gone."""
        return self.cause in _BROKEN

    @property
    def is_of_old_inventory(self) -> bool:
        """Whether the facility file has changed since the devices were desired: nothing is wrong with them."""
        return self.state == "refused" and self.cause == "inventory"

    @property
    def is_of_the_work(self) -> bool:
        """Whether what it is to run can't run, on whatever devices of that kind."""
        return self.cause == "work"

    @property
    def is_of_silence(self) -> bool:
        """Whether its gateway is not heard of any more: it may run, and it may not."""
        return self.cause == "silent"

    @property
    def to_customer(self) -> str:
        """What the work's customer is told: not who ordered what, nor what our policy asks for."""
        if self.is_of_broken:
            return "some of its devices do not answer, or have no power"
        return "its devices may not work for now" if self.is_of_devices else "less may work there for now"


async def words_after(connection: Connection, last_id: int) -> list[OwnersWord]:
    """All since an id, and some of before, in case they were committed late."""
    rows = await (await connection.execute(_AFTER, (max(last_id - OVERLAP, 0),), prepare=True)).fetchall()
    return [_word(row) for row in rows]


async def words_on(connection: Connection, rows: Sequence[int]) -> list[OwnersWord]:
    """The last word on each of some rows."""
    found = await (await connection.execute(_OF_ROWS, (list(rows),))).fetchall()
    return [_word(row) for row in found]


def _word(row: Sequence[Any]) -> OwnersWord:
    slots = None if row[7] is None else slots_of_bytes(row[7])
    return OwnersWord(row[0], row[1], row[2], row[3], (row[4], row[5]), row[6], slots, row[8])


async def last_word(connection: Connection) -> int:
    """The id of the newest."""
    row = await (await connection.execute(_LAST)).fetchone()
    return int(row[0]) if row else 0


async def no_longer_held(connection: Connection, held: Sequence[UUID], holder: str) -> list[UUID]:
    """Which of these a holder has no more: cancelled, or gone back to the queue."""
    return [row[0] for row in await (await connection.execute(_GONE, (list(held), holder), prepare=True)).fetchall()]


async def claims_of(connection: Connection, holder: str) -> list[tuple[UUID, int]]:
    """Claims that were never bound: those of one that was killed in between."""
    return [(row[0], row[1]) for row in await (await connection.execute(_CLAIMS, (holder,))).fetchall()]


async def unowned(connection: Connection, facilities: Sequence[str], for_s: float) -> dict[str, float]:
    """Which of these nobody has commanded for longer than so many real seconds, and for how many."""
    rows = await (await connection.execute(_UNOWNED, (list(facilities), for_s), prepare=True)).fetchall()
    return {row[0]: row[1] for row in rows}


async def stray_rows(connection: Connection, facilities: Sequence[str], actor: str, holder: str) -> list[int]:
    """Rows that desire something for work that isn't held any more."""
    return [row[0] for row in await (await connection.execute(_STRAY, (list(facilities), actor, holder))).fetchall()]


async def urgent_waits(connection: Connection, now: datetime, slack_s: float) -> bool:
    """Whether something waits for which others would have to give way."""
    row = await (await connection.execute(_URGENT, (now, slack_s), prepare=True)).fetchone()
    return bool(row and row[0])
