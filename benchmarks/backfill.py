"""`hcp bench backfill`: days of every source by `hcp backfill --all`, on a whole platform that replays recorded data, twice.

The lake must be the same to the row after both; in the middle of the second the Dagster daemon is killed. What is counted is the
command's own time; beside it, ticks that the feed recorded meanwhile. Details: docs/benchmarks.md.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, about, load_average, print_figures, say
from benchmarks.parts.whole_platform import HCP, free_port, status, whole_platform
from hcp_pipelines.orchestration.history import tables
from hcp_pipelines.orchestration.history.joined import MADE
from hcp_pipelines.orchestration.history.reading import reading
from hcp_pipelines.settings import Settings, child_environment
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

TARGET = "backfill_s < 600 for 90 days; differing_tables = 0; is_complete_after_kill"
FULL_DAYS, QUICK_DAYS = 90, 3
WORLD_STARTS = datetime.fromisoformat("2024-06-05T00:00+00:00")
KILL_AFTER_S = 25.0
Figures = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it and print one JSON object on the last line."""
    parser = argparse.ArgumentParser(prog="hcp bench backfill", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_DAYS} days instead of {FULL_DAYS}")
    parser.add_argument("--replay", type=Path, help="a folder of recorded series.  [default: the generated world]")
    options = parser.parse_args(arguments)
    days = QUICK_DAYS if options.quick else FULL_DAYS
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hcp-bench-backfill-") as folder:
        settings = _settings(Path(folder) / "s", options.replay)
        with whole_platform(settings, "--from", WORLD_STARTS.isoformat()):
            figures = _measure(settings, days)
    figures |= {"days": days, "world": settings.world.split(":")[0], "load_average": load_average()}
    print_figures(about(quick=options.quick, target=TARGET, began_s=began_s) | figures, as_json=options.json)
    return 0 if not figures["differing_tables"] and figures["is_complete_after_kill"] else 1


def _settings(state_dir: Path, replay: Path | None) -> Settings:
    world = f"replay:{replay.resolve()}" if replay else "sim"
    return Settings.load(
        state_dir=state_dir, dagster_port=free_port(), world=world, devices=200, history_gaps="observe"
    )


def _measure(settings: Settings, days: int) -> Figures:
    window = (WORLD_STARTS - timedelta(days=days), WORLD_STARTS)
    ticks = _ticks(settings)
    first = _finish(_backfill(settings, window))
    recorded = _ticks(settings) - ticks
    before = _digests(settings)
    say(
        f"first: {first['seconds']} s, {recorded} ticks meanwhile; now again, and the Dagster daemon is killed on the way"
    )
    again = _backfill(settings, window)
    time.sleep(KILL_AFTER_S)
    killed = _kill(settings, "dagster-daemon") if again.poll() is None else 0
    second = _finish(again)
    after = _digests(settings)
    return {
        "backfill_s": first["seconds"],
        "again_s": second["seconds"],
        "partitions": sum(row["done"] for row in first["assets"]),
        "failed": sum(row["failed"] for row in first["assets"]),
        "rows": {name: count for name, (count, _) in before.items()},
        "differing_tables": sorted(name for name in before if before[name] != after.get(name)),
        "is_daemon_killed": bool(killed),
        "is_complete_after_kill": all(row["done"] == row["days"] for row in second["assets"]),
        "ticks_meanwhile": recorded,
    }


def _backfill(settings: Settings, window: tuple[datetime, datetime]) -> "subprocess.Popen[str]":
    span = [f"--{name}={at:%Y-%m-%d}" for name, at in zip(("from", "to"), window, strict=True)]
    argv = [*HCP, "backfill", "--all", *span, "--json"]
    return subprocess.Popen(argv, cwd=ROOT, env=child_environment(settings), stdout=subprocess.PIPE, text=True)


def _finish(process: "subprocess.Popen[str]") -> Figures:
    found: Figures = json.loads(process.communicate()[0])
    return found


def _kill(settings: Settings, name: str) -> int:
    """SIGKILL to a process of the platform; the supervisor starts it again."""
    pid = next(int(row["pid"]) for row in status(settings)["processes"] if row["name"] == name)
    os.kill(pid, signal.SIGKILL)
    return pid


def _ticks(settings: Settings) -> int:
    with connect(settings, Role.OPERATOR) as connection:
        row = connection.execute("select count(*) from price_data").fetchone()
    return int(row[0]) if row else 0


def _digests(settings: Settings) -> dict[str, tuple[int, str]]:
    """Rows and digest of each table that was fetched or joined; revisions too, since nothing was revised."""
    names = [name for table in tables.ALL for name in (table.name, table.revisions)]
    found: dict[str, tuple[int, str]] = {}
    with reading(settings) as reader:
        for name in [*names, *MADE]:
            if reader.has(name):
                sql = f"select count(*), sum(hash(t)::hugeint) % 1000000007 from lake.{name} t"  # noqa: S608 - our tables
                count, digest = reader.rows(sql).row(0)
                found[name] = (count, str(digest))
    return found


if __name__ == "__main__":
    sys.exit(main())
