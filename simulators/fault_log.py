"""A recorded fault log of GPU servers in a replay folder: whose faults begin when, and for how long.

A CSV file, plain or gzipped, is recognised by its columns; others are passed over. A recorded server stands for one or more of
our nodes, each at another time; which one is drawn. What kind a fault is, is told from its class and description by the table
below. `fault_schedule` lays the faults over the nodes.
"""

import csv
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simulators import faults as f
from simulators.streams import DAY_S, IntArray, uniforms

COLUMNS = frozenset({"node_id", "event_time_days", "event_type", "fault_class", "fault_desc"})
MAX_BYTES = 32 * 1024 * 1024
_OPEN_END_DAYS = 1.0  # of a fault whose end is not recorded: about the median
_LAYER_SHIFT_DAYS = 37.618  # between two of our nodes that the same recorded server stands for

# What a description of the class GPU means here: kind, and the XID that goes with it. Kinds and codes are our reading: the
# log has neither. What is not the GPU's (fans, power supplies, cables, failed stress tests) takes the node out.
_OF_GPU = (
    ("dbe", f.ECC, 48),
    ("sbe", f.XID, 92),
    ("xid", f.ECC, 95),
    ("silent data", f.ECC, 95),
    ("p2p", f.NVLINK, 74),
    ("link width", f.NVLINK, 74),
    ("temperature", f.THROTTLED, 0),
    ("", f.FALLEN_OFF_BUS, 79),  # lost, not found, nvidia-smi hangs, unknown
)


class LoggedFault(NamedTuple):
    """One recorded fault, in days since the log's first event."""

    node: int
    start_days: float
    end_days: float
    kind: str
    xid: int
    is_gpu: bool


class NodeFault(NamedTuple):
    """A fault that befalls one of our nodes; `gpu` of its GPUs, or all of them."""

    node: int
    gpu: int | None
    start_s: float
    end_s: float
    kind: str
    xid: int


class FaultLog:
    """The faults of recorded servers, by rising start."""

    def __init__(self, faults: list[LoggedFault]) -> None:
        self.faults = sorted(faults)
        self.nodes = max(fault.node for fault in faults) + 1
        self.days = max(1.0, *(fault.end_days for fault in faults))

    @classmethod
    def below(cls, folder: Path) -> "FaultLog | None":
        """The first log in a folder, by path; None where there is none."""
        for path in sorted([*folder.rglob("*.csv"), *folder.rglob("*.csv.gz")]):
            text = _read(path)
            if text is not None and (found := _faults(text)):
                return cls(found)
        return None

    def between(self, nodes: int, first_s: float, last_s: float, seed: int, *entity: str) -> Iterator[NodeFault]:
        """What befalls so many nodes in [first, last), seconds since the log was begun; it begins anew when it ends."""
        order = np.argsort(uniforms(seed, np.arange(self.nodes, dtype=np.int64), "fault-log", *entity))
        rank = np.argsort(order)
        period_s = self.days * DAY_S
        for layer in range(-(-nodes // self.nodes)):
            shift_s = layer * _LAYER_SHIFT_DAYS * DAY_S
            for fault in self.faults:
                node = layer * self.nodes + int(rank[fault.node])
                if node < nodes:
                    yield from self._in(fault, node, shift_s % period_s, (first_s, last_s), (seed, entity))

    def _in(
        self,
        fault: LoggedFault,
        node: int,
        shift_s: float,
        span_s: tuple[float, float],
        key: tuple[int, tuple[str, ...]],
    ) -> Iterator[NodeFault]:
        period_s = self.days * DAY_S
        base_s = (fault.start_days * DAY_S + shift_s) % period_s
        cycle = max(0, int(-(-(span_s[0] - base_s) // period_s)))
        start_s = base_s + cycle * period_s
        if start_s >= span_s[1]:
            return
        seed, entity = key
        draw = uniforms(seed, np.array([node], dtype=np.int64), "fault-log", *entity, "gpu", int(start_s))
        gpu = int(draw[0] * 8) if fault.is_gpu else None
        end_s = start_s + (fault.end_days - fault.start_days) * DAY_S
        yield NodeFault(node, gpu, round(start_s, 3), round(end_s, 3), fault.kind, fault.xid)


def _read(path: Path) -> str | None:
    """The text of a file that has the columns."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            head = file.readline(4096)
            if not set(head.decode().strip().split(",")) >= COLUMNS:
                return None
            return (head + file.read(MAX_BYTES)).decode()
    except (OSError, UnicodeDecodeError, EOFError):
        return None


def _faults(text: str) -> list[LoggedFault]:
    """Starts paired with their ends: same server, class and description."""
    numbers: dict[str, int] = {}
    begun: dict[tuple[str, str, str], list[float]] = {}
    found: list[LoggedFault] = []
    for row in csv.DictReader(io.StringIO(text)):
        try:
            at_days = float(row["event_time_days"])
        except (TypeError, ValueError):
            continue
        key = (row["node_id"], row["fault_class"], row["fault_desc"])
        number = numbers.setdefault(key[0], len(numbers))
        if row["event_type"] == "fault_start":
            begun.setdefault(key, []).append(at_days)
        elif begun.get(key):
            found.append(_fault(number, key, begun[key].pop(0), at_days))
    for key, starts in begun.items():
        found += [_fault(numbers[key[0]], key, start, start + _OPEN_END_DAYS) for start in starts]
    return found


def _fault(node: int, key: tuple[str, str, str], start_days: float, end_days: float) -> LoggedFault:
    _, kind, description = key
    if kind != "GPU":
        return LoggedFault(node, start_days, end_days, f.NODE_LOST, 0, is_gpu=False)
    _, fault, xid = next(row for row in _OF_GPU if row[0] in description.lower())
    return LoggedFault(node, start_days, end_days, fault, xid, is_gpu=True)


def gpu_slots(slots: IntArray, gpu: int | None) -> IntArray:
    """The slots of a node that a fault reaches; a short node's last GPU stands for those it has not."""
    return slots if gpu is None else slots[min(gpu, len(slots) - 1)][None]
