"""Claiming what comes next, exactly: the rules of `fair.py` over what stands in Postgres.

Claims come one after the other (an advisory lock, held for some milliseconds), so the shares hold however many schedulers claim
at once. Rows are locked one by one and skipped where a cancellation has them. A claim is a lease on work that goes on waiting:
the states change when it has a place (`lifecycle.schedule`). Each function is a transaction; none belongs into a larger one.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import ceil
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from hcp_pipelines.domain.workloads import WorkloadState, WorkloadType
from hcp_pipelines.workloads.fair import (
    LEAST_CHARGE_GPU_S,
    Candidate,
    Customer,
    Picked,
    Round,
    Rules,
    Share,
    charge,
    join,
    leave,
)

Connection = psycopg.AsyncConnection[Any]
QUEUE_LOCK = 4_852_044
READ_AHEAD = 4  # pieces of work of each customer and level at least, so that one that doesn't fit hides few
FIRST_CUSTOMERS = 4  # of whom work is read at least, for each that is to be picked a quarter of one
USAGE_ROWS = 5_000

_AGE = """
    update workloads w set level = w.level - 1, ages_at = case
        when w.level - 1 > r.highest_level then w.ages_at + make_interval(secs => r.level_after_s) end
    from queue_rules r
    where w.id in (
        select id from workloads where queued_at is not null and ages_at <= %s and lease_owner is null
        order by ages_at limit %s for no key update skip locked)
    returning w.id"""
_RULES = "select hold_after_s, half_life_s, (select jsonb_object_agg(level, weight) from queue_levels) from queue_rules"
_USAGE = """
    delete from queue_usage where id in (select id from queue_usage order by id limit %s) returning customer_id, level, gpu_s"""
_CUSTOMERS = """
    select q.customer_id, coalesce(o.weight, t.weight), coalesce(o.max_gpus, t.max_gpus) - q.gpus, q.used, q.is_backlogged,
           q.left_at, q.waiting
    from queue_customers q join customers c on c.id = q.customer_id join tier_quotas t on t.tier = c.tier
    left join customer_quotas o on o.customer_id = q.customer_id
    where q.waiting > 0 or q.is_backlogged or q.customer_id = any(%s)"""
_FLOWS = "select customer_id, level, used, is_backlogged, left_at, waiting from queue_flows where customer_id = any(%s)"
_CANDIDATES = """
    select f.customer_id, j.* from queue_flows f
    cross join lateral (
        select w.id, w.level, w.gpu_type, w.gpu_count, w.gpu_count * w.estimated_duration_s - w.used_gpu_s, w.queued_at
        from workloads w
        where w.customer_id = f.customer_id and w.level = f.level and w.queued_at is not null and w.lease_owner is null
            and w.lease_expires_at <= now() and w.gpu_type = any(%(types)s)
        order by w.start_by, w.number limit %(depth)s) j
    where f.customer_id = any(%(customers)s) and f.waiting > 0"""
_LOCK = """
    select id from workloads where id = any(%s) and queued_at is not null and lease_owner is null
    for no key update skip locked"""
_TAKE = """
    update workloads w set lease_owner = %(scheduler)s, lease_epoch = w.lease_epoch + 1,
        lease_expires_at = now() + make_interval(secs => %(lease_s)s), charged_gpu_s = w.used_gpu_s + t.gpu_s
    from unnest(%(ids)s::uuid[], %(charges)s::float8[]) as t (id, gpu_s) where w.id = t.id
    returning w.id as workload_id, w.customer_id, w.lease_epoch as epoch, w.status, w.type, w.priority, w.level, w.gpu_type,
        w.gpu_count, w.memory_gb, w.is_interruptible, w.deadline_at, w.requirements, w.spec"""
_WRITE_CUSTOMERS = """
    update queue_customers q set used = n.used, is_backlogged = n.is_backlogged, left_at = n.left_at
    from unnest(%s::uuid[], %s::float8[], %s::boolean[], %s::timestamptz[]) as n (id, used, is_backlogged, left_at)
    where q.customer_id = n.id"""
_WRITE_FLOWS = """
    update queue_flows f set used = n.used, is_backlogged = n.is_backlogged, left_at = n.left_at
    from unnest(%s::uuid[], %s::smallint[], %s::float8[], %s::boolean[], %s::timestamptz[])
        as n (id, level, used, is_backlogged, left_at)
    where f.customer_id = n.id and f.level = n.level"""
_UNCLAIM = """
    update workloads w set lease_owner = null, lease_expires_at = now() + make_interval(secs => %(wait_s)s), reason = %(reason)s
    from unnest(%(ids)s::uuid[], %(epochs)s::bigint[]) as t (id, epoch)
    where w.id = t.id and w.lease_epoch = t.epoch and w.lease_owner is not null and w.queued_at is not null
    returning w.id"""


@dataclass(frozen=True, slots=True)
class Claimed:
    """Work that this scheduler has to find a place for, or give back; `epoch` fences whatever is done to it."""

    workload_id: UUID
    customer_id: UUID
    epoch: int
    status: WorkloadState
    type: WorkloadType
    priority: int
    level: int
    gpu_type: str
    gpu_count: int
    memory_gb: float | None
    is_interruptible: bool
    deadline_at: datetime | None
    requirements: Mapping[str, Any]
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Books:
    """What a claim starts from, so that a round can be played again with more read: rows as they were."""

    rules: Rules
    usage: Sequence[tuple[UUID, int, float]]
    customers: Sequence[tuple[Any, ...]]
    flows: list[tuple[Any, ...]]  # of whom usage is settled, or work was read
    depth: int
    found: dict[UUID, dict[int, list[Candidate]]]


async def age(connection: Connection, *, now: datetime, limit: int = 500) -> int:
    """Lift what has waited long enough by a level (`queue_rules`), up to `limit` at a time; how many were."""
    async with connection.transaction():
        await lock_queue(connection)
        return len(await (await connection.execute(_AGE, (now, limit))).fetchall())


async def claim(
    connection: Connection,
    scheduler: str,
    gpus_free: Mapping[str, int],
    limit: int,
    *,
    now: datetime,
    gpus_most: Mapping[str, int] | None = None,
    lease_s: float = 30.0,
) -> list[Claimed]:
    """What comes next and fits, in order, at most `limit`; charged to its customers' shares at once.

    `gpus_free` are the GPUs to be had by type, `gpus_most` those that could ever be: for work that has waited long, GPUs are kept
    until there are enough. Fewer than `limit` doesn't say that nothing more would fit: claim again until none comes.
    """
    async with connection.transaction():
        await lock_queue(connection)
        books = await _load(connection, limit)
        types = [kind for kind, free in gpus_free.items() if free > 0]
        room = gpus_free, gpus_most if gpus_most is not None else gpus_free
        lost: set[UUID] = set()
        while True:
            customers, picked = _play(books, lost, room, limit, now)
            if picked.unread:
                await _read_more(connection, customers, books, types, max(FIRST_CUSTOMERS, limit // 4))
                continue
            wanted = [candidate.workload_id for _, candidate in picked.chosen]
            locked = {row[0] for row in await (await connection.execute(_LOCK, (wanted,), prepare=True)).fetchall()}
            if len(locked) == len(wanted):
                break
            lost |= set(wanted) - locked  # cancelled, or being cancelled: the round is played without them
        claimed = await _take(connection, scheduler, picked, lease_s)
        await _write(connection, customers, books)
    return claimed


async def unclaim(
    connection: Connection, claims: Sequence[tuple[UUID, int]], *, wait_s: float = 0.0, reason: str = ""
) -> list[UUID]:
    """Give claims (id, epoch) back uncharged; none of them is claimed within `wait_s` real seconds. Those that still stood."""
    values = {"ids": [c[0] for c in claims], "epochs": [c[1] for c in claims], "wait_s": wait_s, "reason": reason}
    async with connection.transaction():
        await lock_queue(connection)
        return [row[0] for row in await (await connection.execute(_UNCLAIM, values)).fetchall()]


async def lock_queue(connection: Connection) -> None:
    """Whoever changes several customers' rows at once does so alone: no two wait for each other."""
    await connection.execute("select pg_advisory_xact_lock(%s)", (QUEUE_LOCK,))


async def _load(connection: Connection, limit: int) -> _Books:
    row = await (await connection.execute(_RULES, prepare=True)).fetchone()
    assert row is not None  # one row, by the migration
    rules = Rules({int(level): float(weight) for level, weight in row[2].items()}, row[0], row[1])
    usage = await (await connection.execute(_USAGE, (USAGE_ROWS,), prepare=True)).fetchall()
    used_by = list({row[0] for row in usage})
    customers = await (await connection.execute(_CUSTOMERS, (used_by,), prepare=True)).fetchall()
    flows = await (await connection.execute(_FLOWS, (used_by,), prepare=True)).fetchall() if used_by else []
    return _Books(rules, usage, customers, flows, max(READ_AHEAD, ceil(2 * limit / max(len(customers), 1))), {})


def _play(
    books: _Books, lost: Collection[UUID], room: tuple[Mapping[str, int], Mapping[str, int]], limit: int, now: datetime
) -> tuple[list[Customer], Picked]:
    """One round from the books as they were read, and the customers as it leaves them."""
    customers = _customers(books, now)
    for customer in customers:
        found = books.found.get(customer.customer_id)
        if found is not None:
            customer.candidates = {
                level: [c for c in kept if c.workload_id not in lost] for level, kept in found.items()
            }
            customer.has_more = any(len(kept) >= books.depth for kept in found.values())
    return customers, Round(customers, books.rules, room[0], room[1], now).pick(limit)


def _customers(books: _Books, now: datetime) -> list[Customer]:
    """The customers with their shares as of now: what was used beside what was charged, who has come and who has gone."""
    half_life_s = books.rules.half_life_s
    by_id = {row[0]: Customer(row[0], row[1], Share(*row[3:6]), row[2]) for row in books.customers}
    waits: dict[UUID, list[Share]] = defaultdict(list)
    for customer_id, level, used, is_backlogged, left_at, waiting in books.flows:
        share = by_id[customer_id].levels[level] = Share(used, is_backlogged, left_at)
        if waiting:
            waits[customer_id].append(share)
        else:
            leave(share, now)
    for customer_id, level, gpu_s in books.usage:
        charge(by_id[customer_id], level, gpu_s, books.rules)
    for customer_id, shares in waits.items():
        join(shares, list(by_id[customer_id].levels.values()), now, half_life_s)
    there = []
    for row in books.customers:
        share = by_id[row[0]].share
        if row[6]:
            there.append(share)
        else:
            leave(share, now)
    join(there, [customer.share for customer in by_id.values()], now, half_life_s)
    return list(by_id.values())


async def _read_more(
    connection: Connection, customers: Sequence[Customer], books: _Books, types: Sequence[str], at_least: int
) -> None:
    """Work and levels of some customers, then of twice as many: those first whose turn comes first."""
    unread = [c for c in customers if c.candidates is None and c.share.is_backlogged]
    unread.sort(key=lambda c: (c.share.used, str(c.customer_id)))
    ids = [c.customer_id for c in unread[: max(at_least, len(books.found))]]
    books.found.update({customer_id: defaultdict(list) for customer_id in ids})
    have_levels = {row[0] for row in books.flows}
    new = [customer_id for customer_id in ids if customer_id not in have_levels]
    books.flows.extend(await (await connection.execute(_FLOWS, (new,), prepare=True)).fetchall())
    known = {row[:2] for row in books.flows}
    values = {"customers": ids, "types": list(types), "depth": books.depth}
    for row in await (await connection.execute(_CANDIDATES, values, prepare=True)).fetchall():
        customer_id, workload_id, level, gpu_type, gpu_count, gpu_s, since = row
        if (customer_id, level) not in known:
            continue  # its first work at this level, submitted since: the next claim's
        candidate = Candidate(workload_id, level, gpu_type, gpu_count, max(gpu_s, LEAST_CHARGE_GPU_S), since)
        books.found[customer_id][level].append(candidate)


async def _take(connection: Connection, scheduler: str, picked: Picked, lease_s: float) -> list[Claimed]:
    if not picked.chosen:
        return []
    values = {
        "scheduler": scheduler, "lease_s": lease_s, "ids": [c.workload_id for _, c in picked.chosen],
        "charges": [c.gpu_s for _, c in picked.chosen],
    }  # fmt: skip
    async with connection.cursor(row_factory=class_row(Claimed)) as cursor:
        await cursor.execute(_TAKE, values, prepare=True)
        taken = {one.workload_id: one for one in await cursor.fetchall()}
    return [
        replace(one, status=WorkloadState(one.status), type=WorkloadType(one.type))
        for one in (taken[candidate.workload_id] for _, candidate in picked.chosen)
    ]


async def _write(connection: Connection, customers: Sequence[Customer], books: _Books) -> None:
    """What has changed; customers before their levels, the order in which the trigger of `workloads` locks them."""
    was = {row[0]: Share(*row[3:6]) for row in books.customers}
    changed = [(c.customer_id, c.share) for c in customers if c.share != was[c.customer_id]]
    if changed:
        ids, shares = zip(*changed, strict=True)
        await connection.execute(_WRITE_CUSTOMERS, (list(ids), *_columns(shares)), prepare=True)
    were = {row[:2]: Share(*row[2:5]) for row in books.flows}
    flows = [(c.customer_id, level, share) for c in customers for level, share in c.levels.items()]
    moved = [flow for flow in flows if flow[2] != were[flow[:2]]]
    if moved:
        ids, levels, shares = zip(*moved, strict=True)
        await connection.execute(_WRITE_FLOWS, (list(ids), list(levels), *_columns(shares)), prepare=True)


def _columns(shares: Sequence[Share]) -> tuple[list[float], list[bool], list[datetime | None]]:
    return [s.used for s in shares], [s.is_backlogged for s in shares], [s.left_at for s in shares]
