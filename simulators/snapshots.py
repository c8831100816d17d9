"""The state file: one snapshot of all sites, written whole beside the old one and then put in its place.

It is a short cut: what it lacks is replayed from the devices' own log (`durability`). A file of another version is not read.
"""

import json
import os
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from simulators.site_records import SiteState

VERSION: Final = 4


class Snapshot(NamedTuple):
    """All sites as they were when the log had so many bytes and its last line this number."""

    seq: int
    log_bytes: int
    sites: dict[str, SiteState]


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Replace the state file; it is on the disk when this returns."""
    sites = {
        name: {
            "index": index,
            "digest": state.digest,
            "groups": list(state.groups),
            "at_s": state.at_s,
            "energy_wh": state.energy_wh,
            "arrays": list(state.arrays),
        }
        for index, (name, state) in enumerate(snapshot.sites.items())
    }
    head = {"version": VERSION, "seq": snapshot.seq, "log_bytes": snapshot.log_bytes, "sites": sites}
    arrays: dict[str, Any] = {
        f"{index}.{name}": array
        for index, state in enumerate(snapshot.sites.values())
        for name, array in state.arrays.items()
    }
    fresh = path.with_suffix(".state.new")
    with fresh.open("wb") as file:
        np.savez(file, head=np.array(json.dumps(head)), **arrays)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def read_snapshot(path: Path) -> Snapshot:
    """The state file.

    Raises:
        FileNotFoundError: there is none.
        OSError: it can't be read.
        ValueError: it is none, or of another version.
        KeyError: something is missing in it.
    """
    with np.load(path, allow_pickle=False) as saved:
        head = json.loads(str(saved["head"]))
        if head["version"] != VERSION:
            message = f"it is of version {head['version']}, this world writes {VERSION}"
            raise ValueError(message)
        sites = {
            name: SiteState(
                about["digest"],
                tuple(about["groups"]),
                about["at_s"],
                about["energy_wh"],
                {array: saved[f"{about['index']}.{array}"] for array in about["arrays"]},
            )
            for name, about in head["sites"].items()
        }
    return Snapshot(int(head["seq"]), int(head["log_bytes"]), sites)
