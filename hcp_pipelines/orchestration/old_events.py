"""Lets go of the steps of work that ended long ago: its events, stops, checkpoints, and which devices it had. The work stays.

As `old_work` does with what was wanted of devices: only what the lake has, a month after the end (the database refuses younger
rows), those of one piece of work together, never the newest of a table. Only the oldest events are looked at, so that a run costs
the same however much there ever was.
"""

from typing import TYPE_CHECKING, Any

from hcp_pipelines.orchestration.old_work import KEPT, Statements, let_go
from hcp_pipelines.settings import Settings

if TYPE_CHECKING:
    import psycopg

COPIED = ("workload_events", "allocation_events", "workload_checkpoints", "work_stops", "saved_work")
TABLES = (
    "workload_events",
    "work_stops",
    "saved_work",
    "workload_checkpoints",
    "allocation_events",
    "allocations",
    "allocation_headers",
)  # as they go
LOOKED_AT = 200_000  # events: work that runs for months leaves some of them, and not that many
_OVER = """
    with over as (
        select distinct w.id
        from (select workload_id from workload_events order by id limit %(looked_at)s) oldest
        join workloads w on w.id = oldest.workload_id
        where w.status in ('completed', 'failed', 'cancelled') and w.updated_at < now() - %(kept)s)"""
_ANY = f"{_OVER} select exists (select from over)"  # noqa: S608 - our constants
_CHOSEN = f"""{_OVER},
    upto as (
        select least(%(workload_events)s, (select max(id) - 1 from workload_events)) as steps,
               least(%(allocation_events)s, (select max(id) - 1 from allocation_events)) as allocated,
               least(%(workload_checkpoints)s, (select max(id) - 1 from workload_checkpoints)) as saved,
               least(%(work_stops)s, (select max(id) - 1 from work_stops)) as stopped,
               least(%(saved_work)s, (select max(id) - 1 from saved_work)) as told)
    select w.id from over w cross join upto u
    where not exists (select from workload_events e where e.workload_id = w.id and e.id > u.steps)
        and not exists (select from allocation_events a where a.workload_id = w.id and a.id > u.allocated)
        and not exists (select from workload_checkpoints c where c.workload_id = w.id and c.id > u.saved)
        and not exists (select from work_stops s where s.workload_id = w.id and (s.id is null or s.id > u.stopped))
        and not exists (select from saved_work t where t.workload_id = w.id and t.id > u.told)
    limit %(most)s"""  # noqa: S608 - our constants
_FORGET = {table: f"delete from {table} where workload_id = any(%s)" for table in TABLES}  # noqa: S608 - our constants


def forget_old_events(connection: "psycopg.Connection[Any]", settings: Settings) -> dict[str, int]:
    """Delete what may go, with the rights of hcp_control; how many rows of each table. Where nothing is old the lake isn't asked.

    Raises:
        StorageError: the lake can't be read.
    """
    asked = {"kept": KEPT, "looked_at": LOOKED_AT}
    return let_go(connection, settings, Statements(_ANY, _CHOSEN, _FORGET), COPIED, asked)
