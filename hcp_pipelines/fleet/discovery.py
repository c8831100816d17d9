"""A scan's findings into the inventory: a new generation in one transaction if anything changed, else nothing.

What a device is booked for (`status`) is nobody's business here. Each change is an event in `audit_log`: `resource.discovered`
once a device, and `resource.vanished`, `.returned`, `.moved`, `.swapped`, `.model_changed`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from hcp_pipelines.devices.discovery.found import Scan
from hcp_pipelines.devices.discovery.ranges import compress, expand
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.fleet.apply import LOCK
from hcp_pipelines.fleet.inventory import FacilityInventory, load_inventory
from hcp_pipelines.fleet.models import MODELS
from hcp_pipelines.fleet.reconcile import Change, GroupKind, Kind, Known, Reconciliation, reconcile
from hcp_pipelines.fleet.resources import Presence, specification_of_model

_NEW_GENERATION = """
    with old as (
        update inventory_generations set is_current = false where facility_id = %(id)s and is_current
        returning facility_id, generation, devices, digest)
    insert into inventory_generations (facility_id, generation, devices, digest, reason)
    select facility_id, generation + 1, devices, digest, %(reason)s from old returning generation"""
_COPY_GROUPS = """
    insert into device_groups (facility_id, generation, group_id, feeder_id, type, model, firmware, cooling_class,
                               first_slot, devices, ladder, specifications)
    select facility_id, generation + 1, group_id, feeder_id, type, model, firmware, cooling_class, first_slot, devices,
           ladder, specifications || coalesce(%(addresses)s::jsonb -> group_id, '{}'::jsonb)
    from device_groups where facility_id = %(id)s and generation = %(generation)s - 1"""
_FOLLOW = "update resources set generation = %s where facility_id = %s"
_UPDATE_RESOURCE = """
    update resources set subtype = coalesce(%(subtype)s, subtype),
        specifications = coalesce(%(specifications)s, specifications), metadata = metadata || %(metadata)s, updated_at = now()
    where facility_id = %(facility_id)s and slot = %(slot)s"""
_COPY_EVENTS = "copy audit_log (actor, action, subject, detail) from stdin"


@dataclass(frozen=True, slots=True)
class DiscoveryResult:
    """What applying a scan did."""

    facility_id: str
    reconciliation: Reconciliation
    generation: int
    changed: bool


def preview_scan(connection: psycopg.Connection, facility_id: str, scan: Scan) -> Reconciliation:
    """What applying a scan would change.

    Raises:
        ConfigError: no such facility, or one without addresses.
    """
    return _compare(connection, load_inventory(connection, facility_id), scan)


def apply_scan(connection: psycopg.Connection, facility_id: str, scan: Scan, actor: str) -> DiscoveryResult:
    """Make the inventory say what a scan found; everything or nothing.

    Raises:
        ConfigError: as `preview_scan`.
    """
    with connection.transaction():
        connection.execute(LOCK)
        inventory = load_inventory(connection, facility_id)
        found = _compare(connection, inventory, scan)
        if not found.changes:
            return DiscoveryResult(facility_id, found, inventory.generation, changed=False)
        generation = _write_generation(connection, inventory, found)
        with connection.cursor() as cursor:
            cursor.executemany(_UPDATE_RESOURCE, [_update(inventory.facility_id, one) for one in _last(found)])
            with cursor.copy(_COPY_EVENTS) as copy:
                for row in _events(inventory, found, actor, generation):
                    copy.write_row(row)
        connection.execute("select pg_notify('hcp_facility', %s)", (facility_id,))
    return DiscoveryResult(facility_id, found, generation, changed=True)


def _compare(connection: psycopg.Connection, inventory: FacilityInventory, scan: Scan) -> Reconciliation:
    known = _known(connection, inventory)
    if not known:
        raise ConfigError(
            f"{inventory.facility_id}: no group has `addresses`; a scan is compared with those (docs/facility-file.md)"
        )
    kinds = [GroupKind(g.group_id, g.model, g.firmware) for g in inventory.groups]
    return reconcile(known, kinds, scan.found, set(scan.addresses) - set(scan.hung))


def _known(connection: psycopg.Connection, inventory: FacilityInventory) -> list[Known]:
    """Every slot with an address, with what earlier scans have put into its record."""
    rows = connection.execute(
        "select slot, subtype, metadata from resources where facility_id = %s order by slot", (inventory.facility_id,)
    )
    records = {slot: (subtype, metadata) for slot, subtype, metadata in rows}
    known = []
    for group in inventory.groups:
        for slot, address in enumerate(expand(group.specifications.get("addresses", ())), start=group.first_slot):
            subtype, metadata = records.get(slot, (group.model, {}))
            known.append(
                Known(
                    slot=slot,
                    group_id=group.group_id,
                    address=address,
                    model=subtype,
                    mac=metadata.get("mac", ""),
                    serial=metadata.get("serial", ""),
                    is_vanished=metadata.get("presence") == Presence.VANISHED,
                )
            )
    return known


def _write_generation(connection: psycopg.Connection, inventory: FacilityInventory, found: Reconciliation) -> int:
    """The next generation: the same groups and slots, the addresses as they are now."""
    fid = inventory.facility_id
    row = connection.execute(_NEW_GENERATION, {"id": fid, "reason": f"discovery: {found.summary}"}).fetchone()
    assert row is not None
    generation: int = row[0]
    now_at = {change.slot: change.found.address for change in found.changes if change.found is not None}
    addresses = {
        group.group_id: {"addresses": _addresses(group.specifications, group.first_slot, now_at)}
        for group in inventory.groups
        if any(group.first_slot <= slot < group.first_slot + group.devices for slot in now_at)
    }
    connection.execute(_COPY_GROUPS, {"id": fid, "generation": generation, "addresses": Jsonb(addresses)})
    connection.execute(_FOLLOW, (generation, fid))
    return generation


def _addresses(specifications: Mapping[str, Any], first_slot: int, now_at: Mapping[int, str]) -> list[str]:
    before = expand(specifications.get("addresses", ()))
    return compress([now_at.get(slot, address) for slot, address in enumerate(before, start=first_slot)])


def _last(found: Reconciliation) -> Iterator[Change]:
    """One change a slot: the last, which has all that is known."""
    yield from {change.slot: change for change in found.changes}.values()


def _update(facility_id: str, change: Change) -> dict[str, Any]:
    seen = change.found
    if seen is None:
        metadata: dict[str, Any] = {"presence": Presence.VANISHED}
        return {
            "facility_id": facility_id,
            "slot": change.slot,
            "subtype": None,
            "specifications": None,
            "metadata": Jsonb(metadata),
        }
    model = MODELS.get(seen.model) if change.kind is Kind.MODEL_CHANGED else None
    metadata = {
        "presence": Presence.PRESENT,
        "address": seen.address,
        "mac": seen.mac,
        "serial": seen.serial,
        "firmware": seen.firmware,
        "dialect": seen.dialect,
    }
    return {
        "facility_id": facility_id,
        "slot": change.slot,
        "subtype": seen.model if change.kind is Kind.MODEL_CHANGED else None,
        "specifications": Jsonb(specification_of_model(model)) if model else None,
        "metadata": Jsonb(metadata),
    }


def _events(
    inventory: FacilityInventory, found: Reconciliation, actor: str, generation: int
) -> Iterator[tuple[str, str, str, Jsonb]]:
    for change in found.changes:
        seen = change.found
        detail: dict[str, Any] = {"generation": generation, "group_id": change.before.group_id}
        if change.before.was_seen:
            detail |= {
                "before": {"address": change.before.address, "mac": change.before.mac, "model": change.before.model}
            }
        if seen is not None:
            detail |= {"address": seen.address, "mac": seen.mac, "serial": seen.serial, "model": seen.model}
            detail |= {"firmware": seen.firmware, "dialect": seen.dialect}
        yield actor, f"resource.{change.kind}", f"{inventory.facility_id}/{change.slot:06d}", Jsonb(detail)
    summary = {"generation": generation, "changes": found.summary, "unplaced": len(found.unplaced)}
    yield actor, "inventory.reconcile", inventory.facility_id, Jsonb(summary)
