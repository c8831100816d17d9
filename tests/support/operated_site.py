"""A facility of simulated devices, gateway and allocators in this loop, and the `hcp` command as its operators type it."""

import asyncio

import numpy as np
import structlog
import yaml

from hcp_pipelines.allocator.service import Allocator
from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.edge.config import EdgeConfig
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.document import FacilityFile, Feeder, Location, Pue, Ramp, Ramps
from hcp_pipelines.fleet.groups import Group
from hcp_pipelines.fleet.inventory import load_inventory
from hcp_pipelines.fleet.site_export import edge_facility, world_site
from hcp_pipelines.operators.accounts import OperatorRole, add, gateways_list
from hcp_pipelines.runtime.process import ProcessContext
from simulators.bulk import BulkServer
from simulators.clock import AnchorClock
from simulators.durability import TransitionLog
from simulators.fleet import Fleet
from simulators.settings import SiteConfig
from tests.support.edge import Gateway, until
from tests.support.miner_site import FACILITY, POINT, STARTS_AT, MinerSite

SPEED = 300.0
MINERS, GPUS = 60, 8
OPERATORS = (("ann", "operator"), ("bob", "operator"), ("root", "admin"))


def document(ramp_mw=75.0, control_mode="auto", **gpus) -> FacilityFile:
    groups = (
        Group(group_id="s21", type="ASIC", model="S21", firmware="luxos", feeder_id="f1", devices=MINERS),
        Group(group_id="h100", type="GPU", model="H100 SXM5", feeder_id="f2", devices=GPUS, **gpus),
    )
    return FacilityFile(
        facility_id=FACILITY, name="West 1", location=Location(lat=31.8, lon=-102.4), settlement_point=POINT,
        capacity_mw=20.0, pue=Pue(value=1.05), groups=groups, control_mode=control_mode, driver="bulk",
        feeders=(Feeder(feeder_id="f1", limit_mw=15.0), Feeder(feeder_id="f2", limit_mw=5.0)),
        ramps=Ramps(facility=Ramp(up_mw=ramp_mw, down_mw=ramp_mw, window_s=300.0)),
    )  # fmt: skip


class OperatedSite(MinerSite):
    """`async with` starts world and gateway; `start_allocator` and `stop_allocator` as often as one likes."""

    def __init__(self, hcp, folder, settings, database, **options) -> None:
        super().__init__(folder, settings, database, ())
        self._hcp, self._options = hcp, options

    async def __aenter__(self):
        apply(self.database, document(**self._options), "test")
        self.inventory = load_inventory(self.database, FACILITY)
        for name, role in OPERATORS:
            add(self.settings, self.database, name, OperatorRole(role), "test")
        anchor = Anchor(SystemClock().real_now(), STARTS_AT, SPEED)
        self._anchor_file = self.settings.at("run", "clock.json")
        for path in (self.folder / "clock.json", self._anchor_file):
            path.write_text(anchor.dump())
        self.clock, self._tick_number = SystemClock(anchor), 0
        await self._start_devices()
        await self._start_bulk_gateway()
        return self

    async def __aexit__(self, *_):
        self._anchor_file.unlink()
        self._gateway_file.unlink()
        if hasattr(self, "_allocating"):
            await self.stop_allocator()
        await self.gateway.stop()
        await self._server.stop()
        await self.transitions.close()

    async def _start_devices(self):
        clock = AnchorClock.load(self.folder / "clock.json")
        self.fleet = Fleet([SiteConfig.model_validate(world_site(self.inventory))], 7, clock.now_s())
        self.site, self._world_clock = self.fleet.sites[FACILITY], clock
        self.transitions = TransitionLog(self.folder / "t.jsonl", self.fleet, clock)
        self._server = BulkServer(self.folder / "b.sock", self.fleet, self.transitions, clock)
        await self._server.start()

    async def _start_bulk_gateway(self):
        self.gateway = Gateway.__new__(Gateway)
        facility = edge_facility(self.inventory, f"unix:{self.folder / 'b.sock'}")
        self.gateway.config = EdgeConfig.model_validate(
            {
                "version": 1, "gateway": "edge", "listen": f"unix:{self.folder / 'e.sock'}", "simulated": True,
                "state_dir": self.folder / "edge", "anchor": self.folder / "clock.json", "power_period_ms": 100,
                "facilities": [facility], "operators_file": gateways_list(self.settings),
            }
        )  # fmt: skip
        known = {"listen": self.gateway.config.listen, "facilities": [{"facility_id": FACILITY}]}
        self._gateway_file = self.settings.at(
            "edge", "gateway.yaml"
        )  # as the supervisor writes it, as far as commands read it
        self._gateway_file.parent.mkdir(mode=0o700, exist_ok=True)
        self._gateway_file.write_text(yaml.safe_dump(known))
        self.gateway.address, self.gateway._clock = self.gateway.config.listen, self.clock
        await self.gateway.start()
        self.facility = self.gateway.facilities[FACILITY]
        self.database.execute(
            "insert into gateway_endpoints (facility_id, address, gateway) values (%s, %s, 'edge')",
            (FACILITY, self.gateway.address),
        )

    async def start_allocator(self, name="allocator-a", **changes):
        changes = {"price_staleness_s": 1e6, "btc_staleness_s": 1e6} | changes
        settings = self.settings.model_copy(update=changes)
        self._context = ProcessContext(name, settings, self.clock, structlog.get_logger("test"))
        self.allocator = Allocator(self._context, name)
        self._allocating = asyncio.create_task(self.allocator.run())
        await until(lambda: self.owner is not None and self.owner.is_ready, "the allocator owns the facility")

    async def stop_allocator(self):
        self._context.stop.set()
        await self._allocating

    async def order(self, *arguments, by="ann", code=0, **environment):
        """What the `hcp` command prints, typed by an operator; the exit code has to be `code`."""
        typed = [*arguments, "--state-dir", self.settings.state_dir]
        done = await asyncio.to_thread(self._hcp, *typed, HCP_OPERATOR=by, **environment)
        assert done.code == code, done
        return done

    def meter_mw(self):
        return float(self.power_w().sum()) / 1e6 * self.inventory.pue

    def is_read(self):
        """Whether the gateway has read what the devices draw now: limits are told against its reading."""
        return abs(self.facility.state().power_kw / 1000 - self.meter_mw()) < 0.02 * self.meter_mw()

    def mining(self):
        """Slots of the miners that draw what a mining one does."""
        return set(np.flatnonzero(self.power_w()[:MINERS] > 2000).tolist())

    def asleep(self):
        """Slots of the miners that draw what a sleeping one does."""
        return set(np.flatnonzero(self.power_w()[:MINERS] < 100).tolist())
