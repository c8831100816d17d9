"""Two sites whose devices speak all their own protocols, on one clock that the test moves, behind the scenario's network."""

from pathlib import Path

from simulators.addresses import address_of
from simulators.clock import ManualClock
from simulators.durability import TransitionLog
from simulators.fleet import Fleet
from simulators.power_plant.attach import Plants
from simulators.power_plant.frequency import GridFrequency
from simulators.protocols import Protocols
from simulators.settings import WorldConfig
from tests.support.gpus import STATES, TOKEN
from tests.support.miners import group

STOCK, WHATSMINER, V3, LUXOS, GPU = 0, 16, 32, 48, 64
NODES = 2


def site_document(name):
    families = {STOCK: "stock", WHATSMINER: "whatsminer", V3: "whatsminer-v3", LUXOS: "luxos"}
    ladder = [{"state": s, "power_w": w, "ramp_up_s": 5, "ramp_down_s": 2} for s, w in STATES]
    gpus = {
        "group": "h100",
        "kind": "GPU",
        "model": "H100 SXM5",
        "first_slot": GPU,
        "devices": 8 * NODES,
        "states": ladder,
    }
    return {
        "site": name,
        "settlement_point": "HB_NORTH",
        "pue": 1.1,
        "groups": [*(group(firmware, first) for first, firmware in families.items()), gpus],
    }


class ProtocolWorld:
    """Every protocol of two sites; `port` by the name in the ready file."""

    def __init__(self, folder: Path, script=None, *, speed=60.0, at_s=None, sites=("one", "two")) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "token").write_text(TOKEN)
        at_s = script.origin_s if at_s is None else at_s
        self.clock = ManualClock(at_s, speed)
        self.config = WorldConfig.model_validate(
            {
                "version": 1,
                "seed": 7,
                "anchor": folder / "anchor",
                "bulk_socket": folder / "b.sock",
                "ready_file": folder / "ready",
                "transition_log": folder / "transitions.jsonl",
                "exogenous_log": folder / "exogenous.jsonl",
                "sites": [site_document(name) for name in sites],
                "protocols": {
                    "miners": {"enabled": True, "port_4028": 0, "http_port": 0, "v3_port": 0},
                    "gpu_nodes": {
                        "enabled": True,
                        "exporter_port": 0,
                        "agent_port": 0,
                        "collect_s": 1,
                        "token_file": folder / "token",
                    },
                    "modbus": {"enabled": True, "port": 0},
                },
            }
        )
        self.fleet = Fleet(self.config.sites, 7, at_s, script)
        self.transitions = TransitionLog(self.config.transition_log, self.fleet, self.clock)
        frequency = GridFrequency(7, script)
        self.plants = Plants(self.fleet, folder / "plant.jsonl", frequency, self.transitions.touch)
        self.protocols = Protocols(self.config, self.fleet, self.transitions, self.clock)

    async def __aenter__(self):
        await self.transitions.save(always=True)
        await self.protocols.start()
        return self

    async def __aexit__(self, *_):
        await self.protocols.stop()
        await self.transitions.close()
        self.plants.close()

    def port(self, name):
        return int(self.protocols.urls[name].rpartition(":")[2])

    def at(self, name, slot, site=0):
        """Where a device speaks a protocol."""
        return address_of(site, slot), self.port(name)
