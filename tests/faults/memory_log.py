"""An in-memory log of a facility at its gateway, with what the real one promises, and the ways in which a disk loses.

What is being written when the process dies may be on the disk whole, in part, or not at all: nobody was told that it is.
"""

import asyncio
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import decode_slots
from tests.faults.records import Entry, Slots
from tests.faults.virtual import EPOCH, Process, VirtualLoop

Item = tuple[int, str, bytes]


class Disk:
    """What of a facility's log outlives a process; `records` is the checker's view of it."""

    def __init__(self, loop: VirtualLoop, facility_id: str, seed: str, records: list[Entry]) -> None:
        self.loop, self.facility_id, self._records = loop, facility_id, records
        self.random = random.Random(seed)
        self.entries: list[pb.LogEntry] = []
        self.is_full = False
        self.slow_s = 0.0

    def store(self, items: Iterable[Item]) -> None:
        """They are durable now."""
        stored_at = (EPOCH.fromtimestamp(EPOCH.timestamp() + self.loop.now_s, EPOCH.tzinfo)).isoformat()
        for seq, kind, payload in items:
            self.entries.append(pb.LogEntry(seq=seq, kind=kind, payload=payload, stored_at=stored_at))
            self._records.append(record_of(self.loop.now_s, self.facility_id, seq, kind, payload))


class MemoryLog:
    """`edge.log.FacilityLog` of one gateway process."""

    def __init__(self, disk: Disk, process: Process) -> None:
        self._disk = disk
        self.folder, self.base_seq, self.damage = Path("/nowhere"), 0, ""
        self.last_seq = self._reserved = disk.entries[-1].seq if disk.entries else 0
        self._writing: list[tuple[list[Item], asyncio.Future[None]]] = []
        process.on_death.append(self._crash)

    def entries(self, after_seq: int = 0) -> Iterator[pb.LogEntry]:
        """Those that are durable now."""
        known = self._disk.entries
        low, high = 0, len(known)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if known[middle].seq <= after_seq else (low, middle)
        for place in range(low, len(known)):
            yield known[place]

    def reserve(self) -> int:
        """The next number."""
        self._reserved += 1
        return self._reserved

    async def append(self, entries: Iterable[Item]) -> None:
        """Durable when it returns; batches are written one behind the other."""
        disk, batch = self._disk, list(entries)
        if disk.is_full:
            raise StorageError(f"{disk.facility_id}: no space left on the disk; nothing of it was stored")
        done: asyncio.Future[None] = disk.loop.create_future()
        mine = (batch, done)
        self._writing.append(mine)

        def synced() -> None:
            while mine in self._writing:  # else it went with a later one, or the process is dead
                self._keep(*self._writing.pop(0))

        disk.loop.later(0.0002 + disk.random.random() ** 3 * (0.008 + disk.slow_s), synced)
        await done

    async def close(self) -> None:
        """Nothing is open."""

    def _keep(self, batch: list[Item], done: "asyncio.Future[None]") -> None:
        self._disk.store(batch)
        self.last_seq = max(self.last_seq, batch[-1][0])
        if not done.done():
            done.set_result(None)

    def _crash(self) -> None:
        """So much of what was under way is on the disk, in its order."""
        items = [item for batch, _ in self._writing for item in batch]
        self._writing.clear()
        self._disk.store(items[: self._disk.random.randint(0, len(items))])


def record_of(at_s: float, facility_id: str, seq: int, kind: str, payload: bytes) -> Entry:
    """An entry as the checker reads it."""
    match kind:
        case "epoch":
            announce = pb.Announce.FromString(payload)
            return Entry(at_s, facility_id, seq, kind, epoch=announce.epoch, owner=announce.owner)
        case "command":
            command = pb.Command.FromString(payload)
            parts = tuple((a.index, a.state, _slots(a.slots)) for a in command.assignments)
            return Entry(
                at_s, facility_id, seq, kind, command.command_id, command.epoch, parts=parts, reason=command.reason
            )
        case "ack" | "expired":
            ack = pb.Ack.FromString(payload)
            parts = tuple((a.index, 0, _slots(a.accepted)) for a in ack.assignments)
            return Entry(at_s, facility_id, seq, kind, ack.command_id, parts=parts)
        case "settled":
            settled = pb.Settled.FromString(payload)
            parts = ((settled.index, 0, _slots(settled.settled)),)
            return Entry(at_s, facility_id, seq, kind, settled.command_id, parts=parts, failed=_slots(settled.failed))
        case "local":
            event = pb.LocalEvent.FromString(payload)
            return Entry(
                at_s, facility_id, seq, kind, state=event.state, slots=_slots(event.slots), reason=event.reason
            )
        case "locks":
            locks = pb.SetLocks.FromString(payload)
            return Entry(at_s, facility_id, seq, kind, epoch=locks.epoch, slots=_slots(locks.slots))
        case _:
            return Entry(at_s, facility_id, seq, kind)


def _slots(payload: bytes) -> Slots:
    return tuple(decode_slots(payload, 1 << 20).tolist())
