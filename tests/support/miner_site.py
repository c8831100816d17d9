"""A facility of miners and GPU nodes at addresses, end to end in one loop: simulators, gateway with real drivers, allocator."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import structlog
from pyroaring import BitMap

from hcp_pipelines.allocator.service import Allocator
from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.domain.modes import ResourceType
from hcp_pipelines.edge import under_way
from hcp_pipelines.edge.config import EdgeConfig
from hcp_pipelines.edge.log_files import read_log
from hcp_pipelines.edge.settling import Pending
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.document import FacilityFile, Feeder, Location, Pue
from hcp_pipelines.fleet.groups import Group
from hcp_pipelines.fleet.inventory import load_inventory
from hcp_pipelines.fleet.models import MODELS
from hcp_pipelines.fleet.reach import MinerApi
from hcp_pipelines.fleet.site_export import edge_facility, world_protocols, world_site
from hcp_pipelines.fleet.solve_sites import load_sites
from hcp_pipelines.optimizer.load import load_inputs
from hcp_pipelines.optimizer.publish import publish
from hcp_pipelines.optimizer.solve import solve_facility
from hcp_pipelines.runtime.process import ProcessContext
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import decode_slots
from simulators.addresses import address_of
from simulators.clock import AnchorClock
from simulators.durability import TransitionLog
from simulators.fleet import Fleet
from simulators.gpus.server import GpuNodesServer
from simulators.miners.server import MinersServer
from simulators.settings import WorldConfig
from tests.support.edge import Gateway, until
from tests.support.platform import free_port

POINT, FACILITY = "HB_HOUSTON", "west-1"
STARTS_AT = datetime(2025, 1, 1, 12, tzinfo=UTC)
MARKET = (
    ("btc.usd", "consensus", 95_000.0), ("btc.network", "difficulty", 1.1e14),
    ("btc.network", "fees_btc_per_block", 0.05), ("btc.network", "height", 877_000.0), ("gpu.spot", "H100", 2.4),
)  # fmt: skip
PRICE_TYPES = {"btc.usd": "btc", "btc.network": "network", "gpu.spot": "gpu_spot"}


def document(groups, gpu_node=None, gpu_group=None, **miner_api) -> FacilityFile:
    """A facility of (group id, model, firmware, devices); addresses are those of the world's first site.

    `gpu_group`: what groups of GPUs have besides.
    """
    made, first = [], 0
    for group_id, model, firmware, devices in groups:
        is_gpu = MODELS[model].type is ResourceType.GPU
        addresses = [address_of(0, first + n) for n in range(0, devices, 8 if is_gpu else 1)]
        reached = (
            {"driver": "gpu_node", "addresses": addresses} | (gpu_group or {})
            if is_gpu
            else {"addresses": [f"{addresses[0]}-{addresses[-1]}"]}
        )
        made.append(
            Group(
                group_id=group_id, type=MODELS[model].type.value, model=model, firmware=firmware, feeder_id="f1",
                devices=devices, **reached,
            )
        )  # fmt: skip
        first += devices
    return FacilityFile(
        facility_id=FACILITY, name="West 1", location=Location(lat=31.8, lon=-102.4), settlement_point=POINT,
        capacity_mw=20.0, pue=Pue(value=1.05), feeders=(Feeder(feeder_id="f1", limit_mw=20.0),), groups=tuple(made),
        control_mode="auto", driver="miner_api", miner_api=MinerApi(**miner_api),
        gpu_node=gpu_node or {},
    )  # fmt: skip


@dataclass
class Judged:
    """What one look at a command's devices was: the instant of the sample, the deadline, and whom it failed."""

    at_s: float
    deadline_s: float
    failed: list[int]


@dataclass
class MinerSite:
    """Everything of one facility; `async with` starts and ends it."""

    folder: object
    settings: object
    database: object
    groups: tuple
    speed: float = 150.0
    gpu_node: dict = field(default_factory=dict)
    gpu_group: dict = field(default_factory=dict)
    judged: dict[tuple[str, int], list[Judged]] = field(default_factory=dict)

    async def __aenter__(self):
        self.ports = {name: free_port() for name in ("api_port", "web_port", "v3_port")}
        gpu_ports = {name: free_port() for name in ("exporter_port", "agent_port")}
        gpu_node = {"poll_period_ms": 600, "deadline_ms": 2000, **gpu_ports, **self.gpu_node}
        self.document = document(
            self.groups, gpu_node, self.gpu_group, poll_period_ms=600, deadline_ms=2000, **self.ports
        )
        self._token = self.folder / "token"
        self._token.write_text("not-a-secret-token")
        self._token.chmod(0o600)
        apply(self.database, self.document, "test")
        self.inventory = load_inventory(self.database, FACILITY)
        anchor = Anchor(SystemClock().real_now(), STARTS_AT, self.speed)
        (self.folder / "clock.json").write_text(anchor.dump())
        self.clock = SystemClock(anchor)
        await self._start_world()
        await self._start_gateway(anchor)
        self._tick_number = 0
        return self

    async def __aexit__(self, *_):
        if hasattr(self, "_allocating"):
            self._context.stop.set()
            await self._allocating
        await self.gateway.stop()
        for server in self._servers:
            await server.stop()
        await self.transitions.close()

    async def _start_world(self):
        paths = dict.fromkeys(("bulk_socket", "ready_file", "exogenous_log"), self.folder / "unused")
        world = {
            "version": 1, "anchor": self.folder / "clock.json", **paths, "transition_log": self.folder / "t.jsonl",
            "sites": [world_site(self.inventory)], "protocols": world_protocols([self.inventory], self._token),
        }  # fmt: skip
        config = WorldConfig.model_validate(world)
        clock = AnchorClock.load(self.folder / "clock.json")
        self.fleet = Fleet(config.sites, config.seed, clock.now_s())
        self.site = self.fleet.sites[FACILITY]
        self.transitions = TransitionLog(self.folder / "t.jsonl", self.fleet, clock)
        self._world_clock = clock
        made = [MinersServer] + [GpuNodesServer] * config.protocols.gpu_nodes.enabled
        self._servers = [server(config, self.fleet, self.transitions, clock) for server in made]
        for server in self._servers:
            await server.start()

    async def _start_gateway(self, anchor):
        self.gateway = Gateway.__new__(Gateway)
        defaults = {"gpu_node": {"token_file": str(self._token), "xid_actions": "act"}}
        facility = edge_facility(self.inventory, "unused", defaults)
        self.gateway.config = EdgeConfig.model_validate(
            {
                "version": 1, "gateway": "edge", "listen": f"unix:{self.folder / 'e.sock'}", "simulated": True,
                "state_dir": self.folder / "edge", "anchor": self.folder / "clock.json", "facilities": [facility],
            }
        )  # fmt: skip
        self.gateway.address, self.gateway._clock = self.gateway.config.listen, self.clock
        await self.gateway.start(is_connected=False)
        self.facility = self.gateway.facilities[FACILITY]
        await until(lambda: not self.facility.problem, "the devices are read")

    async def start_allocator(self):
        self.database.execute(
            "insert into gateway_endpoints (facility_id, address, gateway) values (%s, %s, 'edge')",
            (FACILITY, self.gateway.address),
        )
        settings = self.settings.model_copy(update={"price_staleness_s": 1e6, "btc_staleness_s": 1e6})
        self._context = ProcessContext("allocator-a", settings, self.clock, structlog.get_logger("test"))
        self.allocator = Allocator(self._context, "allocator-a")
        self._allocating = asyncio.create_task(self.allocator.run())
        await until(lambda: self.owner is not None and self.owner.is_ready, "the allocator owns the facility")

    @property
    def owner(self):
        control = self.allocator._controls.get(FACILITY)
        return control.owner if control else None

    def quarantined(self):
        return sum(self.owner.devices.quarantined.values()) if self.owner is not None else 0

    def price(self, usd_per_mwh):
        """A tick of the real-time price, now."""
        self._tick_number += 1
        now = self.clock.now()
        at = now - timedelta(minutes=now.minute % 5, seconds=now.second, microseconds=now.microsecond)
        self._insert("power.rt_lmp", POINT, usd_per_mwh, at, "electricity")
        self.database.execute("select pg_notify('hcp_tick', '')")

    def publish_policy(self):
        """What the optimizer makes of the present market."""
        for stream, series, value in MARKET:
            self._insert(stream, series, value, self.clock.now(), PRICE_TYPES[stream])
        self.price(20.0)
        with connect(self.settings, Role.CONTROL) as control:
            (inputs,) = load_inputs(control, load_sites(control), self.clock.now())
            publish(control, self.solved(inputs))

    def solved(self, inputs):
        """The policy that is published."""
        return solve_facility(inputs)

    def _insert(self, stream, series, value, at, price_type):
        self.database.execute(
            """insert into price_data (stream, series, "timestamp", price_type, value, unit, source, quality, revision,
                   received_at) values (%s, %s, %s, %s, %s, 'x', 'test', 'good', %s, %s)""",
            (stream, series, at, price_type, value, self._tick_number, self.clock.now()),
        )

    def impose(self, kind, slots):
        self.site.impose(kind, BitMap(slots), max(self._world_clock.now_s(), self.site.at_s))

    def lift(self, kinds, slots):
        self.site.lift(kinds, BitMap(slots), max(self._world_clock.now_s(), self.site.at_s))

    def power_w(self):
        """The truth, by slot."""
        return self.site.power_w(max(self._world_clock.now_s(), self.site.at_s))

    def asleep(self):
        return np.flatnonzero(self.power_w() < 100)

    def failed_slots(self):
        """Slots that the gateway's log says did not obey, as often as it says so."""
        entries = read_log(self.folder / "edge" / FACILITY)
        settled = [pb.Settled.FromString(e.payload) for e in entries if e.kind == "settled"]
        return [int(slot) for s in settled for slot in decode_slots(s.failed, self.inventory.slots)]

    def watch_judgement(self, monkeypatch):
        """Note every look at a command's devices from now on."""
        observe = Pending.observe

        def noted(pending, power_kw, states, at_s):
            is_decided = observe(pending, power_kw, states, at_s)
            looks = self.judged.setdefault((pending.command_id, pending.index), [])
            looks.append(Judged(at_s, pending.deadline_s, pending.failed.tolist()))
            return is_decided

        monkeypatch.setattr(Pending, "observe", noted)
        assert under_way.Pending is Pending


@contextlib.asynccontextmanager
async def miner_site(folder, settings, database, groups, **options):
    async with MinerSite(folder, settings, database, groups, **options) as site:
        yield site
