"""`hcp bench world`: what 250,000 miners and 50,000 GPUs cost per simulated second, with faults, weather and commands.

The world's physics alone, in this process, moved a simulated second at a time by hand: each second every site reads its meter and
the power of every device, as a gateway's subscription does, and its hashrate, and each minute some devices are switched. No
sockets.
"""

import argparse
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from pyroaring import BitMap

from benchmarks.common import about, percentile, print_figures, progress, rounded
from simulators.clock import ManualClock
from simulators.durability import TransitionLog
from simulators.fleet import Fleet
from simulators.power_plant.attach import Plants
from simulators.power_plant.frequency import GridFrequency
from simulators.scenarios import scenario_named
from simulators.script import Script
from simulators.settings import SiteConfig
from simulators.site import Site

TARGET = "cpu_s_per_simulated_s < 1 and rss_mb < 2048 at 250,000 miners and 50,000 GPUs"
SITES, MINERS, GPUS = 12, 250_000, 50_000
FULL_S, QUICK_S, WARM_UP_S = 1800, 300, 60
COMMAND_S = 60  # between two commands to a site, simulated
SWITCHED = 20  # one device in so many, each time
READINGS = 2000
SCENARIO = "winter-storm"  # of the shipped ones the one with the most going on
ASLEEP, ECO, FULL, IDLE, BATCH = 0, 2, 3, 1, 5


def site_config(number: int, miners: int, gpus: int) -> SiteConfig:
    """One site with its share of the devices."""
    states = [
        {"state": ASLEEP, "power_w": 25.0, "ramp_up_s": 20, "ramp_down_s": 20},
        {"state": ECO, "power_w": 2800.0, "ramp_up_s": 240, "ramp_down_s": 60, "hash_rate_th_per_s": 172.0},
        {"state": FULL, "power_w": 3500.0, "ramp_up_s": 240, "ramp_down_s": 60, "hash_rate_th_per_s": 200.0},
    ]
    gpu_states = [{"state": IDLE, "power_w": 450.0}, {"state": BATCH, "power_w": 1300.0, "ramp_up_s": 60}]
    groups = [
        {"group": "s21", "kind": "ASIC", "model": "S21", "first_slot": 0, "devices": miners, "states": states},
        {
            "group": "h100", "kind": "GPU", "model": "H100 SXM5", "first_slot": miners, "devices": gpus,
            "states": gpu_states,
        },
    ]  # fmt: skip
    point = ("HB_NORTH", "HB_HOUSTON", "HB_WEST")[number % 3]
    site = {"site": f"site-{number}", "settlement_point": point, "pue": 1.06, "groups": groups}
    return SiteConfig.model_validate(site | {"plant": {"cooling": {}}})


def measure(folder: Path, seconds: int, miners: int, gpus: int) -> dict[str, Any]:
    """Make the world, warm it up, move it, and take readings."""
    script = Script(scenario_named(SCENARIO))
    clock = ManualClock(script.origin_s)
    configs = [site_config(n, _share(miners, n), _share(gpus, n)) for n in range(SITES)]
    began_s = time.process_time()
    fleet = Fleet(configs, 7, clock.at_s, script)
    log = TransitionLog(folder / "transitions.jsonl", fleet, clock)
    plants = Plants(fleet, folder / "plant.jsonl", GridFrequency(7, script))
    made_s = time.process_time() - began_s
    _move(fleet, log, clock, range(WARM_UP_S))
    before_s, real_s = time.process_time(), time.monotonic()
    switched = _move(fleet, log, clock, progress(range(seconds), "seconds"))
    used_s, real_s = time.process_time() - before_s, time.monotonic() - real_s
    plants.close()
    return {
        "devices": fleet.devices,
        "sites": SITES,
        "scenario": SCENARIO,
        "cpu_s_per_simulated_s": rounded(used_s / seconds, 5),
        "real_s_per_simulated_s": rounded(real_s / seconds, 5),
        "rss_mb": rounded(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "simulated_s": seconds,
        "switched": switched,
        "faulty": sum(int((site.reachable == 0).sum()) for site in fleet.sites.values()),
        "start_cpu_s": rounded(made_s, 2),
        **_reading_us(list(fleet.sites.values()), clock.at_s),
    }


def _share(devices: int, site: int) -> int:
    return devices // SITES + (site < devices % SITES)


def _move(fleet: Fleet, log: TransitionLog, clock: ManualClock, seconds: Any) -> int:
    """A simulated second at a time; how many devices were switched."""
    switched = 0
    for _ in seconds:
        clock.at_s += 1.0
        for number, site in enumerate(fleet.sites.values()):
            site.site_power_w(clock.at_s)
            site.power_w(clock.at_s)
            site.hashrate_th_per_s(clock.at_s)
            if int(clock.at_s) % COMMAND_S == number % COMMAND_S:
                switched += _command(log, site, int(clock.at_s) // COMMAND_S)
    return switched


def _command(log: TransitionLog, site: Site, turn: int) -> int:
    """Every twentieth device into the next state of its ladder; a GPU refuses what only miners can do."""
    wanted = BitMap(range(turn % SWITCHED, site.devices, SWITCHED))
    ref = UUID(int=turn).bytes
    states = ((FULL, BATCH), (ECO, IDLE), (ASLEEP, BATCH), (FULL, IDLE))[turn // SWITCHED % 4]
    return sum(len(log.set_state(site, ref, number, state, wanted).changed) for number, state in enumerate(states))


def _reading_us(sites: list[Site], at_s: float) -> dict[str, Any]:
    """Microseconds of one reading of one device, as a protocol server takes it."""
    found: dict[str, list[float]] = {"miner": [], "gpu": []}
    for turn in range(READINGS):
        site = sites[turn % len(sites)]
        miners = site.config.groups[0].devices
        for kind, slot in (("miner", turn * 37 % miners), ("gpu", miners + turn * 37 % (site.devices - miners))):
            began_ns = time.perf_counter_ns()
            (site.miner if kind == "miner" else site.gpu)(slot, at_s)
            found[kind].append((time.perf_counter_ns() - began_ns) / 1000)
    return {
        f"{kind}_reading_{name}_us": rounded(percentile(taken, share), 1)
        for kind, taken in found.items()
        for name, share in (("p50", 0.5), ("p95", 0.95))
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hcp bench world", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_S} simulated seconds instead of {FULL_S}")
    parser.add_argument("--miners", type=int, default=MINERS, help=f"over {SITES} sites (default {MINERS})")
    parser.add_argument("--gpus", type=int, default=GPUS, help=f"over {SITES} sites (default {GPUS})")
    return parser.parse_args()


def main() -> int:
    """Run the benchmark; exit code 1 when the target is missed."""
    arguments = _arguments()
    began_s = time.monotonic()
    with TemporaryDirectory(prefix="hcp-bench-") as folder:
        figures = measure(Path(folder), QUICK_S if arguments.quick else FULL_S, arguments.miners, arguments.gpus)
    figures |= about(quick=arguments.quick, target=TARGET, began_s=began_s)
    print_figures(figures, as_json=arguments.json)
    return 0 if figures["cpu_s_per_simulated_s"] < 1 and figures["rss_mb"] < 2048 else 1


if __name__ == "__main__":
    sys.exit(main())
