"""What survives a killed world: the transition log (the devices' own log) and the state file beside it.

A SET is in the log, handed to the kernel, before it is answered; the state file is a snapshot that shortens the replay at start
(`snapshots`). Format of the log: docs/bulk-channel.md. The log is never rewritten; a full one is set aside under a number. Faults
that a schedule brings are not in it: they come again by themselves. What devices' own software remembers is in `memories`.
"""

import asyncio
import base64
import json
import logging
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5
from zipfile import BadZipFile

from pyroaring import BitMap

from simulators.clock import Clock, epoch_s, iso
from simulators.fleet import Fleet, SetResult, Site, SiteState
from simulators.memories import Memories
from simulators.roaring import RoaringError, parse
from simulators.site_records import kept_slots
from simulators.snapshots import Snapshot, read_snapshot, write_snapshot

MAX_LOG_BYTES = 256 * 1024 * 1024
SAVE_PERIOD_S = 10.0  # real; the log covers what happened since

log = logging.getLogger("world.durability")


class TransitionLog:
    """Appends every SET that changed a device, and keeps the fleet's snapshot."""

    def __init__(self, path: Path, fleet: Fleet, clock: Clock) -> None:
        self._path = path
        self._state_path = path.with_suffix(".state")
        self._fleet = fleet
        self._clock = clock
        self._seq = 0
        self._size = 0
        self._saved_seq = -1
        self._saved_real_s = 0.0
        self._saving = asyncio.Lock()
        self._kept: dict[str, BitMap] = {}  # by site: whose state the snapshot had
        path.parent.mkdir(parents=True, exist_ok=True)
        self.memories = Memories(path.with_name("memories.jsonl"))
        self._recover()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for name, site in fleet.sites.items():
            site.on_restart = partial(self._note_restart, site, uuid5(NAMESPACE_URL, f"protocol/power/{name}").bytes)

    def set_state(
        self, site: Site, ref: bytes, assignment: int, state: int, wanted: BitMap, at_s: float | None = None
    ) -> SetResult:
        """Carry a SET out and log it; the line is with the kernel when this returns. `at_s`: when, if that is not now."""
        at_s = self._when(site, at_s)
        result = site.set_state(state, wanted, at_s)
        for into, changed in ((state, result.changed), *result.diverted.items()):
            if changed:
                self.note(site, ref, assignment, into, changed, at_s)
        return result

    def resume(self, site: Site, ref: bytes, state: int, wanted: BitMap, at_s: float | None = None) -> None:
        """Devices go into a state by themselves, after a restart of their own: nobody has to reach them for it."""
        at_s = self._when(site, at_s)
        site.advance(at_s)
        changed = BitMap([slot for slot in wanted if site.commanded[slot] != state])
        if changed:
            site.put(state, changed, at_s)
            self.note(site, ref, 0, state, changed, at_s)

    def limit(self, site: Site, ref: bytes, watts: float | None, wanted: BitMap, at_s: float | None = None) -> BitMap:
        """Carry a power limit out (None: no longer) and log it; the devices that took it."""
        at_s = self._when(site, at_s)
        limited = site.limit(wanted, watts, at_s)
        self._note_event(site, ref, {"event": "limit", "limit_w": watts}, limited, at_s)
        return limited

    def impose(self, site: Site, ref: bytes, fault: str, wanted: BitMap, at_s: float | None = None) -> None:
        """Give devices a fault, a consequence of a command say, and log it."""
        at_s = self._when(site, at_s)
        site.impose(fault, wanted, at_s)
        self._note_event(site, ref, {"event": "impose", "faults": [fault]}, wanted, at_s)

    def lift(self, site: Site, ref: bytes, faults: Iterable[str], wanted: BitMap, at_s: float | None = None) -> None:
        """End faults of devices, by a reset or a repair, and log it."""
        at_s, kinds = self._when(site, at_s), tuple(faults)
        site.lift(kinds, wanted, at_s)
        self._note_event(site, ref, {"event": "lift", "faults": list(kinds)}, wanted, at_s)

    def end_work(self, site: Site, ref: bytes, wanted: BitMap, at_s: float | None = None) -> None:
        """Let applications on GPUs die with one that an XID has ended elsewhere, and log it."""
        at_s = self._when(site, at_s)
        self._note_event(site, ref, {"event": "end_work"}, site.end_work(wanted, at_s), at_s)

    def note(self, site: Site, ref: bytes, assignment: int, state: int, changed: BitMap, at_s: float) -> None:
        """Log a change of state that has already happened."""
        self._write(site, ref, {"assignment": assignment, "state": state}, changed, at_s)

    def touch(self) -> None:
        """A site has changed by something that is not in this log: the next snapshot is due."""
        self._saved_seq = -1

    async def save(self, *, always: bool = False) -> None:
        """Write the snapshot if a device changed since the last one, which is some seconds old."""
        async with self._saving:
            real_s = self._clock.real_s()
            if not always and (self._seq == self._saved_seq or real_s - self._saved_real_s < SAVE_PERIOD_S):
                return
            self._saved_real_s = real_s
            seq, size = self._seq, self._size
            states = {name: site.save() for name, site in self._fleet.sites.items()}
            await asyncio.to_thread(write_snapshot, self._state_path, Snapshot(seq, size, states))
            self._saved_seq = seq
            if self._size >= MAX_LOG_BYTES and self._seq == seq:
                self._set_aside(states)

    async def close(self) -> None:
        """Write the last snapshot and close the log."""
        await self.save(always=True)
        os.close(self._fd)
        self.memories.close()

    def _when(self, site: Site, at_s: float | None) -> float:
        """The instant of a command: now unless it is given, and never before the site's own."""
        return max(self._clock.now_s() if at_s is None else at_s, site.at_s)

    def _note_restart(self, site: Site, ref: bytes, state: int, changed: BitMap) -> None:
        """A device that booted into another state: told from commands by its ref."""
        self.note(site, ref, 0, state, changed, site.at_s)

    def _note_event(self, site: Site, ref: bytes, event: dict[str, Any], whom: BitMap, at_s: float) -> None:
        if whom:
            self._write(site, ref, {"assignment": 0, **event}, whom, at_s)

    def _write(self, site: Site, ref: bytes, what: dict[str, Any], whom: BitMap, at_s: float) -> None:
        self._seq += 1
        line = {
            "seq": self._seq,
            "simulated_at": iso(at_s),
            "real_at": iso(self._clock.real_s()),
            "site": site.config.site,
            "ref": str(UUID(bytes=ref)),
            **what,
            "changed": len(whom),
            "slots": base64.b64encode(whom.serialize()).decode(),
        }
        self._append((json.dumps(line) + "\n").encode())

    def _append(self, line: bytes) -> None:
        left = memoryview(line)
        while left:
            left = left[os.write(self._fd, left) :]
        self._size += len(line)

    def _set_aside(self, states: dict[str, SiteState]) -> None:
        """Give a full log a number and begin a new one; the snapshot just written covers all of it."""
        number = 1
        while self._path.with_name(f"{self._path.name}.{number}").exists():
            number += 1
        os.close(self._fd)
        self._path.rename(self._path.with_name(f"{self._path.name}.{number}"))
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._size = 0
        write_snapshot(self._state_path, Snapshot(self._seq, 0, states))

    def _recover(self) -> None:
        """Take the snapshot over, then carry out again what the log has beyond it; cut a torn last line off."""
        offset = self._restore_snapshot()
        if not self._path.exists():
            return
        size = self._path.stat().st_size
        offset = offset if offset <= size else 0
        with self._path.open("r+b") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    log.warning("transition log %s: cut a torn line of %d bytes off its end", self._path, len(line))
                    file.truncate(offset)
                    break
                offset += len(line)
                self._replay(line)
        self._size = offset

    def _restore_snapshot(self) -> int:
        """Take the state file over, of the devices that are still the same; up to where it covers the log."""
        try:
            snapshot = read_snapshot(self._state_path)
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            log.warning("state file %s can't be read (%s); rebuilding from the whole log", self._state_path, error)
            return 0
        for name, site in self._fleet.sites.items():
            self._kept[name] = kept = site.restore(snapshot.sites[name]) if name in snapshot.sites else BitMap()
            if kept != kept_slots(site.config.groups):
                gone = sum(group.devices for group in site.config.groups) - len(kept)
                log.warning("state file: %d devices of site %s are new or have changed; they start anew", gone, name)
        self._seq = self._saved_seq = snapshot.seq
        return snapshot.log_bytes

    def _replay(self, line: bytes) -> None:
        try:
            entry: dict[str, Any] = json.loads(line)
            seq, name = int(entry["seq"]), str(entry["site"])
            whom = parse(base64.b64decode(entry["slots"]))
            at_s = epoch_s(entry["simulated_at"])
            again = _again(entry)
        except (ValueError, KeyError, TypeError, RoaringError) as error:
            log.warning("transition log %s: passed over a line that is no transition (%s)", self._path, error)
            return
        if seq > self._seq:
            self._seq = seq
            if name in self._fleet.sites:
                again(self._fleet.sites[name], whom & self._kept[name] if name in self._kept else whom, at_s)


def _again(entry: dict[str, Any]) -> Callable[[Site, BitMap, float], object]:
    """What a line of the log did to a site, to be done again."""
    event = entry.get("event", "")
    if event == "limit":
        watts = None if entry["limit_w"] is None else float(entry["limit_w"])
        return lambda site, whom, at_s: site.limit(whom, watts, at_s)
    if event == "impose":
        fault = str(entry["faults"][0])
        return lambda site, whom, at_s: site.impose(fault, whom, at_s)
    if event == "lift":
        faults = [str(fault) for fault in entry["faults"]]
        return lambda site, whom, at_s: site.lift(faults, whom, at_s)
    if event == "end_work":
        return lambda site, whom, at_s: site.end_work(whom, at_s)
    state = int(entry["state"])
    return lambda site, whom, at_s: site.put(state, whom, at_s)
