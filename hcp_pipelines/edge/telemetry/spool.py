"""Samples of one facility on the gateway's disk, from when they are taken until the collector has stored them. Bounded.

What is acknowledged within seconds never costs a sync: files are synced when what they hold has waited for longer, so that a
power cut loses at most those seconds and steady telemetry takes nothing from the log of commands. Over its bound, or where the
disk is nearly full, the oldest file is given up. Belongs to one thread.
"""

import contextlib
import errno
import shutil
from pathlib import Path

from hcp_pipelines.edge.telemetry.segments import SUFFIX, Segment

SEGMENT_BYTES = 8 * 2**20
SEGMENTS_MIN = 8  # a small spool has shorter files: giving one up must not give up all
SYNC_AFTER_S = 10.0
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Spool:
    """Records by rising numbers. A new spool begins at the present millisecond: it is above what any earlier one reached."""

    def __init__(self, folder: Path, max_bytes: int, free_bytes: int, now_ms: int) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder, self._max_bytes, self._free_bytes = folder, max_bytes, free_bytes
        self._segment_bytes = min(SEGMENT_BYTES, max(max_bytes // SEGMENTS_MIN, 1))
        self._segments = [Segment.open(path) for path in sorted(folder.glob(f"*{SUFFIX}"))]
        last = max([s.last_seq or s.first_seq for s in self._segments], default=0)
        self.next_seq = max(last + 1, now_ms)
        self._acknowledged = 0
        self.shed = 0  # records given up since it was opened

    @property
    def size(self) -> int:
        """What its files take."""
        return sum(segment.size for segment in self._segments)

    def append(self, payload: bytes, now_s: float) -> None:
        """Keep what has `next_seq` as its number; without room for it, the oldest go, and in the end it goes itself.

        Where it can't be written for another reason (no file may be opened, the disk fails), it alone is given up.
        """
        seq, self.next_seq = self.next_seq, self.next_seq + 1
        self._make_room(len(payload))
        while True:
            try:
                self._current(seq).append(seq, payload, now_s)
            except OSError as error:
                if error.errno not in NO_ROOM or not self._shed_oldest():
                    self.shed += 1
                    return
            else:
                return

    def read(self, after_seq: int, limit_bytes: int) -> list[tuple[int, bytes]]:
        """Records after a number, oldest first, of one file; the first always, more while they are within the limit.

        Raises:
            OSError: a file can't be read.
        """
        after_seq = max(after_seq, self._acknowledged)
        for segment in self._segments:
            if segment.last_seq > after_seq:
                return list(segment.read(after_seq, limit_bytes))
        return []

    def acknowledge(self, seq: int) -> None:
        """Everything up to it is stored elsewhere. Numbers go on above it, also where this spool is newer than that store."""
        self._acknowledged = max(self._acknowledged, seq)
        self.next_seq = max(self.next_seq, seq + 1)
        while len(self._segments) > 1 and self._segments[0].last_seq <= self._acknowledged:
            self._remove_oldest()

    def sync(self, now_s: float) -> None:
        """Sync what has waited long for its acknowledgement.

        Raises:
            OSError: the disk refuses; it is tried again the next time.
        """
        for segment in self._segments:
            since_s = segment.unsynced_since_s
            if since_s is not None and segment.last_seq > self._acknowledged and now_s - since_s >= SYNC_AFTER_S:
                segment.sync()

    def _current(self, seq: int) -> Segment:
        """The file that a record goes to.

        Raises:
            OSError: no new one can be made.
        """
        if not self._segments or self._segments[-1].size >= self._segment_bytes:
            self._segments.append(Segment.create(self._folder, seq))
        return self._segments[-1]

    def _make_room(self, size: int) -> None:
        while self.size + size > self._max_bytes and self._shed_oldest():
            pass
        while len(self._segments) > 1 and self._is_disk_full():
            self._shed_oldest()

    def _is_disk_full(self) -> bool:
        with contextlib.suppress(OSError):
            return shutil.disk_usage(self._folder).free < self._free_bytes
        return False

    def _shed_oldest(self) -> bool:
        """Give up the oldest file's records; whether there was one that had any."""
        if not self._segments or not self._segments[0].size:
            return False
        self.shed += sum(1 for seq, _, _ in self._segments[0].records if seq > self._acknowledged)
        self._remove_oldest()
        return True

    def _remove_oldest(self) -> None:
        segment = self._segments.pop(0)
        with contextlib.suppress(OSError):
            segment.path.unlink()
