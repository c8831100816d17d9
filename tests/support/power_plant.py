"""A simulated site with a power plant behind Modbus TCP, on a clock that moves only when told."""

import asyncio
import contextlib
import struct

from pyroaring import BitMap

from simulators.clock import ManualClock
from simulators.durability import TransitionLog
from simulators.fleet import Fleet
from simulators.power_plant.attach import Plants
from simulators.power_plant.frequency import GridFrequency
from simulators.power_plant.server import PowerPlantServer
from simulators.settings import SiteConfig, WorldConfig

T0 = 1_736_000_000.0
ASLEEP, FULL, IDLE, BATCH = 0, 3, 1, 5
MINERS, GPUS, FULL_W, PUE = 100, 20, 3500.0, 1.25
MINER_FEEDER, GPU_FEEDER, TRANSFORMER = 10, 11, 12


def site_document(name="one", limit_kw=500.0, **changes):
    def group(kind, title, first, devices, *states):
        steps = [{"state": state, "power_w": watts, "ramp_up_s": 0, "ramp_down_s": 0} for state, watts in states]
        place = {"first_slot": first, "devices": devices, "feeder": title}
        return {"group": title, "kind": kind, "model": title, "states": steps} | place

    miners = {"feeder": "miners", "limit_w": limit_kw * 1000, "is_interruptible": True}
    return {
        "site": name, "settlement_point": "HB_NORTH", "pue": PUE,
        "feeders": [miners, {"feeder": "gpus", "limit_w": 50_000}],
        "groups": [
            group("ASIC", "miners", 0, MINERS, (ASLEEP, 25.0), (FULL, FULL_W)),
            group("GPU", "gpus", MINERS, GPUS, (IDLE, 450.0), (BATCH, 1300.0)),
        ],
    } | changes  # fmt: skip


class PlantWorld:
    """Sites, their plants, and the server, in the test's own loop."""

    def __init__(self, folder, *documents):
        self.clock = ManualClock(T0)
        sites = [SiteConfig.model_validate(document) for document in documents or (site_document(),)]
        paths = {
            key: folder / key for key in ("anchor", "bulk_socket", "ready_file", "transition_log", "exogenous_log")
        }
        config = WorldConfig(version=1, sites=sites, protocols={"modbus": {"enabled": True, "port": 0}}, **paths)
        self.fleet = Fleet(sites, 7, T0)
        self.transitions = TransitionLog(folder / "transitions.jsonl", self.fleet, self.clock)
        self.plants = Plants(self.fleet, folder / "plant.jsonl", GridFrequency(7), self.transitions.touch)
        self.server = PowerPlantServer(config, self.fleet, self.transitions, self.clock)
        self.site = next(iter(self.fleet.sites.values()))
        self.plant = self.site.plant

    @property
    def address(self):
        return self.server.addresses[self.site.config.site]

    async def __aenter__(self):
        await self.server.start()
        return self

    async def __aexit__(self, *_):
        await self.server.stop()
        self.plants.close()

    def to(self, after_s):
        self.clock.at_s = T0 + after_s
        return self

    def mine(self, miners=MINERS):
        self.transitions.set_state(self.site, bytes(16), 0, FULL, BitMap(range(miners)))


def frame(pdu, unit=1, transaction=1, protocol=0, length=None):
    return struct.pack(">HHHB", transaction, protocol, len(pdu) + 1 if length is None else length, unit) + pdu


async def exchange(address, *chunks, pause_s=0.0, half_close=False, within_s=3.0):
    """Send bytes, and return what came until the server closed, or was silent for a moment."""
    reader, writer = await asyncio.open_connection(*address)
    received = b""
    with contextlib.suppress(ConnectionError):
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(pause_s)
        if half_close:
            writer.write_eof()
    is_closed = False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while not is_closed:
                part = await asyncio.wait_for(reader.read(4096), 0.15 if not half_close else within_s)
                received, is_closed = received + part, not part
    await shut(writer)
    return received, is_closed


async def shut(writer):
    writer.close()
    with contextlib.suppress(ConnectionError, BrokenPipeError):
        await writer.wait_closed()
