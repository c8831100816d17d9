"""Devices given to work and taken back by hand (RS-30, RS-31), and the forecast of capacity (RS-32).

Scheduling allocates; this is for operators who have to. It is done with the scheduler's login, by the scheduler's own code: the
API's login may not book a device.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

import psycopg
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field, field_validator

from hcp_pipelines.api.asked import Body
from hcp_pipelines.api.principals import Ordering, Staff
from hcp_pipelines.api.problems import not_found
from hcp_pipelines.api.routes.resource_shapes import CapacityForecast, Forecast, Kind, RecommendedCapacity
from hcp_pipelines.api.state import api_of
from hcp_pipelines.domain.given import number_given
from hcp_pipelines.operators.audit import note_async
from hcp_pipelines.storage.capacity_forecasts import BUFFER_PERCENT
from hcp_pipelines.workloads import store

router = APIRouter(prefix="/api/v1/resources", tags=["resources"])
MOST = 1000  # devices of one request
_OF = "select workload_id from allocation_headers where id = %s"
_FORECAST = """
    select distinct on (facility_id, type, day)
           facility_id, type, day, predicted_utilization, recommended_capacity, model, made_at
    from capacity_forecasts
    where (%(facility)s::text is null or facility_id = %(facility)s) and (%(kind)s::text is null or type = %(kind)s)
      and day >= %(today)s
    order by facility_id, type, day, made_at desc limit %(most)s"""


class Allocating(Body):
    """Devices for work that is held: all of them or none."""

    workload_id: UUID = Field(examples=["9d3c1b0a-7f5e-4d2c-8b1a-0f9e8d7c6b5a"])
    resource_ids: list[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}/[0-9]{6}$")]] = Field(
        min_length=1, max_length=MOST, examples=[["hou-1/000220", "hou-1/000221"]]
    )
    lease_epoch: int | None = Field(
        default=None,
        ge=0,
        le=2**63 - 1,
        examples=[3],
        description="Under which it is held; the present one unless said.",
    )
    _numbers = field_validator("lease_epoch", mode="before")(number_given)


class Releasing(Body):
    """An allocation to end while its work goes on being held."""

    allocation_id: UUID = Field(examples=["4f0e9d8c-7b6a-4958-8746-352413f2e1d0"])
    reason: str = Field(default="by the API", max_length=200, examples=["row 4 is being rewired"])


class Allocation(BaseModel):
    """EX-02; what it used and cost (BL-03) is told once it is over."""

    allocation_id: UUID = Field(examples=["4f0e9d8c-7b6a-4958-8746-352413f2e1d0"])
    workload_id: UUID = Field(examples=["9d3c1b0a-7f5e-4d2c-8b1a-0f9e8d7c6b5a"])
    resource_ids: list[str] = Field(examples=[["hou-1/000220", "hou-1/000221"]])
    allocated_at: datetime = Field(examples=["2026-01-05T12:00:00Z"])
    released_at: datetime | None = Field(examples=[None])
    status: Literal["pending", "active", "released", "failed"] = Field(examples=["active"])
    reason: str = Field(examples=[""], description="Of its end.")
    cost: float | None = Field(examples=[4.2], description="USD of the work's cost; null until it ends.")
    used_gpu_s: float | None = Field(examples=[7200.0], description="GPU-seconds, world time; null until it ends.")

    @classmethod
    def of(cls, found: store.Allocation) -> Self:
        """As it is shown."""
        return cls.model_validate(found, from_attributes=True)


@router.post("/allocate", status_code=201)
async def allocate(body: Allocating, principal: Ordering, request: Request) -> Allocation:
    """Give devices to work that is held. 404: no such work; 409: it isn't held, has devices, or some of these aren't free."""
    async with api_of(request).as_scheduler() as connection:
        epoch = body.lease_epoch
        if epoch is None:
            epoch = (await store.read(connection, body.workload_id, None)).epoch
        async with connection.transaction():
            made = await store.allocate(connection, body.workload_id, epoch, body.resource_ids)
            await note_async(
                connection, principal.name, "allocation.made", f"workload/{body.workload_id}", allocation_id=str(made)
            )
        return await _newest(connection, body.workload_id)


@router.post("/release")
async def release(body: Releasing, principal: Ordering, request: Request) -> Allocation:
    """Make an allocation's devices available again. 404: there is none; 409: it is over already."""
    api = api_of(request)
    rows = await api.fetch(_OF, (body.allocation_id,))
    if not rows:
        raise not_found(f"allocation {body.allocation_id}", "POST /api/v1/resources/allocate tells the id of each")
    async with api.as_scheduler() as connection:
        async with connection.transaction():
            await store.release(connection, body.allocation_id, reason=body.reason)
            await note_async(
                connection,
                principal.name,
                "allocation.released",
                f"allocation/{body.allocation_id}",
                reason=body.reason,
            )
        return await _newest(connection, rows[0][0])


@router.get("/capacity/forecast")
async def capacity_forecast(
    _: Staff,
    request: Request,
    facility_id: Annotated[str | None, Query(max_length=41, examples=["hou-1"])] = None,
    kind: Annotated[Kind | None, Query(alias="type", examples=["GPU"])] = None,
) -> CapacityForecast:
    """What share of the devices will be in use day by day, and how many are then recommended; 404 while nothing is forecast."""
    api = api_of(request)
    names = {"facility": facility_id, "kind": kind, "today": api.clock.now().date(), "most": MOST}
    rows = await api.fetch(_FORECAST, names)
    if not rows:
        raise not_found("forecast of capacity", "none has been made of such devices from today on")
    items = [Forecast(**dict(zip(Forecast.model_fields, row, strict=True))) for row in rows]
    return CapacityForecast(items=items, recommended=_recommended(items))


def _recommended(items: list[Forecast]) -> list[RecommendedCapacity]:
    most: dict[str, dict[str, int]] = {}
    for one in items:
        of_facility = most.setdefault(one.facility_id, {})
        of_facility[one.type] = max(of_facility.get(one.type, 0), one.recommended_capacity)
    return [
        RecommendedCapacity(
            facility_id=facility_id,
            gpu_count=found.get("GPU"),
            asic_count=found.get("ASIC"),
            buffer_percent=BUFFER_PERCENT,
        )
        for facility_id, found in most.items()
    ]


async def _newest(connection: psycopg.AsyncConnection[Any], workload_id: UUID) -> Allocation:
    found = await store.allocations_of(connection, workload_id, 1)
    return Allocation.of(found[0])
