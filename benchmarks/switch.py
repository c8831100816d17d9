"""`hcp bench switch`: what the control plane takes of a switch of a GPU that runs something, phase by phase.

Simulated 8-GPU nodes in a process of their own, on loopback, at the embedded world's speed; here a gateway's driver with its
durable log. Switches arrive at a fixed rate, one GPU each, to another kind of work than runs there. A phase is from the request
to the agent's yes, real milliseconds; *control* is the whole switch without the device's own time, so that noticing an end late,
storing and asking count. The device's time stands beside it, in seconds of the device's clock.
"""

import argparse
import asyncio
import sys
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pydantic import SecretStr

from benchmarks.common import about, cpu_s, load_average, percentile, print_figures, rounded
from benchmarks.parts.device_world import IDLE, DeviceWorld, address_of
from hcp_pipelines.devices.gpu_node.boards import Level
from hcp_pipelines.devices.gpu_node.fleet import GpuGroup, GpuNodeOptions
from hcp_pipelines.devices.gpu_node.site import GpuNodeSite
from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.devices.site import Reading
from hcp_pipelines.devices.switches import Outcome, Phase, Switch, SwitchBook
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.edge.durable_log import DurableLog, open_ahead
from hcp_pipelines.edge.switches import LoggedSwitches
from hcp_pipelines.wire.slots import encode_slots

WANTED_MS = 100.0
TARGET = f"control_p95_ms < {WANTED_MS:.0f}; every switch ends well"
FULL, QUICK = (600, 24, 10.0), (60, 4, 6.0)  # switches, nodes, switches a second
TOKEN = "benchmark-token"  # noqa: S105 - of a simulated world on loopback
REALTIME, BATCH, TRAINING = DeviceState.INFERENCE_REALTIME, DeviceState.INFERENCE_BATCH, DeviceState.TRAINING
LADDER = {IDLE: 200.0, REALTIME: 900.0, BATCH: 1250.0, TRAINING: 1300.0}
NEXT = {BATCH: TRAINING, TRAINING: REALTIME, REALTIME: BATCH}
SMALL = WorkloadSpec(weights_gib=16.0, load="streamed", gpus_each=1)
WITHIN_S = 30.0  # real: until all that was asked for is over


class _Book(LoggedSwitches):
    """The gateway's book, which also keeps what is over, and which GPUs are free for another."""

    def __init__(self, log: DurableLog, world: DeviceWorld) -> None:
        super().__init__(log, world.clock, SwitchBook())
        self.over: list[Switch] = []
        self._first_gpu = world.first_gpu
        self.free: asyncio.Queue[int] = asyncio.Queue()
        self.left, self.are_all_over = 0, asyncio.Event()

    def take(self, switch: Switch) -> None:
        """How a switch stands from now on."""
        super().take(switch)
        if switch.outcome is not None:
            self.over.append(switch)
            self.free.put_nowait(switch.slots[0] - self._first_gpu)
            if len(self.over) == self.left:
                self.are_all_over.set()


class _Driver:
    """A gateway's driver of the world's GPUs."""

    def __init__(self, world: DeviceWorld, folder: Path, book: _Book) -> None:
        self._world, self._gpus, self._read = world, 8 * world.nodes, asyncio.Event()
        addresses = tuple(address_of(world.first_gpu + 8 * n) for n in range(world.nodes))
        levels = tuple(Level(state, watts) for state, watts in LADDER.items())
        group = GpuGroup(world.first_gpu, self._gpus, addresses, levels)
        options = GpuNodeOptions(
            world.ports["exporter_port"], world.ports["agent_port"], deadline_s=10.0, token=SecretStr(TOKEN),
            workloads=dict.fromkeys((REALTIME, BATCH, TRAINING), SMALL),
        )  # fmt: skip
        slots = world.first_gpu + self._gpus
        self.site = GpuNodeSite([group], slots, options, folder, world.clock, self._take, book)

    async def tell(self, state: DeviceState, gpus: Sequence[int]) -> None:
        """Put GPUs into a state; it is told once the last phase was accepted."""
        slots = np.array(gpus, dtype=np.uint32) + np.uint32(self._world.first_gpu)
        await self.site.finish_state(self.site.send_state(uuid.uuid4(), 0, int(state), encode_slots(slots)))

    async def load_all(self) -> None:
        """Every GPU at batch work, and at rest about it."""
        await self.tell(BATCH, range(self._gpus))
        async with asyncio.timeout(WITHIN_S):
            while not ((await self.site.read_states())[self._world.first_gpu :] == BATCH).all():
                self._read.clear()
                await self._read.wait()

    def _take(self, _reading: Reading) -> None:
        self._read.set()


async def measure(world: DeviceWorld, pid: int, folder: Path, switches: int, rate_per_s: float) -> dict[str, Any]:
    """So many switches, each begun at its instant, however long those before it take."""
    ahead = open_ahead(folder, "bench")
    log = DurableLog(folder / "log", ahead)
    book = _Book(log, world)
    driver = _Driver(world, folder, book)
    await driver.site.connect(500)
    try:
        await driver.load_all()
        book.left = switches
        own_s, world_s = time.process_time(), cpu_s(pid)
        await _arrive(driver, book, 8 * world.nodes, rate_per_s)
        async with asyncio.timeout(WITHIN_S):
            await book.are_all_over.wait()
        own_s, world_s = time.process_time() - own_s, cpu_s(pid) - world_s
    finally:
        await driver.site.close()
        await log.close()
        await ahead.close()
    used = {"gateway_cpu_ms_per_switch": own_s, "world_cpu_ms_per_switch": world_s}
    return figures(book.over, rate_per_s) | {name: rounded(s / switches * 1000, 1) for name, s in used.items()}


async def _arrive(driver: _Driver, book: _Book, gpus: int, rate_per_s: float) -> None:
    state_of = dict.fromkeys(range(gpus), BATCH)
    for gpu in state_of:
        book.free.put_nowait(gpu)
    began_s, telling = time.monotonic(), []
    for number in range(book.left):
        await asyncio.sleep(max(began_s + number / rate_per_s - time.monotonic(), 0.0))
        gpu = await book.free.get()
        state_of[gpu] = NEXT[state_of[gpu]]
        telling.append(asyncio.create_task(driver.tell(state_of[gpu], [gpu])))
    await asyncio.gather(*telling)


def figures(over: Sequence[Switch], rate_per_s: float) -> dict[str, Any]:
    """Percentiles of phases and totals, real milliseconds; of the devices' own time, milliseconds and seconds of their clock."""
    found: dict[str, Any] = {"switches": len(over), "rate_per_s": rate_per_s}
    found |= {f"outcome_{outcome}": count for outcome, count in Counter(str(one.outcome) for one in over).items()}
    found["failed"] = sum(one.outcome is not Outcome.SWITCHED for one in over)
    found |= _percentiles("control", [one.total_ms for one in over])
    found |= _percentiles("device", [sum(one.device_ms.values()) for one in over])
    for phase in Phase:
        found |= _percentiles(str(phase), [ms for one in over if (ms := _of(one.phases_ms, phase)) is not None])
    for phase in Phase:
        took_s = [ms / 1000 for one in over if (ms := _of(one.device_ms, phase)) is not None]
        found |= {f"device_{phase}_{name}_s": rounded(percentile(took_s, share), 1) for name, share in _SHARES[:2]}
    return found


_SHARES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def _of(times: Mapping[Phase, float], phase: Phase) -> float | None:
    return times.get(phase)


def _percentiles(name: str, values: Sequence[float]) -> dict[str, Any]:
    return {f"{name}_{label}_ms": rounded(percentile(values, share), 1) for label, share in _SHARES}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hcp bench switch", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK[0]} switches, not {FULL[0]}")
    parser.add_argument("--rate", type=float, help="switches a second")
    parser.add_argument("--switches", type=int, help="how many")
    return parser.parse_args()


def main() -> int:
    """Run the benchmark; exit code 1 when the target is missed."""
    arguments = _arguments()
    switches, nodes, rate_per_s = QUICK if arguments.quick else FULL
    began_s, load = time.monotonic(), load_average()
    with TemporaryDirectory(prefix="hcp-bench-") as name:
        world = DeviceWorld(Path(name), 4, nodes, LADDER, TOKEN)
        try:
            pid = world.start()
            count, rate_per_s = arguments.switches or switches, arguments.rate or rate_per_s
            measured = asyncio.run(measure(world, pid, Path(name), count, rate_per_s))
        finally:
            world.end()
    measured |= about(quick=arguments.quick, target=TARGET, began_s=began_s) | {"load_average_before": load}
    print_figures(measured, as_json=arguments.json)
    return 0 if not measured["failed"] and measured["control_p95_ms"] < WANTED_MS else 1


if __name__ == "__main__":
    sys.exit(main())
