"""Memory of the platform's processes as PSS: shared pages counted once, so that the processes' figures add up."""

import re
from pathlib import Path

from hcp_pipelines.supervisor.guardian import session_members

_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


def session_pss_mb(pid: int) -> float:
    """MB of a process and everything in its session; what can't be read counts as nothing."""
    return round(sum(_pss_kb(member) for member in session_members({pid})) / 1000, 1)


def _pss_kb(pid: int) -> int:
    try:
        found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
    except OSError:
        return 0
    return int(found.group(1)) if found else 0
