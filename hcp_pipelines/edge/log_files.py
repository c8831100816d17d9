"""A facility's log files as they lie on the disk: framed entries, the order of the files, what is damaged, the lock.

`log.bin` is written to; `log-NUMBER.bin` are the files before it, named by their first sequence number. A file other than the
first begins with a snapshot, so that the files before it can be deleted (`compaction.py`).
"""

import fcntl
import os
import struct
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import DecodeError

from hcp_pipelines.domain.errors import AlreadyRunningError
from hcp_pipelines.wire import edge_v1_pb2 as pb

ACTIVE, SEALED, NEW = "log.bin", "log-*.bin", "log.new"
ENTRY_MAX_BYTES = 32 * 1024 * 1024
HEAD = struct.Struct("<II")  # length and checksum of what follows
_FIRST_BYTE = b"\x08"  # every entry begins with its sequence number

Found = tuple[int, int, pb.LogEntry]  # begin, end, entry
OnDamage = Callable[[int, int], None]  # a region that is no entry, with whole entries behind it: begin, end


def framed(entry: pb.LogEntry) -> bytes:
    """An entry as it is written."""
    body = entry.SerializeToString()
    return HEAD.pack(len(body), zlib.crc32(body)) + body


def unframed(record: bytes) -> pb.LogEntry:
    """The entry of a record that is known to be whole."""
    return pb.LogEntry.FromString(record[HEAD.size :])


def sealed_files(folder: Path) -> list[Path]:
    """The files before the one that is written to, oldest first."""
    return sorted(folder.glob(SEALED))


def sealed_name(first_seq: int) -> str:
    """What a file is called once it is no longer written to."""
    return f"log-{first_seq:020d}.bin"


def first_seq(path: Path) -> int:
    """The first sequence number of a sealed file, from its name."""
    return int(path.stem.partition("-")[2])


def files_with(folder: Path, after_seq: int, active_first: int) -> Iterator[Path]:
    """The sealed files that hold entries above a number, oldest first; those that are deleted meanwhile are left out."""
    files = sealed_files(folder)
    for path, next_first in zip(files, [*map(first_seq, files[1:]), active_first], strict=False):
        if next_first > after_seq + 1 and path.exists():
            yield path


def read_log(folder: Path) -> list[pb.LogEntry]:
    """All whole entries of a facility's log, also while a gateway writes it."""
    entries: dict[int, pb.LogEntry] = {}
    with (folder / ACTIVE).open("rb") as active:
        for path in sealed_files(folder):
            with path.open("rb") as file:
                entries |= {entry.seq: entry for _, _, entry in scan(file, 0, path.stat().st_size)}
        entries |= {entry.seq: entry for _, _, entry in scan(active, 0, os.fstat(active.fileno()).st_size)}
    return list(entries.values())


def scan(file: BinaryIO, at: int, end: int, on_damage: OnDamage | None = None) -> Iterator[Found]:
    """Each whole entry between two offsets. What is no entry is passed over if whole ones follow; else it is a torn tail."""
    while at < end:
        found = _entry_at(file, at, end)
        if found is None:
            found = _next_whole(file, at, end)
            if found is None:
                return
            if on_damage is not None:
                on_damage(at, found[0])
        yield found
        at = found[1]


def _entry_at(file: BinaryIO, at: int, end: int) -> Found | None:
    file.seek(at)
    head = file.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    length, checksum = HEAD.unpack(head)
    behind = at + HEAD.size + length
    if length == 0 or length > ENTRY_MAX_BYTES or behind > end:
        return None
    body = file.read(length)
    if len(body) < length or zlib.crc32(body) != checksum:
        return None
    try:
        return at, behind, pb.LogEntry.FromString(body)
    except DecodeError:
        return None


def _next_whole(file: BinaryIO, at: int, end: int) -> Found | None:
    """The first whole entry that begins behind an offset."""
    file.seek(at)
    data = file.read(end - at)
    place = data.find(_FIRST_BYTE, HEAD.size + 1)
    while place >= 0:
        length, checksum = HEAD.unpack_from(data, place - HEAD.size)
        if 0 < length <= len(data) - place and zlib.crc32(data[place : place + length]) == checksum:
            return _entry_at(file, at + place - HEAD.size, end)
        place = data.find(_FIRST_BYTE, place + 1)
    return None


def lock_folder(folder: Path) -> int:
    """Hold a facility's folder alone; the descriptor to close.

    Raises:
        AlreadyRunningError: another gateway has it.
    """
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise AlreadyRunningError(f"{folder} is in use: another gateway serves this facility") from None
    return fd


def finish_rolling(folder: Path) -> None:
    """A crash while a new file was begun: it takes its place if the old one had made way, else it never was."""
    fresh, active = folder / NEW, folder / ACTIVE
    if fresh.exists() and not active.exists():
        fresh.rename(active)
        sync_folder(folder)
    fresh.unlink(missing_ok=True)


def write_new(folder: Path, record: bytes) -> int:
    """Write the first entry of a new file, durably; its descriptor.

    Raises:
        OSError: the disk refused.
    """
    fd = os.open(folder / NEW, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, record)
        os.fsync(fd)
    except OSError:
        os.close(fd)
        raise
    return fd


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_id(folder: Path) -> bytes:
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
