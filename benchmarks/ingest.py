"""`hcp bench ingest`: rows of devices' telemetry a second into the lake, by the gateways' streams, roll-ups and upkeep inside.

Real processes on a database of their own: a gateway of telemetry alone (its samplers, spools and streams; the devices are noise),
the collector, and an analyst who aggregates the last ten minutes. What the figures mean: docs/benchmarks.md.
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.common import about, percentile, print_figures, rounded, say
from benchmarks.parts.ingest_stack import IngestStack, Metrics
from benchmarks.parts.ingest_verdict import judge
from benchmarks.parts.postgres_copy import copy_rows_per_s
from benchmarks.parts.stack import own_platform
from hcp_pipelines.collector.upkeep import keep_up
from hcp_pipelines.settings import Settings

TARGET = "300,000 rows/s for 5 minutes on 2 cores; reader p95 < 1 s, memory flat and < 2 GB; lost = duplicate = 0"
FULL_S, QUICK_S = 300.0, 15.0
WARM_UP_S, QUICK_WARM_UP_S = 30.0, 6.0
COPY_S, QUICK_COPY_S = 20.0, 4.0
KILL_EACH_S = 4.0
SETTLED_WITHIN_S = 120.0
LOOK_EACH_S = 0.1
UPKEEPS = 2  # within the window


async def measure(settings: Settings, seconds: float, warm_up_s: float, copy_s: float, kills: int) -> dict[str, Any]:
    """Start, warm up, look on, halt, wait until everything is stored, and count."""
    stack = IngestStack(settings, say)
    try:
        await stack.start()
        say("warming up")
        await asyncio.sleep(warm_up_s)
        figures = await (_kill(stack, kills) if kills else _watch(stack, seconds))
        stack.halt()
        figures["drained_s"] = await until_stored(stack)
        figures["restarts"] = stack.restarts() if not kills else None
        say("counting")
        figures |= judge(settings, stack.produced())
        if not kills:
            say("the same by COPY into Postgres")
            stack.stop_one("collector")
            figures["postgres_copy_rows_per_s"] = round(copy_rows_per_s(settings, copy_s))
        return figures
    finally:
        stack.stop()


async def _watch(stack: IngestStack, seconds: float) -> dict[str, Any]:
    """Rows a second by the collector's own counter, memory and CPU by process, what the reader saw."""
    reader = await stack.start_reader()
    before = await next_commit(stack)
    cpu, began_s = stack.cpu_s(), time.monotonic()
    memory: list[float] = []
    upkept_s: list[float] = []
    upkeep = asyncio.create_task(_keep_up(stack.settings, seconds / UPKEEPS, upkept_s))
    while time.monotonic() < began_s + seconds:
        await asyncio.sleep(min(5.0, seconds / 4))
        memory.append(stack.pss_mb(["collector"])["collector"])
    upkeep.cancel()
    after = await next_commit(stack)
    used, took_s = stack.cpu_s(), time.monotonic() - began_s
    answers = await stack.stop_reader(reader)
    asked_ms = [answer["ms"] for answer in answers]
    return {
        "rows_per_s": round((after.rows - before.rows) / took_s),
        "measured_s": round(took_s, 1),
        "reader_p95_ms": rounded(percentile(asked_ms, 0.95)),
        "reader_p50_ms": rounded(percentile(asked_ms, 0.5)),
        "reader_minutes_p95_ms": rounded(percentile([answer["minutes_ms"] for answer in answers], 0.95)),
        "reader_queries": len(answers),
        "reader_rows": max((answer["rows"] for answer in answers), default=0),
        "upkeep_s": upkept_s,
        "rss_mb": max(memory),
        "rss_mb_at": [round(one) for one in memory[:: max(len(memory) // 6, 1)]],
        "cpu_share": {name: round((used[name] - cpu[name]) / took_s, 3) for name in cpu if name in used},
        "reader_cpu_share": round(stack.reader_cpu_s / took_s, 3),
        **_latencies(before, after),
    }


async def _keep_up(settings: Settings, each_s: float, took_s: list[float]) -> None:
    """What Dagster's job does each ten minutes: merging, expiry. How long each took."""
    while True:
        await asyncio.sleep(each_s / 2)
        done = await asyncio.to_thread(keep_up, settings)
        took_s.append(round(sum(done.took_s.values()), 2))
        await asyncio.sleep(each_s / 2)


async def next_commit(stack: IngestStack) -> Metrics:
    """The metrics when the next batch is in the lake: a rate between two such moments is not of a part of a batch."""
    before = await stack.metrics()
    for _ in range(round(SETTLED_WITHIN_S / LOOK_EACH_S)):
        await asyncio.sleep(LOOK_EACH_S)
        now = await stack.metrics()
        if now.rows > before.rows:
            return now
    raise RuntimeError(f"nothing was stored within {SETTLED_WITHIN_S:.0f} s: see collector.log")


def _latencies(before: Metrics, after: Metrics) -> dict[str, Any]:
    """Means of the window: a sample's age when it is committed, a write, roll-ups; the lag at its end."""
    return {
        "age_mean_s": after.mean("hcp_collector_telemetry_age_seconds", before),
        "write_mean_s": after.mean("hcp_collector_telemetry_write_seconds", before),
        "rollup_mean_s": after.mean("hcp_collector_telemetry_upkeep_seconds", before, 'part="rollup"'),
        "rollups": after.count("hcp_collector_telemetry_upkeep_seconds", before, 'part="rollup"'),
        "lag_s": rounded(after.value("hcp_collector_telemetry_lag_seconds")),
    }


async def _kill(stack: IngestStack, kills: int) -> dict[str, Any]:
    """SIGKILL to the collector, again and again, at moments that move through its writes."""
    for number in range(kills):
        await asyncio.sleep(KILL_EACH_S + 0.37 * (number % 10))
        stack.kill("collector")
        await stack.start_again("collector")
        say(f"killed {number + 1} of {kills}")
    await asyncio.sleep(KILL_EACH_S)
    return {"kills": kills}


async def until_stored(stack: IngestStack) -> float | None:
    """Seconds until every sample that was kept is stored; None if nothing came any more before they all were."""
    began_s = moved_s = time.monotonic()
    before: int | None = None
    while time.monotonic() < moved_s + SETTLED_WITHIN_S:
        await asyncio.sleep(0.5)
        left = stack.unstored()
        if left == 0:
            return round(time.monotonic() - began_s, 1)
        if left != before:
            before, moved_s = left, time.monotonic()
    return None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hcp bench ingest", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_S:.0f} s measured, under a minute")
    parser.add_argument("--devices", type=int, default=300_000, help="devices, a row each second (default 300000)")
    parser.add_argument("--facilities", type=int, default=12, help="facilities (default 12)")
    parser.add_argument(
        "--seconds", type=float, default=0.0, help=f"measured (default {FULL_S:.0f}, quick {QUICK_S:.0f})"
    )
    parser.add_argument("--kills", type=int, default=0, help="kill the collector so often instead of measuring")
    parser.add_argument("--keep", type=Path, default=None, help="use and keep this state directory")
    return parser.parse_args()


def main() -> int:
    """Run the benchmark; exit code 1 when a row was lost or doubled, or a process died."""
    arguments = _arguments()
    began_s, is_quick = time.monotonic(), arguments.quick
    seconds = arguments.seconds or (QUICK_S if is_quick else FULL_S)
    warm_up_s = QUICK_WARM_UP_S if is_quick or arguments.kills else WARM_UP_S
    with own_platform(arguments.keep, arguments.devices, arguments.facilities, 1.0) as settings:
        figures = {"devices": arguments.devices, "facilities": arguments.facilities}
        figures |= asyncio.run(
            measure(settings, seconds, warm_up_s, QUICK_COPY_S if is_quick else COPY_S, arguments.kills)
        )
    figures |= about(quick=is_quick, target=TARGET, began_s=began_s)
    print_figures(figures, as_json=arguments.json)
    wrong = ("lost_rows", "duplicate_rows", "samples_with_wrong_slots", "restarts")
    return 1 if any(figures[key] for key in wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
