"""What of the plants outlives the world's process: one JSON object a line, each change of a breaker, relay, pump or interlock.

`{"seq", "simulated_at", "site", "what", "name", "state"}`, in simulated time alone, so that two runs of one command
script have the same bytes. At start the states are taken over. Devices' own transitions are in `durability`.
"""

import json
import logging
import os
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import NamedTuple

from simulators.clock import epoch_s, iso
from simulators.power_plant.breaker import BreakerState
from simulators.power_plant.plant import Plant, PoweredSite

MAX_LOG_BYTES = 8 * 1024 * 1024
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND
_TRIPS = (BreakerState.TRIPPED, BreakerState.TRIPPED_HOT)

log = logging.getLogger("world.plant")


class Entry(NamedTuple):
    """One change."""

    at_s: float
    site: str
    what: str  # breaker | relay | cooling | pump
    name: str
    state: str


class PlantLog:
    """Appends to the log; a line is with the kernel when `append` returns. A full one is set aside under a number."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._fd = os.open(path, _FLAGS, 0o644)
        found = _read(path, self._fd)
        self.entries = [entry for _, entry in found]
        self._latest = {entry[1:4]: entry for entry in self.entries}
        self._seq = max((seq for seq, _ in found), default=0)
        self._size = path.stat().st_size

    def append(self, entry: Entry) -> None:
        """Write one change."""
        if self._size >= MAX_LOG_BYTES:
            self._set_aside()
        self._latest[entry[1:4]] = entry
        self._write(entry)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _write(self, entry: Entry) -> None:
        self._seq += 1
        words = {"site": entry.site, "what": entry.what, "name": entry.name, "state": entry.state}
        line = json.dumps({"seq": self._seq, "simulated_at": iso(entry.at_s), **words}) + "\n"
        self._size += os.write(self._fd, line.encode())

    def _set_aside(self) -> None:
        """Begin a new file with the latest state of everything; how often a breaker has tripped is not in it."""
        number = next(n for n in count(1) if not self._path.with_name(f"{self._path.name}.{n}").exists())
        os.close(self._fd)
        self._path.rename(self._path.with_name(f"{self._path.name}.{number}"))
        self._fd, self._size = os.open(self._path, _FLAGS, 0o644), 0
        for entry in sorted(self._latest.values()):
            self._write(entry)


def restore(plant: Plant, site: PoweredSite, entries: Iterable[Entry]) -> None:
    """Do again what the entries of a site say, each at its time where the site's own state is older than it.

    What is no longer there is passed over. The plant must be the site's by now, so that the time between is what it was.
    """
    for entry in entries:
        if entry.site == site.config.site:
            site.advance(entry.at_s)
            _apply(plant, entry)
            plant.take_effect()


def _apply(plant: Plant, entry: Entry) -> None:
    if entry.what == "breaker" and entry.name in plant.breakers and entry.state.upper() in BreakerState.__members__:
        breaker, state = plant.breakers[entry.name], BreakerState[entry.state.upper()]
        breaker.trips += breaker.state != state and state in _TRIPS
        breaker.state = state
    elif entry.what == "relay":
        is_shed = entry.state == "shed_by_relay"
        if is_shed and not plant.is_shed:
            plant.relay_trips, plant.relay_tripped_at_s = plant.relay_trips + 1, entry.at_s
        plant.is_shed = is_shed
    elif entry.what == "cooling" and plant.cooling:
        plant.cooling.is_tripped = entry.state == "tripped"
    elif entry.what == "pump" and plant.cooling and int(entry.name) < plant.cooling.config.pumps:
        failed, pump = plant.cooling.failed_pumps, {int(entry.name)}
        plant.cooling.failed_pumps = failed | pump if entry.state == "failed" else failed - pump


def _read(path: Path, fd: int) -> list[tuple[int, Entry]]:
    """Number and entry of every line; a torn last line is cut off the file, one that is no entry is passed over."""
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if len(whole) < len(raw):
        log.warning("plant log %s: cut a torn line of %d bytes off its end", path, len(raw) - len(whole))
        os.ftruncate(fd, len(whole))
    found = []
    for line in whole.splitlines():
        try:
            one = json.loads(line)
            entry = Entry(epoch_s(one["simulated_at"]), *(str(one[key]) for key in ("site", "what", "name", "state")))
            found.append((int(one["seq"]), entry))
        except (ValueError, KeyError, TypeError) as error:
            log.warning("plant log %s: passed over a line that is no entry (%s)", path, error)
    return found
