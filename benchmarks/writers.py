"""`hcp bench writers`: a backfill, runs of ticks and a collector write one table of the lake at once, beside its upkeep.

A server and a lake of its own, three processes, each its own connection, all by the one write helper. What should be there is
counted row by row afterwards. What the figures mean: docs/benchmarks.md.
"""

import argparse
import subprocess
import sys
import time
from typing import Any

from benchmarks.common import ROOT, about, load_average, print_figures, say
from benchmarks.parts.api_process import own_postgres
from benchmarks.parts.lake_writer import BACKFILL, BATCH_ROWS, COLLECTOR, DAYS, KINDS, TICK_RUN, day_rows
from hcp_pipelines.collector import upkeep
from hcp_pipelines.settings import Settings, child_environment
from hcp_pipelines.storage import lake

TARGET = "differing = 0: each batch once, each day as it was made last"
TIMES, QUICK_TIMES = 200, 15
TABLE = "raw.bench_writers"
A_STEP_COMES_AGAIN = ("conflict", "concurrent")  # upkeep that loses to a writer


def measure(settings: Settings, times: int) -> dict[str, Any]:
    """Let them write, keep the lake up meanwhile, and count."""
    began_s = time.monotonic()
    argv = [sys.executable, "-m", "benchmarks.parts.lake_writer", str(settings.state_dir), TABLE]
    writers = [subprocess.Popen([*argv, kind, str(times)], cwd=ROOT, env=child_environment(settings)) for kind in KINDS]
    kept_up, lost = 0, list[str]()
    while any(writer.poll() is None for writer in writers):
        lost += upkeep.keep_up(settings).failed.values()
        kept_up += 1
        say(f"{time.monotonic() - began_s:.0f} s, the upkeep ran {kept_up} times")
        time.sleep(1.0)
    seconds = time.monotonic() - began_s
    last = upkeep.keep_up(settings).failed
    return {
        "times": times,
        "writes_per_s": round(len(KINDS) * times / seconds, 1),
        "failed_writers": sum(writer.returncode != 0 for writer in writers),
        "upkeep_runs": kept_up,
        "upkeep_lost_to_a_writer": sum(any(word in why for word in A_STEP_COMES_AGAIN) for why in lost),
        "upkeep_failed": [*(why for why in lost if not any(w in why for w in A_STEP_COMES_AGAIN)), *last.values()],
        "differing": differing(settings, times),
    }


def differing(settings: Settings, times: int, table: str = TABLE) -> int:
    """Groups of rows that are not what was written: of each batch its rows once, of each day those made last."""
    wanted = {(kind, n): BATCH_ROWS for kind in (TICK_RUN, COLLECTOR) for n in range(times)}
    wanted |= {(BACKFILL, n): day_rows(n) for n in range(max(times - DAYS, 0), times)}
    with lake.attach(settings, read_only=True) as connection:
        counted = f"select writer, n, count(*) from lake.{table} group by all"  # noqa: S608 - our constant
        rows = connection.execute(counted).fetchall()
    found = {(str(kind), int(n)): int(count) for kind, n, count in rows}
    return sum(wanted.get(key) != found.get(key) for key in wanted.keys() | found.keys())


def main() -> int:
    """Run the benchmark; exit code 1 when a row is not as it should be, or somebody failed."""
    parser = argparse.ArgumentParser(prog="hcp bench writers", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_TIMES} times instead of {TIMES}")
    arguments = parser.parse_args()
    began_s = time.monotonic()
    with own_postgres(database_url=None) as own:
        figures = measure(own.settings, QUICK_TIMES if arguments.quick else TIMES)
    figures |= about(quick=arguments.quick, target=TARGET, began_s=began_s) | {"load_average": load_average()}
    print_figures(figures, as_json=arguments.json)
    return 1 if figures["differing"] or figures["failed_writers"] or figures["upkeep_failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
