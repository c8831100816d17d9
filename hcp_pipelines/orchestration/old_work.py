"""Lets go of what Postgres keeps of work that ended long ago: wanted devices, what became of them, and routing decisions.

The database refuses to part with anything younger (`ended_long_ago`). Rows go once the lake has them, those of one piece of work
together; the newest of each table stays, since the collector and others read from it how far ids have come.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, LiteralString

from hcp_pipelines.orchestration.history.reading import reading
from hcp_pipelines.settings import Settings

if TYPE_CHECKING:
    import psycopg

TABLES = ("desired_outcomes", "desired_state", "routing_decisions")  # in the order in which they go
KEPT = timedelta(days=30)  # real time, after the end; the database says the same
BATCH = 500  # pieces of work, in a transaction
MOST = 10_000  # of them in a run
_OVER = """
    with over as (
        select w.id from (select workload_id as id from desired_state union select workload_id from routing_decisions) known
        join workloads w using (id)
        where w.status in ('completed', 'failed', 'cancelled') and w.updated_at < now() - %(kept)s)"""
_ANY = f"{_OVER} select exists (select from over)"  # noqa: S608 - our constants
_COPIED = 'select "table", max(try_cast(batch_id as bigint)) from lake.{} where "table" in ({}) group by 1'
_CHOSEN = f"""{_OVER},
    upto as (
        select least(%(desired_state)s, (select max(id) - 1 from desired_state)) as desired,
               least(%(desired_outcomes)s, (select max(id) - 1 from desired_outcomes)) as outcomes,
               least(%(routing_decisions)s, (select max(id) - 1 from routing_decisions)) as decisions)
    select w.id from over w cross join upto u
    where not exists (select from desired_state d where d.workload_id = w.id and d.id > u.desired)
        and not exists (select from routing_decisions r where r.workload_id = w.id and r.id > u.decisions)
        and not exists (
            select from desired_state d join desired_outcomes o on o.desired_state_id = d.id
            where d.workload_id = w.id and o.id > u.outcomes)
    limit %(most)s"""  # noqa: S608 - our constants
_FORGET = {
    "desired_outcomes": """
        delete from desired_outcomes o using desired_state d
        where d.id = o.desired_state_id and d.workload_id = any(%s)""",
    "desired_state": "delete from desired_state where workload_id = any(%s)",
    "routing_decisions": "delete from routing_decisions where workload_id = any(%s)",
}


@dataclass(frozen=True)
class Statements:
    """Whether any work is over for long, which of it may go, and by table, in the order in which they go, what deletes it."""

    any_is_over: LiteralString
    choose: LiteralString
    forget: Mapping[str, LiteralString]


def forget_old_work(connection: "psycopg.Connection[Any]", settings: Settings) -> dict[str, int]:
    """Delete what may go, with the rights of hcp_control; how many rows of each table. Where nothing is old the lake isn't asked.

    Raises:
        StorageError: the lake can't be read.
    """
    statements = Statements(_ANY, _CHOSEN, {table: _FORGET[table] for table in TABLES})
    return let_go(connection, settings, statements, TABLES, {"kept": KEPT})


def let_go(
    connection: "psycopg.Connection[Any]",
    settings: Settings,
    statements: Statements,
    needed: Sequence[str],
    asked: dict[str, Any],
) -> dict[str, int]:
    """Rows gone by table: of work that is over and of which the lake has all that `needed` tables say, some pieces at a time."""
    gone = dict.fromkeys(statements.forget, 0)
    row = connection.execute(statements.any_is_over, asked).fetchone()
    if row is None or not row[0]:
        return gone
    asked = asked | copied(settings, needed) | {"most": MOST}
    chosen = [id_ for (id_,) in connection.execute(statements.choose, asked).fetchall()]
    for first in range(0, len(chosen), BATCH):
        with connection.transaction():
            for table, forget in statements.forget.items():
                gone[table] += connection.execute(forget, (chosen[first : first + BATCH],)).rowcount
    return gone


def copied(settings: Settings, tables: Sequence[str]) -> dict[str, int]:
    """By table, the last id that the lake has; 0 before the first."""
    from hcp_pipelines.storage.lake import BATCHES as COPIES

    found = dict.fromkeys(tables, 0)
    with reading(settings) as reader:
        if not reader.has(COPIES):
            return found
        names = ", ".join(f"'raw.{table}'" for table in tables)
        for table, last_id in reader.rows(_COPIED.format(COPIES, names)).iter_rows():
            found[str(table).removeprefix("raw.")] = last_id or 0
    return found
