"""`hcp bench growth`: what a demo left alone grows by: databases, run storage, event log, catalogue, files of the lake, logs.

Looks at a platform of its own, or with `--of` at one that runs already. What the figures mean: docs/benchmarks.md.
"""

import argparse
import contextlib
import itertools
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import about, load_average, print_figures, say
from benchmarks.parts.whole_platform import free_port, whole_platform
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Database, Role

TARGET = "disk, run storage, event log and catalogue grow as docs/benchmarks.md says, housekeeping included"
FULL_MIN, QUICK_MIN = 120.0, 0.5
LOOKS = 24
SIZES_SQL = """
    select relname, pg_total_relation_size(oid) from pg_class
    where relkind = 'r' and relnamespace = 'public'::regnamespace order by 2 desc"""
ROWS = {
    Database.DAGSTER: ("runs", "event_logs", "job_ticks", "asset_event_tags"),
    Database.LAKE: ("ducklake_snapshot", "ducklake_data_file"),
    Database.HCP: ("switch_journal", "price_data", "policies"),
    Database.MLFLOW: (),
}
POSTGRES = "postgres"  # as root it lies elsewhere: its databases are asked
MB = 1e6


@dataclass(frozen=True)
class Look:
    """Sizes in bytes by place, and rows by table, at a moment (real monotonic seconds)."""

    at_s: float
    sizes: dict[str, int]
    rows: dict[str, int]


def look(settings: Settings) -> Look:
    """Measure once."""
    sizes, rows = {}, {}
    for database in Database:
        with connect(settings, Role.ADMIN, database) as connection:
            tables = dict(connection.execute(SIZES_SQL).fetchall())
            whole = connection.execute("select pg_database_size(current_database())").fetchone()
            sizes[f"postgres/{database.value}"] = int(whole[0]) if whole else 0
            sizes |= {f"postgres/{database.value}/{name}": size for name, size in itertools.islice(tables.items(), 6)}
            for name in ROWS[database]:
                if name in tables:
                    rows[name] = _count(connection, name)
    sizes["postgres/wal"] = _wal(settings)
    for folder in sorted(each for each in settings.state_dir.iterdir() if each.is_dir() and each.name != POSTGRES):
        sizes[folder.name], files = _tree(folder)
        rows[f"files of {folder.name}"] = files
    return Look(time.monotonic(), sizes, rows)


def _count(connection: Any, table: str) -> int:
    row = connection.execute(f"select count(*) from {table}").fetchone()  # noqa: S608 - a constant
    return int(row[0])


def _wal(settings: Settings) -> int:
    with connect(settings, Role.ADMIN) as connection:
        row = connection.execute("select coalesce(sum(size), 0) from pg_ls_waldir()").fetchone()
    return int(row[0]) if row else 0


def _tree(folder: Path) -> tuple[int, int]:
    """Bytes on disk and files; what goes away meanwhile counts for nothing."""
    size = files = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size += (Path(where) / name).lstat().st_blocks * 512
                files += 1
    return size, files


def watch(settings: Settings, minutes: float) -> list[Look]:
    """Look on for so long."""
    looks = [look(settings)]
    until_s = looks[0].at_s + minutes * 60
    while (left_s := until_s - time.monotonic()) > 0:
        time.sleep(min(left_s, minutes * 60 / LOOKS))
        looks.append(look(settings))
        say(f"{(looks[-1].at_s - looks[0].at_s) / 60:.0f} of {minutes:.0f} minutes")
    return looks


def growth(looks: list[Look]) -> dict[str, Any]:
    """By place, MB at the end and MB an hour over the second half; by table, rows and rows an hour."""
    middle, last = looks[len(looks) // 2], looks[-1]
    hours = (last.at_s - middle.at_s) / 3600

    def of(kind: str, unit: float) -> dict[str, Any]:
        before, after = getattr(middle, kind), getattr(last, kind)
        return {
            name: {"is": round(value / unit, 2), "an_hour": round((value - before.get(name, 0)) / unit / hours, 2)}
            for name, value in after.items()
        }

    tops = [n for n in last.sizes if not n.startswith("postgres/") or n.count("/") == 1]
    whole = [sum(each.sizes.get(n, 0) for n in tops) / MB for each in looks]
    return {
        "minutes": round((last.at_s - looks[0].at_s) / 60, 1),
        "all_mb": round(whole[-1], 1),
        "all_mb_by_look": [round(one, 1) for one in whole[:: max(len(whole) // 8, 1)]],
        "mb": of("sizes", MB),
        "rows": of("rows", 1),
    }


def own(minutes: float) -> list[Look]:
    """Start the demo on a state directory of its own, look on, stop it."""
    with tempfile.TemporaryDirectory(prefix="hcp-bench-growth-") as folder:
        settings = Settings.load(state_dir=Path(folder) / "s", dagster_port=free_port(), world="sim")
        with whole_platform(settings):
            return watch(settings, minutes)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="hcp bench growth", description=__doc__)
    parser.add_argument("--minutes", type=float, help=f"how long to look on [{FULL_MIN:.0f}; with --quick {QUICK_MIN}]")
    parser.add_argument(
        "--of", type=Path, metavar="STATE_DIR", help="look at the platform that runs there, instead of one of its own"
    )
    parser.add_argument("--quick", action="store_true", help="under 60 s: says nothing of growth")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    asked = parser.parse_args()
    began_s, minutes = time.monotonic(), asked.minutes or (QUICK_MIN if asked.quick else FULL_MIN)
    looks = watch(Settings(state_dir=asked.of.resolve()), minutes) if asked.of else own(minutes)
    figures = growth(looks) | {"load_average": load_average()}
    print_figures(figures | about(quick=asked.quick, target=TARGET, began_s=began_s), as_json=asked.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
