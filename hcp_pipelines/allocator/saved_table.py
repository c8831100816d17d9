"""`saved_work` as the owner writes it: what its gateway tells of work that was to stand still."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

_TELL = """
    insert into saved_work (event_id, facility_id, generation, workload_id, slots, checkpoint, problem, simulated_at)
    select * from unnest(%s::uuid[], %s::text[], %s::bigint[], %s::uuid[], %s::bytea[], %s::text[], %s::text[], %s::timestamptz[])
    on conflict (event_id) do nothing"""


@dataclass(frozen=True, slots=True)
class SavedRow:
    """What came of it as a workload's devices were told to let go of it; `problem` is empty where it is kept."""

    event_id: uuid.UUID
    facility_id: str
    generation: int
    workload_id: uuid.UUID
    slots: bytes
    checkpoint: str
    problem: str
    simulated_at: datetime


async def write_saved(connection: "psycopg.AsyncConnection[Any]", rows: Sequence[SavedRow]) -> None:
    """Append them; what was told before is there already."""
    columns = [
        [r.event_id for r in rows], [r.facility_id for r in rows], [r.generation for r in rows], [r.workload_id for r in rows],
        [r.slots for r in rows], [r.checkpoint for r in rows], [r.problem for r in rows], [r.simulated_at for r in rows],
    ]  # fmt: skip
    await connection.execute(_TELL, columns)
