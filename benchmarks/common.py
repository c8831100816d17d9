"""What the benchmarks share: the machine, the commit, percentiles, memory and CPU of processes, how figures are printed.

What a benchmark starts and measures is its own, or in `parts/`.
"""

import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from hcp_pipelines.runtime.version import commit

ROOT = Path(__file__).resolve().parents[1]


def describe_machine() -> str:
    """Cores, processor and memory of this machine, and the Python that ran."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {_processor()}, {memory_gb:.0f} GB, Python {platform.python_version()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest-rank percentile; not a number where there are no values.

    >>> percentile([4.0, 1.0, 3.0, 2.0], 0.5), percentile([4.0, 1.0, 3.0, 2.0], 0.95)
    (2.0, 4.0)
    """
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(max(math.ceil(share * len(ordered) - 1e-9), 1), len(ordered)) - 1]


def rounded(value: float, digits: int = 2) -> float | None:
    """For JSON, which has no word for what is not a number."""
    return None if math.isnan(value) else round(value, digits)


def pss_mb(pid: int) -> float:
    """Memory of a process with its share of what it has in common with others, MB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024


def cpu_s(pid: int) -> float:
    """CPU seconds that a process and its children have used so far, the ended ones' too; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    own_s = sum(int(n) for n in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    return own_s + sum(cpu_s(int(child)) for child in children)


def machine_busy_s() -> float:
    """CPU seconds that all processes of this machine have used since it started."""
    user, nice, system, _, _, irq, softirq, steal = Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    ticks = sum(int(n) for n in (user, nice, system, irq, softirq, steal))
    return ticks / os.sysconf("SC_CLK_TCK")


def load_average() -> float:
    """Processes that ran or wanted to, mean of the last minute: how busy the machine was, this benchmark counted."""
    return round(os.getloadavg()[0], 1)


def progress(steps: Sequence[int], label: str) -> Iterator[int]:
    """The steps one by one, with a bar where a person looks on."""
    with click.progressbar(steps, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        yield from bar


def say(text: str) -> None:
    """What goes on now, where a person looks on."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def about(*, quick: bool, target: str, began_s: float) -> dict[str, Any]:
    """What every benchmark's object says of its run; `began_s` is monotonic."""
    return {
        "quick": quick,
        "machine": describe_machine(),
        "commit": commit(),
        "target": target,
        "seconds": round(time.monotonic() - began_s, 1),
    }


def print_figures(figures: dict[str, Any], *, as_json: bool) -> None:
    """A line a figure for a person, or one JSON object on the last line."""
    if as_json:
        print(json.dumps(figures))
        return
    for key, value in figures.items():
        print(f"{key:>20}  {value}")
