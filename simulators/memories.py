"""What the software of devices remembers, on the disk: pools and profiles of miners, workloads and operations of GPU nodes.

One JSON object a line, `{"version", "key", "value"}`; the last one of a key counts, a null forgets it. A line is with the kernel
when `put` returns, before the device has answered. At start a torn tail is cut off, and a file that is mostly history is written
anew. What a value means is its owner's business; keys name the device and the group it is of, so that another device in the same
place never takes it over.
"""

import json
import logging
import os
from pathlib import Path
from typing import Any, Final

VERSION: Final = 1
LEAST_BYTES: Final = 1024 * 1024  # a smaller file is never written anew
MOST_BYTES: Final = 64 * 1024 * 1024  # nor does a running world let it grow beyond this, if most of it is history
_WORTH: Final = 3  # times what is in force

Json = dict[str, Any]
log = logging.getLogger("world.durability")


class Memories:
    """The values in force by key, and the file behind them, which is made when there is something to keep."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[str, bytes] = {}
        self._size = 0
        self._live = 0
        self._fd = -1
        if path.exists():
            self._read()
            self._shrink(LEAST_BYTES)

    def items(self, prefix: str) -> list[tuple[str, Json]]:
        """What is remembered under keys that begin so, in the order it was first put."""
        return [(key, json.loads(line)["value"]) for key, line in self._lines.items() if key.startswith(prefix)]

    def put(self, key: str, value: Json | None) -> None:
        """Remember a value, or forget the key; nothing is written where that is what holds already."""
        known = self._lines.get(key)
        line = (json.dumps({"version": VERSION, "key": key, "value": value}, separators=(",", ":")) + "\n").encode()
        if known == line or (value is None and known is None):
            return
        self._keep(key, None if value is None else line)
        self._append(line)
        self._shrink(MOST_BYTES)

    def close(self) -> None:
        """Close the file; what is in it is on the disk then."""
        if self._fd >= 0:
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _keep(self, key: str, line: bytes | None) -> None:
        self._live += len(line or b"") - len(self._lines.get(key, b""))
        if line is None:
            self._lines.pop(key, None)
        else:
            self._lines[key] = line

    def _append(self, line: bytes) -> None:
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._size += len(line)
        left = memoryview(line)
        while left:
            left = left[os.write(self._fd, left) :]

    def _shrink(self, most_bytes: int) -> None:
        """Write the file anew with what is in force, if it is large and mostly history."""
        if self._size <= max(most_bytes, _WORTH * self._live):
            return
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.writelines(self._lines.values())
            file.flush()
            os.fsync(file.fileno())
        self.close()
        fresh.replace(self._path)
        self._size = self._live

    def _read(self) -> None:
        """Every line; a torn last one is cut off, one that is none of ours passed over."""
        with self._path.open("r+b") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    log.warning("memories %s: cut a torn line of %d bytes off its end", self._path, len(line))
                    file.truncate(self._size)
                    return
                self._size += len(line)
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            version, key, value = entry["version"], str(entry["key"]), entry["value"]
        except (ValueError, KeyError, TypeError) as error:
            log.warning("memories %s: passed over a line that is none (%s)", self._path, error)
            return
        if version != VERSION or not (value is None or isinstance(value, dict)):
            log.warning("memories %s: passed over a line of version %s", self._path, version)
            return
        self._keep(key, None if value is None else line)
