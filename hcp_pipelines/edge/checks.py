"""What a gateway refuses, and how an ack's sets come about. Pure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.domain.fencing import highest_taken
from hcp_pipelines.domain.modes import STATE_COUNT, RefusalCode
from hcp_pipelines.edge.bars import Bars, States
from hcp_pipelines.edge.recovery import SLOTS_ON_THE_WIRE, is_local
from hcp_pipelines.edge.shape import SiteShape
from hcp_pipelines.edge.switches import work_in
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import Slots, decode_slots, encode_slots
from hcp_pipelines.wire.work import check_work

COMMAND_ID_MAX = 100
PLATFORM_MAX = 100  # characters
OWNER_MAX = 100  # characters of an allocator's name, which is kept for ever
ASSIGNMENTS_MAX = 1 << 16  # an assignment's number has two bytes on the way to the devices

Bools = npt.NDArray[np.bool_]
Refused = list[tuple[RefusalCode, Bools]]


@dataclass(frozen=True, slots=True)
class Taken:
    """Devices of one assignment that are to go into a state."""

    index: int
    state: int
    slots: Slots
    bitmap: bytes  # the same slots as on the wire
    work: WorkloadSpec | None = None  # what is to run there; None: the driver's own


Accepted = list[Taken]


def check_announce(message: pb.Announce, shape: SiteShape, epoch: int, owner: str) -> str:
    """Why an announcement is refused, given the highest epoch and whose it is; empty when it is not."""
    if message.epoch < 1 or not 0 < len(message.owner) <= OWNER_MAX or len(message.platform) > PLATFORM_MAX:
        return RefusalCode.BAD_MESSAGE.value
    if message.epoch > message.lease_epoch or message.epoch > highest_taken(epoch):
        return RefusalCode.EPOCH_TOO_HIGH.value
    if message.epoch < epoch or (message.epoch == epoch and message.owner != owner):
        return RefusalCode.OLD_EPOCH.value
    if message.generation != shape.generation:
        return RefusalCode.WRONG_GENERATION.value
    return ""


def check_command(command: pb.Command, shape: SiteShape, epoch: int) -> tuple[str, str]:
    """Why a whole command is refused, as code and words; both empty when it is not."""
    if command.epoch < epoch:
        return RefusalCode.OLD_EPOCH.value, f"epoch {command.epoch}, in force is {epoch}"
    if command.epoch > epoch:
        return RefusalCode.EPOCH_TOO_HIGH.value, f"epoch {command.epoch}, announced was {epoch}"
    if command.facility_id != shape.facility_id:
        return RefusalCode.UNKNOWN_FACILITY.value, f"this session is about {shape.facility_id}"
    if command.generation != shape.generation:
        return RefusalCode.WRONG_GENERATION.value, f"generation {command.generation}, here is {shape.generation}"
    return _check_form(command)


def _check_form(command: pb.Command) -> tuple[str, str]:
    bad = RefusalCode.BAD_MESSAGE.value
    try:
        known = not is_local(command.command_id)
    except ValueError:
        return bad, f"command_id {command.command_id[:40]!r} is no uuid"
    indices = [a.index for a in command.assignments]
    if not known or len(command.command_id) > COMMAND_ID_MAX:
        return bad, f"command_id {command.command_id[:40]!r} is not one that an owner may give"
    if not indices or any(a.state >= STATE_COUNT for a in command.assignments):
        return bad, "no assignment, or a state that does not exist"
    if len(set(indices)) < len(indices) or max(indices) >= ASSIGNMENTS_MAX:
        return bad, f"an assignment's index twice, or above {ASSIGNMENTS_MAX - 1}"
    wrong = next((said for a in command.assignments if a.HasField("work") and (said := check_work(a.work))), "")
    return (bad, wrong) if wrong else ("", "")


def judge(
    command: pb.Command, shape: SiteShape, *, is_ready: bool, bars: Bars | None = None, states: States | None = None
) -> tuple[pb.Ack, Accepted]:
    """The ack, and what is to be done. `states` are those that `bars` are held against.

    Raises:
        ValueError: slots that are no bitmap, or more than there can be.
    """
    ack = pb.Ack(command_id=command.command_id, seq=0)
    accepted: Accepted = []
    room = SLOTS_ON_THE_WIRE
    if bars is not None and not bars.may_not_rise.any():
        bars = None
    for assignment in command.assignments:
        slots = decode_slots(assignment.slots, SLOTS_ON_THE_WIRE)
        room -= len(slots)
        if room < 0:
            raise ValueError(f"more than {SLOTS_ON_THE_WIRE} slots in all: a command names each once")
        refused, can = _who_can(slots, assignment.state, shape)
        good = slots[can] if refused else slots
        if bars is not None and states is not None:
            refused += _barred(slots, can, bars.refusals(good, assignment.state, states, shape))
        out = ack.assignments.add(index=assignment.index)
        left = np.ones(len(slots), dtype=np.bool_)
        for code, mask in refused:
            if mask.any():
                left &= ~mask
                out.refused.add(code=code.value, slots=encode_slots(slots[mask]))
        good, payload = (slots[left], encode_slots(slots[left])) if refused else (slots, assignment.slots)
        if is_ready:
            out.accepted = payload
            accepted.append(Taken(assignment.index, assignment.state, good, payload, work_in(assignment)))
        else:
            out.deferred = payload
    return ack, accepted


def _who_can(slots: Slots, state: int, shape: SiteShape) -> tuple[Refused, Bools]:
    """Why which of some rising slots can't take a state, and which can; no reasons where all can."""
    known = slots[: np.searchsorted(slots, shape.slots)]
    can = np.zeros(len(slots), dtype=np.bool_)
    can[: len(known)] = shape.in_state(state).can[known]
    if can.all():
        return [], can
    is_there = np.zeros(len(slots), dtype=np.bool_)
    is_there[: len(known)] = shape.is_there[known]
    return [(RefusalCode.UNKNOWN_SLOT, ~is_there), (RefusalCode.STATE_NOT_SUPPORTED, is_there & ~can)], can


def _barred(slots: Slots, can: Bools, refusals: Refused) -> Refused:
    """Refusals over those that can, as refusals over all."""
    found = []
    for code, mask in refusals:
        whole = np.zeros(len(slots), dtype=np.bool_)
        whole[can] = mask
        found.append((code, whole))
    return found
