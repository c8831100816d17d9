"""`hcp bench queue`: the queue of work in Postgres alone, behind its API, and with processes killed under it.

In Postgres: a server of its own, 100 customers of all tiers, work of three classes and ten levels that waits. Submissions come
one after the other, then from eight connections; claims are of 500 with a name of a place for each; decisions are the scheduler's
own, with devices for each (`parts/scheduling.py`). Behind the API: `parts/queue_api.py`. Kills: `parts/queue_kills.py`.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from benchmarks.common import about, load_average, percentile, print_figures, rounded, say
from benchmarks.parts.api_process import own_postgres
from benchmarks.parts.queue_api import (
    CONNECTIONS,
    QUICK_CONNECTIONS,
    QUICK_RATES,
    QUICK_STEP_S,
    RATES,
    STEP_S,
    measure_connections,
    measure_open_loop,
    summary,
)
from benchmarks.parts.queue_kills import is_kept, measure_kills
from benchmarks.parts.scheduling import FOR_S, QUICK_FOR_S, add_gpus, measure_scheduling
from benchmarks.parts.whole_platform import free_port, whole_platform
from hcp_pipelines.domain.workloads import Tier, WorkloadType
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect, connect_async
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.workloads import store
from hcp_pipelines.workloads.claiming import Connection
from hcp_pipelines.workloads.scheduler.service import connect_scheduler
from hcp_pipelines.workloads.spec import WorkloadSpec, classify_by_rules

TARGET = (
    "operations < 10 ms, >= 1,000 scheduling decisions a second with 50,000 GPUs and 20,000 that wait (WL-41); "
    "10,000 connections at once answered within 30 s, none lost; 300 submissions a second with p95 < 50 ms, reads "
    "p50 < 10 ms; killed, all end once (EX-32)"
)
IN_POSTGRES = ("operations", "decisions")
OPERATIONS = ("store_submit", "claim_one", "start", "complete")
BY_DEFAULT = (*IN_POSTGRES, "connections", "open-loop")
JOBS, QUICK_JOBS, DEVICES = 1_000, 60, 750  # of these a sixth are GPUs
NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
CUSTOMERS, WAITING, QUICK_WAITING, GPUS, QUICK_GPUS, BATCH, SEED = 100, 20_000, 4_000, 50_000, 10_000, 500, 7
CLASSES = (WorkloadType.AI_INFERENCE_REALTIME, WorkloadType.AI_INFERENCE_BATCH, WorkloadType.MODEL_TRAINING)

Customers = Sequence[tuple[UUID, Tier]]
_ADD_CUSTOMERS = """
    insert into customers (name, email, tier)
    select 'c' || n, 'c' || n || '@example.com', (array['free', 'pro', 'enterprise'])[1 + mod(n, 3)] from generate_series(1, %s) n
    returning id, tier"""
_FILL = """
    insert into workloads (
        customer_id, type, priority, requirements, tier, gpu_type, gpu_count, estimated_duration_s, submitted_at, start_by)
    select c.id, 'model_training', 1 + mod(n * 7 + c.place::integer, 10), '{}', c.tier, 'H100',
           (array[1, 1, 2, 4, 8])[1 + mod(n, 5)], 600, %(now)s, %(until)s
    from generate_series(1, %(each)s) n, (select id, tier, row_number() over () as place from customers) c"""


def prepare(settings: Settings, waiting: int, gpus: int) -> Customers:
    """A fleet of GPUs, customers without quotas that would end the measurement, and work that waits."""
    with connect(settings, Role.ADMIN) as database:
        add_gpus(database, gpus)
        customers = [(row[0], Tier(row[1])) for row in database.execute(_ADD_CUSTOMERS, (CUSTOMERS,)).fetchall()]
        database.execute("update tier_quotas set max_waiting = 1000000, max_gpus = 1000000")
        values = {"now": NOON, "until": NOON + timedelta(hours=1), "each": waiting // CUSTOMERS}
        database.execute(_FILL, values)
        database.execute("analyze")
    return customers


async def submit_some(
    connection: Connection, customers: Customers, count: int, random_source: random.Random
) -> list[float]:
    """Milliseconds of each submission."""
    took_ms = []
    for _ in range(count):
        customer_id, tier = random_source.choice(customers)
        spec = WorkloadSpec(
            workload_type=random_source.choice(CLASSES),
            gpu_count=random_source.choice((1, 2, 4, 8)),
            estimated_duration_s=600,
        )
        began_s = time.perf_counter()
        await store.submit(connection, customer_id, tier, spec, classify_by_rules(spec), str(uuid4()), now=NOON)
        took_ms.append((time.perf_counter() - began_s) * 1e3)
    return took_ms


async def decide(connection: Connection, limit: int) -> list[store.Claimed]:
    """Work claimed and given a place."""
    claims = await store.claim(connection, "bench", {"H100": GPUS}, limit, now=NOON, lease_s=3600)
    bindings = [store.Binding(c.workload_id, c.epoch, "node", usd_per_gpu_hour=2.0) for c in claims]
    await store.schedule(connection, bindings, now=NOON, actor="bench", lease_s=3600)
    return claims


async def timed_ms(count: int, call: Callable[[int], Awaitable[object]]) -> list[float]:
    """Milliseconds of each of so many calls."""
    took_ms = []
    for n in range(count):
        began_s = time.perf_counter()
        await call(n)
        took_ms.append((time.perf_counter() - began_s) * 1e3)
    return took_ms


@asynccontextmanager
async def connections(settings: Settings, role: Role, count: int) -> AsyncIterator[list[Connection]]:
    """So many at a time."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(await connect_async(settings, role)) for _ in range(count)]


async def measure_submissions(settings: Settings, customers: Customers, count: int) -> dict[str, Any]:
    """One after the other, then eight at a time."""
    source = random.Random(SEED)  # noqa: S311 - a choice of customers
    async with connections(settings, Role.API, 8) as many:
        alone_ms = await submit_some(many[0], customers, count, source)
        began_s = time.perf_counter()
        parts = await asyncio.gather(*(submit_some(c, customers, count // 4, source) for c in many))
        seconds = time.perf_counter() - began_s
    together_ms = [each for part in parts for each in part]
    return {
        "store_submit_p50_ms": rounded(percentile(alone_ms, 0.5)), "store_submit_p95_ms": rounded(percentile(alone_ms, 0.95)),
        "store_submit_8_p95_ms": rounded(percentile(together_ms, 0.95)),
        "store_submit_8_per_s": rounded(len(together_ms) / seconds, 0),
    }  # fmt: skip


async def measure_claims(settings: Settings, batches: int) -> dict[str, Any]:
    """Batches as a busy scheduler makes them, single claims as an idle one does, and the steps of what was claimed."""
    async with connections(settings, Role.SCHEDULER, 1) as (scheduler,):
        claimed: list[store.Claimed] = []
        began_s = time.perf_counter()
        for _ in range(batches):
            claimed += await decide(scheduler, BATCH)
        seconds = time.perf_counter() - began_s
        single_ms = await timed_ms(20, lambda _: store.claim(scheduler, "one", {"H100": GPUS}, 1, now=NOON))
        some = claimed[: min(100, len(claimed))]
        start_ms = await timed_ms(
            len(some), lambda n: store.start(scheduler, some[n].workload_id, some[n].epoch, now=NOON)
        )
        complete_ms = await timed_ms(
            len(some), lambda n: store.complete(scheduler, some[n].workload_id, some[n].epoch, now=NOON)
        )
    return {
        "claims_per_s": rounded(len(claimed) / seconds, 0), "claimed": len(claimed), "batch": BATCH,
        "claim_one_p50_ms": rounded(percentile(single_ms, 0.5)), "claim_one_p95_ms": rounded(percentile(single_ms, 0.95)),
        "start_p50_ms": rounded(percentile(start_ms, 0.5)), "start_p95_ms": rounded(percentile(start_ms, 0.95)),
        "complete_p50_ms": rounded(percentile(complete_ms, 0.5)), "complete_p95_ms": rounded(percentile(complete_ms, 0.95)),
    }  # fmt: skip


async def measure_reads(settings: Settings, customers: Customers) -> dict[str, Any]:
    """What the API asks for."""
    async with connections(settings, Role.API, 1) as (api,):
        page = await store.listed(api, store.Filters(), None, 100)
        last = await store.last_event(api)
        figures = {
            "read": await timed_ms(100, lambda n: store.read(api, page[n % len(page)].workload_id, None)),
            "list_20": await timed_ms(20, lambda n: store.listed(api, store.Filters(customers[n][0]), None, 20)),
            "depths": await timed_ms(20, lambda _: store.depths(api)),
            "events": await timed_ms(20, lambda n: store.events_after(api, last, customers[n][0], 100)),
        }
    return {f"{name}_p50_ms": rounded(percentile(took_ms, 0.5)) for name, took_ms in figures.items()}


async def measure(settings: Settings, waiting: int, gpus: int, parts: Sequence[str] = IN_POSTGRES) -> dict[str, Any]:
    """The figures of the queue in Postgres alone, on a database that is empty before."""
    say(f"{waiting} that wait, {gpus} GPUs")
    customers, figures = prepare(settings, waiting, gpus), dict[str, Any]()
    if "operations" in parts:
        figures |= await measure_submissions(settings, customers, 200)
        figures |= await measure_claims(settings, max(waiting // 4 // BATCH, 1))
        figures["queue_op_p95_ms"] = max(figures[f"{name}_p95_ms"] for name in OPERATIONS)
    if "decisions" in parts:
        async with await connect_scheduler(settings) as scheduler, await connect_scheduler(settings) as beside:
            for_s = FOR_S if waiting == WAITING else QUICK_FOR_S
            figures |= await measure_scheduling(scheduler, beside, NOON, for_s)
    if "operations" in parts:
        figures |= await measure_reads(settings, customers)
    return figures | {"waiting": waiting, "customers": CUSTOMERS, "gpus": gpus}


def run(parts: Sequence[str], *, quick: bool) -> dict[str, Any]:
    """Each part on processes of its own."""
    figures = dict[str, Any]()
    if set(parts) & set(IN_POSTGRES):
        sizes = (QUICK_WAITING, QUICK_GPUS) if quick else (WAITING, GPUS)
        with own_postgres() as own:
            figures |= asyncio.run(measure(own.settings, *sizes, parts))
    if "connections" in parts:
        with own_postgres(api_listen="127.0.0.1:0") as own:
            figures |= measure_connections(own, QUICK_CONNECTIONS if quick else CONNECTIONS)
    if "open-loop" in parts:
        with own_postgres(api_listen="127.0.0.1:0") as own:
            steps = (QUICK_RATES, QUICK_STEP_S) if quick else (RATES, STEP_S)
            figures |= measure_open_loop(own, *steps)
    if "kills" in parts:
        figures |= _with_kills(QUICK_JOBS if quick else JOBS)
    return summary(figures) | figures


def _with_kills(count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="hcp-queue-kills-") as folder:
        settings = Settings.load(
            state_dir=Path(folder) / "s", dagster_port=free_port(), devices=DEVICES, api="on", scheduler="on",
            api_listen=f"127.0.0.1:{free_port()}",
        )  # fmt: skip
        with whole_platform(settings):
            return asyncio.run(measure_kills(settings, count))


def _is_kept(figures: dict[str, Any]) -> bool:
    """Whether nothing was lost; how fast it was is for people to judge."""
    lost = figures.get("at_once_unanswered") or figures.get("lost")
    return not lost and ("kills" not in figures or is_kept(figures))


def main() -> int:
    """Run it; the exit code is 0 whatever the figures are, and 1 where work was lost or ended twice."""
    parser = argparse.ArgumentParser(prog="hcp bench queue", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_WAITING} that wait for {QUICK_GPUS} GPUs")
    parser.add_argument("--json", action="store_true", help="one object on the last line")
    parser.add_argument(
        "--part", action="append", choices=(*BY_DEFAULT, "kills"),
        help="this part alone, also several times; kills (some minutes, a whole platform) is run only so",
    )  # fmt: skip
    options = parser.parse_args()
    began_s = time.monotonic()
    figures = run(options.part or BY_DEFAULT, quick=options.quick)
    figures |= {"load_average": load_average()} | about(quick=options.quick, target=TARGET, began_s=began_s)
    print_figures(figures, as_json=options.json)
    return 0 if _is_kept(figures) else 1


if __name__ == "__main__":
    sys.exit(main())
