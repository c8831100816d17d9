"""What failed beside other tests, once more by itself: `python -m tests.once_more`, after a run of all that had failures.

Tests of real processes share two processors with others. One that fails there and passes alone is unsteady: it is named, for it
is a flaw of the test or of the code, but it does not stand for all the others. More than a few are no accident, and have failed.
"""

import json
import subprocess
import sys
from pathlib import Path

MOST = 3
FAILED = Path(".pytest_cache/v/cache/lastfailed")


def main() -> int:
    """The exit code for the whole: 0 where each of the few that failed passes alone."""
    failed = sorted(json.loads(FAILED.read_text())) if FAILED.exists() else []
    if not 0 < len(failed) <= MOST or not all("::" in name for name in failed):
        return 1
    again = subprocess.run([sys.executable, "-m", "pytest", *failed], check=False)
    if again.returncode == 0:
        sys.stdout.write("\n  ".join(("UNSTEADY, failed beside others and passed alone:", *failed)) + "\n")
    return again.returncode


if __name__ == "__main__":
    sys.exit(main())
