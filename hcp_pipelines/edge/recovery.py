"""What a gateway knows after a restart, read from its durable log: epoch, commanded states, acks, what is unfinished. Pure."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

import numpy as np
import numpy.typing as npt

from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.devices.switches import SwitchBook
from hcp_pipelines.edge.acks import Acks, Orders
from hcp_pipelines.edge.bars import Bars, States
from hcp_pipelines.edge.settling import Numbers
from hcp_pipelines.edge.shape import UNKNOWN_STATE, SiteShape
from hcp_pipelines.edge.switches import switch_of, work_in
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import Slots, decode_slots
from hcp_pipelines.wire.work import NOBODYS, Keys, decode_keys, key_of

SLOTS_ON_THE_WIRE = 1_000_000  # also of all assignments together: a kilobyte of runs can unpack to all of them
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


OnChange = Callable[[str, Slots, States, int], None]  # stored at, slots, their states before, their state now


class Unfinished(NamedTuple):
    """An assignment that has not settled; orders are numbered as they came."""

    state: int
    slots: Slots
    number: int
    work: WorkloadSpec | None = None  # as commanded


@dataclass
class Known:
    """What the log says."""

    states: States  # last commanded
    newest: Numbers  # of the order by which that was
    bars: Bars
    works: Keys  # whose work each slot was told last to run
    epoch: int = 0
    owner: str = ""
    acks: Acks = field(default_factory=Acks)
    unfinished: OrderedDict[tuple[str, int], Unfinished] = field(default_factory=OrderedDict)
    last_number: int = 0
    locks_version: int = 0
    orders: Orders = field(default_factory=Orders)
    policy: pb.SetPolicy | None = None
    floors: pb.Floors | None = None
    switches: SwitchBook = field(default_factory=SwitchBook)
    journalled_seq: int = 0  # what an owner last said that the journal has


def expired_in(entries: Iterable[pb.LogEntry]) -> frozenset[str]:
    """Commands that were stored after their deadline, and so never carried out."""
    return frozenset(pb.Ack.FromString(entry.payload).command_id for entry in entries if entry.kind == "expired")


def recover(
    entries: Iterable[pb.LogEntry],
    shape: SiteShape,
    expired: frozenset[str] = frozenset(),
    on_change: OnChange | None = None,
) -> Known:
    """Replay the log. What was commanded in another layout is forgotten: the devices are asked anew.

    A generation in which devices only moved has the layout of the one before, and goes on with what was under way.
    Locks and holds outlive a layout, until somebody lifts them.
    """
    reading = _Reading(shape, expired, on_change)
    for entry in entries:
        reading.take(entry)
    return reading.known


class _Reading:
    def __init__(self, shape: SiteShape, expired: frozenset[str], on_change: OnChange | None) -> None:
        self._shape, self._expired, self._on_change = shape, expired, on_change
        self._commands: dict[str, pb.Command] = {}
        self._layout, self._is_ours, self._stored_at = "", False, ""
        newest, works = np.zeros(shape.slots, dtype=np.uint32), np.zeros(shape.slots, dtype=np.int64)
        self.known = Known(self._nothing(), newest, Bars.none(shape.slots), works)

    def take(self, entry: pb.LogEntry) -> None:
        known, self._stored_at = self.known, entry.stored_at
        match entry.kind:
            case "epoch":
                announce = pb.Announce.FromString(entry.payload)
                known.epoch, known.owner = announce.epoch, announce.owner
                known.journalled_seq = announce.resume_after_seq
            case "baseline":
                self._baseline(pb.FacilityState.FromString(entry.payload))
            case "command":
                command = pb.Command.FromString(entry.payload)
                self._commands = {command.command_id: command}  # its ack was stored in the same write, or it never was
            case "ack":
                self._ack(pb.Ack.FromString(entry.payload), entry.payload)
            case "expired":
                known.acks.remember(pb.Ack.FromString(entry.payload).command_id, entry.payload)
            case "settled":
                settled = pb.Settled.FromString(entry.payload)
                known.unfinished.pop((settled.command_id, settled.index), None)
            case _:
                self._take_local(entry)

    def _take_local(self, entry: pb.LogEntry) -> None:
        known = self.known
        match entry.kind:
            case "local":
                event = pb.LocalEvent.FromString(entry.payload)
                self._commanded((local_id(event.seq), 0), event.state, event.slots)
            case "locks":
                locks = pb.SetLocks.FromString(entry.payload)
                known.locks_version, known.bars.locked = locks.version, mask_of(locks.slots, self._shape)
            case "direct":
                order = pb.DirectOrder.FromString(entry.payload)
                known.orders.remember(order)
                known.bars.held = np.full(self._shape.slots, not order.release) & self._shape.is_there
            case "policy":
                known.policy = pb.SetPolicy.FromString(entry.payload)
            case "switch":
                self._switches([pb.Switch.FromString(entry.payload)])
            case "floors":
                known.floors = pb.Floors.FromString(entry.payload)
            case "snapshot":
                self._snapshot(pb.Snapshot.FromString(entry.payload))

    def _nothing(self) -> States:
        return np.full(self._shape.slots, UNKNOWN_STATE, dtype=np.uint8)

    def _baseline(self, baseline: pb.FacilityState) -> None:
        layout = baseline.layout or f"generation {baseline.generation}"
        if layout != self._layout:
            self.known.unfinished.clear()
            self.known.switches.forget()
        self._layout, self.known.states = layout, self._nothing()
        self.known.works[:] = NOBODYS
        self._is_ours = layout == self._shape.layout or baseline.generation == self._shape.generation
        if self._is_ours:
            states = np.frombuffer(baseline.states, dtype=np.uint8)[: self._shape.slots]
            self.known.states[: len(states)] = states
            self.known.works = decode_keys(baseline.at_work, baseline.work_keys, self._shape.slots)

    def _snapshot(self, snapshot: pb.Snapshot) -> None:
        state, known = snapshot.state, self.known
        known.epoch, known.owner, known.policy = state.highest_epoch, snapshot.owner, None
        if snapshot.HasField("policy"):
            known.policy = snapshot.policy
        known.floors = snapshot.floors if snapshot.HasField("floors") else None
        known.acks, known.orders = Acks(), Orders()
        for ack in snapshot.acks:
            known.acks.remember(ack.command_id, ack.SerializeToString())
        for order in snapshot.orders:
            known.orders.remember(order)
        known.locks_version, known.bars.locked = state.locks_version, mask_of(state.locked, self._shape)
        known.bars.held = mask_of(state.held, self._shape)
        known.unfinished.clear()
        self._baseline(state)
        for command in snapshot.unfinished if self._is_ours else ():
            for assignment in command.assignments:
                slots = decode_slots(assignment.slots, self._shape.slots)
                self._begin((command.command_id, assignment.index), assignment.state, slots, work_in(assignment))
        known.switches.forget()
        self._switches(snapshot.switches)

    def _switches(self, switches: Iterable[pb.Switch]) -> None:
        """How they stand; those of another layout are nobody's."""
        for switch in switches if self._is_ours else ():
            self.known.switches.take(switch_of(switch, self._shape.slots))

    def _ack(self, ack: pb.Ack, payload: bytes) -> None:
        command = self._commands.pop(ack.command_id, None)
        if ack.command_id in self._expired:
            return
        self.known.acks.remember(ack.command_id, payload)
        if command is None:
            return
        for assignment, answer in zip(command.assignments, ack.assignments, strict=True):
            place, work = (command.command_id, assignment.index), work_in(assignment)
            self._commanded(place, assignment.state, answer.accepted, work)

    def _commanded(self, place: tuple[str, int], state: int, payload: bytes, work: WorkloadSpec | None = None) -> None:
        if not self._is_ours:
            return
        slots = decode_slots(payload, self._shape.slots)
        if len(slots):
            if self._on_change is not None:
                self._on_change(self._stored_at, slots, self.known.states[slots], state)
            self.known.states[slots] = state
            self.known.works[slots] = NOBODYS if work is None else key_of(work.workload_id)
            self._begin(place, state, slots, work)

    def _begin(self, key: tuple[str, int], state: int, slots: Slots, work: WorkloadSpec | None) -> None:
        known = self.known
        known.last_number += 1
        known.newest[slots[known.states[slots] == state]] = (
            known.last_number
        )  # others were held back, or had a newer order
        known.unfinished[key] = Unfinished(state, slots, known.last_number, work)


def mask_of(payload: bytes, shape: SiteShape) -> npt.NDArray[np.bool_]:
    """[n] the slots of a bitmap; those beyond the last device are left out."""
    mask = np.zeros(shape.slots, dtype=np.bool_)
    slots = decode_slots(payload, SLOTS_ON_THE_WIRE)
    mask[slots[slots < shape.slots]] = True
    return mask & shape.is_there
