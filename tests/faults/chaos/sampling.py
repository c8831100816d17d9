"""The revenue meters, read by ourselves over the bulk device channel (docs/bulk-channel.md), in a thread.

Shares no code with the platform's driver. A world that is down leaves a gap.
"""

import contextlib
import socket
import struct
import threading
import time
from pathlib import Path
from typing import NamedTuple

PERIOD_S = 0.25
HELLO, READ, READING, METER, METERED = 0x01, 0x03, 0x83, 0x04, 0x84
COMMANDED_STATE = 1
HEAD = struct.Struct("<IBI")
LINE_WITHIN_S = 2.0


class Sample(NamedTuple):
    """What a facility's revenue meter showed."""

    real_s: float
    facility_id: str
    simulated_s: float
    power_mw: float


class Meters(threading.Thread):
    """Reads all facilities' meters until `stop`."""

    def __init__(self, bulk_socket: Path, facilities: list[str]) -> None:
        super().__init__(name="meters", daemon=True)
        self._path, self._facilities = bulk_socket, facilities
        self._ends = threading.Event()
        self.samples: list[Sample] = []

    def run(self) -> None:
        """Connect, read, and again."""
        while not self._ends.is_set():
            with contextlib.suppress(OSError, struct.error), contextlib.ExitStack() as stack:
                lines = [(f, stack.enter_context(self._open(f))) for f in self._facilities]
                while not self._ends.wait(PERIOD_S):
                    self.samples += [self._read(f, line) for f, line in lines]
            self._ends.wait(PERIOD_S)

    def stop(self) -> None:
        """No more samples."""
        self._ends.set()
        self.join(10)

    def told(self, facility_id: str) -> tuple[int, ...]:
        """The state that each device of a facility was last told, by slot.

        Raises:
            OSError: the world does not answer.
        """
        with self._open(facility_id) as line:
            kind, payload = _ask(line, READ, bytes([COMMANDED_STATE]))
        if kind != READING:
            raise OSError(f"frame {kind:#x} instead of a reading")
        return tuple(payload[1 + 8 :])

    def _open(self, facility_id: str) -> socket.socket:
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.settimeout(LINE_WITHIN_S)
        try:
            line.connect(str(self._path))
            name = facility_id.encode()
            _ask(line, HELLO, struct.pack("<HH", 1, len(name)) + name)
        except OSError:
            line.close()
            raise
        return line

    def _read(self, facility_id: str, line: socket.socket) -> Sample:
        kind, payload = _ask(line, METER, b"")
        if kind != METERED:
            raise OSError(f"frame {kind:#x} instead of a meter's")
        simulated_s, power_w, _ = struct.unpack("<ddd", payload)
        return Sample(time.time(), facility_id, simulated_s, power_w / 1e6)


def _ask(line: socket.socket, kind: int, payload: bytes) -> tuple[int, bytes]:
    line.sendall(HEAD.pack(5 + len(payload), kind, 1) + payload)
    length, answered, _ = HEAD.unpack(_exactly(line, HEAD.size))
    return answered, _exactly(line, length - 5)


def _exactly(line: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        more = line.recv(size - len(parts))
        if not more:
            raise OSError("the world ended the line")
        parts += more
    return bytes(parts)
