"""`hcp bench analysts`: eight analysts, each one query every two seconds, beside the writers of telemetry at the demo's rate.

The writers alone first, then beside the analysts: what they lose in rows a second, and how long their batches take. Every
analyst is a process with a read-only session of its own. What the figures mean: docs/benchmarks.md.
"""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, about, load_average, percentile, print_figures, rounded, say
from benchmarks.ingest import next_commit, until_stored
from benchmarks.parts.ingest_stack import IngestStack, Metrics
from benchmarks.parts.ingest_verdict import judge
from benchmarks.parts.stack import own_platform
from hcp_pipelines.settings import Settings, child_environment

TARGET = "8 analysts, each a query every 2 s: 0 errors, the writers' rows/s down by less than 10 %"
ANALYSTS = 8
FULL_S, QUICK_S = 120.0, 15.0
WARM_UP_S = 75.0  # until the first minutes are rolled up
QUICK_WARM_UP_S = 10.0
BEGUN_S = 5.0  # for the sessions to attach, before anything is measured


async def measure(settings: Settings, seconds: float, warm_up_s: float, analysts: int) -> dict[str, Any]:
    """Writers alone, writers beside analysts, and whether every row is there once."""
    stack = IngestStack(settings, say)
    try:
        await stack.start()
        say("warming up")
        await asyncio.sleep(warm_up_s)
        say("the writers alone")
        alone = await _writers(stack, seconds)
        say("beside the analysts")
        halt = settings.at("edge", "analysts-enough")
        asking = [await _analyst(settings, halt, number) for number in range(analysts)]
        await asyncio.sleep(BEGUN_S)
        beside = await _writers(stack, seconds)
        halt.touch()
        answers = [json.loads(line) for each in asking for line in (await each.communicate())[0].splitlines()]
        stack.halt()
        await until_stored(stack)
        return figures_of(alone, beside, answers) | judge(settings, stack.produced())
    finally:
        stack.stop()


async def _writers(stack: IngestStack, seconds: float) -> dict[str, Any]:
    before, began_s = await next_commit(stack), time.monotonic()
    await asyncio.sleep(seconds)
    after = await next_commit(stack)
    return {
        "rows_per_s": (after.rows - before.rows) / (time.monotonic() - began_s),
        "batch_mean_s": after.mean("hcp_collector_telemetry_write_seconds", before),
        "batch_p95_s": within(after, before, 0.95),
    }


def within(after: Metrics, before: Metrics, share: float) -> float | None:
    """The bound of the histogram's bucket that this share of the batches was written within; None without batches."""
    name = "hcp_collector_telemetry_write_seconds_bucket"
    bounds = sorted(float(key.split('"')[1]) for key in after.values if key.startswith(name + "{"))
    counts = [after.value(name, f'le="{_bound(b)}"') - before.value(name, f'le="{_bound(b)}"') for b in bounds]
    if not counts or not counts[-1]:
        return None
    return next(bound for bound, count in zip(bounds, counts, strict=True) if count >= share * counts[-1])


def _bound(bound: float) -> str:
    return "+Inf" if bound == float("inf") else str(bound)


async def _analyst(settings: Settings, halt: Path, number: int) -> asyncio.subprocess.Process:
    argv = [sys.executable, "-m", "benchmarks.parts.analyst", str(halt), str(number)]
    return await asyncio.create_subprocess_exec(
        *argv, cwd=ROOT, env=child_environment(settings), stdout=asyncio.subprocess.PIPE
    )


def figures_of(alone: dict[str, Any], beside: dict[str, Any], answers: list[dict[str, Any]]) -> dict[str, Any]:
    """What is printed: writers alone and beside, answers and the first error."""
    asked_ms = [answer["ms"] for answer in answers]
    errors = [answer["error"] for answer in answers if answer["error"]]
    return {
        "alone": {name: value and round(value, 3) for name, value in alone.items()},
        "beside": {name: value and round(value, 3) for name, value in beside.items()},
        "rows_lost_fraction": round(1 - beside["rows_per_s"] / alone["rows_per_s"], 4) if alone["rows_per_s"] else None,
        "queries": len(answers),
        "query_p50_ms": rounded(percentile(asked_ms, 0.5)),
        "query_p95_ms": rounded(percentile(asked_ms, 0.95)),
        "errors": len(errors),
        "first_error": errors[0] if errors else "",
        "load": load_average(),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hcp bench analysts", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_S:.0f} s measured twice, under a minute")
    parser.add_argument(
        "--devices", type=int, default=Settings().devices, help="a row each second (default: the demo's)"
    )
    parser.add_argument(
        "--facilities", type=int, default=Settings().facilities, help="facilities (default: the demo's)"
    )
    parser.add_argument("--analysts", type=int, default=ANALYSTS, help=f"how many ask (default {ANALYSTS})")
    parser.add_argument("--keep", type=Path, default=None, help="use and keep this state directory")
    return parser.parse_args()


def main() -> int:
    """Run the benchmark; exit code 1 when a query failed, a row was lost or doubled, or the writers lost a tenth."""
    arguments = _arguments()
    began_s, is_quick = time.monotonic(), arguments.quick
    seconds, warm_up_s = (QUICK_S, QUICK_WARM_UP_S) if is_quick else (FULL_S, WARM_UP_S)
    with own_platform(arguments.keep, arguments.devices, arguments.facilities, 1.0) as settings:
        figures: dict[str, Any] = {name: getattr(arguments, name) for name in ("devices", "facilities", "analysts")}
        figures |= asyncio.run(measure(settings, seconds, warm_up_s, arguments.analysts))
    figures |= about(quick=is_quick, target=TARGET, began_s=began_s)
    print_figures(figures, as_json=arguments.json)
    is_wrong = any(figures[key] for key in ("errors", "lost_rows", "duplicate_rows"))
    return 1 if is_wrong or (figures["rows_lost_fraction"] or 0.0) > 0.1 else 0


if __name__ == "__main__":
    sys.exit(main())
