"""`desired_state` as the owner reads it, `desired_outcomes` as it writes them. What becomes of a row is decided in `work.py`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

Connection = psycopg.AsyncConnection[Any]

_READ = """
    with standing as (
        select d.facility_id, d.workload_id::text, d.model, d.weights_gib, d.gpus_each, d.load, d.checkpoint, d.id,
               d.group_id, d.state, d.generation, octet_length(d.slots) / 4 as devices, d.slots,
               extract(epoch from d.valid_until - clock_timestamp())::float8 as lasts_s,
               row_number() over (partition by d.facility_id order by d.priority desc, d.order_index, d.id) as place,
               exists (select from desired_state n
                       where n.workload_id = d.workload_id and n.lease_epoch > d.lease_epoch) as is_outdated
        from desired_state d
        where d.facility_id = any(%s) and d.superseded_by is null
          and d.valid_from <= clock_timestamp() and d.valid_until > clock_timestamp())
    select facility_id, array_agg(id order by place), array_agg(group_id order by place), array_agg(state order by place),
           array_agg(generation order by place), array_agg(devices order by place), array_agg(is_outdated order by place),
           array_agg(lasts_s order by place), string_agg(slots, ''::bytea order by place),
           array_agg(workload_id order by place), array_agg(model order by place), array_agg(weights_gib order by place),
           array_agg(gpus_each order by place), array_agg(load order by place), array_agg(checkpoint order by place)
    from standing group by facility_id"""
_TELL = """
    insert into desired_outcomes (
        desired_state_id, facility_id, owner_epoch, state, reason, simulated_at, cause, slots, tells_saved)
    select * from unnest(%s::bigint[], %s::text[], %s::bigint[], %s::text[], %s::text[], %s::timestamptz[], %s::text[],
                         %s::bytea[], %s::boolean[])"""


class RowWork(NamedTuple):
    """What a row's devices are to run, as a command says it."""

    workload_id: str = ""
    model: str = ""
    weights_gib: float = 0.0
    gpus_each: int = 0
    load: str = ""
    checkpoint: str = ""  # that it goes on from; empty: from the beginning


@dataclass(frozen=True)
class StoredRows:
    """The rows in force of one facility, in line; `slots` are all of theirs, numbers within groups of four bytes each."""

    ids: Sequence[int] = ()
    group_ids: Sequence[str] = ()
    states: Sequence[int] = ()
    generations: Sequence[int] = ()
    sizes: Sequence[int] = ()
    is_outdated: Sequence[bool] = ()  # there is a row of the same workload under a higher epoch
    ends_at_s: Sequence[float] = ()  # real monotonic: until when each is in force
    slots: bytes = b""
    works: Sequence[RowWork] = ()


NOTHING_STORED = StoredRows()


@dataclass(frozen=True, slots=True)
class DesiredOutcome:
    """What became of a row, for `desired_outcomes`."""

    desired_state_id: int
    facility_id: str
    owner_epoch: int
    state: str
    reason: str
    simulated_at: datetime
    cause: str = ""  # in a word (`Why`)
    slots: bytes | None = None  # of the row's devices those that are why
    tells_saved: bool = False  # whether their driver says what becomes of work that lets go of them


async def read_desired(connection: Connection, facility_ids: Sequence[str], asked_at_s: float) -> dict[str, StoredRows]:
    """The rows in force of some facilities, each one named; `asked_at_s`: monotonic, just before."""
    found = dict.fromkeys(facility_ids, NOTHING_STORED)
    cursor = await connection.execute(_READ, (list(facility_ids),), prepare=True)
    for row in await cursor.fetchall():
        facility_id, ids, group_ids, states, generations, sizes, outdated, lasts_s, slots, *work = row
        ends_at_s = [asked_at_s + s for s in lasts_s]
        works = [RowWork(*one) for one in zip(*work, strict=True)]
        rows = StoredRows(ids, group_ids, states, generations, sizes, outdated, ends_at_s, bytes(slots), works)
        found[facility_id] = rows
    return found


async def write_desired(connection: Connection, rows: Sequence[DesiredOutcome]) -> None:
    """Append what became of some rows."""
    columns = [
        [r.desired_state_id for r in rows], [r.facility_id for r in rows], [r.owner_epoch for r in rows],
        [r.state for r in rows], [r.reason for r in rows], [r.simulated_at for r in rows], [r.cause for r in rows],
        [r.slots for r in rows], [r.tells_saved for r in rows],
    ]  # fmt: skip
    await connection.execute(_TELL, columns)
