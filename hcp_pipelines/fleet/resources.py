"""One device as the inventory has it: its specification by type, and whether it is there. Written by `apply` and `discovery`.

Whether a device is there (`presence`, of discovery) is kept apart from what it is booked for (`status`, of whoever allocates): a
scan never frees what is allocated, and an allocation never hides that a device has vanished.
"""

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from hcp_pipelines.devices.gpu_node.values import GpuSpecification
from hcp_pipelines.domain.modes import ResourceType
from hcp_pipelines.fleet.models import MODELS, DeviceModel, ResolvedGroup


class Presence(StrEnum):
    """What discovery knows of a slot."""

    PRESENT = "present"
    VANISHED = "vanished"


@dataclass(frozen=True, slots=True)
class AsicSpecification:
    """An ASIC at full profile."""

    hash_rate_ths: float
    efficiency_j_th: float
    max_power_w: float


def specification(resource_type: str, model: DeviceModel | None, resolved: ResolvedGroup) -> dict[str, Any]:
    """The specification of a group's devices, under the names of the inventory record."""
    max_power_w = round(max(state.power_kw for state in resolved.ladder) * 1000, 3)
    if resource_type == ResourceType.GPU:
        return _of_gpu(model, max_power_w)
    full = max(resolved.ladder, key=lambda state: state.hash_rate_th_per_s)
    efficiency = full.power_kw * 1000 / full.hash_rate_th_per_s if full.hash_rate_th_per_s else 0.0
    return asdict(AsicSpecification(full.hash_rate_th_per_s, round(efficiency, 3), max_power_w))


def specification_of_model(model: DeviceModel) -> dict[str, Any]:
    """The same of a model alone, as shipped."""
    if model.type is ResourceType.GPU:
        return _of_gpu(model, model.power_kw * 1000)
    return asdict(
        AsicSpecification(model.hash_rate_th_per_s, round(model.efficiency_j_per_th, 3), model.power_kw * 1000)
    )


def specification_of_board(board: GpuSpecification) -> dict[str, Any]:
    """The same of a GPU as its node tells it; a known model's power has its share of the host."""
    model = MODELS.get(board.model)
    return replace(board, max_power_w=model.power_kw * 1000 if model else board.max_power_w).as_dict()


def _of_gpu(model: DeviceModel | None, max_power_w: float) -> dict[str, Any]:
    """A GPU with its share of the host; its board's own limits are read from the node."""
    name, memory, capability = (model.model, model.memory_gb, model.compute_capability) if model else ("", 0.0, "")
    return GpuSpecification(name, memory, capability, max_power_w, 0.0).as_dict()
