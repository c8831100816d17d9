"""The gateway's durable log: one append-only file a facility, each entry with its length and checksum.

`append` returns after the fsync. Appends that come together share one fsync. A torn tail (power lost in mid-write) is cut
off at start.
"""

import asyncio
import bisect
import fcntl
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC
from pathlib import Path
from typing import BinaryIO

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import AlreadyRunningError, StorageError
from hcp_pipelines.wire import edge_v1_pb2 as pb

ENTRY_MAX_BYTES = 32 * 1024 * 1024
MARK_EACH_BYTES = 256 * 1024
_HEAD = struct.Struct("<II")


class DurableLog:
    """Entries of one facility; only one process may have it open."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self._path = folder / "log.bin"
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise AlreadyRunningError(f"{self._path} is in use: another gateway serves this facility") from None
        self._clock = SystemClock()
        self._marks: list[tuple[int, int]] = []  # (first sequence number, offset), so that a reader need not start at 0
        self._end, self.last_seq = 0, 0  # of what is on the disk
        self._recover()
        self._reserved = self.last_seq
        self._pending: list[tuple[int, bytes]] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._flushing: asyncio.Task[None] | None = None

    def entries(self, after_seq: int = 0) -> Iterator[pb.LogEntry]:
        """Entries on disk with a sequence number above `after_seq`, in order."""
        place = bisect.bisect_right(self._marks, (after_seq + 1, self._end)) - 1
        with self._path.open("rb") as file:
            for _, entry in _scan(file, self._marks[place][1] if place >= 0 else 0, self._end):
                if entry.seq > after_seq:
                    yield entry

    def reserve(self) -> int:
        """The next sequence number; append what it is for without awaiting anything in between."""
        self._reserved += 1
        return self._reserved

    async def append(self, entries: Iterable[tuple[int, str, bytes]]) -> None:
        """Store (seq, kind, payload) entries; returns when they are on the disk.

        Raises:
            StorageError: the disk refused; nothing of it counts as stored.
        """
        stored_at = self._clock.real_now().astimezone(UTC).isoformat()
        for seq, kind, payload in entries:
            body = pb.LogEntry(seq=seq, kind=kind, payload=payload, stored_at=stored_at).SerializeToString()
            self._pending.append((seq, _HEAD.pack(len(body), zlib.crc32(body)) + body))
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        await waiter

    async def close(self) -> None:
        """Wait for what is being written, close the file and drop the lock."""
        if self._flushing is not None:
            await self._flushing
        os.close(self._fd)

    async def _flush(self) -> None:
        while self._waiters:
            batch, self._pending = self._pending, []
            waiters, self._waiters = self._waiters, []
            failure: StorageError | None = None
            try:
                await asyncio.get_running_loop().run_in_executor(None, self._write, batch)
            except OSError as error:
                failure = StorageError(f"{self._path}: {error.strerror}; nothing of it was stored")
            for waiter in waiters:
                if waiter.done():  # whoever waited was cancelled
                    continue
                if failure is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(failure)

    def _write(self, batch: list[tuple[int, bytes]]) -> None:
        data = b"".join(body for _, body in batch)
        view, at = memoryview(data), self._end
        try:
            while view:
                written = os.pwrite(self._fd, view, at)
                view, at = view[written:], at + written
            os.fdatasync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self._end)
            raise
        if batch:
            self._mark(batch[0][0], self._end)
            self._end, self.last_seq = at, batch[-1][0]

    def _mark(self, seq: int, offset: int) -> None:
        if not self._marks or offset - self._marks[-1][1] >= MARK_EACH_BYTES:
            self._marks.append((seq, offset))

    def _recover(self) -> None:
        """Find the end of the last whole entry; what follows is cut off."""
        with self._path.open("rb") as file:
            for end, entry in _scan(file, 0, os.fstat(self._fd).st_size):
                self._mark(entry.seq, self._end)
                self._end, self.last_seq = end, entry.seq
        os.ftruncate(self._fd, self._end)


def read_log(folder: Path) -> list[pb.LogEntry]:
    """All whole entries of a facility's log, also while a gateway writes it."""
    path = folder / "log.bin"
    with path.open("rb") as file:
        return [entry for _, entry in _scan(file, 0, path.stat().st_size)]


def _scan(file: BinaryIO, at: int, end: int) -> Iterator[tuple[int, pb.LogEntry]]:
    """(end, entry) of each whole entry between two offsets, up to the first that is not whole."""
    file.seek(at)
    while at + _HEAD.size <= end:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return
        length, checksum = _HEAD.unpack(head)
        at += _HEAD.size + length
        if length == 0 or length > ENTRY_MAX_BYTES or at > end:
            return
        body = file.read(length)
        if len(body) < length or zlib.crc32(body) != checksum:
            return
        yield at, pb.LogEntry.FromString(body)
