"""`hcp bench served [--data DIR]`: recorded AI work goes through the API of a whole platform while recorded prices replay.

Without DIR both are made up: the generated world's prices, the workload generator's work.

Customers of three tiers, an API key each; the work in real time's proportion to the world. What became of it is read from the
marts: waits, deadlines, pre-emptions, work lost and dollars. What the figures mean: docs/benchmarks.md.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.common import about, load_average, print_figures, say
from benchmarks.parts.api_customers import add_customers
from benchmarks.parts.trace_work import CUSTOMERS, Amount, made_work, trace_work
from benchmarks.parts.whole_platform import free_port, status, whole_platform
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.runtime.process import read_clock
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from simulators.workloads.submit import Keys, Tally, Target, send

TARGET = "given_up = 0, unaccounted = 0, failed = 0; lost_gpu_s = 0, by the marts and by what devices said of each stop"
STARTS = "2024-08-20T20:00+00:00"  # an afternoon that ends at 1,600 $/MWh
HOURS, QUICK_HOURS = 6.0, 1.0
AMOUNT, QUICK_AMOUNT = Amount(60.0, 20), Amount(12.0, 100)
SETTLED_WITHIN_H = 6.0  # simulated: until all that was taken should be over
MARTS_WITHIN_S = 240.0
LEVELS = """
    select type, sum(submitted), sum(completed), sum(failed), sum(preemptions), sum(retries), sum(lost_gpu_s), max(wait_p50_s),
           max(wait_p95_s), sum(deadlines), avg(deadline_hit_rate), sum(earned_usd)
    from lake.marts.fct_service_levels group by type order by type"""
NAMES = (
    "submitted", "completed", "failed", "preemptions", "retries", "lost_gpu_s", "wait_p50_s", "wait_p95_s", "deadlines",
    "deadline_hit_rate", "earned_usd",
)  # fmt: skip
OPEN = "select count(*) from workloads where status not in ('completed', 'failed', 'cancelled')"
STOPS = """
    select outcome, count(*), sum(gpu_count * greatest(progress_s - saved_s, 0))::float8, sum(lost_gpu_s)::float8
    from work_stops group by outcome order by outcome"""
BY_STATUS = "select status::text, count(*), coalesce(sum(cost), 0)::float8 from workloads group by 1 order by 1"


def main() -> int:
    """Run it and print one JSON object on the last line; exit code 1 when work was given up, lost or failed."""
    parser = argparse.ArgumentParser(prog="hcp bench served", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_HOURS:.0f} simulated hour of little work")
    parser.add_argument("--data", type=Path, help="recorded prices, and traces in its folder traces/")
    parser.add_argument(
        "--devices", type=int, default=750, help="devices of the demo, a sixth of them GPUs (default 750)"
    )
    parser.add_argument("--from", dest="starts", default=STARTS, help=f"when the world begins (default {STARTS})")
    options = parser.parse_args()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hcp-bench-served-") as folder:
        settings = Settings.load(
            state_dir=Path(folder) / "s", dagster_port=free_port(), devices=options.devices, api="on", scheduler="on",
            api_listen=f"127.0.0.1:{free_port()}", world=f"replay:{options.data.resolve()}" if options.data else "sim",
        )  # fmt: skip
        with whole_platform(settings, "--from", options.starts):
            figures = asyncio.run(_measure(settings, options.data, quick=options.quick))
    figures |= {"load_average": load_average()}
    print_figures(about(quick=options.quick, target=TARGET, began_s=began_s) | figures, as_json=options.json)
    return 0 if _is_kept(figures) else 1


def _is_kept(figures: dict[str, Any]) -> bool:
    is_lost = any(one["lost_gpu_s"] for one in (*figures["by_class"].values(), *figures["stops"].values()))
    return not (figures["given_up"] or figures["unaccounted"] or figures["failed"] or is_lost)


async def _measure(settings: Settings, data: Path | None, *, quick: bool) -> dict[str, Any]:
    hours, amount = (QUICK_HOURS, QUICK_AMOUNT) if quick else (HOURS, AMOUNT)
    clock, tally = read_clock(settings), Tally()
    keys = Keys(None, add_customers(settings, CUSTOMERS))
    begins_s = clock.now().timestamp()
    work = list(trace_work(data / "traces", begins_s, hours, amount) if data else made_work(begins_s, hours))
    gpu_h = sum(each.spec["estimated_duration_s"] * each.spec["gpu_count"] for each in work) / 3600
    say(f"{len(work)} pieces of work of {gpu_h:.0f} GPU-hours in {hours:.0f} simulated hours")
    await send(work, Target(status(settings)["urls"]["api.api"], keys, settings.clock_speed), tally)
    ends = clock.now() + timedelta(hours=QUICK_HOURS if quick else SETTLED_WITHIN_H)
    while (waiting := _one(settings, OPEN)) and clock.now() < ends:
        say(f"{clock.now():%d %H:%M}: {waiting} are not over")
        await asyncio.sleep(10)
    return tally.report() | {"pieces": len(work), "gpu_h": round(gpu_h, 1)} | await _told(settings, tally)


async def _told(settings: Settings, tally: Tally) -> dict[str, Any]:
    """What Postgres has of the work, and what the marts say of it once they have seen all of it."""
    with connect(settings, Role.ADMIN) as connection:
        found = {name: (count, usd) for name, count, usd in connection.execute(BY_STATUS)}
        stops = {
            outcome: {"pieces": pieces, "at_stake_gpu_s": at_stake, "lost_gpu_s": lost}
            for outcome, pieces, at_stake, lost in connection.execute(STOPS)
        }
    until_s = time.monotonic() + MARTS_WITHIN_S
    levels: dict[str, dict[str, Any]] = {}
    while (
        time.monotonic() < until_s and sum(level["submitted"] for level in levels.values()) < tally.counts["accepted"]
    ):
        await asyncio.sleep(5)
        levels = _levels(settings)
    total = sum(count for count, _ in found.values())
    return {
        "by_status": {name: count for name, (count, _) in found.items()},
        "failed": found.get("failed", (0, 0.0))[0],
        "unaccounted": tally.counts["accepted"] - total,
        "cost_usd": round(sum(usd for _, usd in found.values()), 2),
        "by_class": levels,
        "stops": stops,
    }


def _levels(settings: Settings) -> dict[str, dict[str, Any]]:
    try:
        with lake.attach(settings, Role.LAKE_READER, read_only=True) as connection:
            rows = connection.execute(LEVELS).fetchall()
    except (duckdb.Error, StorageError) as error:  # the first marts are not there yet
        say(f"no marts yet: {str(error).splitlines()[0]}")
        return {}
    return {row[0]: json.loads(json.dumps(dict(zip(NAMES, row[1:], strict=True)), default=float)) for row in rows}


def _one(settings: Settings, query: str) -> int:
    with connect(settings, Role.ADMIN) as connection:
        row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


if __name__ == "__main__":
    sys.exit(main())
