"""Which slots a node has, and how what its exporter measures is dealt out to them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hcp_pipelines.devices.gpu_node.fleet import GpuGroup
from hcp_pipelines.devices.gpu_node.values import GPUS_PER_NODE
from hcp_pipelines.domain.modes import DeviceState


@dataclass(slots=True, eq=False)
class Place:
    """A node's slots."""

    address: str
    group: GpuGroup
    slots: range
    boards_w: list[float] | None = None  # as its exporter told last, on the ladder's scale; None: it does not answer


def dealt(place: Place, drawing: Mapping[int, DeviceState]) -> npt.NDArray[np.float32]:
    """[slots of the node] watts: the most to the slot that should draw most; NaN where there are fewer boards than slots."""
    should_w = {one.state: one.power_w for one in place.group.levels}
    rest_w = min(should_w.values())
    expected = [should_w.get(drawing[slot], rest_w) if slot in drawing else rest_w for slot in place.slots]
    dealt = np.full(len(expected), np.nan, dtype=np.float32)
    order = sorted(range(len(expected)), key=lambda place: -expected[place])
    for at, watts in zip(order, sorted(place.boards_w or (), reverse=True), strict=False):
        dealt[at] = watts
    return dealt


def places(group: GpuGroup) -> list[Place]:
    """The nodes of a group; the last may have fewer GPUs."""
    last = group.first_slot + group.devices
    firsts = range(group.first_slot, last, GPUS_PER_NODE)
    return [
        Place(address, group, range(first, min(first + GPUS_PER_NODE, last)))
        for address, first in zip(group.addresses, firsts, strict=True)
    ]
