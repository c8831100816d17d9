"""A small simulated site, and scenarios written on the spot."""

from pyroaring import BitMap

from simulators.fault_schedule import FaultSchedule
from simulators.scenarios import Scenario
from simulators.script import GENERATED_START_S, Script
from simulators.settings import SiteConfig
from simulators.site import Site
from simulators.site_records import Surroundings
from simulators.weather import Weather

T0 = float(GENERATED_START_S)
ASLEEP, ECO, FULL, IDLE, BATCH = 0, 2, 3, 1, 5
MINERS, GPUS = 400, 64
FIRST_GPU = MINERS + 8
EVERY_MINER, EVERY_GPU = BitMap(range(MINERS)), BitMap(range(FIRST_GPU, FIRST_GPU + GPUS))


def site_config(name="one", miners=MINERS, gpus=GPUS, **changes) -> SiteConfig:
    asic = [
        {"state": ASLEEP, "power_w": 25.0, "ramp_up_s": 20, "ramp_down_s": 20},
        {"state": ECO, "power_w": 2800.0, "ramp_up_s": 240, "ramp_down_s": 60, "hash_rate_th_per_s": 172.0},
        {"state": FULL, "power_w": 3500.0, "ramp_up_s": 240, "ramp_down_s": 60, "hash_rate_th_per_s": 200.0},
    ]
    gpu = [{"state": IDLE, "power_w": 450.0}, {"state": BATCH, "power_w": 1300.0, "ramp_up_s": 60}]
    groups = [
        {"group": "asic", "kind": "ASIC", "model": "S21", "first_slot": 0, "devices": miners, "states": asic},
        {"group": "gpu", "kind": "GPU", "model": "H100 SXM5", "first_slot": miners + 8, "devices": gpus, "states": gpu},
    ]
    config = {"site": name, "settlement_point": "HB_NORTH", "pue": 1.2, "groups": [g for g in groups if g["devices"]]}
    return SiteConfig.model_validate(config | changes)


def script(**fields) -> Script:
    return Script(Scenario.model_validate({"name": "test", "description": "made for a test", **fields}), T0)


def make_site(the_script=None, at_s=T0, seed=7, config=None) -> Site:
    the_script, config = the_script or script(), config or site_config()
    return Site(config, seed, at_s, Surroundings(Weather(seed, the_script), FaultSchedule(config, 0, seed, the_script)))


def typical(factor=1.0, **fields) -> Script:
    return script(faults={"profile": "typical", "factor": factor}, **fields)
