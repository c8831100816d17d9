"""A facility's durable log at its gateway: one append-only file, each entry with its length and checksum.

`append` returns when the entries are on the disk: in the process' write-ahead file (`write_ahead.py`), which all facilities of
a gateway share. A torn tail (power lost in mid-write) is cut off at start, and what the file lacks is taken over from there.
"""

import bisect
import fcntl
import os
import struct
import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC
from pathlib import Path
from typing import BinaryIO

import structlog

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import AlreadyRunningError
from hcp_pipelines.edge.write_ahead import SUFFIX, WriteAhead, left_ahead, logs_ahead
from hcp_pipelines.wire import edge_v1_pb2 as pb

ENTRY_MAX_BYTES = 32 * 1024 * 1024
MARK_EACH_BYTES = 256 * 1024
_HEAD = struct.Struct("<II")


class DurableLog:
    """Entries of one facility; only one process may have it open."""

    def __init__(self, folder: Path, ahead: WriteAhead) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder, self._ahead = folder, ahead
        self._path = folder / "log.bin"
        self._fd = _open_locked(self._path)
        self.log_id = _read_id(folder)
        self._clock = SystemClock()
        self._marks: list[tuple[int, int]] = []  # (first sequence number, offset), so that a reader need not start at 0
        self._end, self.last_seq = 0, 0  # of what is on the disk
        self._recover()
        self._reserved = self.last_seq

    def __str__(self) -> str:
        return str(self._path)

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
        batch = []
        for seq, kind, payload in entries:
            body = pb.LogEntry(seq=seq, kind=kind, payload=payload, stored_at=stored_at).SerializeToString()
            batch.append((seq, _HEAD.pack(len(body), zlib.crc32(body)) + body))
        await self._ahead.append(self, batch)

    async def close(self) -> None:
        """Wait for what is being written, close the file and drop the lock."""
        await self._ahead.finish(self)
        os.close(self._fd)

    # -- for the write-ahead file ---------------------------------------------------------------------------------------

    def write(self, entries: Sequence[bytes]) -> None:
        """Write framed entries behind the last, without syncing.

        Raises:
            OSError: nothing of it was written.
        """
        view, at = memoryview(b"".join(entries)), self._end
        try:
            while view:
                written = os.pwrite(self._fd, view, at)
                view, at = view[written:], at + written
        except OSError:
            self.undo()
            raise

    def keep(self, entries: Sequence[tuple[int, bytes]]) -> None:
        """What was written counts."""
        for seq, framed in entries:
            self._mark(seq, self._end)
            self._end, self.last_seq = self._end + len(framed), seq

    def undo(self) -> None:
        """What was written does not count."""
        os.ftruncate(self._fd, self._end)

    def sync(self) -> None:
        """Have all of it on the disk in this file."""
        os.fdatasync(self._fd)

    # -- start ----------------------------------------------------------------------------------------------------------

    def _mark(self, seq: int, offset: int) -> None:
        if not self._marks or offset - self._marks[-1][1] >= MARK_EACH_BYTES:
            self._marks.append((seq, offset))

    def _recover(self) -> None:
        """Find the end of the last whole entry; what follows is cut off, what is missing is taken over."""
        size = os.fstat(self._fd).st_size
        with self._path.open("rb") as file:
            for end, entry in _scan(file, 0, size):
                self._mark(entry.seq, self._end)
                self._end, self.last_seq = end, entry.seq
        if size > self._end:
            structlog.get_logger("edge").warning("a torn tail was cut off", path=str(self), bytes=size - self._end)
        os.ftruncate(self._fd, self._end)
        for framed in left_ahead(self.folder.parent, self.log_id):
            seq = pb.LogEntry.FromString(framed[_HEAD.size :]).seq
            if seq > self.last_seq:
                self.write([framed])
                self.keep([(seq, framed)])
        self.sync()


def open_ahead(state_dir: Path, name: str) -> WriteAhead:
    """The write-ahead file of a gateway process; open its facilities' logs next, then `take_over`.

    Raises:
        AlreadyRunningError: a gateway of this name runs on this folder.
    """
    return WriteAhead(state_dir / f"{name}{SUFFIX}")


async def take_over(state_dir: Path, name: str, ahead: WriteAhead, opened: Iterable[DurableLog]) -> None:
    """What this process' last run left ahead is in the logs from here on, also in those of facilities that moved away."""
    missing = logs_ahead(state_dir / f"{name}{SUFFIX}") - {log.log_id for log in opened}
    for folder in _folders(state_dir):
        if _read_id(folder) in missing:
            try:
                log = DurableLog(folder, ahead)
            except AlreadyRunningError:
                continue  # whoever has it open has taken over at its start
            await log.close()
    ahead.forget()


def read_log(folder: Path) -> list[pb.LogEntry]:
    """All whole entries of a facility's log, also while a gateway writes it."""
    path = folder / "log.bin"
    with path.open("rb") as file:
        return [entry for _, entry in _scan(file, 0, path.stat().st_size)]


def _folders(state_dir: Path) -> list[Path]:
    return [path.parent for path in state_dir.glob("*/log.bin")]


def _open_locked(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise AlreadyRunningError(f"{path} is in use: another gateway serves this facility") from None
    return fd


def _read_id(folder: Path) -> bytes:
    """The log's own id, made once: entries that are ahead of another file of this name are not its own."""
    path = folder / "id"
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        found = b""
    if len(found) == 16:
        return found
    fresh = uuid.uuid4().bytes
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, fresh)
        os.fsync(fd)
    finally:
        os.close(fd)
    return fresh


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
