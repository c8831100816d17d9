"""The inventory in the words of its readers: a gateway's facility entry and the world's site entry, as plain values.

The files around them are written by the supervisor; their schemas are in `edge/config.py` and `simulators/settings.py`.
"""

from collections.abc import Sequence
from typing import Any

from hcp_pipelines.domain.modes import ResourceType
from hcp_pipelines.fleet.inventory import FacilityInventory, GroupInventory


def edge_facility(inventory: FacilityInventory, address: str) -> dict[str, Any]:
    """A facility's entry in a gateway's configuration; `address` is where its devices are reached."""
    return {
        "facility_id": inventory.facility_id,
        "generation": inventory.generation,
        "driver": _driver(inventory, inventory.document.driver, address),
        "groups": [_edge_group(inventory, g, address) for g in inventory.groups],
        "fallback": {group_id: int(state) for group_id, state in inventory.fallback.items()},
    }


def world_protocols(inventories: Sequence[FacilityInventory]) -> dict[str, Any]:
    """The world's `protocols`: miners speak their own where a group is driven by it, on the ports that the files name."""
    driven = [i for i in inventories if any(g.specifications.get("driver") == "miner_api" for g in i.groups)]
    if not driven:
        return {}
    named = driven[0].document.miner_api
    ports = {"port_4028": named.api_port, "http_port": named.web_port, "v3_port": named.v3_port}
    return {"miners": {"enabled": True} | {key: port for key, port in ports.items() if port is not None}}


def world_site(inventory: FacilityInventory) -> dict[str, Any]:
    """A facility's entry in the simulated world's configuration; power in watts of IT load."""
    return {
        "site": inventory.facility_id,
        "settlement_point": inventory.settlement_point,
        "pue": inventory.pue,
        "feeders": [_world_feeder(inventory, f, mw) for f, mw in inventory.feeder_limits_mw.items()],
        "groups": [_world_group(g) for g in inventory.groups],
    } | _world_cooling(inventory)


def _world_feeder(inventory: FacilityInventory, feeder_id: str, limit_mw: float) -> dict[str, Any]:
    """A feeder in watts, all in; one that feeds miners alone is behind the under-frequency relay."""
    types = {g.type for g in inventory.groups if g.feeder_id == feeder_id}
    return {"feeder": feeder_id, "limit_w": limit_mw * 1e6, "is_interruptible": types == {ResourceType.ASIC}}


def _world_cooling(inventory: FacilityInventory) -> dict[str, Any]:
    """A cooling plant where the facility file gives the PUE a slope; else the PUE is constant."""
    pue = inventory.document.pue
    if not pue.slope_per_celsius:
        return {}
    cooling = {"slope_per_celsius": pue.slope_per_celsius, "above_celsius": pue.above_celsius}
    return {"plant": {"cooling": cooling}}


def _driver(inventory: FacilityInventory, kind: str, address: str) -> dict[str, Any]:
    if kind == "bulk":
        return {"kind": "bulk", "address": address, "site": inventory.facility_id}
    return {"kind": kind} | inventory.document.miner_api.model_dump(exclude_none=True)


def _edge_group(inventory: FacilityInventory, group: GroupInventory, address: str) -> dict[str, Any]:
    rates = group.specifications.get("hash_rate_by_state_th_per_s", {})
    kind = group.specifications.get("driver", "bulk")
    own = {} if kind == inventory.document.driver else {"driver": _driver(inventory, kind, address)}
    addresses = group.specifications.get("addresses")
    reached = own | ({"addresses": addresses} if addresses else {})
    return reached | {
        "group_id": group.group_id,
        "feeder_id": group.feeder_id,
        "first_slot": group.first_slot,
        "devices": group.devices,
        "pue": inventory.pue,
        "firmware": group.firmware,
        "ladder": [
            {"state": int(s.state), "power_kw": s.power_kw, "settle_s": s.settle_s}
            | ({"hash_rate_th_per_s": rates[s.state.label]} if s.state.label in rates else {})
            for s in group.ladder
        ],
    }


def _world_group(group: GroupInventory) -> dict[str, Any]:
    ramps = group.specifications.get("ramp_s", {})
    rates = group.specifications.get("hash_rate_by_state_th_per_s", {})
    return {
        "group": group.group_id,
        "kind": group.type.value,
        "model": group.model,
        "firmware": group.firmware,
        "feeder": group.feeder_id,
        "first_slot": group.first_slot,
        "devices": group.devices,
        "states": [
            {
                "state": int(step.state),
                "power_w": step.power_kw * 1000,
                "ramp_up_s": ramps.get(step.state.label, {}).get("up", 30.0),
                "ramp_down_s": ramps.get(step.state.label, {}).get("down", 10.0),
                "hash_rate_th_per_s": rates.get(step.state.label, 0.0),
            }
            for step in group.ladder
        ],
    }
