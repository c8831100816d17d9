"""What there is, read from the inventory: groups with what the router asks of them, and their devices that are not free."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hcp_pipelines.domain.modes import ControlMode, ResourceType
from hcp_pipelines.wire.slots import decode_slots
from hcp_pipelines.workloads.claiming import Connection
from hcp_pipelines.workloads.routing.packing import Bools, Topology
from hcp_pipelines.workloads.routing.room import GroupFacts

_GROUPS = """
    select g.facility_id, g.group_id, g.type, g.model, g.first_slot, g.devices, g.generation, g.ladder, g.specifications,
           g.feeder_id, f.settlement_point, f.location, f.document, f.control_mode, f.status,
           (select (r.specifications ->> 'memory_gb')::float8 from resources r
            where r.facility_id = g.facility_id and r.slot = g.first_slot)
    from device_groups g
    join inventory_generations i on i.facility_id = g.facility_id and i.generation = g.generation and i.is_current
    join facilities f on f.id = g.facility_id and f.status <> 'retired'
    where g.type in ('GPU', 'ASIC') order by g.facility_id, g.first_slot"""
_LOCKS = "select facility_id, scope, feeder_id, slots, holder, reason from lockouts where removed_at is null"
_NOT_FREE = """
    select facility_id, group_id, array_agg(slot) from resources
    where (status <> 'available' or metadata ->> 'presence' = 'vanished') and facility_id = any(%s)
    group by facility_id, group_id"""
NOT_SCHEDULED = "the facility file doesn't leave this group to the scheduler"

Lock = tuple[str, str, str | None, bytes | None, str, str]
Row = tuple[Any, ...]


async def read_groups(connection: Connection) -> list[GroupFacts]:
    """All groups that work may be looked for in: GPUs, and miners that the scheduler has."""
    locks = await read_locks(connection)
    rows = await (await connection.execute(_GROUPS)).fetchall()
    groups = [_group(row, locks.get(row[0], ())) for row in rows]
    return [g for g in groups if g.kind is ResourceType.GPU or g.closed != NOT_SCHEDULED]


async def read_locks(connection: Connection) -> Mapping[str, Sequence[Lock]]:
    """Standing lock-outs by facility."""
    found = defaultdict[str, list[Lock]](list)
    for row in await (await connection.execute(_LOCKS)).fetchall():
        found[row[0]].append(row)
    return found


async def read_free(connection: Connection, groups: Sequence[GroupFacts]) -> list[Bools]:
    """Of each group which devices are free: available, there, and not locked."""
    facilities = sorted({group.facility_id for group in groups})
    taken = {
        (row[0], row[1]): np.array(row[2])
        for row in await (await connection.execute(_NOT_FREE, (facilities,))).fetchall()
    }
    locks = await read_locks(connection)
    found = []
    for group in groups:
        free = np.ones(group.devices, dtype=bool)
        _mark(free, taken.get(group.key), group.first_slot)
        for _, scope, _, payload, _, _ in locks.get(group.facility_id, ()):
            if scope == "device" and payload is not None:
                _mark(free, decode_slots(payload, 2**31).astype(np.int64), group.first_slot)
        found.append(free)
    return found


def _mark(free: Bools, slots: np.ndarray[Any, Any] | None, first_slot: int) -> None:
    if slots is not None:
        own = slots[(slots >= first_slot) & (slots < first_slot + len(free))]
        free[own - first_slot] = False


def _group(row: Row, locks: Sequence[Lock]) -> GroupFacts:
    (facility_id, group_id, kind, model, first_slot, devices, generation, ladder, specifications, feeder_id, point, location,
     document, control_mode, status, memory_gb) = row  # fmt: skip
    own: Mapping[str, Any] = next((g for g in document.get("groups", ()) if g.get("group_id") == group_id), {})
    pue = float((document.get("pue") or {}).get("value", 1.0))
    gpu_type = specifications.get("gpu_type") or ""
    topology: Mapping[str, Any] = own.get("topology") or {}
    regions = {str(location.get(name) or "").casefold() for name in ("city", "state")} - {""}
    closed, closed_by = _closed(own, status, control_mode, feeder_id, locks)
    return GroupFacts(
        facility_id=facility_id,
        group_id=group_id,
        kind=ResourceType(kind),
        called=gpu_type or model,
        names=frozenset({model, kind, *((gpu_type,) if gpu_type else ())}),
        memory_gb=memory_gb or 0.0,
        topology=Topology.of(
            int(topology.get("node") or specifications.get("gpus_per_node") or 1),
            int(topology.get("island") or 0),
            int(topology.get("rack_nodes") or 0),
        ),
        devices=devices,
        first_slot=first_slot,
        generation=generation,
        power_kw={int(step["state"]): float(step["power_kw"]) * pue for step in ladder},
        settlement_point=point,
        latitude=float(location.get("lat") or 0.0),
        longitude=float(location.get("lon") or 0.0),
        regions=frozenset(regions),
        gpu_type=gpu_type,
        rate_fraction=(document.get("economics") or {}).get("gpu_rate_fraction") or {},
        closed=closed,
        closed_by=closed_by,
        hold_s=(document.get("staleness") or {}).get("hold_s"),
    )


def _closed(
    own: Mapping[str, Any], status: str, control_mode: str, feeder_id: str, locks: Sequence[Lock]
) -> tuple[str, str]:
    """Why no work goes to a group, whatever it is; empty: it may. And what of that customers are not told."""
    if not own.get("scheduled"):
        return NOT_SCHEDULED, ""
    if status != "active":
        return f"the facility is {status}", ""
    if control_mode != ControlMode.AUTO:
        return f"control mode {control_mode}: nothing is switched there on the scheduler's word", ""
    for _, scope, feeder, _, holder, reason in locks:
        if scope == "site" or (scope == "feeder" and feeder == feeder_id):
            return f"locked out ({scope})", f"by {holder}: {reason}"
    return "", ""
