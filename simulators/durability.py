"""What survives a killed world: the transition log (the devices' own log) and the state file beside it.

A SET is in the log, handed to the kernel, before it is answered; the state file is a snapshot that shortens the replay
at start. Format of the log: docs/bulk-channel.md. The log is never rewritten; a full one is set aside under a number.
"""

import asyncio
import base64
import json
import logging
import os
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from pyroaring import BitMap

from simulators.clock import Clock, epoch_s, iso
from simulators.fleet import Fleet, SetResult, Site, SiteState
from simulators.roaring import RoaringError, parse

MAX_LOG_BYTES = 256 * 1024 * 1024
_ARRAYS = ("commanded", "power_from_w", "power_to_w", "ramp_from_s", "ramp_s")

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
        self._saving = asyncio.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._recover()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def set_state(self, site: Site, ref: bytes, assignment: int, state: int, wanted: BitMap) -> SetResult:
        """Carry a SET out and log it; the line is with the kernel when this returns."""
        at_s = max(self._clock.now_s(), site.at_s)
        result = site.set_state(state, wanted, at_s)
        if result.changed:
            self.note(site, ref, assignment, state, result.changed, at_s)
        return result

    def note(self, site: Site, ref: bytes, assignment: int, state: int, changed: BitMap, at_s: float) -> None:
        """Log a change of state that has already happened."""
        self._seq += 1
        line = {
            "seq": self._seq,
            "simulated_at": iso(at_s),
            "real_at": iso(self._clock.real_s()),
            "site": site.config.site,
            "ref": str(UUID(bytes=ref)),
            "assignment": assignment,
            "state": state,
            "changed": len(changed),
            "slots": base64.b64encode(changed.serialize()).decode(),
        }
        self._append((json.dumps(line) + "\n").encode())

    async def save(self, *, always: bool = False) -> None:
        """Write the snapshot if a device changed since the last one."""
        async with self._saving:
            if self._seq == self._saved_seq and not always:
                return
            seq, size = self._seq, self._size
            states = {name: site.save() for name, site in self._fleet.sites.items()}
            await asyncio.to_thread(_write_snapshot, self._state_path, seq, size, states)
            self._saved_seq = seq
            if self._size >= MAX_LOG_BYTES and self._seq == seq:
                self._set_aside(states)

    async def close(self) -> None:
        """Write the last snapshot and close the log."""
        await self.save(always=True)
        os.close(self._fd)

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
        _write_snapshot(self._state_path, self._seq, 0, states)

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
        try:
            with np.load(self._state_path, allow_pickle=False) as saved:
                head = json.loads(str(saved["head"]))
                for name, about in head["sites"].items():
                    site = self._fleet.sites.get(name)
                    if site is None or site.digest != about["digest"]:
                        log.warning("state file: the devices of site %s have changed; they start anew", name)
                        continue
                    arrays = [saved[f"{about['index']}.{array}"] for array in _ARRAYS]
                    site.restore(SiteState(about["digest"], about["at_s"], about["energy_wh"], *arrays))
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, KeyError) as error:
            log.warning("state file %s can't be read (%s); rebuilding from the whole log", self._state_path, error)
            return 0
        self._seq = self._saved_seq = int(head["seq"])
        return int(head["log_bytes"])

    def _replay(self, line: bytes) -> None:
        try:
            entry: dict[str, Any] = json.loads(line)
            seq, name = int(entry["seq"]), str(entry["site"])
            changed = parse(base64.b64decode(entry["slots"]))
            at_s, state = epoch_s(entry["simulated_at"]), int(entry["state"])
        except (ValueError, KeyError, TypeError, RoaringError) as error:
            log.warning("transition log %s: passed over a line that is no transition (%s)", self._path, error)
            return
        if seq > self._seq:
            self._seq = seq
            if name in self._fleet.sites:
                self._fleet.sites[name].set_state(state, changed, at_s)


def _write_snapshot(path: Path, seq: int, log_bytes: int, states: dict[str, SiteState]) -> None:
    head = {
        "version": 1,
        "seq": seq,
        "log_bytes": log_bytes,
        "sites": {
            name: {"index": index, "digest": state.digest, "at_s": state.at_s, "energy_wh": state.energy_wh}
            for index, (name, state) in enumerate(states.items())
        },
    }
    arrays = {
        f"{index}.{array}": getattr(state, array) for index, state in enumerate(states.values()) for array in _ARRAYS
    }
    fresh = path.with_suffix(".state.new")
    with fresh.open("wb") as file:
        np.savez(file, head=np.array(json.dumps(head)), **arrays)
    fresh.replace(path)
