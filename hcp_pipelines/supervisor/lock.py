"""What only one platform may have: its state directory, by a lock that the kernel drops with its owner; its port."""

import fcntl
import os
import socket
from pathlib import Path
from typing import Self

from hcp_pipelines.domain.errors import AlreadyRunningError


class StateLock:
    """Exclusive lock on `run/supervisor.lock`; the file names the owner's pid."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def __enter__(self) -> Self:
        """Take the lock or raise AlreadyRunningError with the owner's pid."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(fd, 32).decode().strip() or "unknown"
            os.close(fd)
            raise AlreadyRunningError(
                f"A platform already runs on {self._path.parent.parent} (pid {owner}). "
                "`hcp status` shows it, `hcp down` stops it, --state-dir starts another one elsewhere."
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        self._fd = fd
        return self

    def __exit__(self, *_: object) -> None:
        """Drop the lock; the file stays."""
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None


def owner_pid(path: Path) -> int | None:
    """Pid of the platform that holds the lock, or None if nobody does."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(fd, 32).decode().strip()
        return int(text) if text.isdigit() else None
    else:
        return None
    finally:
        os.close(fd)


def refuse_busy_port(port: int, setting: str, use: str) -> None:
    """Raise AlreadyRunningError when the loopback port is taken."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise AlreadyRunningError(
                f"Port {port} on 127.0.0.1, wanted for {use}, is taken: {error.strerror}. "
                f"Free it, or choose another one with {setting}=…"
            ) from error
