"""One device as the inventory has it: record, specification by type, status. Reading only; written by `apply` and `discovery`.

Whether a device is there (`presence`, of discovery) is kept apart from what it is booked for (`status`, of whoever allocates): a
scan never frees what is allocated, and an allocation never hides that a device has vanished.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import psycopg

from hcp_pipelines.devices.gpu_node.values import GpuSpecification
from hcp_pipelines.domain.modes import DeviceState, ResourceType
from hcp_pipelines.fleet.models import MODELS, DeviceModel, ResolvedGroup

_RECORDS = """
    select r.id, r.facility_id, r.type, r.subtype, r.specifications, r.status, a.workload_id::text, r.metadata,
           r.slot
    from resources r left join allocations a on a.resource_id = r.id and a.released_at is null
    where r.facility_id = %s order by r.slot"""


class ResourceStatus(StrEnum):
    """What an inventory record says; `Unknown` is shown for what discovery misses, and stored nowhere."""

    AVAILABLE = "available"
    ALLOCATED = "allocated"
    MAINTENANCE = "maintenance"
    FAILED = "failed"
    UNKNOWN = "unknown"


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


@dataclass(frozen=True, slots=True)
class ResourceRecord:
    """An inventory record. `utilization` is a fraction: of an ASIC 1 while it mines and 0 else; None: not known."""

    id: str
    facility_id: str
    resource_type: ResourceType
    subtype: str
    specifications: Mapping[str, Any]
    status: ResourceStatus
    current_workload: str | None
    utilization: float | None
    metadata: Mapping[str, Any]


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


def shown_status(stored: str, metadata: Mapping[str, Any]) -> ResourceStatus:
    """The status that people are shown.

    >>> shown_status("allocated", {"presence": "vanished"}), shown_status("allocated", {})
    (<ResourceStatus.UNKNOWN: 'unknown'>, <ResourceStatus.ALLOCATED: 'allocated'>)
    """
    return ResourceStatus.UNKNOWN if metadata.get("presence") == Presence.VANISHED else ResourceStatus(stored)


def asic_utilization(state: DeviceState | None) -> float | None:
    """An ASIC's utilization as a fraction: 1 while it mines, 0 while it doesn't; None: not known.

    >>> asic_utilization(DeviceState.MINING_ECO), asic_utilization(DeviceState.CURTAILED)
    (1.0, 0.0)
    """
    return None if state is None else float(state in {DeviceState.MINING_ECO, DeviceState.MINING_FULL})


def load_records(
    connection: psycopg.Connection, facility_id: str, observed: Mapping[int, DeviceState] | None = None
) -> list[ResourceRecord]:
    """A facility's inventory records, by slot; `observed`: states by slot, as its gateway sees them."""
    seen = observed or {}
    return [
        ResourceRecord(
            id=row[0],
            facility_id=row[1],
            resource_type=ResourceType(row[2]),
            subtype=row[3],
            specifications=row[4],
            status=shown_status(row[5], row[7]),
            current_workload=row[6],
            utilization=asic_utilization(seen.get(row[8])) if row[2] == ResourceType.ASIC else None,
            metadata=row[7],
        )
        for row in connection.execute(_RECORDS, (facility_id,))
    ]
