"""`hcp bench workloads`: how many submissions a second the workload generator makes, and writes as JSON, on one thread."""

import argparse
import json
import sys
import time
from itertools import islice
from typing import Any

from benchmarks.common import about, load_average, print_figures, rounded
from simulators.workloads import assumed, fitted
from simulators.workloads.generator import Plan, submissions

TARGET_PER_MINUTE = 1_000_000
TARGET = f"written_per_minute >= {TARGET_PER_MINUTE:,}"
COUNT, QUICK_COUNT = 200_000, 20_000
PLAN = Plan(seed=7, rate_per_s=50.0, from_s=1_748_736_000.0, to_s=1_748_736_000.0 + 30 * 86_400)


def measure(count: int) -> dict[str, Any]:
    """So many objects, then as many lines; what comes before the first is not counted."""
    figures: dict[str, Any] = {"submissions": count}
    for name in ("made", "written"):
        stream = submissions(PLAN, assumed.load(), fitted.load())
        next(stream)
        began_s, cpu_s, octets = time.perf_counter(), time.process_time(), 0
        for each in islice(stream, count):
            octets += len(json.dumps(each.line())) if name == "written" else 0
        figures[f"{name}_per_s"] = rounded(count / (time.perf_counter() - began_s), 0)
        figures[f"{name}_per_cpu_s"] = rounded(count / (time.process_time() - cpu_s), 0)
    figures["bytes_per_line"] = rounded(octets / count, 0)
    figures["written_per_minute"] = rounded(60 * (figures["written_per_s"] or 0), 0)
    return figures


def main() -> int:
    """Run the benchmark; exit code 1 when the target is missed."""
    parser = argparse.ArgumentParser(prog="hcp bench workloads", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_COUNT:,} submissions instead of {COUNT:,}")
    arguments = parser.parse_args()
    began_s, load = time.monotonic(), load_average()
    figures = measure(QUICK_COUNT if arguments.quick else COUNT)
    figures |= about(quick=arguments.quick, target=TARGET, began_s=began_s) | {"load_average_before": load}
    print_figures(figures, as_json=arguments.json)
    return 0 if figures["written_per_minute"] >= TARGET_PER_MINUTE else 1


if __name__ == "__main__":
    sys.exit(main())
