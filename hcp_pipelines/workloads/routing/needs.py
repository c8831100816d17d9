"""What a piece of work needs of a place, as the router reads it from a claim: device, state, how near its devices lie, limits.

What customers may say in `sla_parameters` beside the specification's own fields: `colocation` (node, rack, any), `facility` (the
only one), `not_facility`, `region` (as in a facility's location), `client_lat` and `client_lon`. Anything else is not looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from hcp_pipelines.domain.modes import DeviceState, ResourceType
from hcp_pipelines.domain.workloads import WorkloadType

STATE_OF: Final[Mapping[WorkloadType, DeviceState]] = {
    WorkloadType.AI_INFERENCE_REALTIME: DeviceState.INFERENCE_REALTIME,
    WorkloadType.AI_INFERENCE_BATCH: DeviceState.INFERENCE_BATCH,
    WorkloadType.MODEL_TRAINING: DeviceState.TRAINING,
    WorkloadType.BITCOIN_MINING: DeviceState.MINING_FULL,
}


class Colocation(StrEnum):
    """How near to each other the devices of one piece of work have to be.

    NODE: on one node (the island within it that fits best), or on whole nodes where one is not enough. RACK: the same, within one
    rack. ANY: wherever there are some, of one group.
    """

    NODE = "node"
    RACK = "rack"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Place:
    """What decides where work may go; equal ones have the same candidates, so that a batch looks at each once."""

    type: WorkloadType
    gpu_type: str
    gpu_count: int
    memory_gb: float | None
    max_latency_ms: float | None
    max_usd_per_gpu_hour: float | None
    colocation: Colocation
    facility: str = ""
    not_facility: str = ""
    region: str = ""
    client: tuple[float, float] | None = None  # latitude, longitude

    @property
    def state(self) -> DeviceState:
        """The state that its devices have to be in."""
        return STATE_OF[self.type]

    @property
    def kind(self) -> ResourceType:
        """GPUs, or miners for mining (EX-09, ER-21)."""
        return ResourceType.ASIC if self.type is WorkloadType.BITCOIN_MINING else ResourceType.GPU


@dataclass(frozen=True, slots=True)
class Need:
    """One piece of claimed work before it has a place."""

    workload_id: UUID
    epoch: int
    place: Place
    priority: int
    is_interruptible: bool
    deadline_at: datetime | None
    duration_s: float
    checkpoint_interval_s: float | None


def place_of(
    work: WorkloadType, gpu_type: str, gpu_count: int, memory_gb: float | None, spec: Mapping[str, Any],
    requirements: Mapping[str, Any],
) -> Place:  # fmt: skip
    """What a claim asks for; a word in `sla_parameters` that makes no sense is none."""
    said = spec.get("sla_parameters") or {}
    return Place(
        type=work,
        gpu_type=gpu_type,
        gpu_count=gpu_count,
        memory_gb=memory_gb,
        max_latency_ms=requirements.get("max_latency_ms"),
        max_usd_per_gpu_hour=spec.get("max_usd_per_gpu_hour"),
        colocation=_colocation(work, said.get("colocation")),
        facility=_text(said.get("facility")),
        not_facility=_text(said.get("not_facility")),
        region=_text(said.get("region")),
        client=client_of(said),
    )


def _colocation(work: WorkloadType, said: object) -> Colocation:
    if isinstance(said, str) and said in set(Colocation):
        return Colocation(said)
    is_loose = work in (WorkloadType.AI_INFERENCE_BATCH, WorkloadType.BITCOIN_MINING)
    return Colocation.ANY if is_loose else Colocation.NODE


def _text(said: object) -> str:
    return said if isinstance(said, str) else ""


def client_of(said: Mapping[str, Any]) -> tuple[float, float] | None:
    """Where the client is by what is said: latitude and longitude; None where that makes no sense."""
    lat, lon = said.get("client_lat"), said.get("client_lon")
    if isinstance(lat, bool) or isinstance(lon, bool):
        return None
    if not isinstance(lat, int | float) or not isinstance(lon, int | float):
        return None
    return (float(lat), float(lon)) if -90 <= lat <= 90 and -180 <= lon <= 180 else None
