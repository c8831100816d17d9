"""`hcp bench policy-refresh`: seconds from a tick's commit to the policies that a recorded Dagster run published on it.

Starts its own Postgres, code server, run server, webserver, daemon and launcher with a small fleet; no world, no
allocator. Single ticks come 0.5–2 s after the last answer; every fifth is a burst of five ticks, timed from the last
one's commit. Each policy's run is then looked up in Dagster: it must be a finished run of `tick_job`.
"""

import argparse
import asyncio
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg

from benchmarks.common import ROOT, about, percentile, print_figures
from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.domain.ticks import Stream, Tick
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.orchestration import instance, probes
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.bootstrap import bootstrap
from hcp_pipelines.storage.embedded import EmbeddedPostgres
from hcp_pipelines.storage.postgres import connect, dsn
from hcp_pipelines.storage.prices import store_price_data
from hcp_pipelines.storage.roles import Role

TARGET = "p95_s <= 2.0"
LOCATIONS = ("control",)
BURST = 5
BACKLOG = timedelta(hours=48)  # intervals come faster than the clock runs: they start in its past
ANSWER_WITHIN_S = 30.0
READY_WITHIN_S = 120.0
POLICIES_SQL = "select count(distinct facility_id) from policies where status = 'live' and basis_tick_id >= %s"
RUNS_SQL = "select distinct run_id from policies where status = 'live' and run_id is not null"
RUN_QUERY = """
query Run($runId: ID!) { runOrError(runId: $runId) { __typename
  ... on Run { status jobName tags { key value } repositoryOrigin { repositoryLocationName } } } }
"""


@dataclass
class Stack:
    """Postgres and Dagster's processes on a state directory of their own."""

    settings: Settings
    children: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    _postgres: "subprocess.Popen[bytes] | None" = None

    def start_postgres(self) -> None:
        """Start the server, create databases and schema, apply the demo fleet, write the clock's anchor."""
        server = EmbeddedPostgres(self.settings)
        server.prepare()
        self._postgres = server.spawn()
        server.wait_ready()
        bootstrap(self.settings)
        with connect(self.settings, Role.ADMIN) as connection:
            for document in demo_facilities(self.settings.facilities, self.settings.devices):
                apply(connection, document, "bench")
        anchor = Anchor(SystemClock().real_now(), datetime(2025, 1, 1, 12, tzinfo=UTC), self.settings.clock_speed)
        path = self.settings.at("run", "clock.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(anchor.dump())

    def start(self, process: instance.DagsterProcess) -> None:
        """Spawn one process, its output in logs/."""
        log = self.settings.at("logs", f"{process.name}.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            self.children[process.name] = subprocess.Popen(
                process.argv,
                env=dict(process.env),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    async def start_dagster(self, only: Sequence[str] | None = None) -> None:
        """Start Dagster's processes (or some of them) in their order, each when those it needs are ready."""
        instance.write_instance(self.settings, LOCATIONS)
        processes = instance.process_commands(self.settings, LOCATIONS)
        wanted = [p for p in processes if only is None or p.name in only]
        ready = {"postgres", *(p.name for p in processes if p not in wanted)}
        deadline_s = time.monotonic() + READY_WITHIN_S
        async with httpx.AsyncClient() as client:
            while missing := [p for p in wanted if p.name not in ready]:
                for process in missing:
                    if process.name not in self.children and set(process.after) <= ready:
                        self.start(process)
                    if process.name in self.children and await self._is_ready(process, client, deadline_s):
                        ready.add(process.name)
                await asyncio.sleep(0.1)

    async def _is_ready(self, process: instance.DagsterProcess, client: httpx.AsyncClient, deadline_s: float) -> bool:
        code = self.children[process.name].poll()
        if code is not None:
            raise RuntimeError(f"{process.name} ended with {code}; see {self.settings.at('logs')}")
        if process.probe is None:
            return self.settings.at("run", f"{process.name}.json").exists()
        reason = await process.probe(client)
        if reason and time.monotonic() > deadline_s:
            raise TimeoutError(f"{process.name} is not ready: {reason}; see {self.settings.at('logs')}")
        return not reason

    def stop(self) -> None:
        """Stop everything, Postgres last."""
        for child in reversed(self.children.values()):
            _signal_group(child, signal.SIGTERM)
        for child in self.children.values():
            _end(child, 10.0)
        if self._postgres:
            self._postgres.send_signal(signal.SIGINT)
            _end(self._postgres, 20.0)


def _signal_group(child: "subprocess.Popen[bytes]", number: int) -> None:
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        return


def _end(child: "subprocess.Popen[bytes]", grace_s: float) -> None:
    try:
        child.wait(grace_s)
    except subprocess.TimeoutExpired:
        _signal_group(child, signal.SIGKILL)
        child.wait()


@asynccontextmanager
async def running_stack(settings: Settings) -> AsyncIterator[Stack]:
    """Everything up, and down again at the end whatever happens."""
    stack = Stack(settings)
    try:
        stack.start_postgres()
        await stack.start_dagster()
        yield stack
    finally:
        stack.stop()


class Market:
    """The feed's part: writes ticks, and knows the next power interval."""

    def __init__(self, settings: Settings, seed: int = 7) -> None:
        self._settings = settings
        self._clock = SystemClock(Anchor.load(settings.at("run", "clock.json")))
        self._random = random.Random(seed)  # noqa: S311 - prices, not secrets
        now = self._clock.now() - BACKLOG
        self._interval_at = now - timedelta(minutes=now.minute % 5, seconds=now.second, microseconds=now.microsecond)

    async def write_first(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Everything but power prices."""
        at = self._interval_at
        await store_price_data(
            connection,
            [
                Tick(Stream.BTC_USD, "consensus", at, 95_000.0, "USD", "coinbase"),
                Tick(Stream.BTC_NETWORK, "difficulty", at, 1.1e14, "1", "mempool"),
                Tick(Stream.BTC_NETWORK, "fees_btc_per_block", at, 0.05, "BTC", "mempool"),
                Tick(Stream.BTC_NETWORK, "height", at, 880_000.0, "1", "mempool"),
                Tick(Stream.GPU_SPOT, "H100", at, 2.1, "USD/GPU-hour", "listings"),
            ],
        )

    async def write_power(self, connection: psycopg.AsyncConnection[Any]) -> int:
        """The next 5-minute price of each settlement point, committed; the lowest of their tick ids.

        A policy's basis is the newest tick that entered it, so that it is at least this one once its point's price did.
        """
        self._interval_at += timedelta(minutes=5)
        price = self._random.uniform(-20.0, 120.0)
        ticks = [
            Tick(Stream.POWER_RT_LMP, point, self._interval_at, price + offset, "USD/MWh", "ERCOT")
            for offset, point in enumerate(("HB_HOUSTON", "HB_NORTH", "HB_HUBAVG"))
        ]
        return min(stored.id for stored in await store_price_data(connection, ticks))


async def answer_s(listener: psycopg.AsyncConnection[Any], tick_id: int, facilities: int, since_s: float) -> float:
    """Seconds from `since_s` until every facility has a live policy on this tick or a newer one."""
    deadline_s = since_s + ANSWER_WITHIN_S
    while time.monotonic() < deadline_s:
        row = await (await listener.execute(POLICIES_SQL, (tick_id,))).fetchone()
        if row and row[0] >= facilities:
            return time.monotonic() - since_s
        async for _ in listener.notifies(timeout=0.5, stop_after=1):
            pass
    raise TimeoutError(f"no policy on tick {tick_id} within {ANSWER_WITHIN_S:.0f} s")


async def measure(settings: Settings, ticks: int) -> dict[str, Any]:
    """Latencies of so many answers, seconds."""
    market = Market(settings)
    singles: list[float] = []
    bursts: list[float] = []
    pause = random.Random(11)  # noqa: S311
    feed = await psycopg.AsyncConnection.connect(dsn(settings, Role.FEED), autocommit=True)
    listener = await psycopg.AsyncConnection.connect(dsn(settings, Role.OPERATOR), autocommit=True)
    async with feed, listener:
        await listener.execute("listen hcp_policy")
        await market.write_first(feed)
        first = await market.write_power(feed)
        warm_up_s = await answer_s(listener, first, settings.facilities, time.monotonic())
        for number in range(ticks):
            await asyncio.sleep(pause.uniform(0.5, 2.0))
            is_burst = number % 5 == 4
            for _ in range(BURST - 1 if is_burst else 0):
                await market.write_power(feed)
                await asyncio.sleep(0.02)
            tick_id = await market.write_power(feed)
            taken_s = await answer_s(listener, tick_id, settings.facilities, time.monotonic())
            (bursts if is_burst else singles).append(taken_s)
    return {"singles_s": singles, "bursts_s": bursts, "warm_up_s": warm_up_s}


async def check_runs(settings: Settings) -> dict[str, int]:
    """How many runs made the policies, and how many of them Dagster records as runs of tick_job in `control`."""
    with connect(settings, Role.OPERATOR) as connection:
        run_ids = [row[0] for row in connection.execute(RUNS_SQL).fetchall()]
    recorded = succeeded = 0
    async with httpx.AsyncClient() as client:
        for run_id in run_ids:
            data = await probes.graphql(client, settings.dagster_port, RUN_QUERY, {"runId": run_id})
            run = data["runOrError"]
            recorded += run["__typename"] == "Run" and run["jobName"] == "tick_job"
            succeeded += run.get("status") == "SUCCESS"
    return {"runs": len(run_ids), "runs_recorded": recorded, "runs_succeeded": succeeded}


async def run(settings: Settings, ticks: int) -> dict[str, Any]:
    """Start, measure, check, stop."""
    began_s = time.monotonic()
    async with running_stack(settings):
        ready_s = time.monotonic() - began_s
        measured = await measure(settings, ticks)
        await asyncio.sleep(2.0)  # the last run's end is recorded after its policies
        runs = await check_runs(settings)
    answers = [*measured["singles_s"], *measured["bursts_s"]]
    return {
        "ticks": len(answers),
        "p50_s": round(statistics.median(answers), 3),
        "p95_s": round(percentile(answers, 0.95), 3),
        "max_s": round(max(answers), 3),
        "burst_p50_s": round(statistics.median(measured["bursts_s"]), 3) if measured["bursts_s"] else None,
        "bursts": len(measured["bursts_s"]),
        "first_answer_s": round(measured["warm_up_s"], 3),
        "ready_s": round(ready_s, 1),
        **runs,
    }


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    """Run the benchmark; exit code 1 when a policy's run is missing in Dagster."""
    parser = argparse.ArgumentParser(prog="hcp bench policy-refresh", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help="few ticks, under a minute")
    parser.add_argument("--ticks", type=int, default=0, help="how many answers to time (default 60, quick 8)")
    parser.add_argument("--keep", type=Path, default=None, help="use and keep this state directory")
    arguments = parser.parse_args()
    ticks = arguments.ticks or (8 if arguments.quick else 60)
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hcp-bench-") as folder:
        state_dir = arguments.keep or Path(folder) / "state"
        settings = Settings(state_dir=state_dir, dagster_port=free_port(), devices=300, facilities=3)
        figures = asyncio.run(run(settings, ticks))
    figures |= about(quick=arguments.quick, target=TARGET, began_s=began_s)
    print_figures(figures, as_json=arguments.json)
    return 0 if figures["runs_recorded"] == figures["runs"] > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
