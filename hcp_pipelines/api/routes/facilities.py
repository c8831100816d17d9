"""Facilities, and the switches that their owners commanded."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from hcp_pipelines.api.paging import After, Limit, key_of, page
from hcp_pipelines.api.principals import Staff
from hcp_pipelines.api.problems import not_found
from hcp_pipelines.api.routes.accounts import NEWEST
from hcp_pipelines.api.routes.resources import FacilityId
from hcp_pipelines.api.state import api_of

router = APIRouter(prefix="/api/v1", tags=["facilities"])
_FACILITIES = """
    select f.id, f.name, f.location, f.capacity_mw, f.pue, f.status, f.settlement_point, f.control_mode, f.dispatch_regime,
           f.document_version, coalesce(g.generation, 0), coalesce(g.devices, 0), l.owner
    from facilities f
    left join inventory_generations g on g.facility_id = f.id and g.is_current
    left join facility_leases l on l.facility_id = f.id and l.expires_at > now()
    where f.id > %(after)s and (%(only)s::text is null or f.id = %(only)s) order by f.id limit %(limit)s"""
_SWITCHES = """
    select c.id, c.facility_id, c.group_id, c.from_state, c.to_state, c.devices, a.devices, s.devices, s.failed, c.mw_delta,
           c.reason, c.reason_detail, c.actor, c.decision_price_usd_per_mwh, c.tick_id, c.policy_id, c.simulated_at,
           c.recorded_at
    from switch_journal c
    left join switch_journal a on (a.command_id, a.assignment, a.event) = (c.command_id, c.assignment, 'acked')
    left join switch_journal s on (s.command_id, s.assignment, s.event) = (c.command_id, c.assignment, 'settled')
    where c.event = 'commanded' and c.id < %(before)s and (%(facility)s::text is null or c.facility_id = %(facility)s)
    order by c.id desc limit %(limit)s"""


class Facility(BaseModel):
    """A site with a power contract."""

    id: str = Field(examples=["hou-1"])
    name: str = Field(examples=["Houston 1"])
    location: dict[str, Any] = Field(examples=[{"city": "Houston", "state": "TX"}])
    capacity_mw: float = Field(examples=[24.5])
    pue: float = Field(examples=[1.06])
    status: str = Field(examples=["active"])
    settlement_point: str = Field(examples=["HB_HOUSTON"])
    control_mode: str = Field(examples=["auto"])
    dispatch_regime: str = Field(examples=["self"])
    document_version: int = Field(examples=[1], description="Of the facility file.")
    generation: int = Field(examples=[1], description="Of the inventory.")
    devices: int = Field(examples=[667])
    owner: str | None = Field(examples=["allocator-a"], description="The allocator that holds the lease.")


class Facilities(BaseModel):
    """By id."""

    items: list[Facility]
    next: str | None = Field(examples=["WyJob3UtMSJd"])


class Switch(BaseModel):
    """One group's part of a command: commanded, acknowledged and settled are three counts; null where not heard yet."""

    id: int = Field(examples=[5120])
    facility_id: str = Field(examples=["hou-1"])
    group_id: str = Field(examples=["s21"])
    from_state: int | None = Field(examples=[3])
    to_state: int = Field(examples=[0])
    commanded: int = Field(examples=[220])
    acked: int | None = Field(examples=[220])
    settled: int | None = Field(examples=[219])
    failed: int | None = Field(examples=[1])
    mw_delta: float = Field(examples=[-0.81])
    reason: str = Field(examples=["economics"])
    reason_detail: str = Field(examples=[""])
    actor: str = Field(examples=["policy"])
    decision_price_usd_per_mwh: float | None = Field(examples=[96.2])
    tick_id: int | None = Field(examples=[90211])
    policy_id: int | None = Field(examples=[17])
    simulated_at: datetime = Field(examples=["2026-01-05T12:00:00Z"])
    recorded_at: datetime = Field(examples=["2026-01-05T12:00:00Z"])


class Switches(BaseModel):
    """Newest first."""

    items: list[Switch]
    next: str | None = Field(examples=["WzUxMjBd"])


@router.get("/facilities")
async def list_facilities(_: Staff, request: Request, limit: Limit = 50, after: After = None) -> Facilities:
    """All facilities."""
    behind = key_of(after, (str,))[0] if after else ""
    rows = await api_of(request).fetch(_FACILITIES, {"after": behind, "only": None, "limit": limit + 1})
    shown, more = page(rows, limit, lambda row: [row[0]])
    return Facilities(items=[_facility(row) for row in shown], next=more)


@router.get("/facilities/{facility_id}")
async def one_facility(facility_id: FacilityId, _: Staff, request: Request) -> Facility:
    """One facility."""
    rows = await api_of(request).fetch(_FACILITIES, {"after": "", "only": facility_id, "limit": 1})
    if not rows:
        raise not_found(f"facility {facility_id}", "GET /api/v1/facilities lists those there are")
    return _facility(rows[0])


@router.get("/switches")
async def switches(
    _: Staff,
    request: Request,
    facility_id: Annotated[str | None, Query(max_length=41, examples=["hou-1"])] = None,
    limit: Limit = 50,
    after: After = None,
) -> Switches:
    """What owners commanded, and what became of it, newest first."""
    before = key_of(after, (int,))[0] if after else NEWEST
    names = {"before": before, "facility": facility_id, "limit": limit + 1}
    rows = await api_of(request).fetch(_SWITCHES, names)
    shown, more = page(rows, limit, lambda row: [row[0]])
    return Switches(items=[Switch(**dict(zip(Switch.model_fields, r, strict=True))) for r in shown], next=more)


def _facility(row: tuple[Any, ...]) -> Facility:
    return Facility(**dict(zip(Facility.model_fields, row, strict=True)))
