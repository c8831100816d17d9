"""Which code runs: for what is kept longer than the code, as figures of a benchmark or of a back-test are."""

import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@cache
def commit() -> str:
    """The commit of the checkout that runs, `+` behind it where the tree had changes; unknown where it is none."""
    if not (ROOT / ".git").exists():
        return "unknown"  # installed: a repository further up is somebody else's
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def code_version() -> str:
    """Release and commit, as `0.1.0 (1a2b3c4+)`."""
    return f"{metadata.version('hcp')} ({commit()})"
