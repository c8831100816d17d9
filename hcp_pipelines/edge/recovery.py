"""What a gateway knows after a restart, read from its durable log: epoch, commanded states, acks, what is unfinished. Pure."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np
import numpy.typing as npt

from hcp_pipelines.edge.acks import Acks
from hcp_pipelines.edge.shape import UNKNOWN_STATE, SiteShape
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import Slots, decode_slots

_LOCAL_BELOW = 1 << 64  # a uuid below it is the sequence number of something the gateway did by itself


def local_id(seq: int) -> str:
    """The id under which devices are told a change of the gateway's own."""
    return str(UUID(int=seq))


def is_local(command_id: str) -> bool:
    """Whether an id is of the gateway's own making: no owner knows it.

    >>> is_local(local_id(7)), is_local("6f1c0f5e-8f0e-4a44-9a34-b5b1c4c7d1f0")
    (True, False)
    """
    return UUID(command_id).int < _LOCAL_BELOW


@dataclass
class Known:
    """What the log says."""

    states: npt.NDArray[np.uint8]  # last commanded
    epoch: int = 0
    owner: str = ""
    acks: Acks = field(default_factory=Acks)
    unfinished: OrderedDict[tuple[str, int], tuple[int, Slots]] = field(default_factory=OrderedDict)


def recover(entries: Iterable[pb.LogEntry], shape: SiteShape) -> Known:
    """Replay the log. What was commanded in another layout is forgotten: the devices are asked anew.

    A generation in which devices only moved has the layout of the one before, and goes on with what was under way.
    """
    reading = _Reading(shape)
    for entry in entries:
        reading.take(entry)
    return reading.known


class _Reading:
    def __init__(self, shape: SiteShape) -> None:
        self._shape = shape
        self._commands: dict[str, pb.Command] = {}
        self._layout, self._is_ours = "", False
        self.known = Known(self._nothing())

    def take(self, entry: pb.LogEntry) -> None:
        known = self.known
        match entry.kind:
            case "epoch":
                announce = pb.Announce.FromString(entry.payload)
                known.epoch, known.owner = announce.epoch, announce.owner
            case "baseline":
                self._baseline(pb.FacilityState.FromString(entry.payload))
            case "command":
                command = pb.Command.FromString(entry.payload)
                self._commands = {command.command_id: command}  # its ack was stored in the same write, or it never was
            case "ack":
                self._ack(pb.Ack.FromString(entry.payload), entry.payload)
            case "settled":
                settled = pb.Settled.FromString(entry.payload)
                known.unfinished.pop((settled.command_id, settled.index), None)
            case "local":
                event = pb.LocalEvent.FromString(entry.payload)
                self._commanded(local_id(event.seq), 0, event.state, event.slots)

    def _nothing(self) -> npt.NDArray[np.uint8]:
        return np.full(self._shape.slots, UNKNOWN_STATE, dtype=np.uint8)

    def _baseline(self, baseline: pb.FacilityState) -> None:
        layout = baseline.layout or f"generation {baseline.generation}"
        if layout != self._layout:
            self.known.unfinished.clear()
        self._layout, self.known.states = layout, self._nothing()
        self._is_ours = layout == self._shape.layout or baseline.generation == self._shape.generation
        if self._is_ours:
            states = np.frombuffer(baseline.states, dtype=np.uint8)[: self._shape.slots]
            self.known.states[: len(states)] = states

    def _ack(self, ack: pb.Ack, payload: bytes) -> None:
        self.known.acks.remember(ack.command_id, payload)
        command = self._commands.pop(ack.command_id, None)
        if command is None:
            return
        for assignment, answer in zip(command.assignments, ack.assignments, strict=True):
            self._commanded(command.command_id, assignment.index, assignment.state, answer.accepted)

    def _commanded(self, command_id: str, index: int, state: int, payload: bytes) -> None:
        if not self._is_ours:
            return
        slots = decode_slots(payload, self._shape.slots)
        if len(slots):
            self.known.states[slots] = state
            self.known.unfinished[(command_id, index)] = (state, slots)
