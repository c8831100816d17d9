"""Scheduling decisions as the daemon makes them: claim, route, allocate, desire, schedule and record, in batches.

Prices and bounds are the same everywhere and let all work: what is measured is the way from the queue to the devices.
"""

import time
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import psycopg

from benchmarks.common import cpu_s, percentile, rounded, say
from hcp_pipelines.domain.clock import ManualClock
from hcp_pipelines.domain.modes import STATE_COUNT, DeviceState
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.fleet.document import FacilityFile
from hcp_pipelines.settings import Settings
from hcp_pipelines.workloads.claiming import Connection
from hcp_pipelines.workloads.routing.room import Market, Room
from hcp_pipelines.workloads.routing.router import Router
from hcp_pipelines.workloads.scheduler.held import Book
from hcp_pipelines.workloads.scheduler.inventory import read_free, read_groups
from hcp_pipelines.workloads.scheduler.placing import Placer
from hcp_pipelines.workloads.scheduler.service import plan_of

FACILITIES = 12
FOR_S, QUICK_FOR_S = 6.0, 3.0
ALONE = 50  # decisions of one piece of work each: how long a single one takes, from its claim to its devices
STATES = {"idle": 0.45, "inference_realtime": 1.1, "inference_batch": 1.3, "training": 1.4}  # kW, rising
PRICE_USD_PER_MWH, USD_PER_GPU_HOUR = 40.0, 2.5


def add_gpus(database: psycopg.Connection, gpus: int) -> None:
    """So many H100, eight a node, in twelve facilities that leave them to the scheduler."""
    for n, facility in enumerate(demo_facilities(FACILITIES, 6 * FACILITIES * 8)):
        document = facility.document()
        own = gpus // FACILITIES + (n < gpus % FACILITIES)
        for group in document["groups"]:
            if group["type"] == "GPU":
                group["scheduled"], group["devices"] = True, own
                group["states"] = [{"state": state, "power_kw": kw} for state, kw in STATES.items()]
        for feeder in document["feeders"]:
            feeder["limit_mw"] = 100.0
        document["capacity_mw"] = 200.0
        apply(database, FacilityFile.model_validate(document), "bench")


class _WorldAtRest(ManualClock):
    """World time stands still, real time passes."""

    def monotonic_s(self) -> float:
        """Real seconds."""
        return time.monotonic()


async def measure_scheduling(connection: Connection, beside: Connection, now: datetime, for_s: float) -> dict[str, Any]:
    """Batches for so many seconds, or until no more fits, on two connections as the daemon has them; single ones before."""
    groups = await read_groups(connection)
    room = Room(groups, await read_free(connection, groups))
    bounds = np.repeat(room.devices[:, None], STATE_COUNT, axis=1)
    revenue = np.full((len(groups), STATE_COUNT), USD_PER_GPU_HOUR)
    market = Market(np.full(len(groups), PRICE_USD_PER_MWH), revenue, bounds, ("",) * len(groups))
    plan, clock = plan_of(Settings()), _WorldAtRest(now)
    router, placer = Router(room, market, plan.rules), Placer(plan.terms, clock, Book())
    say(f"{int(room.free.sum())} GPUs free in {len(groups)} groups")
    routed_ms = list[float]()
    timed = _timed(router, routed_ms)
    one_by_one = Placer(replace(plan.terms, batch=1), clock, Book())
    alone_ms = list[float]()
    for _ in range(ALONE):
        began_s = time.perf_counter()
        if (await one_by_one.place(connection, timed, [], {}))[1]:
            alone_ms.append((time.perf_counter() - began_s) * 1e3)
    began_s, before = time.monotonic(), _cpu_s(connection, beside)
    placed, _ = await placer.place_many(connection, beside, timed, [], began_s + for_s)
    seconds, after = time.monotonic() - began_s, _cpu_s(connection, beside)
    return {
        "decisions_per_s": rounded(placed / seconds, 0), "decided": placed, "decisions_batch": plan.terms.batch,
        "cpu_ms_per_decision": {name: rounded(1e3 * (after[name] - used) / max(placed, 1)) for name, used in before.items()},
        "gpus_scheduled": int(room.working[:, DeviceState.INFERENCE_REALTIME].sum()),
        "routing_p50_ms": rounded(percentile(routed_ms, 0.5)), "routing_p99_ms": rounded(percentile(routed_ms, 0.99)),
        "allocation_p99_ms": rounded(percentile(alone_ms, 0.99)),
    }  # fmt: skip


def _cpu_s(*connections: Connection) -> dict[str, float]:
    """Of the backends behind these connections, and of this process."""
    backends = {connection.info.backend_pid for connection in connections}
    return {"postgres": sum(cpu_s(pid) for pid in backends), "python": time.process_time()}


def _timed(router: Router, routed_ms: list[float]) -> Router:
    """The same router, which notes how long each decision takes."""
    route = router.route

    def timed(need: Any) -> Any:
        began_s = time.perf_counter()
        found = route(need)
        routed_ms.append((time.perf_counter() - began_s) * 1e3)
        return found

    router.route = timed  # type: ignore[method-assign]
    return router
