"""Devices that nobody can count on now, by group: locked out, held down, without power or an answer. Reading only."""

from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from hcp_pipelines.fleet.inventory import FacilityInventory
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import decode_slots

SLOTS_MAX = 1_000_000
Bools = npt.NDArray[np.bool_]
_LOCKOUTS = "select scope, feeder_id, slots from lockouts where facility_id = %s and removed_at is null"
_QUARANTINED = "select memory -> 'quarantined' from owner_memory where facility_id = %s"


def unavailable_of(
    connection: psycopg.Connection[Any], inventory: FacilityInventory, state: pb.FacilityState | None
) -> dict[str, int]:
    """Devices by group; without the gateway's word (`state`) only the locks and what its owner has quarantined are known."""
    mask = _locked(connection, inventory)
    if state is not None:
        mask |= mask_of(state.held, inventory) | mask_of(state.dark, inventory) | ~mask_of(state.reachable, inventory)
    row = connection.execute(_QUARANTINED, (inventory.facility_id,)).fetchone()
    quarantined: dict[str, int] = (row[0] if row else None) or {}
    return {
        group.group_id: int(mask[group.first_slot : group.first_slot + group.devices].sum())
        + quarantined.get(group.group_id, 0)
        for group in inventory.groups
    }


def _locked(connection: psycopg.Connection[Any], inventory: FacilityInventory) -> Bools:
    mask = np.zeros(inventory.slots, dtype=np.bool_)
    for scope, feeder_id, slots in connection.execute(_LOCKOUTS, (inventory.facility_id,)).fetchall():
        if scope == "device":
            mask |= mask_of(bytes(slots), inventory)
            continue
        for group in inventory.groups:
            if scope == "site" or group.feeder_id == feeder_id:
                mask[group.first_slot : group.first_slot + group.devices] = True
    return mask


def mask_of(payload: bytes, inventory: FacilityInventory) -> Bools:
    """[slots] whether each is in a bitmap; slots beyond the inventory's are left out."""
    mask = np.zeros(inventory.slots, dtype=np.bool_)
    slots = decode_slots(payload, SLOTS_MAX)
    mask[slots[slots < inventory.slots]] = True
    return mask
