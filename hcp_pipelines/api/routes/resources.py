"""Resources (RS-25 … RS-29): device groups, and the devices in them. Groups first: hundreds of them are 300,000 devices.

What a resource is, and what it is booked for, is Postgres' word; what it does now is its gateway's. An id is `facility/group`
or `facility/slot`, in six digits.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request

from hcp_pipelines.api.paging import After, Limit, key_of, page
from hcp_pipelines.api.principals import Everybody, Staff
from hcp_pipelines.api.problems import not_found
from hcp_pipelines.api.routes.resource_shapes import (
    Availabilities,
    Availability,
    Counts,
    Devices,
    HealthCheck,
    HealthIssue,
    Kind,
    Resource,
    Resources,
    Severity,
    Status,
    Utilization,
    Utilizations,
)
from hcp_pipelines.api.seen import FacilitySeen, GroupSeen, of_devices
from hcp_pipelines.api.state import Api, api_of

router = APIRouter(prefix="/api/v1/resources", tags=["resources"])
NOT_KNOWN = FacilitySeen("no gateway is known")
FacilityId = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$", examples=["hou-1"])]
Name = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$", description="A group, or a slot.", examples=["s21"])]
OfFacility = Annotated[str | None, Query(max_length=41, examples=["hou-1"])]
OfKind = Annotated[Kind | None, Query(alias="type", examples=["GPU"])]
_GROUPS = """
    select d.facility_id, d.group_id, d.type, d.model, d.firmware, d.cooling_class, d.feeder_id, d.devices, d.first_slot,
           d.specifications, d.ladder
    from device_groups d
    join inventory_generations g on g.facility_id = d.facility_id and g.generation = d.generation and g.is_current
    where (d.facility_id, d.group_id) > (%(facility)s, %(group)s)
      and (%(of_facility)s::text is null or d.facility_id = %(of_facility)s)
      and (%(of_group)s::text is null or d.group_id = %(of_group)s) and (%(kind)s::text is null or d.type = %(kind)s)
    order by d.facility_id, d.group_id limit %(limit)s"""
_NOT_FREE = """
    select facility_id, group_id, count(*) filter (where status = 'allocated'),
           count(*) filter (where status = 'maintenance'), count(*) filter (where status = 'failed'),
           count(*) filter (where metadata ->> 'presence' = 'vanished'), count(*)
    from resources
    where facility_id = any(%s) and (status <> 'available' or metadata ->> 'presence' = 'vanished')
    group by facility_id, group_id"""
_DEVICES = """
    select r.id, r.type, r.subtype, r.status, r.slot, a.workload_id, r.specifications, r.metadata
    from resources r left join allocations a on a.resource_id = r.id and a.released_at is null
    where r.facility_id = %(facility)s and r.slot > %(slot)s
      and (%(group)s::text is null or r.group_id = %(group)s) and (%(status)s::text is null or r.status = %(status)s)
    order by r.slot limit %(limit)s"""


@router.get("")
async def list_resources(
    _: Staff, request: Request, facility_id: OfFacility = None, kind: OfKind = None, limit: Limit = 50,
    after: After = None,
) -> Resources:  # fmt: skip
    """Device groups; `/resources/{facility_id}/{name}/devices` pages through the devices of one."""
    facility, group = key_of(after, (str, str)) if after else ("", "")
    found = await _groups(api_of(request), limit + 1, facility_id, None, kind, (facility, group))
    shown, more = page(found, limit, lambda one: one.id.split("/"))
    return Resources(items=shown, next=more)


@router.get("/availability")
async def availability(
    _: Everybody, request: Request, facility_id: OfFacility = None, kind: OfKind = None
) -> Availabilities:
    """Free capacity by facility and model."""
    found: dict[tuple[str, str, str], Availability] = {}
    for one in await _groups(api_of(request), 10_000, facility_id, None, kind):
        row = found.setdefault(
            (one.facility_id, one.type, one.subtype),
            Availability(facility_id=one.facility_id, type=one.type, subtype=one.subtype, total=0, available=0),
        )
        row.total += one.devices
        row.available += one.status.available
    return Availabilities(items=list(found.values()))


@router.get("/utilization")
async def utilization(_: Staff, request: Request, facility_id: OfFacility = None, kind: OfKind = None) -> Utilizations:
    """What share of the devices works, and what share is booked, by facility and type."""
    api = api_of(request)
    groups = await _groups(api, 10_000, facility_id, None, kind)
    seen = await api.seen.now(api)
    kinds = sorted({(one.facility_id, one.type) for one in groups})
    return Utilizations(
        items=[_used([g for g in groups if (g.facility_id, g.type) == key], seen.get(key[0])) for key in kinds]
    )


@router.get("/{facility_id}/{name}")
async def one_resource(facility_id: FacilityId, name: Name, _: Staff, request: Request) -> Resource:
    """A group or a device: what it is, what it is booked for, and what share of it works."""
    api = api_of(request)
    one = await _one(api, facility_id, name)
    found = _seen_of(one, (await api.seen.now(api)).get(facility_id, NOT_KNOWN))
    return one.model_copy(update={"utilization": None if found is None else found.working / one.devices})


@router.get("/{facility_id}/{name}/health")
async def resource_health(facility_id: FacilityId, name: Name, _: Staff, request: Request) -> HealthCheck:
    """What is wrong with a group or a device, as its gateway sees it now."""
    api = api_of(request)
    one = await _one(api, facility_id, name)
    found = _seen_of(one, (await api.seen.now(api)).get(facility_id, NOT_KNOWN))
    issues = issues_of(one, found)
    status = "Unknown" if found is None else max((i.severity for i in issues), default="Healthy", key=_WORSE.index)
    return HealthCheck(
        resource_id=one.id,
        timestamp=api.clock.now().isoformat(),
        status=status,
        states=dict(found.states) if found else {},
        issues=issues,
    )


@router.get("/{facility_id}/{name}/devices")
async def devices(
    facility_id: FacilityId, name: Name, _: Staff, request: Request,
    status: Annotated[Status | None, Query(examples=["failed"])] = None, limit: Limit = 50, after: After = None,
) -> Devices:  # fmt: skip
    """The devices of a group by slot."""
    api = api_of(request)
    await _one(api, facility_id, name)
    slot = key_of(after, (int,))[0] if after else -1
    found = await _devices(api, facility_id, name, status, slot, limit + 1)
    shown, more = page(found, limit, lambda one: [int(one.id.partition("/")[2])])
    return Devices(items=shown, next=more)


async def _groups(
    api: Api, limit: int, facility: str | None, group: str | None, kind: str | None, after: tuple[str, str] = ("", "")
) -> list[Resource]:
    names = {"facility": after[0], "group": after[1], "of_facility": facility, "of_group": group, "kind": kind}
    rows = await api.fetch(_GROUPS, names | {"limit": limit})
    counted = await api.fetch(_NOT_FREE, (sorted({row[0] for row in rows}),)) if rows else []
    not_free = {(row[0], row[1]): row[2:] for row in counted}
    return [_group(row, not_free.get((row[0], row[1]), (0, 0, 0, 0, 0))) for row in rows]


def _group(row: tuple[Any, ...], not_free: tuple[int, ...]) -> Resource:
    allocated, maintenance, failed, vanished, all_of_them = not_free
    return Resource(
        id=f"{row[0]}/{row[1]}",
        kind="group",
        facility_id=row[0],
        type=row[2],
        subtype=row[3],
        firmware=row[4],
        feeder_id=row[6],
        devices=row[7],
        status=Counts(
            available=row[7] - all_of_them,
            allocated=allocated,
            maintenance=maintenance,
            failed=failed,
            vanished=vanished,
        ),
        specifications=row[9],
        max_power_kw=max((step["power_kw"] for step in row[10]), default=0.0),
    )


async def _one(api: Api, facility_id: str, name: str) -> Resource:
    found = await _groups(api, 1, facility_id, name, None)
    if not found and name.isdigit():
        found = await _devices(api, facility_id, None, None, min(int(name), 2**31 - 1) - 1, 1)
    if not found or found[0].id != f"{facility_id}/{name}":
        raise not_found(f"resource {facility_id}/{name}", "GET /api/v1/resources lists the groups")
    return found[0]


async def _devices(
    api: Api, facility_id: str, group: str | None, status: str | None, slot: int, limit: int
) -> list[Resource]:
    names = {"facility": facility_id, "group": group, "status": status, "slot": slot, "limit": limit}
    return [_device(facility_id, row) for row in await api.fetch(_DEVICES, names)]


def _device(facility_id: str, row: tuple[Any, ...]) -> Resource:
    is_vanished = row[7].get("presence") == "vanished"
    counts = {name: int(row[3] == name) for name in ("available", "allocated", "maintenance", "failed")}
    if is_vanished:
        counts["available"] = 0
    return Resource(
        id=row[0],
        kind="device",
        facility_id=facility_id,
        type=row[1],
        subtype=row[2],
        devices=1,
        status=Counts(**counts, vanished=int(is_vanished)),
        specifications=row[6],
        workload_id=str(row[5]) if row[5] else None,
        metadata=row[7],
    )


def _used(groups: list[Resource], seen: FacilitySeen | None) -> Utilization:
    total = sum(one.devices for one in groups)
    booked = {name: sum(getattr(one.status, name) for one in groups) for name in Counts.model_fields}
    working: float | None = None
    if seen is not None and not seen.problem and total:
        found = (seen.groups.get(one.id.partition("/")[2]) for one in groups)
        working = round(100 * sum(g.working for g in found if g) / total, 2)
    return Utilization(
        facility_id=groups[0].facility_id,
        type=groups[0].type,
        total=total,
        utilization_percent=working,
        allocation_percent=round(100 * booked["allocated"] / total, 2) if total else 0.0,
        **booked,
    )


_WORSE = ("Healthy", "Warning", "Critical")
_SEVERITY: dict[str, Severity] = {"warning": "Warning", "critical": "Critical"}


def _seen_of(one: Resource, seen: FacilitySeen) -> GroupSeen | None:
    """What the gateway says of a group or a device; None where it can't be asked, or knows no such slot."""
    name = one.id.partition("/")[2]
    if one.kind == "group":
        return seen.groups.get(name)
    slot = int(name)
    if seen.observed is None or slot >= len(seen.observed):
        return None
    return of_devices(seen, slice(slot, slot + 1))


def issues_of(one: Resource, found: GroupSeen | None) -> list[HealthIssue]:
    """What is wrong, worst first; without the gateway's word only what the inventory says."""
    told: list[tuple[Severity, str, int, str]] = [
        ("Critical", "failed", one.status.failed, "failed"),
        ("Critical", "vanished", one.status.vanished, "vanished"),
    ]
    if found is not None:
        told += [
            ("Critical", "dark", found.dark, "without power"),
            ("Warning", "silent", found.silent, "without an answer"),
            ("Warning", "locked", found.locked, "locked out"),
            ("Warning", "maintenance", one.status.maintenance, "in maintenance"),
            *((_SEVERITY[severity], kind, n, f"with {kind.replace('_', ' ')}") for (kind, severity), n in found.issues.items()),
        ]  # fmt: skip
    return [
        HealthIssue(severity=severity, issue_type=kind, message=f"{n} of {one.devices} devices {words}")
        for severity, kind, n, words in sorted(told, key=lambda issue: -_WORSE.index(issue[0]))
        if n
    ]
