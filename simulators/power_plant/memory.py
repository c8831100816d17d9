"""What of the plants outlives the world's process: one JSON object a line, each change of a breaker, relay, pump or interlock.

`{"seq", "simulated_at", "site", "what", "name", "state"}`, in simulated time alone, so that two runs of one command
script have the same bytes. The states are taken over at start. Devices' own transitions are in `durability`.
"""

import json
import logging
import os
from pathlib import Path
from typing import Any

from simulators.clock import iso
from simulators.power_plant.breaker import BreakerState
from simulators.power_plant.plant import Plant

_TRIPS = (BreakerState.TRIPPED, BreakerState.TRIPPED_HOT)

log = logging.getLogger("world.plant")


class PlantLog:
    """Appends to the log; a line is with the kernel when `append` returns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self.entries = _whole_lines(path, self._fd)
        self._seq = max((int(entry["seq"]) for entry in self.entries), default=0)

    def append(self, site: str, what: str, name: str, state: str, at_s: float) -> None:
        """One change."""
        self._seq += 1
        entry = {"seq": self._seq, "simulated_at": iso(at_s), "site": site, "what": what, "name": name, "state": state}
        os.write(self._fd, (json.dumps(entry) + "\n").encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def restore(plant: Plant, site: str, entries: list[dict[str, Any]]) -> None:
    """Bring a plant into the state that the entries of its site end in; what is no longer there is passed over."""
    failed: set[int] = set()
    for entry in entries:
        if entry.get("site") != site:
            continue
        what, name, state = str(entry["what"]), str(entry["name"]), str(entry["state"])
        if what == "breaker" and name in plant.breakers and state.upper() in BreakerState.__members__:
            breaker = plant.breakers[name]
            breaker.state = BreakerState[state.upper()]
            breaker.trips += breaker.state in _TRIPS
        elif what == "relay":
            plant.is_shed = state == "shed_by_relay"
            plant.relay_trips += plant.is_shed
        elif what == "cooling" and plant.cooling:
            plant.cooling.is_tripped = state == "tripped"
        elif what == "pump":
            (failed.add if state == "failed" else failed.discard)(int(name))
    if plant.cooling:
        plant.cooling.failed_pumps = frozenset(pump for pump in failed if pump < plant.cooling.config.pumps)
    plant.take_effect()


def _whole_lines(path: Path, fd: int) -> list[dict[str, Any]]:
    """The entries so far; a torn last line is cut off the file."""
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if len(whole) < len(raw):
        log.warning("plant log %s: cut a torn line of %d bytes off its end", path, len(raw) - len(whole))
        os.ftruncate(fd, len(whole))
    return [json.loads(line) for line in whole.splitlines()]
