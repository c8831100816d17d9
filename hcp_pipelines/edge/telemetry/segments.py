"""Files of a spool: records of (sequence number, payload), appended, read back, cut where one is torn.

A file is named after the first number that may be in it. A record is `length u32 · crc32 u32 · seq u64 · payload`, little-endian.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HEAD = struct.Struct("<IIQ")
SUFFIX = ".tel"
RECORD_MAX_BYTES = 16 * 2**20


@dataclass
class Segment:
    """One file and where its records are; `unsynced_since_s` is when the oldest that may not be on the disk was written."""

    path: Path
    records: list[tuple[int, int, int]] = field(default_factory=list)  # seq, offset of the payload, its length
    size: int = 0
    unsynced_since_s: float | None = None

    @classmethod
    def open(cls, path: Path) -> "Segment":
        """A file that is there; cut after its last whole record.

        Raises:
            OSError: it can't be read or cut.
        """
        segment = cls(path)
        data = path.read_bytes()
        for seq, start, length in _whole(data):
            segment.records.append((seq, start, length))
            segment.size = start + length
        if segment.size < len(data):
            os.truncate(path, segment.size)
        return segment

    @classmethod
    def create(cls, folder: Path, first_seq: int) -> "Segment":
        """A new file, empty; of mode 0600.

        Raises:
            OSError: there is no room, or no right.
        """
        path = folder / f"{first_seq:020d}{SUFFIX}"
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        return cls(path)

    @property
    def first_seq(self) -> int:
        """No record has a lower number."""
        return int(self.path.stem)

    @property
    def last_seq(self) -> int:
        """Of its last record; 0 without any."""
        return self.records[-1][0] if self.records else 0

    def append(self, seq: int, payload: bytes, now_s: float) -> None:
        """One more record; a part of one is taken back.

        Raises:
            OSError: there is no room.
        """
        record = HEAD.pack(len(payload), zlib.crc32(payload), seq) + payload
        with self.path.open("r+b") as file:
            file.seek(self.size)
            try:
                file.write(record)
                file.flush()
            except OSError:
                os.truncate(self.path, self.size)
                raise
        self.records.append((seq, self.size + HEAD.size, len(payload)))
        self.size += len(record)
        if self.unsynced_since_s is None:
            self.unsynced_since_s = now_s

    def read(self, after_seq: int, limit_bytes: int) -> Iterator[tuple[int, bytes]]:
        """Records after a number, by rising numbers; the first always, more while they are within the limit."""
        taken = 0
        with self.path.open("rb") as file:
            for seq, offset, length in self.records:
                if seq > after_seq:
                    if taken and taken + length > limit_bytes:
                        return
                    file.seek(offset)
                    taken += length
                    yield seq, file.read(length)

    def sync(self) -> None:
        """Everything in it is on the disk when this returns.

        Raises:
            OSError: the disk refuses.
        """
        handle = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        self.unsynced_since_s = None


def _whole(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(seq, offset, length) of the records of a file, up to the first that is torn."""
    at, view = 0, memoryview(data)
    while at + HEAD.size <= len(data):
        length, checksum, seq = HEAD.unpack_from(data, at)
        start = at + HEAD.size
        if (
            length > RECORD_MAX_BYTES
            or start + length > len(data)
            or zlib.crc32(view[start : start + length]) != checksum
        ):
            return
        yield seq, start, length
        at = start + length
