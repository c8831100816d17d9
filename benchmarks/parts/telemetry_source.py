"""A gateway of telemetry alone: real samplers, spools and streams, before devices whose readings are noise of their own.

Run as a process by `benchmarks.ingest`. It takes samples until a file `halt` appears in its folder, and serves what it has kept
until it is stopped; `produced.json` there says which samples there are.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import grpc
import numpy as np

from hcp_pipelines.devices.site import Reading
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.edge.admittance import bind
from hcp_pipelines.edge.config import EdgeConfig, FacilityConfig, load_edge_config
from hcp_pipelines.edge.devices import Devices
from hcp_pipelines.edge.telemetry.sampler import Sampler, new_worker
from hcp_pipelines.edge.telemetry.service import TelemetryService
from hcp_pipelines.runtime.process import ProcessContext, read_clock, run_process
from hcp_pipelines.settings import Settings
from hcp_pipelines.wire.channels import LIMITS

TELL_EACH_S = 0.25
TELL_READING_EACH_S = 0.5  # as often as a gateway reads its site


class _Site:
    """One facility: what a sampler looks at of its devices, and their readings."""

    def __init__(self, config: FacilityConfig, seed: int) -> None:
        slots = config.slots
        self._random = np.random.default_rng(seed)
        self._power_w = self._random.uniform(2600, 3600, slots).astype(np.float32)
        self._hashrate = self._random.uniform(150, 250, slots).astype(np.float32)
        self._temperature = self._random.uniform(55, 75, slots).astype(np.float32)
        self.listeners: list[Callable[[Reading], None]] = []
        self.states = self._random.integers(0, 4, slots).astype(np.uint8)
        self.bars = SimpleNamespace(dark=np.zeros(slots, dtype=np.bool_))
        self.shape = SimpleNamespace(
            meter_kw=lambda power_kw: float(power_kw.sum())
        )  # no meter is read: the devices' power

    def tell(self, at_s: float) -> None:
        """A reading: each device near its own level, each time another value."""
        reading = Reading(
            at_s,
            self._noisy(self._power_w, 0.01),
            hashrate_th_per_s=self._noisy(self._hashrate, 0.02),
            temperature_celsius=self._noisy(self._temperature, 0.02),
        )
        for listener in self.listeners:
            listener(reading)

    def _noisy(self, level: np.ndarray, share: float) -> np.ndarray:
        noise = self._random.standard_normal(len(level), dtype=np.float32)
        noisy: np.ndarray = level * (1 + np.float32(share) * noise)
        return noisy


async def body(context: ProcessContext, config: EdgeConfig) -> None:
    """Sample and serve until told to stop."""
    clock, worker = read_clock(context.settings), new_worker()
    sites = {f.facility_id: _Site(f, seed) for seed, f in enumerate(config.facilities)}
    samplers = {f.facility_id: _sampler(f, config, sites[f.facility_id], clock, worker) for f in config.facilities}
    server = grpc.aio.server(options=LIMITS)
    TelemetryService(samplers, clock).add_to(server)
    bind(server, config)
    await server.start()
    context.ready()
    sampling = [asyncio.create_task(sampler.run()) for sampler in samplers.values()]
    telling = [asyncio.create_task(_tell(site, clock)) for site in sites.values()]
    noting = asyncio.create_task(_note(config, samplers, [*sampling, *telling]))
    await context.stop.wait()
    for task in (*sampling, *telling, noting):
        task.cancel()
    await server.stop(0.2)
    worker.shutdown()


def _sampler(
    facility: FacilityConfig, config: EdgeConfig, site: _Site, clock: SystemClock, worker: ThreadPoolExecutor
) -> Sampler:
    folder = config.state_dir / facility.facility_id / "telemetry"
    return Sampler(facility, config.telemetry, cast("Devices", site), folder, clock, worker)


async def _tell(site: _Site, clock: SystemClock) -> None:
    while True:
        site.tell(clock.now().timestamp())
        await asyncio.sleep(TELL_READING_EACH_S)


async def _note(config: EdgeConfig, samplers: dict[str, Sampler], tasks: "list[asyncio.Task[None]]") -> None:
    """Write down how many samples were kept; after a halt no more are taken."""
    halt, path = config.state_dir / "halt", config.state_dir / "produced.json"
    while True:
        if halt.exists():
            for task in tasks:
                task.cancel()
            await asyncio.sleep(TELL_EACH_S)
        produced = {name: {"kept": sampler.kept, "last_seq": sampler.last_seq} for name, sampler in samplers.items()}
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({"is_halted": halt.exists(), "facilities": produced}))
        fresh.replace(path)
        await asyncio.sleep(TELL_EACH_S)


def main() -> int:
    """Run by `benchmarks.ingest`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    config = load_edge_config(parser.parse_args().config)
    return run_process(config.gateway, Settings.load(), lambda context: body(context, config))


if __name__ == "__main__":
    sys.exit(main())
