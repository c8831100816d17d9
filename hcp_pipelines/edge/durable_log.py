"""The gateway's durable log: one append-only file a facility, each entry with its length and checksum.

`append` returns after the fsync. Appends that come together share one fsync. A torn tail (power lost in mid-write) is cut
off at start.
"""

import asyncio
import fcntl
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC
from pathlib import Path

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import AlreadyRunningError, StorageError
from hcp_pipelines.wire import edge_v1_pb2 as pb

ENTRY_MAX_BYTES = 32 * 1024 * 1024
_HEAD = struct.Struct("<II")

Entry = tuple[str, bytes]


class DurableLog:
    """Entries of one facility; only one process may have it open."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / "log.bin"
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise AlreadyRunningError(f"{self._path} is in use: another gateway serves this facility") from None
        self._clock = SystemClock()
        self._end, self.last_seq = self._recover()
        self._pending: list[bytes] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._flushing: asyncio.Task[None] | None = None

    def entries(self, after_seq: int = 0) -> Iterator[pb.LogEntry]:
        """Entries on disk with a sequence number above `after_seq`, in order."""
        with self._path.open("rb") as file:
            for _, entry in _scan(file.read(self._end)):
                if entry.seq > after_seq:
                    yield entry

    def reserve(self) -> int:
        """The next sequence number."""
        self.last_seq += 1
        return self.last_seq

    async def append(self, entries: Iterable[tuple[int, str, bytes]]) -> None:
        """Store (seq, kind, payload) entries; returns when they are on the disk.

        Raises:
            StorageError: the disk refused; nothing of it counts as stored.
        """
        stored_at = self._clock.real_now().astimezone(UTC).isoformat()
        for seq, kind, payload in entries:
            body = pb.LogEntry(seq=seq, kind=kind, payload=payload, stored_at=stored_at).SerializeToString()
            self._pending.append(_HEAD.pack(len(body), zlib.crc32(body)) + body)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        await waiter

    def close(self) -> None:
        """Close the file and drop the lock."""
        os.close(self._fd)

    async def _flush(self) -> None:
        while self._waiters:
            data, self._pending = b"".join(self._pending), []
            waiters, self._waiters = self._waiters, []
            try:
                await asyncio.get_running_loop().run_in_executor(None, self._write, data)
            except OSError as error:
                failure = StorageError(f"{self._path}: {error.strerror}; the command was not stored")
                for waiter in waiters:
                    waiter.set_exception(failure)
            else:
                for waiter in waiters:
                    if not waiter.done():
                        waiter.set_result(None)

    def _write(self, data: bytes) -> None:
        view, at = memoryview(data), self._end
        try:
            while view:
                written = os.pwrite(self._fd, view, at)
                view, at = view[written:], at + written
            os.fdatasync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self._end)
            raise
        self._end = at

    def _recover(self) -> tuple[int, int]:
        """(end of the last whole entry, its sequence number); what follows is cut off."""
        end, seq = 0, 0
        with self._path.open("rb") as file:
            for entry_end, entry in _scan(file.read()):
                end, seq = entry_end, entry.seq
        os.ftruncate(self._fd, end)
        return end, seq


def read_log(folder: Path) -> list[pb.LogEntry]:
    """All whole entries of a facility's log, also while a gateway writes it."""
    return [entry for _, entry in _scan((folder / "log.bin").read_bytes())]


def _scan(data: bytes) -> Iterator[tuple[int, pb.LogEntry]]:
    at = 0
    while at + _HEAD.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, at)
        body = data[at + _HEAD.size : at + _HEAD.size + length]
        if length == 0 or length > ENTRY_MAX_BYTES or len(body) < length or zlib.crc32(body) != checksum:
            return
        at += _HEAD.size + length
        yield at, pb.LogEntry.FromString(body)
