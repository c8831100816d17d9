"""What the inventory knows of its slots, held against a scan. Reading only; comparing is `reconcile`'s and `reconcile_nodes`'."""

from collections.abc import Iterator, Mapping
from typing import Any

import psycopg

from hcp_pipelines.devices.discovery.found import GPU_NODE, Scan
from hcp_pipelines.devices.discovery.ranges import expand
from hcp_pipelines.devices.gpu_node.values import GPUS_PER_NODE
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.fleet.inventory import FacilityInventory, GroupInventory
from hcp_pipelines.fleet.reconcile import GroupKind, Known, Reconciliation, reconcile
from hcp_pipelines.fleet.reconcile_nodes import KnownNode, reconcile_nodes
from hcp_pipelines.fleet.resources import Presence

Records = Mapping[int, tuple[str, Mapping[str, Any]]]  # model and metadata by slot


def compare(connection: psycopg.Connection, inventory: FacilityInventory, scan: Scan) -> Reconciliation:
    """What a scan says has changed.

    Raises:
        ConfigError: a facility without addresses.
    """
    groups = [group for group in inventory.groups if group.specifications.get("addresses")]
    if not groups:
        raise ConfigError(
            f"{inventory.facility_id}: no group has `addresses`; a scan is compared with those (docs/facility-file.md)"
        )
    records = _records(connection, inventory.facility_id)
    kinds = [GroupKind(g.group_id, g.model, g.firmware) for g in groups]
    miners = [one for group in groups if not has_nodes(group) for one in _miners(group, records)]
    nodes = [one for group in groups if has_nodes(group) for one in _nodes(group, records)]
    found_nodes = [one for one in scan.found if one.dialect == GPU_NODE]
    found_miners = [one for one in scan.found if one.dialect != GPU_NODE]
    of_miners, hung = [k for k in kinds if k.group_id in {m.group_id for m in miners}], set(scan.hung)
    whole = reconcile(miners, of_miners, found_miners, scan.looked_at, hung)
    of_nodes = reconcile_nodes(nodes, kinds, found_nodes, scan.looked_at, hung)
    whole.changes = sorted(whole.changes + of_nodes.changes, key=lambda change: change.slot)
    whole.unplaced += of_nodes.unplaced
    whole.conflicts += of_nodes.conflicts
    whole.were_present += of_nodes.were_present
    return whole


def has_nodes(group: GroupInventory) -> bool:
    """Whether an address of the group is a GPU node's, with a slot for each of its boards."""
    return group.specifications.get("driver") == "gpu_node"


def places(group: GroupInventory) -> Iterator[tuple[int, str]]:
    """(first slot, address) of each of a group's addresses."""
    step = GPUS_PER_NODE if has_nodes(group) else 1
    for n, address in enumerate(expand(group.specifications.get("addresses", ()))):
        yield group.first_slot + n * step, address


def _records(connection: psycopg.Connection, facility_id: str) -> Records:
    query = "select slot, subtype, metadata from resources where facility_id = %s"
    return {slot: (subtype, metadata) for slot, subtype, metadata in connection.execute(query, (facility_id,))}


def _miners(group: GroupInventory, records: Records) -> Iterator[Known]:
    for slot, address in places(group):
        yield _known(group, slot, address, records)


def _nodes(group: GroupInventory, records: Records) -> Iterator[KnownNode]:
    end = group.first_slot + group.devices
    for first, address in places(group):
        slots = range(first, min(first + GPUS_PER_NODE, end))
        yield KnownNode(address, tuple(_known(group, slot, address, records) for slot in slots))


def _known(group: GroupInventory, slot: int, address: str, records: Records) -> Known:
    model, metadata = records.get(slot, (group.model, {}))
    return Known(
        slot=slot,
        group_id=group.group_id,
        address=address,
        model=model,
        mac=metadata.get("mac", ""),
        serial=metadata.get("serial", ""),
        is_vanished=metadata.get("presence") == Presence.VANISHED,
    )
