"""What a claim starts from, read from Postgres, and what it leaves behind: shares, levels, and use beside what was charged.

A round can be played again from the same books with more read, since they keep the rows as they were.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from hcp_pipelines.workloads.estimates import Word, charge_of
from hcp_pipelines.workloads.fair import Candidate, Customer, Rules, Share, charge, join, leave

Connection = psycopg.AsyncConnection[Any]
ANY_TYPES = frozenset({"GPU", "ASIC"})  # as which work waits that names no type
READ_AHEAD = 4  # pieces of work of each customer and level at least, so that one that doesn't fit hides few
USAGE_ROWS = 5_000

_RULES = """
    select hold_after_s, half_life_s, proof_gpu_s, (select jsonb_object_agg(level, weight) from queue_levels),
           (select coalesce(jsonb_object_agg(type, run_s), '{}') from queue_typical)
    from queue_rules"""
_USAGE = """
    delete from queue_usage where id in (select id from queue_usage order by id limit %s)
    returning customer_id, gpu_type, level, gpu_s"""
_SHARES = """
    select s.customer_id, coalesce(o.weight, t.weight) as weight, coalesce(o.max_gpus, t.max_gpus) - q.gpus as gpus_left,
           q.said_gpu_s, q.ran_gpu_s, q.judged_at, s.gpu_type, s.used, s.is_backlogged, s.left_at, s.waiting
    from queue_shares s join queue_customers q on q.customer_id = s.customer_id
    join customers c on c.id = s.customer_id join tier_quotas t on t.tier = c.tier
    left join customer_quotas o on o.customer_id = s.customer_id
    where s.waiting > 0 or s.is_backlogged or s.customer_id = any(%s)"""
_FLOWS = "select customer_id, level, used, is_backlogged, left_at, waiting from queue_flows where customer_id = any(%s)"
_CANDIDATES = """
    select c.n - 1, j.* from unnest(%(customers)s::uuid[]) with ordinality as c (id, n)
    join queue_flows f on f.customer_id = c.id and f.waiting > 0
    cross join lateral (
        select w.level, w.id, w.gpu_type, w.gpu_types, w.gpu_count, w.estimated_duration_s, w.used_gpu_s,
               w.type, w.queued_at
        from workloads w
        where w.customer_id = f.customer_id and w.level = f.level and w.queued_at is not null and w.lease_owner is null
            and w.lease_expires_at <= now() and (w.gpu_type = any(%(types)s) or w.gpu_types && %(types)s)
        order by w.start_by, w.number limit %(depth)s) j"""
_WRITE_FLOWS = """
    update queue_flows f set used = n.used, is_backlogged = n.is_backlogged, left_at = n.left_at
    from unnest(%s::uuid[], %s::smallint[], %s::float8[], %s::boolean[], %s::timestamptz[])
        as n (id, level, used, is_backlogged, left_at)
    where f.customer_id = n.id and f.level = n.level"""
_WRITE_SHARES = """
    insert into queue_shares (customer_id, gpu_type, used, is_backlogged, left_at)
    select * from unnest(%s::uuid[], %s::text[], %s::float8[], %s::boolean[], %s::timestamptz[])
    on conflict (customer_id, gpu_type) do update
    set used = excluded.used, is_backlogged = excluded.is_backlogged, left_at = excluded.left_at"""


@dataclass(frozen=True, slots=True)
class _ShareRow:
    customer_id: UUID
    weight: float
    gpus_left: int
    said_gpu_s: float
    ran_gpu_s: float
    judged_at: datetime | None
    gpu_type: str
    used: float
    is_backlogged: bool
    left_at: datetime | None
    waiting: int

    def share(self) -> Share:
        return Share(self.used, self.is_backlogged, self.left_at)


@dataclass(frozen=True, slots=True)
class Books:
    """Rows as they were, the work that was read, and the types of which there are GPUs to be had."""

    rules: Rules
    proof_gpu_s: float
    typical_s: Mapping[str, float]
    usage: Sequence[tuple[UUID, str, int, float]]
    shares: Sequence[_ShareRow]
    flows: list[tuple[Any, ...]]  # of whom usage is settled, or work was read
    types: Sequence[str]
    depth: int
    found: dict[UUID, dict[int, list[Candidate]]] = field(default_factory=dict)


async def load(connection: Connection, types: Sequence[str], limit: int) -> Books:
    """The books for a round that picks at most `limit`; usage that they have is taken in by whoever writes them."""
    row = await (await connection.execute(_RULES, prepare=True)).fetchone()
    assert row is not None  # one row, by the migration
    rules = Rules({int(level): float(weight) for level, weight in row[3].items()}, row[0], row[1])
    usage = await (await connection.execute(_USAGE, (USAGE_ROWS,), prepare=True)).fetchall()
    used_by = list({row[0] for row in usage})
    async with connection.cursor(row_factory=class_row(_ShareRow)) as cursor:
        await cursor.execute(_SHARES, (used_by,), prepare=True)
        shares = await cursor.fetchall()
    flows = await (await connection.execute(_FLOWS, (used_by,), prepare=True)).fetchall() if used_by else []
    customers = len({share.customer_id for share in shares})
    depth = max(READ_AHEAD, ceil(2 * limit / max(customers, 1)))
    return Books(rules, row[2], row[4], usage, shares, flows, types, depth)


def customers_of(books: Books, lost: Collection[UUID], now: datetime) -> list[Customer]:
    """The customers as of now: use beside what was charged, who has come and who has gone, and their work but `lost`."""
    by_id: dict[UUID, Customer] = {}
    for row in books.shares:
        customer = by_id.setdefault(row.customer_id, Customer(row.customer_id, row.weight, row.gpus_left))
        customer.shares[row.gpu_type] = row.share()
    _come_and_go_by_level(books, by_id, now)
    for customer_id, gpu_type, level, gpu_s in books.usage:
        by_id[customer_id].shares.setdefault(gpu_type, Share())
        charge(by_id[customer_id], gpu_type, level, gpu_s, books.rules)
    _come_and_go_by_type(books, by_id, now)
    for customer_id, found in books.found.items():
        customer = by_id[customer_id]
        customer.candidates = {level: [c for c in kept if c.workload_id not in lost] for level, kept in found.items()}
        customer.has_more = any(len(kept) >= books.depth for kept in found.values())
    return list(by_id.values())


def _come_and_go_by_level(books: Books, by_id: Mapping[UUID, Customer], now: datetime) -> None:
    waits: dict[UUID, list[Share]] = defaultdict(list)
    for customer_id, level, used, is_backlogged, left_at, waiting in books.flows:
        share = by_id[customer_id].levels[level] = Share(used, is_backlogged, left_at)
        if waiting:
            waits[customer_id].append(share)
        else:
            leave(share, now)
    for customer_id, shares in waits.items():
        join(shares, list(by_id[customer_id].levels.values()), now, books.rules.half_life_s)


def _come_and_go_by_type(books: Books, by_id: Mapping[UUID, Customer], now: datetime) -> None:
    """Who names no type waits for each of those to be had."""
    wanted: set[tuple[UUID, str]] = set()
    for row in books.shares:
        if row.waiting:
            types = books.types if row.gpu_type in ANY_TYPES else (row.gpu_type,)
            wanted.update((row.customer_id, gpu_type) for gpu_type in types)
    present: dict[str, list[Share]] = defaultdict(list)
    there: dict[str, list[Share]] = defaultdict(list)
    for customer_id, gpu_type in wanted:
        there[gpu_type].append(by_id[customer_id].shares.setdefault(gpu_type, Share()))
    for customer in by_id.values():
        for gpu_type, share in customer.shares.items():
            present[gpu_type].append(share)
            if (customer.customer_id, gpu_type) not in wanted:
                leave(share, now)
    for gpu_type, shares in there.items():
        join(shares, present[gpu_type], now, books.rules.half_life_s)


async def read_more(
    connection: Connection, customers: Iterable[Customer], books: Books, at_least: int, now: datetime
) -> None:
    """Work and levels of some customers, then of twice as many: those first whose turn comes first."""
    turns = [(_next_turn(c, books.types), str(c.customer_id), c.customer_id) for c in customers if c.candidates is None]
    unread = sorted(turn for turn in turns if turn[0] is not None)
    ids = [customer_id for *_, customer_id in unread[: max(at_least, len(books.found))]]
    books.found.update({customer_id: defaultdict(list) for customer_id in ids})
    have_levels = {row[0] for row in books.flows}
    new = [customer_id for customer_id in ids if customer_id not in have_levels]
    books.flows.extend(await (await connection.execute(_FLOWS, (new,), prepare=True)).fetchall())
    levels = defaultdict[UUID, set[int]](set)
    for customer_id, level, *_ in books.flows:
        levels[customer_id].add(level)
    words = {row.customer_id: Word(row.said_gpu_s, row.ran_gpu_s, row.judged_at) for row in books.shares}
    faded = [words[customer_id].faded(now, books.rules.half_life_s) for customer_id in ids]
    known, found = [levels[customer_id] for customer_id in ids], [books.found[customer_id] for customer_id in ids]
    values = {"customers": ids, "types": list(books.types), "depth": books.depth}
    rows = await (await connection.execute(_CANDIDATES, values, prepare=True)).fetchall()
    for n, level, workload_id, gpu_type, any_of, gpu_count, said_s, used_gpu_s, kind, since in rows:
        if level not in known[n]:
            continue  # its first work at this level, submitted since: the next claim's
        typical_s = books.typical_s.get(kind, 0.0)
        gpu_s = charge_of(said_s, gpu_count, used_gpu_s, typical_s, faded[n], books.proof_gpu_s)
        gpu_types = (gpu_type, *any_of) if any_of else (gpu_type,)
        found[n][level].append(Candidate(workload_id, level, gpu_types, gpu_count, gpu_s, since))


def _next_turn(customer: Customer, types: Iterable[str]) -> float | None:
    """The lowest counter of a customer among types to be had; None where it waits for none of them."""
    shares = (customer.shares.get(gpu_type) for gpu_type in types)
    return min((share.used for share in shares if share is not None and share.is_backlogged), default=None)


async def write(connection: Connection, customers: Sequence[Customer], books: Books) -> None:
    """What has changed; customers, then levels, then types, the order in which the trigger of `workloads` locks them."""
    were = {row[:2]: Share(*row[2:5]) for row in books.flows}
    flows = [(c.customer_id, level, share) for c in customers for level, share in c.levels.items()]
    flows = [flow for flow in flows if flow[2] != were[flow[:2]]]
    had = {(row.customer_id, row.gpu_type): row.share() for row in books.shares}
    shares = [(c.customer_id, gpu_type, share) for c in customers for gpu_type, share in c.shares.items()]
    shares = [one for one in shares if one[2] != had.get(one[:2])]
    changed = {customer_id for customer_id, *_ in (*flows, *shares)}
    if changed:
        await connection.execute("select lock_customers(%s)", (list(changed),), prepare=True)
    await _write(connection, _WRITE_FLOWS, flows)
    await _write(connection, _WRITE_SHARES, shares)


async def _write(connection: Connection, statement: str, changed: Sequence[tuple[UUID, Any, Share]]) -> None:
    if changed:
        ids, places, shares = zip(*changed, strict=True)
        columns = [s.used for s in shares], [s.is_backlogged for s in shares], [s.left_at for s in shares]
        await connection.execute(statement, (list(ids), list(places), *columns), prepare=True)
