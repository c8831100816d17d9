"""A scan's findings into the inventory, in one transaction: records, events, and a new generation where devices are others.

What a device is booked for (`status`) is nobody's business here. Each change is an event in `audit_log`: `resource.discovered`
once a device, and `resource.vanished`, `.returned`, `.moved`, `.swapped`, `.model_changed`. Who is seen for the first time, who
is gone and who is back again changes records alone: no gateway needs to know. When to believe a scan is `patience`'s to say.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from hcp_pipelines.devices.discovery.found import Found, Scan
from hcp_pipelines.devices.discovery.ranges import compress
from hcp_pipelines.fleet.apply import LOCK
from hcp_pipelines.fleet.comparing import compare, places
from hcp_pipelines.fleet.inventory import FacilityInventory, load_inventory
from hcp_pipelines.fleet.models import MODELS
from hcp_pipelines.fleet.reconcile import Change, Kind, Reconciliation, addresses_after
from hcp_pipelines.fleet.resources import Presence, specification_of_board, specification_of_model

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
_OTHER_DEVICE = frozenset({Kind.MOVED, Kind.SWAPPED, Kind.MODEL_CHANGED})

IsGone = Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class DiscoveryResult:
    """What applying a scan did: whether anything was written, and the generation now current."""

    facility_id: str
    reconciliation: Reconciliation
    generation: int
    changed: bool


def preview_scan(connection: psycopg.Connection, facility_id: str, scan: Scan) -> Reconciliation:
    """What applying a scan would change.

    Raises:
        ConfigError: no such facility, or one without addresses.
    """
    return compare(connection, load_inventory(connection, facility_id), scan)


def apply_scan(
    connection: psycopg.Connection, facility_id: str, scan: Scan, actor: str, is_gone: IsGone = lambda _: True
) -> DiscoveryResult:
    """Make the inventory say what a scan found; everything or nothing. Of those missing only whom `is_gone` names has vanished.

    Raises:
        ConfigError: as `preview_scan`.
    """
    with connection.transaction():
        connection.execute(LOCK)
        inventory = load_inventory(connection, facility_id)
        found = believed(compare(connection, inventory, scan), is_gone)
        if not found.changes:
            return DiscoveryResult(facility_id, found, inventory.generation, changed=False)
        generation = inventory.generation
        if _is_other_inventory(found):
            generation = _write_generation(connection, inventory, found)
            connection.execute("select pg_notify('hcp_facility', %s)", (facility_id,))
        with connection.cursor() as cursor:
            cursor.executemany(_UPDATE_RESOURCE, [_update(inventory.facility_id, one) for one in _last(found)])
            with cursor.copy(_COPY_EVENTS) as copy:
                for row in _events(inventory, found, actor, generation):
                    copy.write_row(row)
    return DiscoveryResult(facility_id, found, generation, changed=True)


def believed(found: Reconciliation, is_gone: IsGone) -> Reconciliation:
    """The changes without those that say that a device has vanished which may only be away for a moment."""
    kept = [one for one in found.changes if one.kind is not Kind.VANISHED or is_gone(one.slot)]
    return replace(found, changes=kept)


def _is_other_inventory(found: Reconciliation) -> bool:
    """Whether a slot's device, or the address it is reached at, is another one."""
    return any(one.kind in _OTHER_DEVICE or _moves_to(one) for one in found.changes)


def _moves_to(change: Change) -> str:
    """Where a slot's device is from now on, if that is another address."""
    is_elsewhere = change.found is not None and change.found.address != change.before.address
    return change.found.address if change.found is not None and is_elsewhere else ""


def _write_generation(connection: psycopg.Connection, inventory: FacilityInventory, found: Reconciliation) -> int:
    """The next generation: the same groups and slots, the addresses as they are now."""
    fid = inventory.facility_id
    row = connection.execute(_NEW_GENERATION, {"id": fid, "reason": f"discovery: {found.summary}"}).fetchone()
    assert row is not None
    generation: int = row[0]
    connection.execute(
        _COPY_GROUPS, {"id": fid, "generation": generation, "addresses": Jsonb(_addresses(inventory, found))}
    )
    connection.execute(_FOLLOW, (generation, fid))
    return generation


def _addresses(inventory: FacilityInventory, found: Reconciliation) -> dict[str, dict[str, list[str]]]:
    """By group, of those whose addresses change."""
    before = {group.group_id: dict(places(group)) for group in inventory.groups}
    everywhere = {slot: address for own in before.values() for slot, address in own.items()}
    slot_at = {address: slot for slot, address in everywhere.items()}
    moves = {slot_at[one.before.address]: address for one in found.changes if (address := _moves_to(one))}
    after = addresses_after(everywhere, moves)
    return {
        group_id: {"addresses": compress([after[slot] for slot in own])}
        for group_id, own in before.items()
        if any(after[slot] != address for slot, address in own.items())
    }


def _last(found: Reconciliation) -> Iterator[Change]:
    """One change a slot: the last, which has all that is known."""
    yield from {change.slot: change for change in found.changes}.values()


def _update(facility_id: str, change: Change) -> dict[str, Any]:
    seen = change.found
    values: dict[str, Any] = {"facility_id": facility_id, "slot": change.slot, "subtype": None, "specifications": None}
    if seen is None:
        return values | {"metadata": Jsonb({"presence": Presence.VANISHED})}
    metadata = {
        "presence": Presence.PRESENT,
        "address": seen.address,
        "mac": seen.mac,
        "serial": seen.serial,
        "firmware": seen.firmware,
        "dialect": seen.dialect,
    }
    own = _specification(change, seen)
    return values | {
        "subtype": seen.model if change.kind is Kind.MODEL_CHANGED else None,
        "specifications": Jsonb(own) if own else None,
        "metadata": Jsonb(metadata),
    }


def _specification(change: Change, seen: Found) -> dict[str, Any] | None:
    """What the device is made of: of a GPU as its node says, of a miner where it is another model than was known."""
    if seen.specification is not None:
        return specification_of_board(seen.specification)
    model = MODELS.get(seen.model) if change.kind is Kind.MODEL_CHANGED else None
    return specification_of_model(model) if model else None


def _events(
    inventory: FacilityInventory, found: Reconciliation, actor: str, generation: int
) -> Iterator[tuple[str, str, str, Jsonb]]:
    for change in found.changes:
        seen, before = change.found, change.before
        detail: dict[str, Any] = {"generation": generation, "group_id": before.group_id}
        if before.was_seen:
            known = {"address": before.address, "mac": before.mac, "serial": before.serial, "model": before.model}
            detail |= {"before": known}
        if seen is not None:
            detail |= {"address": seen.address, "mac": seen.mac, "serial": seen.serial, "model": seen.model}
            detail |= {"firmware": seen.firmware, "dialect": seen.dialect}
        yield actor, f"resource.{change.kind}", f"{inventory.facility_id}/{change.slot:06d}", Jsonb(detail)
    summary = {"generation": generation, "changes": found.summary, "unplaced": len(found.unplaced)}
    yield actor, "inventory.reconcile", inventory.facility_id, Jsonb(summary)
