"""Lets go of what Postgres keeps of work that ended long ago: wanted devices, what became of them, and routing decisions.

How long ago that is says the database (`ended_long_ago`), which refuses to part with anything younger. Rows go once the lake has
them, those of one piece of work together; the newest of each table stays, since the collector and others read from it how far
ids have come.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hcp_pipelines.orchestration.history.reading import reading
from hcp_pipelines.settings import Settings

if TYPE_CHECKING:
    import psycopg

TABLES = ("desired_outcomes", "desired_state", "routing_decisions")  # in the order in which they go
BATCH = 500  # pieces of work, in a transaction
BATCHES = 20
_ANY = """
    select exists (select from desired_state where ended_long_ago(workload_id))
        or exists (select from routing_decisions where ended_long_ago(workload_id))"""
_COPIED = 'select "table", max(try_cast(batch_id as bigint)) from lake.{} where "table" in ({}) group by 1'
_CHOSEN = """
    with upto as (
        select least(%(desired_state)s, (select max(id) - 1 from desired_state)) as desired,
               least(%(desired_outcomes)s, (select max(id) - 1 from desired_outcomes)) as outcomes,
               least(%(routing_decisions)s, (select max(id) - 1 from routing_decisions)) as decisions),
    works as (select workload_id as id from desired_state union select workload_id from routing_decisions)
    select w.id from works w cross join upto u
    where ended_long_ago(w.id)
        and not exists (select from desired_state d where d.workload_id = w.id and d.id > u.desired)
        and not exists (select from routing_decisions r where r.workload_id = w.id and r.id > u.decisions)
        and not exists (
            select from desired_state d join desired_outcomes o on o.desired_state_id = d.id
            where d.workload_id = w.id and o.id > u.outcomes)
    limit %(most)s"""
_FORGET = {
    "desired_outcomes": """
        delete from desired_outcomes o using desired_state d
        where d.id = o.desired_state_id and d.workload_id = any(%s)""",
    "desired_state": "delete from desired_state where workload_id = any(%s)",
    "routing_decisions": "delete from routing_decisions where workload_id = any(%s)",
}


def forget_old_work(connection: "psycopg.Connection[Any]", settings: Settings) -> dict[str, int]:
    """Delete what may go, with the rights of hcp_control; how many rows of each table. Where nothing is old the lake isn't asked.

    Raises:
        StorageError: the lake can't be read.
    """
    gone = dict.fromkeys(TABLES, 0)
    row = connection.execute(_ANY).fetchone()
    if row is None or not row[0]:
        return gone
    copied = _copied(settings)
    for _ in range(BATCHES):
        with connection.transaction():
            chosen = [id_ for (id_,) in connection.execute(_CHOSEN, {**copied, "most": BATCH}).fetchall()]
            for table in TABLES if chosen else ():
                gone[table] += connection.execute(_FORGET[table], (chosen,)).rowcount
        if len(chosen) < BATCH:
            break
    return gone


def _copied(settings: Settings) -> Mapping[str, int]:
    """By table, the last id that the lake has; 0 before the first."""
    from hcp_pipelines.storage.lake import BATCHES as COPIES

    copied = dict.fromkeys(TABLES, 0)
    with reading(settings) as reader:
        if not reader.has(COPIES):
            return copied
        names = ", ".join(f"'raw.{table}'" for table in TABLES)
        for table, last_id in reader.rows(_COPIED.format(COPIES, names)).iter_rows():
            copied[str(table).removeprefix("raw.")] = last_id or 0
    return copied
