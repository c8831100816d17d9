"""`hcp bench retrain`: how long a forecast takes to be learnt from 90 days of twelve facilities, and to be asked where it serves.

The past is the generated one of simulators/fleet_history, seeded; tables and registry are not in it. One process, one thread.
"""

import argparse
import resource
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from benchmarks.common import about, load_average, percentile, print_figures, rounded
from hcp_pipelines.forecasting.capacity.fleet_days import TABLE
from hcp_pipelines.forecasting.capacity.targets import HISTORY, TARGETS, FleetTarget
from hcp_pipelines.forecasting.hours import microseconds
from hcp_pipelines.forecasting.learnable import files
from hcp_pipelines.forecasting.learnable.protocol import Examples
from hcp_pipelines.forecasting.model_file import digest_of
from simulators.fleet_history.history import Past
from simulators.fleet_history.sites import sites

TARGET = "90 days of 12 facilities learnt in < 300 s of 2 cores and < 2 GB; all asked in < 100 ms, the same bytes again"
SEED, FACILITIES, DEVICES = 7, 12, 480
DAYS, QUICK_DAYS = 90, 60
UNTIL = datetime(2025, 5, 1, tzinfo=UTC)
ASKED_TIMES = 20


def past(days: int) -> pl.DataFrame:
    """The fleet's hours, as the lake has them."""
    start, end = UNTIL - timedelta(days=days) - HISTORY, UNTIL + timedelta(days=1)
    made = Past(tuple(sites(FACILITIES, DEVICES)), int(start.timestamp()), int(end.timestamp()), SEED)
    return pl.concat(made.rows())


def examples_of(target: FleetTarget, hours: pl.DataFrame, days: int) -> Examples:
    """The questions of the window and of the midnight after it."""
    return target.examples({TABLE: hours}, (UNTIL - timedelta(days=days), UNTIL + timedelta(hours=1)))


def measure(target: FleetTarget, hours: pl.DataFrame, days: int) -> dict[str, float]:
    """Seconds to make the examples and to learn what ships, milliseconds to ask it of every facility."""
    began_s, cpu_s = time.perf_counter(), time.process_time()
    examples = examples_of(target, hours, days)
    model = target.models[-1]
    kept = model.fit(examples, UNTIL).to_bytes()
    found = {"learn_s": time.perf_counter() - began_s, "learn_cpu_s": time.process_time() - cpu_s}
    again = model.fit(examples, UNTIL).to_bytes()
    fitted = files.read(kept, digest_of(kept))
    asked = examples.only(examples.asked_us == microseconds(UNTIL))
    taken_ms, cpu_s = list[float](), time.process_time()
    for _ in range(ASKED_TIMES):
        began_s = time.perf_counter()
        fitted.predict(asked)
        taken_ms.append((time.perf_counter() - began_s) * 1000)
    found["ask_cpu_ms"] = (time.process_time() - cpu_s) * 1000 / ASKED_TIMES
    found |= {"ask_p50_ms": percentile(taken_ms, 0.5), "ask_max_ms": max(taken_ms), "asked": float(len(asked))}
    return found | {"examples": float(len(examples)), "kept_kb": len(kept) / 1024, "same_bytes": float(kept == again)}


def main() -> int:
    """Run it; the exit code is 0 whatever the figures are."""
    parser = argparse.ArgumentParser(prog="hcp bench retrain", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_DAYS} days in place of {DAYS}; under 60 s")
    parser.add_argument("--json", action="store_true", help="one object on the last line")
    options = parser.parse_args()
    began_s, days = time.monotonic(), QUICK_DAYS if options.quick else DAYS
    hours = past(days)
    figures: dict[str, Any] = {"days": days, "facilities": FACILITIES}
    for target in TARGETS:
        measured = measure(target, hours, days)
        figures |= {f"{target.name}_{key}": rounded(value) for key, value in measured.items()}
    figures |= {
        "peak_mb": rounded(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "load_average": load_average(),
    }
    figures |= about(quick=options.quick, target=TARGET, began_s=began_s)
    print_figures(figures, as_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
