"""Memory of the platform's processes as PSS: shared pages counted once, so that the processes' figures add up."""

import re
from collections.abc import Collection
from pathlib import Path

_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


def tree_pss_mb(pid: int, apart: Collection[int] = ()) -> float:
    """MB of a process and all below it but the trees `apart`; what can't be read counts as nothing.

    Not by session: each of PostgreSQL's backends begins one of its own.
    """
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _parent(entry)) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    total_kb, to_see = 0, [pid]
    while to_see:
        seen = to_see.pop()
        total_kb += _pss_kb(seen)
        to_see += [child for child in children.get(seen, ()) if child not in apart]
    return round(total_kb / 1000, 1)


def _parent(entry: Path) -> int | None:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return None


def _pss_kb(pid: int) -> int:
    try:
        found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
    except OSError:
        return 0
    return int(found.group(1)) if found else 0
