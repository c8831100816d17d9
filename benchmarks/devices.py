"""`hcp bench devices`: how fast devices are found, read and told over their own protocols, beside the simulated ones.

A world in a process of its own with miners of the four driven dialects and 8-GPU nodes, on loopback; here the drivers and scans
of a gateway, as they are, over real sockets: a scan of twice as many addresses as there are miners, rounds of polls one after
another, and a state told to all at once. The network costs nothing; the world takes a core.
"""

import argparse
import asyncio
import contextlib
import sys
import time
import uuid
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.common import about, cpu_s, load_average, percentile, print_figures, rounded
from benchmarks.parts.device_world import FIRMWARES, IDLE, ON, STATES, DeviceWorld, address_of
from hcp_pipelines.devices.discovery.scan import scan
from hcp_pipelines.devices.gpu_node.boards import Level as GpuLevel
from hcp_pipelines.devices.gpu_node.fleet import GpuGroup, GpuNodeOptions
from hcp_pipelines.devices.gpu_node.site import GpuNodeSite
from hcp_pipelines.devices.miner.identify import VERSION
from hcp_pipelines.devices.miner.site import MinerApiSite
from hcp_pipelines.devices.miner.telemetry import Level, MinerGroup
from hcp_pipelines.devices.miner.transport import exchange
from hcp_pipelines.devices.site import DeviceSite, Reading
from hcp_pipelines.devices.work import spread
from hcp_pipelines.wire.slots import encode_slots

WANTED_PER_S = 50.0
TARGET = f"identified_per_s > {WANTED_PER_S:.0f}; every miner found and told"
FULL, QUICK = (12_000, 130, 20), (800, 16, 5)  # miners, GPU nodes, rounds
DRIVEN = 500  # miners that are polled and told
CONNECTIONS, AT_ONCE = 5_000, 64
WITHOUT_A_PAUSE_MS, SHIPPED_PERIOD_MS = 1, 5_000
LEVELS = tuple(Level(state, power_w, rate, 600.0) for state, (power_w, rate) in STATES.items())


class Readings:
    """When each round was complete."""

    def __init__(self) -> None:
        self._complete: asyncio.Queue[float] = asyncio.Queue()

    def take(self, _reading: Reading) -> None:
        """One more."""
        self._complete.put_nowait(time.monotonic())

    async def rounds(self, count: int) -> list[float]:
        """How long each of so many rounds from now on took, seconds."""
        while not self._complete.empty():
            self._complete.get_nowait()
        at_s = [await self._complete.get() for _ in range(count + 1)]
        return [after - before for before, after in pairwise(at_s)]


@contextlib.asynccontextmanager
async def _connected(site: DeviceSite, period_ms: int) -> AsyncIterator[None]:
    """Polled each period, or round after round where that is shorter than a round."""
    await site.connect(period_ms)
    try:
        yield
    finally:
        await site.close()


async def measure(world: DeviceWorld, pid: int, folder: Path, rounds: int) -> dict[str, Any]:
    """Scan, connections, rounds and a command, one after another."""
    return {
        **await _scan(world),
        **await _connections(world, pid),
        **await _miners(world, folder / "miners", rounds),
        **await _nodes(world, folder / "nodes", rounds),
    }


async def _scan(world: DeviceWorld) -> dict[str, Any]:
    miners = [address_of(slot) for slot in range(world.first_gpu)]
    nobody = [f"127.200{one.removeprefix('127.16')}" for one in miners]
    found = await scan(miners + nobody, world.miner_options(), world.clock, _unheard, log_on=set(miners))
    return {
        "addresses": len(found.addresses),
        "found": len(found.found),
        "problems": sum(bool(one.problem) for one in found.found),
        "addresses_per_s": rounded(found.probes_per_s, 0),
        "identified_per_s": rounded(found.identified_per_s, 0),
    }


def _unheard(_name: str, _done: int, _of: int) -> None:
    """Nobody looks at the progress."""


async def _connections(world: DeviceWorld, pid: int) -> dict[str, Any]:
    """One command a connection to LuxOS miners, from here; and what each costs the world."""

    async def ask(number: int) -> None:
        await exchange(address_of(number % world.each), world.ports["port_4028"], VERSION, 30.0)

    began_s, before_s = time.monotonic(), cpu_s(pid)
    await spread(range(CONNECTIONS), AT_ONCE, ask)
    took_s, used_s = time.monotonic() - began_s, cpu_s(pid) - before_s
    return {
        "connections_per_s": rounded(CONNECTIONS / took_s, 0),
        "world_ms_per_connection": rounded(used_s / CONNECTIONS * 1000, 3),
    }


async def _miners(world: DeviceWorld, folder: Path, rounds: int) -> dict[str, Any]:
    share = min(DRIVEN // len(FIRMWARES), world.each)
    groups = [
        MinerGroup(n * world.each, tuple(address_of(n * world.each + m) for m in range(share)), name, LEVELS)
        for n, name in enumerate(FIRMWARES)
    ]
    slots = np.array([g.first_slot + m for g in groups for m in range(share)], dtype=np.uint32)
    readings = Readings()
    site = MinerApiSite(groups, world.first_gpu, world.miner_options(), folder, world.clock, readings.take)
    async with _connected(site, WITHOUT_A_PAUSE_MS):
        took = await readings.rounds(rounds)
    async with _connected(site, SHIPPED_PERIOD_MS):
        began_s, before_s = time.monotonic(), time.process_time()
        accepted, _ = await site.finish_state(site.send_state(uuid.uuid4(), 0, int(ON), encode_slots(slots)))
        told_s, told_cpu_s = time.monotonic() - began_s, time.process_time() - before_s
    return {
        "miners_driven": len(slots),
        "miners_round_p50_s": rounded(percentile(took, 0.5)),
        "miners_round_p95_s": rounded(percentile(took, 0.95)),
        "miners_told": len(accepted),
        "miners_told_s": rounded(told_s),
        "miners_told_cpu_s": rounded(told_cpu_s),
    }


async def _nodes(world: DeviceWorld, folder: Path, rounds: int) -> dict[str, Any]:
    addresses = tuple(address_of(world.first_gpu + 8 * n) for n in range(world.nodes))
    group = GpuGroup(world.first_gpu, 8 * world.nodes, addresses, (GpuLevel(IDLE, 200.0),))
    options = GpuNodeOptions(world.ports["exporter_port"], world.ports["agent_port"], deadline_s=30.0)
    readings = Readings()
    slots = world.first_gpu + 8 * world.nodes
    site = GpuNodeSite([group], slots, options, folder, world.clock, readings.take)
    async with _connected(site, WITHOUT_A_PAUSE_MS):
        took = await readings.rounds(rounds)
    return {
        "gpu_nodes": world.nodes,
        "nodes_round_p50_s": rounded(percentile(took, 0.5)),
        "nodes_round_p95_s": rounded(percentile(took, 0.95)),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hcp bench devices", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK[0]} miners and {QUICK[1]} nodes, not {FULL[0]} and {FULL[1]}"
    )
    return parser.parse_args()


def main() -> int:
    """Run the benchmark; exit code 1 when the target is missed."""
    arguments = _arguments()
    miners, nodes, rounds = QUICK if arguments.quick else FULL
    began_s, load = time.monotonic(), load_average()
    with TemporaryDirectory(prefix="hcp-bench-") as folder:
        world = DeviceWorld(Path(folder), miners, nodes)
        try:
            pid = world.start()
            figures = asyncio.run(measure(world, pid, Path(folder), rounds))
        finally:
            world.end()
    figures |= about(quick=arguments.quick, target=TARGET, began_s=began_s) | {"load_average_before": load}
    print_figures(figures, as_json=arguments.json)
    is_whole = figures["found"] == miners and figures["miners_told"] == figures["miners_driven"]
    return 0 if is_whole and figures["identified_per_s"] > WANTED_PER_S else 1


if __name__ == "__main__":
    sys.exit(main())
