"""A site that is scanned: simulated miners and GPU nodes whose cables can be changed, a real gateway process, the follower."""

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path

import structlog
import yaml

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.fleet import service
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.document import FacilityFile, Feeder, Group, Location, Pue
from hcp_pipelines.fleet.inventory import load_inventory
from hcp_pipelines.fleet.service import run_fleet
from hcp_pipelines.fleet.site_export import edge_facility
from hcp_pipelines.runtime.process import ProcessContext
from simulators.addresses import address_of
from tests.support.edge import GatewayProcess, until
from tests.support.gpus import GpuWorld
from tests.support.miners import Hall

FACILITY, GATEWAY = "west-1", "edge"
MINERS_EACH, GPUS = 4, 16
NOWHERE = "127.200.0.1"
SLOTS = 2 * MINERS_EACH + GPUS


def facility_file(hall, gpus, **discovery) -> FacilityFile:
    """Two groups of miners and one of GPU nodes; slots 0–3, 4–7 and 8–23."""
    common = {"feeder_id": "f1", "devices": MINERS_EACH}
    groups = (
        Group(group_id="lux", type="ASIC", model="S21", firmware="luxos", addresses=("127.16.0.1-4",), **common),
        Group(group_id="stock", type="ASIC", model="S21", addresses=("127.16.0.17-20",), **common),
        Group(
            group_id="h100", type="GPU", model="H100 SXM5", driver="gpu_node", feeder_id="f1", devices=GPUS,
            addresses=tuple(gpus.at(n) for n in range(GPUS // 8)),
        ),
    )  # fmt: skip
    miner_ports = {f"{n}_port": hall.port(p) for n, p in (("api", 4028), ("web", 80), ("v3", 4433))}
    return FacilityFile(
        facility_id=FACILITY, name="West 1", location=Location(lat=31.8, lon=-102.4), settlement_point="HB_HOUSTON",
        capacity_mw=20.0, pue=Pue(value=1.05), feeders=(Feeder(feeder_id="f1", limit_mw=20.0),), groups=groups,
        driver="miner_api", miner_api={"deadline_ms": 300, "poll_period_ms": 500, **miner_ports},
        gpu_node={
            "deadline_ms": 1000, "exporter_interval_s": 0.5, "poll_period_ms": 500,
            "exporter_port": gpus.exporter_port, "agent_port": gpus.agent_port,
        },
        discovery={"every_s": 1.0, "connections_per_s": 5000.0} | discovery,
    )  # fmt: skip


class _Gateway(GatewayProcess):
    """The process, told what the inventory says now; scans follow each other at once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.address, self.process = folder, f"unix:{folder / 'e.sock'}", None

    def tell(self, inventory) -> None:
        facility = edge_facility(inventory, "unused")
        facility["discovery"]["every_s"] = 0.2
        document = {
            "version": 1, "gateway": GATEWAY, "listen": self.address, "state_dir": str(self.folder / "edge"),
            "simulated": True, "facilities": [facility],
        }  # fmt: skip
        (self.folder / "edge.yaml").write_text(yaml.safe_dump(document))


class ScannedSite:
    """Everything from the devices to the inventory."""

    def __init__(self, settings, database, **discovery) -> None:
        self.settings, self.database, self._discovery = settings, database, discovery
        self.cables: dict[str, str] = {}  # by address: whose socket is really there
        self.folder = Path(tempfile.mkdtemp(prefix="d", dir="/tmp"))

    async def __aenter__(self):
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(shutil.rmtree, self.folder)
            self.hall = await stack.enter_async_context(Hall(self.folder, "luxos", "stock", is_mapped=False))
            await self._start_gpus(stack)
            self._recable(self.hall.server._hall)
            self._recable(self.gpus.server._agents._nodes)
            apply(self.database, facility_file(self.hall, self.gpus, **self._discovery), "test")
            self.database.execute(
                "insert into gateway_endpoints (facility_id, address, gateway) values (%s, %s, %s)",
                (FACILITY, f"unix:{self.folder / 'e.sock'}", GATEWAY),
            )
            self.gateway = _Gateway(self.folder)
            await self.start_gateway()
            stack.callback(lambda: self.gateway.process.poll() is None and self.gateway.end())
            await self._start_follower(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_):
        await self._stack.aclose()

    async def start_gateway(self):
        self.gateway.tell(load_inventory(self.database, FACILITY))
        await self.gateway.start()

    async def _start_gpus(self, stack):
        folder = self.folder / "gpus"
        folder.mkdir()
        self.gpus = GpuWorld(folder, GPUS)
        await self.gpus.server.start()
        stack.push_async_callback(self.gpus.transitions.close)
        stack.push_async_callback(self.gpus.server.stop)

    async def _start_follower(self, stack):
        self.context = ProcessContext("fleet", self.settings, SystemClock(), structlog.get_logger("test"))
        following = asyncio.create_task(run_fleet(self.context))

        async def end():
            self.context.stop.set()
            await following

        stack.push_async_callback(end)

    def _recable(self, devices) -> None:
        """Have a simulator look up who is at an address by the cables."""
        at = devices.at
        devices.at = lambda address: at(self.cables.get(address, address))

    # -- what is in Postgres --------------------------------------------------------------------------------------

    def events(self, kind) -> list[int]:
        """Slots of the events of a kind, as often as there are any."""
        query = "select subject from audit_log where action = %s and actor = %s order by id"
        rows = self.database.execute(query, (f"resource.{kind}", GATEWAY))
        return [int(subject.rpartition("/")[2]) for (subject,) in rows]

    def audited(self, action) -> list[dict]:
        query = "select detail from audit_log where action = %s and subject = %s order by id"
        return [detail for (detail,) in self.database.execute(query, (action, FACILITY))]

    def record(self, slot) -> tuple[dict, str, dict]:
        query = "select metadata, status, specifications from resources where facility_id = %s and slot = %s"
        return self.database.execute(query, (FACILITY, slot)).fetchone()

    @property
    def generation(self) -> int:
        return load_inventory(self.database, FACILITY).generation

    async def scans(self, count: int) -> None:
        """Until so many scans more have been taken in."""
        seen = self._scans()
        await until(lambda: self._scans() >= seen + count, f"{count} more scans")

    def _scans(self) -> float:
        return sum(
            sample.value
            for family in service.metrics.SCANS.collect()
            for sample in family.samples
            if sample.name.endswith("_total")
        )


def miner_at(slot: int) -> str:
    """The address of the simulator's slot."""
    return address_of(0, slot)
