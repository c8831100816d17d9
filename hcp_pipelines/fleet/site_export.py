"""The inventory in the words of its readers: a gateway's facility entry and the world's site entry, as plain values.

The files around them are written by the supervisor; their schemas are in `edge/config.py` and `simulators/settings.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.fleet.inventory import FacilityInventory, GroupInventory
from hcp_pipelines.fleet.ramps import ramp_limits

NODE_RAMP_S = (10.0, 5.0)  # up and down: how fast power follows once the work runs or rests (setting)

INTERLOCK_RESETS_CELSIUS = 44.0  # of a simulated site: just below the alarm (setting)


def edge_facility(
    inventory: FacilityInventory,
    address: str,
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
    portfolio_mw: float | None = None,
) -> dict[str, Any]:
    """A facility's entry in a gateway's configuration.

    `address` is where a simulated site's devices are reached; `defaults` is by driver, for what the facility file leaves out;
    `portfolio_mw` is the capacity of all facilities together (None: this is the only one).
    """
    reach = _Reach(inventory, address, defaults or {})
    discovery = inventory.document.discovery
    return ({"discovery": discovery.of_gateway()} if discovery else {}) | {
        "facility_id": inventory.facility_id,
        "generation": inventory.generation,
        "driver": reach.driver(inventory.document.driver),
        "groups": [_edge_group(reach, g) for g in inventory.groups],
        "fallback": {group_id: int(state) for group_id, state in inventory.fallback.items()},
        "limit_kw": inventory.capacity_mw * 1000,
        "feeder_limits_kw": {feeder_id: mw * 1000 for feeder_id, mw in inventory.feeder_limits_mw.items()},
        "ramps": [
            {"scope": r.scope, "up_mw": r.up_mw, "down_mw": r.down_mw, "window_s": r.window_s}
            for r in ramp_limits(inventory.ramps, inventory.capacity_mw / (portfolio_mw or inventory.capacity_mw))
        ],
        "plant": inventory.document.miner_api.meters,
    }


def driven_by(kind: str, inventories: Sequence[FacilityInventory]) -> list[FacilityInventory]:
    """The facilities of which some group has a driver."""
    return [i for i in inventories if any(g.specifications.get("driver") == kind for g in i.groups)]


def world_protocols(inventories: Sequence[FacilityInventory], token_file: Path | None = None) -> dict[str, Any]:
    """The world's `protocols`: what the facility files' drivers and meters need, on the ports that the files name.

    `token_file` holds the GPU nodes' token where no file names another.

    Raises:
        ConfigError: two files name different ports, intervals or tokens; there is one world for all of them.
    """
    parts = {
        "miners": _miner_ports(driven_by("miner_api", inventories)),
        "gpu_nodes": _node_ports(driven_by("gpu_node", inventories), token_file),
        "modbus": _meter_port(driven_by("miner_api", inventories)),
    }
    return {name: {"enabled": True} | part for name, part in parts.items() if part is not None}


def _miner_ports(driven: Sequence[FacilityInventory]) -> dict[str, Any] | None:
    if not driven:
        return None
    named = {"port_4028": "api_port", "http_port": "web_port", "v3_port": "v3_port"}
    return _named({key: _agreed(driven, "miner_api", field) for key, field in named.items()})


def _node_ports(driven: Sequence[FacilityInventory], token_file: Path | None) -> dict[str, Any] | None:
    if not driven:
        return None
    named = {"exporter_port": "exporter_port", "agent_port": "agent_port", "collect_s": "exporter_interval_s"}
    ports = {key: _agreed(driven, "gpu_node", field) for key, field in named.items()}
    own = _agreed(driven, "gpu_node", "token_file")
    if own and "{address}" in own:
        raise ConfigError(f"gpu_node.token_file: {own}; simulated nodes have one token: a file without {{address}}")
    return _named(ports | {"token_file": own or (str(token_file) if token_file else None)})


def _meter_port(driven: Sequence[FacilityInventory]) -> dict[str, Any] | None:
    """The meters' port; their addresses are the sites' own (docs/modbus.md)."""
    targets = {i.facility_id: i.document.miner_api.meters for i in driven}
    ports = {facility_id: int(target.rpartition(":")[2]) for facility_id, target in targets.items() if target}
    port = _one(ports, "miner_api.meters")
    return None if port is None else {"port": port}


def _agreed(driven: Sequence[FacilityInventory], section: str, key: str) -> Any:
    """What the facility files have under a key; None where none has it."""
    values = {i.facility_id: getattr(getattr(i.document, section), key) for i in driven}
    return _one({facility_id: value for facility_id, value in values.items() if value is not None}, f"{section}.{key}")


def _one(by_facility: Mapping[str, Any], key: str) -> Any:
    if len(set(by_facility.values())) > 1:
        told = ", ".join(f"{value} ({facility_id})" for facility_id, value in by_facility.items())
        raise ConfigError(f"{key}: {told}; the simulated world has one for all: give each facility file the same")
    return next(iter(by_facility.values()), None)


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def world_site(inventory: FacilityInventory) -> dict[str, Any]:
    """A facility's entry in the simulated world's configuration; power in watts of IT load, limits of feeders all in."""
    interruptible = {f.feeder_id for f in inventory.document.feeders if f.interruptible}
    return {
        "site": inventory.facility_id,
        "settlement_point": inventory.settlement_point,
        "pue": inventory.pue,
        "feeders": [
            {"feeder": feeder_id, "limit_w": mw * 1e6, "is_interruptible": feeder_id in interruptible}
            for feeder_id, mw in inventory.feeder_limits_mw.items()
        ],
        "groups": [_world_group(g) for g in inventory.groups],
    } | _world_cooling(inventory)


def _world_cooling(inventory: FacilityInventory) -> dict[str, Any]:
    """A cooling plant where the facility file gives the PUE a slope; else the PUE is constant.

    It draws what the file says at any load: a part that is there at no load would overload the feeder that a relay leaves.
    Its interlock resets itself: nobody stands in a simulated hall.
    """
    pue = inventory.document.pue
    if not pue.slope_per_celsius:
        return {}
    by_file = {"slope_per_celsius": pue.slope_per_celsius, "above_celsius": pue.above_celsius}
    return {"plant": {"cooling": by_file | {"fixed_fraction": 0.0, "reset_celsius": INTERLOCK_RESETS_CELSIUS}}}


@dataclass(frozen=True, slots=True)
class _Reach:
    """How a facility's devices are reached."""

    inventory: FacilityInventory
    address: str
    defaults: Mapping[str, Mapping[str, Any]]

    def driver(self, kind: str) -> dict[str, Any]:
        """The driver of a kind, with what the facility file says of it."""
        document = self.inventory.document
        if kind == "bulk":
            return {"kind": "bulk", "address": self.address, "site": self.inventory.facility_id}
        if kind == "miner_api":
            return {"kind": kind, **self.defaults.get(kind, {}), **document.miner_api.model_dump(exclude_none=True)}
        named = document.gpu_node.model_dump(exclude_none=True, exclude={"workloads"})
        work = document.gpu_node.workloads.items()
        workloads = {int(state): one.model_dump(exclude_none=True) for state, one in work}
        loads = {"workloads": workloads} if workloads else {}
        return {"kind": kind, **self.defaults.get(kind, {}), **named, **loads}


def _edge_group(reach: _Reach, group: GroupInventory) -> dict[str, Any]:
    rates = group.specifications.get("hash_rate_by_state_th_per_s", {})
    kind = group.specifications.get("driver", "bulk")
    own = {} if kind == reach.inventory.document.driver else {"driver": reach.driver(kind)}
    addresses = group.specifications.get("addresses")
    reached = own | ({"addresses": addresses} if addresses else {})
    return reached | {
        "group_id": group.group_id,
        "feeder_id": group.feeder_id,
        "first_slot": group.first_slot,
        "devices": group.devices,
        "pue": reach.inventory.pue,
        "model": group.model,
        "firmware": group.firmware,
        "ladder": [
            {"state": int(s.state), "power_kw": s.power_kw, "settle_s": s.settle_s}
            | ({"hash_rate_th_per_s": rates[s.state.label]} if s.state.label in rates else {})
            for s in group.ladder
        ],
    }


def _world_group(group: GroupInventory) -> dict[str, Any]:
    """A group's entry. Where a node's agent takes the time of loading and pausing, power follows it at once."""
    is_node = group.specifications.get("driver") == "gpu_node"
    ramps = {} if is_node else group.specifications.get("ramp_s", {})
    up_s, down_s = NODE_RAMP_S if is_node else (30.0, 10.0)
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
                "ramp_up_s": ramps.get(step.state.label, {}).get("up", up_s),
                "ramp_down_s": ramps.get(step.state.label, {}).get("down", down_s),
                "hash_rate_th_per_s": rates.get(step.state.label, 0.0),
            }
            for step in group.ladder
        ],
    }
