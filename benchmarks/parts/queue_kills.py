"""A whole platform whose processes are killed while customers' work runs on it, and what became of each piece of that.

Killed by SIGKILL in turn: scheduler, API, Postgres, gateways, allocators, and the world, in which the devices and the agents of
their nodes are. All are children of the platform that the benchmark has started; its supervisor starts them again.
"""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import psycopg

from benchmarks.common import say
from benchmarks.parts.api_customers import add_customers
from benchmarks.parts.whole_platform import status
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from simulators.workloads.requests import Submission
from simulators.workloads.submit import Keys, Tally, Target, send

CUSTOMERS = {"c0": "enterprise", "c1": "enterprise", "c2": "pro", "c3": "pro", "c4": "enterprise", "c5": "enterprise"}
TARGETS = ("scheduler", "api", "postgres", "gateway", "allocator", "scheduler", "world")
DURATION_S = (120.0, 600.0)  # world time
EVERY_S = 6.0  # real, between two kills
UNTIL_FRACTION = 0.8  # of all work is over: the last kills are in the middle, too
SETTLED_WITHIN_S = 900.0
LOOK_S = 1.0
SEED = 7
NEED = 0.999  # EX-32
_OVER = "select count(*) from workloads where status in ('completed', 'failed', 'cancelled')"
_VERDICT = """
    with own as (
        select w.*, coalesce(o.max_retries, t.max_retries) - w.retries_left as retried from workloads w
        join tier_quotas t on t.tier = w.tier left join customer_quotas o on o.customer_id = w.customer_id),
    finals as (
        select workload_id, count(*) as times from workload_events where new_status in ('completed', 'failed', 'cancelled')
        group by workload_id)
    select count(*) as in_postgres, count(distinct idempotency_key) as different,
           count(*) filter (where status = 'completed') as completed, count(*) filter (where status = 'failed') as failed,
           count(*) filter (where status not in ('completed', 'failed', 'cancelled')) as open,
           count(*) filter (where coalesce(f.times, 0) <> (status in ('completed', 'failed', 'cancelled'))::integer) as not_once,
           count(*) filter (where status = 'completed' and result is null or status = 'failed' and reason = '') as untold,
           count(*) filter (where status = 'completed' and actual_duration_s < estimated_duration_s - 0.001) as too_short,
           count(*) filter (where retried > 0) as retried,
           count(*) filter (where retried = 0) as rest,
           count(*) filter (where retried = 0 and status = 'completed') as rest_completed,
           (select count(*) from allocations where released_at is null) as still_allocated
    from own left join finals f on f.workload_id = own.id"""
_WHY = "select reason, count(*) from workloads where status = 'failed' group by reason order by 2 desc limit 5"


def jobs(count: int) -> Iterator[Submission]:
    """Work of some minutes, all to be sent as fast as it is taken."""
    source = random.Random(SEED)  # noqa: S311 - sizes of work
    for n in range(count):
        spec = {
            "workload_type": source.choice(("ai_inference_batch", "model_training")), "gpu_type": "H100",
            "gpu_count": source.choice((1, 1, 2, 4)), "estimated_duration_s": round(source.uniform(*DURATION_S)),
            "checkpoint_interval_s": 60,
        }  # fmt: skip
        yield Submission(0.0, f"kills-{n}", source.choice(list(CUSTOMERS)), spec, {"defect": None})


async def measure_kills(settings: Settings, count: int) -> dict[str, Any]:
    """Submit, kill until most of it is over, wait for the rest, and look."""
    tally, killed = Tally(), dict.fromkeys(TARGETS, 0)
    keys = Keys(None, add_customers(settings, CUSTOMERS))
    target = Target(status(settings)["urls"]["api.api"], keys, None, 16, attempts=60, patience_s=SETTLED_WITHIN_S)
    sending = asyncio.ensure_future(send(jobs(count), target, tally))
    begun_s, kill_at_s, targets, over = time.monotonic(), 0.0, cycle(TARGETS), 0
    while over < count or not sending.done():
        if time.monotonic() - begun_s > SETTLED_WITHIN_S:
            break
        await asyncio.sleep(LOOK_S)
        over = await asyncio.to_thread(_over, settings, over)
        if over and kill_at_s == 0.0:
            kill_at_s = time.monotonic()
        if 0 < over < UNTIL_FRACTION * count and time.monotonic() >= kill_at_s:
            kill_at_s = time.monotonic() + EVERY_S
            name = next(targets)
            killed[name] += _kill(settings, name)
            say(f"{over} of {count} are over; killed {name}")
    seconds = time.monotonic() - begun_s
    sending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sending
    found = tally.report() | verdict(settings, tally.counts["accepted"])
    return found | {"killed": killed, "kills": sum(killed.values()), "took_s": round(seconds, 1)}


def is_kept(figures: dict[str, Any]) -> bool:
    """Each ended once, with a result or a reason; nothing accepted is missing; without a retry spent 99.9 % succeeded."""
    wrong = ("open", "not_once", "untold", "too_short", "still_allocated", "unaccounted", "doubled")
    rest_is_well = figures["rest_completed"] >= NEED * figures["rest"]
    return not any(figures[name] for name in wrong) and rest_is_well


def _kill(settings: Settings, name: str) -> int:
    """SIGKILL to a child of this platform whose name begins so; whether one ran."""
    rows = [row for row in status(settings).get("processes", []) if row["name"].startswith(name) and row["pid"]]
    if not rows:
        return 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(rows[0]["pid"], signal.SIGKILL)
        return 1
    return 0


def _over(settings: Settings, before: int) -> int:
    """How many have ended; as before where Postgres is down just now."""
    with contextlib.suppress(psycopg.Error, StorageError, OSError), connect(settings, Role.ADMIN) as connection:
        row = connection.execute(_OVER).fetchone()
        return int(row[0]) if row else before
    return before


def verdict(settings: Settings, accepted: int) -> dict[str, Any]:
    """What became of all that was handed in, of which so many were answered with yes."""
    with connect(settings, Role.ADMIN) as connection:
        cursor = connection.execute(_VERDICT)
        row = cursor.fetchone()
        assert row is not None
        found = dict(zip((column.name for column in cursor.description or ()), row, strict=True))
        why = connection.execute(_WHY).fetchall()
    different = found.pop("different")
    return found | {
        "doubled": found["in_postgres"] - different, "unaccounted": max(accepted - different, 0),
        "failed_for": {str(reason)[:100]: times for reason, times in why},
    }  # fmt: skip
