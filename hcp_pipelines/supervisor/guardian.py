"""The guardian: outlives a supervisor killed with -9 and ends what it left behind.

Standard library only, so that it costs a few megabytes. It holds the read end of a pipe whose write end only the
supervisor has; end of file means that the supervisor is gone. It then stops every session listed in the pid file,
grandchildren included, Postgres last and gently. A supervisor that stops in good order writes one byte first.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from hcp_pipelines.runtime.files import folder_id

GRACE_S = 5.0
POSTGRES_GRACE_S = 20.0


def session_members(session_ids: set[int]) -> list[int]:
    """Pids of all live (not zombie) processes in these sessions."""
    members = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        state, session = fields[0], int(fields[3])
        if session in session_ids and state not in ("Z", "X"):
            members.append(int(entry.name))
    return members


def start_ticks(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot, which with the pid identifies it; None if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def boot_id() -> str:
    """Which run of the machine this is: a pid says nothing across a restart."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def works_for(pid: int, state: Path) -> bool:
    """Whether a process writes its log into a state directory; the kernel tells where that is now, should it have been moved."""
    try:
        return Path(f"/proc/{pid}/fd/1").readlink().is_relative_to(state / "logs")
    except OSError:
        return False


def is_left_over(entry: dict[str, object]) -> bool:
    """Whether the session of an entry is still the one that was started, be its leader alive or gone.

    The kernel gives nobody a session's number while it has a member; so a leader with another start time, or any process
    after a restart of the machine, is somebody else's.
    """
    pid = entry["pid"]
    if not isinstance(pid, int) or pid <= 1 or entry.get("boot_id") != boot_id():
        return False
    started = start_ticks(pid)
    return bool(session_members({pid})) if started is None else started == entry["start_ticks"]


def send(pids: list[int], signal_number: int) -> None:
    """Signal each pid that still exists."""
    for pid in pids:
        try:
            os.kill(pid, signal_number)
        except (ProcessLookupError, PermissionError):
            continue


def end_sessions(session_ids: set[int], signal_number: int, grace_s: float) -> None:
    """Signal the sessions' members, wait, and kill what is left."""
    deadline = time.monotonic() + grace_s
    send(session_members(session_ids), signal_number)
    while time.monotonic() < deadline:
        if not session_members(session_ids):
            return
        time.sleep(0.05)
    send(session_members(session_ids), signal.SIGKILL)


def _is_of(entry: dict[str, object], here: list[int], state: Path) -> bool:
    if "folder" in entry:
        return entry["folder"] == here
    pid = entry["pid"]
    return isinstance(pid, int) and any(works_for(member, state) for member in session_members({pid}))


def end_all(pid_file: Path) -> int:
    """Stop everything that the pid file lists, Postgres last; the number of sessions that were still there.

    What a copied pid file lists is the original's, and none of ours: an entry names the folder that it was written in, or, of
    an earlier version, has a process that writes its log into our state directory.
    """
    try:
        entries = json.loads(pid_file.read_text())
        here = folder_id(pid_file.parent)
        state = pid_file.parent.parent.resolve()
    except (OSError, ValueError):
        return 0
    ours = [e for e in entries if is_left_over(e) and _is_of(e, here, state)]
    others = {e["pid"] for e in ours if e["name"] != "postgres"}
    postgres = {e["pid"] for e in ours if e["name"] == "postgres"}
    if others:
        end_sessions(others, signal.SIGTERM, GRACE_S)
    for pid in postgres:
        send([pid], signal.SIGINT)
    if postgres:
        end_sessions(postgres, 0, POSTGRES_GRACE_S)
    pid_file.unlink(missing_ok=True)
    return len(ours)


def main() -> int:
    """Wait for the supervisor's end."""
    read_fd, pid_file = int(sys.argv[1]), Path(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.read(read_fd, 1):
        return 0
    end_all(pid_file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
