"""One write-ahead file a gateway process: what its facilities store together is on the disk after one fdatasync.

The facilities' own logs (`durable_log.py`) are written at the same time and synced later, so that a wave over twelve
facilities waits for the disk once. After a crash what their files lack is here. Two files take turns: while one is written
to, the logs of what the other holds are synced.
"""

import asyncio
import fcntl
import os
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from hcp_pipelines.domain.errors import AlreadyRunningError, StorageError

SUFFIX = ".ahead"
SWITCH_AFTER_BYTES = 4 * 1024 * 1024
GROW_BYTES = 1024 * 1024  # zeros ahead of the end: overwriting them needs no metadata on the disk
_HEAD = struct.Struct("<IIQ16s")  # length, checksum, turn, log; the checksum is of all that follows it
_ENTRY_MAX_BYTES = 32 * 1024 * 1024


class Log(Protocol):
    """A facility's own log, as far as the write-ahead file knows it."""

    log_id: bytes

    def write(self, entries: Sequence[bytes]) -> None:
        """Write entries behind the last, without syncing.

        Raises:
            OSError: nothing of it was written.
        """

    def keep(self, entries: Sequence[tuple[int, bytes]]) -> None:
        """What was written counts."""

    def undo(self) -> None:
        """What was written does not count."""

    def sync(self) -> None:
        """Have all of it on the disk."""


Batch = list[tuple[int, bytes]]  # (sequence number, framed entry)


class WriteAhead:
    """The files of one process; only one process may have them open."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise AlreadyRunningError(f"{folder} is in use: another gateway of this name runs") from None
        self._fds = [os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) for path in _files(folder)]
        self._turn = max((turn for turn, _, _ in _records(folder)), default=0) + 1
        self._end, self._room = 0, 0
        self._waiting: dict[Log, Batch] = {}
        self._waiters: list[tuple[Log, asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._syncing: asyncio.Future[None] | None = None
        self._dirty: set[Log] = set()

    async def append(self, log: Log, entries: Batch) -> None:
        """Store framed entries of a log; returns when they are on the disk.

        Raises:
            StorageError: the disk refused; nothing of it counts as stored.
        """
        self._waiting.setdefault(log, []).extend(entries)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((log, waiter))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        await waiter

    def forget(self) -> None:
        """Drop what earlier runs left here: every log has taken over what it lacked."""
        for fd in self._fds:
            os.pwrite(fd, bytes(_HEAD.size), 0)
            os.fdatasync(fd)
        self._turn, self._end, self._room = self._turn + 1, 0, 0

    async def finish(self, log: Log) -> None:
        """Wait for what a log has under way, and have all of it on the disk in its own file."""
        if self._flushing is not None:
            await self._flushing
        await asyncio.get_running_loop().run_in_executor(None, log.sync)
        self._dirty.discard(log)

    async def close(self) -> None:
        """Sync every log, empty the files and drop the lock."""
        if self._flushing is not None:
            await self._flushing
        if self._syncing is not None:
            await self._syncing
        for log in self._dirty:
            log.sync()
        self.forget()
        for fd in (*self._fds, self._lock):
            os.close(fd)

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiters:
            waiting, self._waiting = self._waiting, {}
            waiters, self._waiters = self._waiters, []
            if self._end >= SWITCH_AFTER_BYTES:
                await self._take_turns()
            failures = await loop.run_in_executor(None, self._write, waiting)
            self._dirty.update(waiting)
            for log, waiter in waiters:
                if waiter.done():  # whoever waited was cancelled
                    continue
                failure = failures.get(log)
                if failure is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(StorageError(failure))

    async def _take_turns(self) -> None:
        """Write to the other file from now on; the logs of this one are synced meanwhile."""
        if self._syncing is not None:
            await self._syncing
        self._fds.reverse()
        self._turn, self._end, self._room = self._turn + 1, 0, 0
        dirty, self._dirty = self._dirty, set()
        self._syncing = asyncio.get_running_loop().run_in_executor(None, _sync_all, dirty)

    def _write(self, waiting: dict[Log, Batch]) -> dict[Log, str]:
        """Both writes and the one sync; the failures by log."""
        failures: dict[Log, str] = {}
        written: list[Log] = []
        for log, batch in waiting.items():
            try:
                log.write([framed for _, framed in batch])
                written.append(log)
            except OSError as error:
                failures[log] = f"{log}: {error.strerror}; nothing of it was stored"
        try:
            self._write_here([(log, framed) for log in written for _, framed in waiting[log]])
        except OSError as error:
            for log in written:
                log.undo()
            return failures | dict.fromkeys(
                written, f"{self._folder}: {error.strerror}; nothing of it was stored: free space on the disk"
            )
        for log in written:
            log.keep(waiting[log])
        return failures

    def _write_here(self, records: list[tuple[Log, bytes]]) -> None:
        data = b"".join(_framed(self._turn, log.log_id, body) for log, body in records)
        fd, at = self._fds[0], self._end
        try:
            if at + len(data) > self._room:
                self._room = at + len(data) + GROW_BYTES
                _write_all(fd, bytes(self._room - at), at)
                os.fsync(fd)
            _write_all(fd, data, at)
            os.fdatasync(fd)
        except OSError:
            self._room = 0
            _write_quietly(fd, bytes(_HEAD.size), at)
            raise
        self._end = at + len(data)


def left_ahead(state_dir: Path, log_id: bytes) -> list[bytes]:
    """Framed entries of one log in the write-ahead files of all processes below a folder, in the order of their writing."""
    found: list[tuple[int, bytes]] = []
    for folder in sorted(state_dir.glob(f"*{SUFFIX}")):
        found += [(turn, body) for turn, log, body in _records(folder) if log == log_id]
    return [body for _, body in sorted(found, key=lambda record: record[0])]


def logs_ahead(folder: Path) -> set[bytes]:
    """The logs that a process' files have entries of."""
    return {log for _, log, _ in _records(folder)}


def _files(folder: Path) -> list[Path]:
    return [folder / "0.bin", folder / "1.bin"]


def _records(folder: Path) -> Iterator[tuple[int, bytes, bytes]]:
    """(turn, log, framed entry) of the whole records, the older file first."""
    by_turn: dict[int, list[tuple[int, bytes, bytes]]] = defaultdict(list)
    for path in _files(folder):
        for record in _records_of(path):
            by_turn[record[0]].append(record)
    for turn in sorted(by_turn):
        yield from by_turn[turn]


def _records_of(path: Path) -> Iterator[tuple[int, bytes, bytes]]:
    """Those of one turn from the beginning; what an earlier turn left behind them is not read."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    at, first = 0, None
    while at + _HEAD.size <= len(data):
        length, checksum, turn, log = _HEAD.unpack_from(data, at)
        end = at + _HEAD.size + length
        if not 0 < length <= _ENTRY_MAX_BYTES or end > len(data) or (first is not None and turn != first):
            return
        if zlib.crc32(data[at + 8 : end]) != checksum:
            return
        yield turn, log, data[at + _HEAD.size : end]
        at, first = end, turn


def _framed(turn: int, log_id: bytes, body: bytes) -> bytes:
    tail = struct.pack("<Q16s", turn, log_id) + body
    return struct.pack("<II", len(body), zlib.crc32(tail)) + tail


def _write_all(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, at)
        view, at = view[written:], at + written


def _write_quietly(fd: int, data: bytes, at: int) -> None:
    try:
        os.pwrite(fd, data, at)
    except OSError:
        return  # the disk is gone: what can't be written there can't be read as stored either


def _sync_all(logs: set[Log]) -> None:
    for log in logs:
        log.sync()
