"""What a facility needs of its log, whoever keeps it."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from hcp_pipelines.wire import edge_v1_pb2 as pb


class FacilityLog(Protocol):
    """The durable log of one facility (`durable_log.DurableLog`)."""

    folder: Path
    base_seq: int  # the entry with this number, and those after it, say all that is known
    last_seq: int
    damage: str

    def entries(self, after_seq: int = 0) -> Iterator[pb.LogEntry]:
        """Stored entries with a sequence number above `after_seq`, in order."""

    def reserve(self) -> int:
        """The next sequence number; append what it is for without awaiting anything in between."""

    async def append(self, entries: Iterable[tuple[int, str, bytes]]) -> None:
        """Store (seq, kind, payload) entries; returns when they are durable.

        Raises:
            StorageError: nothing of it counts as stored.
        """

    async def close(self) -> None:
        """Let go of it."""
