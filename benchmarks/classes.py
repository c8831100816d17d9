"""`hcp bench classes`: how long telling a workload's class takes, from the specification to the answer, one after the other."""

import argparse
import sys
import time
from itertools import islice
from typing import Any

from benchmarks.common import about, load_average, percentile, print_figures, rounded
from hcp_pipelines.workloads.classifier.classify import classify
from hcp_pipelines.workloads.classifier.model import shipped
from hcp_pipelines.workloads.spec import WorkloadSpec
from simulators.workloads import assumed, fitted
from simulators.workloads.generator import Plan, submissions

TARGET_MS = 1.0
TARGET = f"p50_ms < {TARGET_MS:g}"
COUNT, QUICK_COUNT = 20_000, 2_000
PLAN = Plan(seed=7, rate_per_s=5.0, from_s=1_748_736_000.0, to_s=1_748_736_000.0 + 30 * 86_400, malformed=0.0)


def measure(count: int) -> dict[str, Any]:
    """So many specifications of the generator, some of which state their class."""
    began_s = time.perf_counter()
    model = shipped()
    read_s = time.perf_counter() - began_s
    stream = submissions(PLAN, assumed.load(), fitted.load())
    specs = [WorkloadSpec.model_validate(each.spec) for each in islice(stream, count)]
    taken_ms, cpu_s = [], time.process_time()
    for spec in specs:
        began_s = time.perf_counter()
        classify(spec, model)
        taken_ms.append((time.perf_counter() - began_s) * 1e3)
    cpu_s = time.process_time() - cpu_s
    return {
        "specifications": count,
        "p50_ms": rounded(percentile(taken_ms, 0.5), 3),
        "p95_ms": rounded(percentile(taken_ms, 0.95), 3),
        "p99_ms": rounded(percentile(taken_ms, 0.99), 3),
        "cpu_ms_each": rounded(cpu_s / count * 1e3, 3),
        "read_ms": rounded(read_s * 1e3, 1),
    }


def main() -> int:
    """Run the benchmark; exit code 1 when the target is missed."""
    parser = argparse.ArgumentParser(prog="hcp bench classes", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_COUNT:,} specifications instead of {COUNT:,}")
    arguments = parser.parse_args()
    began_s, load = time.monotonic(), load_average()
    figures = measure(QUICK_COUNT if arguments.quick else COUNT)
    figures |= about(quick=arguments.quick, target=TARGET, began_s=began_s) | {"load_average_before": load}
    print_figures(figures, as_json=arguments.json)
    return 0 if (figures["p50_ms"] or 0) < TARGET_MS else 1


if __name__ == "__main__":
    sys.exit(main())
