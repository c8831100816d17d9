"""What the endpoints of resources answer."""

import datetime as dt
from typing import Any, Literal

from pydantic import BaseModel, Field

Kind = Literal["GPU", "ASIC", "CPU"]
Status = Literal["available", "allocated", "maintenance", "failed"]
Severity = Literal["Warning", "Critical"]


class Counts(BaseModel):
    """Devices by what they are booked for; `vanished`, which discovery misses, are in none of the others but their booking."""

    available: int = Field(examples=[96])
    allocated: int = Field(examples=[16])
    maintenance: int = Field(examples=[0])
    failed: int = Field(examples=[1])
    vanished: int = Field(examples=[0])


class Resource(BaseModel):
    """A group of equal devices, or one device."""

    id: str = Field(examples=["hou-1/h100"])
    kind: Literal["group", "device"] = Field(examples=["group"])
    facility_id: str = Field(examples=["hou-1"])
    type: Kind = Field(examples=["GPU"])
    subtype: str = Field(examples=["H100 SXM5"], description="The model.")
    devices: int = Field(examples=[113])
    status: Counts
    specifications: dict[str, Any] = Field(examples=[{"memory_gb": 80.0, "max_power_w": 1275.0}])
    feeder_id: str | None = Field(default=None, examples=["feeder-2"], description="Of groups.")
    firmware: str | None = Field(default=None, examples=["stock"], description="Of groups.")
    max_power_kw: float | None = Field(default=None, examples=[1.275], description="IT power of one device at most.")
    workload_id: str | None = Field(default=None, examples=[None], description="Of devices: what they are booked for.")
    utilization: float | None = Field(
        default=None,
        ge=0,
        le=1,
        examples=[0.97],
        description="Of one asked for by its id: the share that works, as its gateway sees it now; null where it can't be asked.",
    )
    metadata: dict[str, Any] = Field(
        default_factory=dict,
        examples=[{"address": "10.1.0.7"}],
        description="Of devices: what discovery knows of them.",
    )


class Resources(BaseModel):
    """Groups by facility and name."""

    items: list[Resource]
    next: str | None = Field(examples=["WyJob3UtMSIsImgxMDAiXQ"])


class Devices(BaseModel):
    """Devices of a group by slot."""

    items: list[Resource]
    next: str | None = Field(examples=["WzEyN10"])


class HealthIssue(BaseModel):
    """RS-10."""

    severity: Severity = Field(examples=["Warning"])
    issue_type: str = Field(
        examples=["silent"], description="Also what is wrong by a model's limits: `high_temperature`, `xid` and others."
    )
    message: str = Field(examples=["3 of 113 devices don't answer"])


class HealthCheck(BaseModel):
    """RS-10: what a resource's gateway says now. Power and temperature by device are in the lake (docs/telemetry.md)."""

    resource_id: str = Field(examples=["hou-1/h100"])
    timestamp: str = Field(examples=["2026-01-05T12:00:00+00:00"], description="The world's time.")
    status: Literal["Healthy", "Warning", "Critical", "Unknown"] = Field(examples=["Warning"])
    states: dict[str, int] = Field(
        examples=[{"inference_batch": 110}], description="Devices by what their power shows."
    )
    issues: list[HealthIssue]


class Availability(BaseModel):
    """Devices of a model that are free at a facility."""

    facility_id: str = Field(examples=["hou-1"])
    type: Kind = Field(examples=["GPU"])
    subtype: str = Field(examples=["H100 SXM5"])
    total: int = Field(examples=[113])
    available: int = Field(examples=[96])


class Availabilities(BaseModel):
    """By facility and model."""

    items: list[Availability]


class Utilization(BaseModel):
    """RS-29; percent, 0 to 100. `utilization_percent` is null where the gateway can't be asked."""

    facility_id: str = Field(examples=["hou-1"])
    type: Kind = Field(examples=["GPU"])
    total: int = Field(examples=[113])
    available: int = Field(examples=[96])
    allocated: int = Field(examples=[16])
    maintenance: int = Field(examples=[0])
    failed: int = Field(examples=[1])
    vanished: int = Field(examples=[0])
    utilization_percent: float | None = Field(examples=[97.3], description="Devices that do work that earns.")
    allocation_percent: float = Field(examples=[14.2], description="Devices that are booked.")


class Utilizations(BaseModel):
    """By facility and type."""

    items: list[Utilization]


class Forecast(BaseModel):
    """RS-20: one day of a facility's devices of a type."""

    facility_id: str = Field(examples=["hou-1"])
    type: Kind = Field(examples=["GPU"])
    date: dt.date = Field(examples=["2026-01-06"], description="The world's, UTC.")
    predicted_utilization: float = Field(
        ge=0, le=1, examples=[0.83], description="The share of the devices in use, 0 to 1."
    )
    recommended_capacity: int = Field(ge=0, examples=[119], description="Devices, a safety buffer among them.")
    model: str = Field(examples=["capacity/4"], description="Name and version of what foretold it.")
    made_at: dt.datetime = Field(examples=["2026-01-05T06:00:00Z"], description="World time: nothing later was known.")


class RecommendedCapacity(BaseModel):
    """RS-23: how many devices the fullest of a facility's days asks for; null: nothing is forecast of such devices."""

    facility_id: str = Field(examples=["hou-1"])
    gpu_count: int | None = Field(examples=[119])
    asic_count: int | None = Field(examples=[480])
    buffer_percent: float = Field(examples=[20.0], description="The safety buffer that is among them.")


class CapacityForecast(BaseModel):
    """By facility, type and day: the newest forecast of each."""

    items: list[Forecast]
    recommended: list[RecommendedCapacity]
