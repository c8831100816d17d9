"""What the processes are told: facility files into Postgres, and from there the world's and the gateways' own files."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import yaml

from hcp_pipelines.domain.clock import Anchor
from hcp_pipelines.domain.errors import ConfigError, StorageError
from hcp_pipelines.feed.enrolment import WORLD, load_enrolment
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.fleet.facility_file import dump_facility
from hcp_pipelines.fleet.inventory import FacilityInventory, load_inventories
from hcp_pipelines.fleet.site_export import driven_by, edge_facility, world_protocols, world_site
from hcp_pipelines.runtime.files import put_whole
from hcp_pipelines.settings import Settings, child_environment
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.storage.secrets import gpu_agents_token_file
from hcp_pipelines.supervisor.gateway_tls import gateway_tls, loopback_address
from hcp_pipelines.supervisor.processes import ROOT, gateway_names

MakeAnchor = Callable[[datetime | None], Anchor]

REGISTER_GATEWAY = """
    insert into gateway_endpoints (facility_id, address, gateway) values (%s, %s, %s)
    on conflict (facility_id) do update set address = excluded.address, gateway = excluded.gateway, updated_at = now()"""


@dataclass(frozen=True)
class Configuration:
    """What was configured."""

    gateways: list[str]
    facilities: int
    devices: int
    has_discovery: bool  # some facility's gateway scans

    @property
    def summary(self) -> str:
        """One line for the person who started it."""
        return (
            f"{self.devices:,} devices in {self.facilities} facilities behind {len(self.gateways)} gateway process(es)"
        )


def configure(settings: Settings, make_anchor: MakeAnchor) -> Configuration:
    """Write every file that a process reads, the demo's facility files first if there is no facility yet.

    Raises:
        ConfigError: no facility in a real world, or a world that can't serve the facilities' settlement points.
    """
    with connect(settings, Role.ADMIN) as connection:
        if connection.execute("select exists (select from facilities)").fetchone() != (True,):
            _apply_demo(settings, connection)
        inventories = load_inventories(connection)
        names = gateway_names(settings)
        spread = {name: inventories[n :: len(names)] for n, name in enumerate(names)}
        spread = {name: own for name, own in spread.items() if own}
        addresses = {name: gateway_address(settings, name) for name in spread}
        for name, own in spread.items():
            for inventory in own:
                connection.execute(REGISTER_GATEWAY, (inventory.facility_id, addresses[name], name))
    if settings.world != "real":
        make_anchor(_write_world(settings, inventories))
    else:
        make_anchor(None)
    for name, own in spread.items():
        _write_gateway(settings, name, addresses[name], own, sum(i.capacity_mw for i in inventories))
    has_discovery = any(i.document.discovery is not None for i in inventories)
    return Configuration(list(spread), len(inventories), sum(i.devices for i in inventories), has_discovery)


def file_digests(settings: Settings) -> dict[str, str]:
    """What world and gateways are told, by process: who is told the same as before need not be restarted."""
    paths = {"world": settings.at("world", "world.yaml")}
    paths |= {name: settings.at("edge", f"{name}.yaml") for name in gateway_names(settings)}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items() if path.exists()}


def fleet_digest(settings: Settings) -> str:
    """Changes when an applied facility file, or a scan, changes what world or gateways must know."""
    query = """select f.id, f.document_version, f.document_digest, g.generation from facilities f
               left join inventory_generations g on g.facility_id = f.id and g.is_current order by f.id"""
    try:
        with connect(settings, Role.OPERATOR) as connection:
            rows = connection.execute(query).fetchall()
    except (psycopg.Error, OSError) as error:
        raise StorageError(f"the facilities can't be read: {error}") from error
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def gateway_address(settings: Settings, name: str) -> str:
    """The gRPC target of a gateway process of this platform: a unix socket, or with TLS a loopback port that stays its own."""
    if settings.edge_tls:
        return loopback_address(settings.at("edge", f"{name}.yaml"))
    return f"unix:{settings.socket_dir() / name}.sock"


def bulk_socket(settings: Settings) -> str:
    """Path of the simulated sites' bulk device channel."""
    return str(settings.socket_dir() / "bulk.sock")


def _apply_demo(settings: Settings, connection: psycopg.Connection) -> None:
    if settings.world == "real":
        raise ConfigError(
            "HCP_WORLD=real: there is no facility yet, and a demo fleet makes no sense there. "
            "Apply your own: hcp facility apply FILE (docs/facility-file.md)."
        )
    folder = settings.at("facilities")
    folder.mkdir(parents=True, exist_ok=True)
    for document in demo_facilities(settings.facilities, settings.devices, scheduled=settings.scheduler == "on"):
        (folder / f"{document.facility_id}.yaml").write_text(dump_facility(document))
        apply(connection, document, "hcp up")


def _write_world(settings: Settings, inventories: list[FacilityInventory]) -> datetime:
    """Write the world's file if the world can use it; the file before stays otherwise. When that world begins."""
    points = sorted({i.settlement_point for i in inventories})
    world = {
        "version": 1,
        "anchor": str(settings.at("run", "clock.json")),
        "seed": settings.seed,
        "scenario": settings.scenario,
        "replay_dir": str(settings.replay_dir) if settings.replay_dir else None,
        "from": None,
        "point_map": _point_map(settings.world_map),
        "http": {"host": "127.0.0.1", "port": 0},
        "bulk_socket": bulk_socket(settings),
        "ready_file": str(settings.at("run", "world.json")),
        "transition_log": str(settings.at("world", "transitions.jsonl")),
        "exogenous_log": str(settings.at("world", "exogenous.jsonl")),
        "settlement_points": points,
        "protocols": world_protocols(inventories, _node_token(settings, inventories))
        | _grid_server(settings)
        | _world_pool(settings),
        "sites": [world_site(i) for i in inventories],
    }
    asked = ("world", "world.asked.yaml")
    _write_yaml(settings, asked, world)
    begins_at = _ask_world(settings, settings.at(*asked))
    settings.at(*asked).replace(settings.at("world", "world.yaml"))
    return begins_at


def _grid_server(settings: Settings) -> dict[str, Any]:
    """The world's demand response server, if the platform is enrolled with that one; on a free port."""
    if settings.openadr_file is None:
        return {}
    enrolment = load_enrolment(settings.openadr_file)
    if enrolment.vtn_url != WORLD:
        return {}
    clients = {"client_file": str(enrolment.client_secret_file)} if enrolment.client_secret_file else {}
    return {"openadr": {"enabled": True, "port": 0} | clients}


def _world_pool(settings: Settings) -> dict[str, Any]:
    """The world's mining pool where the platform reads it, on free ports."""
    if settings.pool_url != "world":
        return {}
    token = str(settings.pool_token_file.resolve()) if settings.pool_token_file else None
    ports = dict.fromkeys(("v1_port", "v2_port", "api_port"), 0)
    return {"pool": {"enabled": True, "token_file": token, **ports}}


def _write_gateway(
    settings: Settings, name: str, address: str, inventories: list[FacilityInventory], portfolio_mw: float
) -> None:
    site = gateway_document(settings, name, address, inventories, portfolio_mw)
    if settings.edge_tls:
        site["tls"] = gateway_tls(settings)
    _write_yaml(settings, ("edge", f"{name}.yaml"), site)


def gateway_document(
    settings: Settings, name: str, listen: str, inventories: list[FacilityInventory], portfolio_mw: float
) -> dict[str, object]:
    """A gateway's file (docs/edge-site-file.md), but for its certificates."""
    return {
        "version": 1,
        "gateway": name,
        "listen": listen,
        "state_dir": str(settings.at("edge")),
        "simulated": settings.world != "real",
        "anchor": str(settings.at("run", "clock.json")) if settings.world != "real" else None,
        "operators_file": str(settings.at("secrets", "operators.yaml")),
        "facilities": [
            edge_facility(i, f"unix:{bulk_socket(settings)}", _driver_defaults(settings, inventories), portfolio_mw)
            | {"price_staleness_s": i.staleness.power_price_s or settings.price_staleness_s}
            for i in inventories
        ],
    }


def _driver_defaults(settings: Settings, inventories: list[FacilityInventory]) -> dict[str, dict[str, object]]:
    """What facility files may leave out: simulated GPU nodes have a token of ours, and XIDs are acted on there."""
    token_file = _node_token(settings, inventories)
    return {} if token_file is None else {"gpu_node": {"token_file": str(token_file), "xid_actions": "act"}}


def _node_token(settings: Settings, inventories: list[FacilityInventory]) -> Path | None:
    if settings.world == "real" or not driven_by("gpu_node", inventories):
        return None
    return gpu_agents_token_file(settings)


def _ask_world(settings: Settings, config: Path) -> datetime:
    """When a world of this file begins: it knows its scenarios and its recorded files, so it is asked before it is started."""
    argv = [sys.executable, "-m", "simulators", "--config", str(config), "--print-start"]
    asked = subprocess.run(argv, cwd=ROOT, env=child_environment(settings), capture_output=True, text=True, check=False)
    if asked.returncode:
        reason = asked.stderr.strip().splitlines()[-1] if asked.stderr.strip() else f"it ended with {asked.returncode}"
        raise ConfigError(f"HCP_WORLD={settings.world}: the world refuses its configuration: {reason}")
    return datetime.fromisoformat(asked.stdout.strip().splitlines()[-1])


def _point_map(text: str) -> dict[str, str]:
    pairs = [item.split("=", 1) for item in text.split(",") if item]
    wrong = [pair[0] for pair in pairs if len(pair) != 2]
    if wrong:
        raise ConfigError(f"HCP_WORLD_MAP={text!r}: {wrong[0]!r} is not POINT=RECORDED_POINT")
    return {a.strip(): b.strip() for a, b in pairs}


def _write_yaml(settings: Settings, parts: tuple[str, ...], document: dict[str, object]) -> None:
    path = settings.at(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    put_whole(path, yaml.safe_dump(document, sort_keys=False))
