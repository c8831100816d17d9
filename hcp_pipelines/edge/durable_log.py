"""A facility's durable log at its gateway: append, read, begin a new file. What lies on the disk is in `log_files.py`.

`append` returns when the entries are on the disk: in the process' write-ahead file (`write_ahead.py`), which all facilities of
a gateway share. A torn tail (power lost in mid-write) is cut off at start, and what the file lacks is taken over from there;
damage with whole entries behind it is told and never cut off.
"""

import asyncio
import bisect
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC
from pathlib import Path
from typing import BinaryIO

import structlog

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import AlreadyRunningError, StorageError
from hcp_pipelines.edge.log_files import (
    ACTIVE,
    NEW,
    files_with,
    finish_rolling,
    first_seq,
    framed,
    lock_folder,
    read_id,
    scan,
    sealed_files,
    sealed_name,
    sync_folder,
    unframed,
    write_new,
)
from hcp_pipelines.edge.write_ahead import SUFFIX, WriteAhead, left_ahead, logs_ahead
from hcp_pipelines.wire import edge_v1_pb2 as pb

MARK_EACH_BYTES = 256 * 1024


class DurableLog:
    """Entries of one facility; only one process may have it open."""

    def __init__(self, folder: Path, ahead: WriteAhead) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder, self._ahead = folder, ahead
        self._path = folder / ACTIVE
        self._lock = lock_folder(folder)
        finish_rolling(folder)
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.log_id = read_id(folder)
        self._clock = SystemClock()
        self._log = structlog.get_logger("edge").bind(path=str(self._path))
        self._marks: list[tuple[int, int]] = []  # (first sequence number, offset), so that a reader need not start at 0
        self._end, self.last_seq = 0, 0  # of what is on the disk
        self.base_seq = 0  # entries after it say all that is known: those before are history
        self.damage = ""  # what of it can't be read, in words
        self._rolling: asyncio.Event | None = None
        self._recover()
        self._reserved = self.last_seq

    def __str__(self) -> str:
        return str(self._path)

    @property
    def active_bytes(self) -> int:
        """Size of the file that is written to."""
        return self._end

    @property
    def size_bytes(self) -> int:
        """Size of all files."""
        return self._end + sum(path.stat().st_size for path in sealed_files(self.folder))

    def entries(self, after_seq: int = 0) -> Iterator[pb.LogEntry]:
        """Entries on disk with a sequence number above `after_seq`, in order."""
        place, last = bisect.bisect_right(self._marks, (after_seq + 1, self._end)) - 1, after_seq
        for entry in self._all_entries(after_seq, place):
            if entry.seq > last:
                last = entry.seq
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
        stored_at = self._now()
        batch = [(seq, _framed(seq, kind, payload, stored_at)) for seq, kind, payload in entries]
        while self._rolling is not None:
            await self._rolling.wait()
        await self._ahead.append(self, batch)

    async def roll(self, kind: str, payload: bytes) -> None:
        """Begin a new file with an entry that says all that is known now. Nothing may be under way.

        Raises:
            StorageError: the disk refused; the old file goes on.
        """
        seq, self._rolling = self.reserve(), asyncio.Event()
        record, run = _framed(seq, kind, payload, self._now()), asyncio.get_running_loop().run_in_executor
        try:
            await self._ahead.finish(self)
            self._switch_to(await run(None, write_new, self.folder, record), seq, len(record))
            await run(None, sync_folder, self.folder)
        except OSError as error:
            raise StorageError(f"{self}: {error.strerror}; no new file was begun") from error
        finally:
            self._rolling.set()
            self._rolling = None

    def drop(self, passed_seq: int, keep_bytes: int, keep_s: float) -> int:
        """Delete old files whose entries are all up to `passed_seq`: those over a size in all, or older than so many seconds.

        How many were deleted; the newest file never is.
        """
        files = sealed_files(self.folder)
        ends = [first_seq(path) - 1 for path in files[1:]] + [self.base_seq - 1]
        sizes = [path.stat().st_size for path in files]
        left, dropped = sum(sizes) + self._end, 0
        now_s = self._clock.real_now().timestamp()
        for path, end, size in zip(files, ends, sizes, strict=False):
            is_old = now_s - path.stat().st_mtime > keep_s
            if end > passed_seq or not (is_old or left > keep_bytes):
                break
            path.unlink()
            left, dropped = left - size, dropped + 1
        return dropped

    async def close(self) -> None:
        """Wait for what is being written, close the file and drop the lock."""
        await self._ahead.finish(self)
        os.close(self._fd)
        os.close(self._lock)

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
        for seq, record in entries:
            self._mark(seq, self._end)
            self._end, self.last_seq = self._end + len(record), seq

    def undo(self) -> None:
        """What was written does not count."""
        os.ftruncate(self._fd, self._end)

    def sync(self) -> None:
        """Have all of it on the disk in this file."""
        os.fdatasync(self._fd)

    # -- files ----------------------------------------------------------------------------------------------------------

    def _now(self) -> str:
        return self._clock.real_now().astimezone(UTC).isoformat()

    def _all_entries(self, after_seq: int, place: int) -> Iterator[pb.LogEntry]:
        """Those from a mark on; from an older file on where there is no mark. A new file may be begun meanwhile."""
        with self._path.open("rb") as active:
            begin, end = self._marks[place][1] if place >= 0 else 0, self._end
            if place < 0:
                for path in files_with(self.folder, after_seq, self.base_seq):
                    with path.open("rb") as file:
                        yield from self._read(file, 0, path.stat().st_size)
            yield from self._read(active, begin, end)

    def _read(self, file: BinaryIO, begin: int, end: int) -> Iterator[pb.LogEntry]:
        for _, _, entry in scan(file, begin, end, lambda begin, end: self._tell([(begin, end)])):
            yield entry

    def _switch_to(self, fd: int, seq: int, size: int) -> None:
        """The old file makes way for the new one; what a crash leaves between is put right at start."""
        sealed = self.folder / sealed_name(self._marks[0][0] if self._marks else seq)
        try:
            self._path.rename(sealed)
            (self.folder / NEW).rename(self._path)
        except OSError:
            if sealed.exists() and not self._path.exists():
                sealed.rename(self._path)
            os.close(fd)
            raise
        old, self._fd = self._fd, fd
        os.close(old)
        self._marks, self._end, self.last_seq, self.base_seq = [(seq, 0)], size, seq, seq

    # -- start ----------------------------------------------------------------------------------------------------------

    def _mark(self, seq: int, offset: int) -> None:
        if not self._marks or offset - self._marks[-1][1] >= MARK_EACH_BYTES:
            self._marks.append((seq, offset))

    def _recover(self) -> None:
        """Find the end of the last whole entry; what follows is cut off, what is missing is taken over."""
        size = os.fstat(self._fd).st_size
        ahead = [(unframed(record).seq, record) for record in left_ahead(self.folder.parent, self.log_id)]
        holes: list[tuple[int, int]] = []
        with self._path.open("rb") as file:
            for begin, end, entry in scan(file, 0, size, lambda begin, end: holes.append((begin, end))):
                if holes and holes[-1][1] == begin and any(self.last_seq < seq < entry.seq for seq, _ in ahead):
                    holes.pop()  # never synced: all from here on is in the write-ahead file
                    break
                self._mark(entry.seq, begin)
                self._end, self.last_seq = end, entry.seq
                if entry.kind == "snapshot":
                    self.base_seq = entry.seq
        if size > self._end:
            self._log.warning("a torn tail was cut off", bytes=size - self._end)
        os.ftruncate(self._fd, self._end)
        for seq, record in ahead:
            if seq > self.last_seq:
                self.write([record])
                self.keep([(seq, record)])
        self.sync()
        self._tell(holes)

    def _tell(self, holes: Sequence[tuple[int, int]]) -> None:
        if holes:
            lost = sum(end - begin for begin, end in holes)
            self.damage = (
                f"{self}: {lost} bytes from offset {holes[0][0]} on are damaged, with whole entries behind them"
            )
            self._log.error("the log is damaged; what is behind it counts", bytes=lost, regions=holes[:10])


def _framed(seq: int, kind: str, payload: bytes, stored_at: str) -> bytes:
    return framed(pb.LogEntry(seq=seq, kind=kind, payload=payload, stored_at=stored_at))


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
        if read_id(folder) in missing:
            try:
                log = DurableLog(folder, ahead)
            except AlreadyRunningError:
                continue  # whoever has it open has taken over at its start
            await log.close()
    ahead.forget()


def _folders(state_dir: Path) -> list[Path]:
    return [path.parent for path in state_dir.glob(f"*/{ACTIVE}")]
