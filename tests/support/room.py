"""A folder for the databases of a test process: in memory where that has room, gone with the process.

What a killed one has left goes with the next one's start. No number of a process tells which that is: containers that share a
folder count their processes from 1 each. So who lives holds a lock on a mark in its folder, and what has no mark is somebody
else's.
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

# Databases are made anew there, if it has room. On a disk each took a third of a second of CPU instead of a fiftieth: where
# ext4 has no journal it passes by the numbers of all files that went within the last minute, and a database is 650 of them.
IN_MEMORY = Path("/dev/shm")
ROOM_BYTES = 256 << 20  # of one process
PREFIX, MARK = "hcp-tests-", "lives"
OURS = re.compile(rf"{PREFIX}\d+-")


def needed_bytes() -> int:
    """Of all test processes of a run."""
    return ROOM_BYTES * int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


@contextmanager
def room(among: Sequence[Path], free_bytes: int = 0) -> Iterator[Path]:
    """A new folder in the first of these that has so much free and lets itself be written to, or in the last."""
    for parent in among:
        _sweep(parent)
    folder = _made(among, free_bytes)
    try:
        with (folder / f"{MARK}.new").open("x") as mark:
            fcntl.flock(mark, fcntl.LOCK_EX)
            (folder / f"{MARK}.new").rename(folder / MARK)  # nobody sees one that is not locked
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _made(among: Sequence[Path], free_bytes: int) -> Path:
    *first, last = among
    for parent in first:
        with suppress(OSError):
            if shutil.disk_usage(parent).free >= free_bytes:
                return _made_in(parent)
    return _made_in(last)


def _made_in(parent: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        if OURS.match(folder.name) and _is_left(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    """Whether one's own account made it and the process is gone."""
    try:
        with (folder / MARK).open() as mark:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.fstat(mark.fileno()).st_uid == os.geteuid()
    except OSError:
        return False
