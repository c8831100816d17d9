"""The mining pool of a small world, in the test's own loop, on a clock that moves only when told."""

from pathlib import Path

from simulators.clock import ManualClock
from simulators.durability import TransitionLog
from simulators.fleet import Fleet
from simulators.pool.port import Patience
from simulators.pool.server import PoolServer
from simulators.settings import WorldConfig
from tests.support.miners import group

START_S = 1_735_689_600.0
EASY_DIFFICULTY = 2e-6  # some 8,600 hashes a share
EASY = {"start_difficulty": EASY_DIFFICULTY, "least_difficulty": 1e-8}


class PoolWorld:
    """A site of miners, and the pool that they work for."""

    def __init__(self, folder: Path, *, devices=8, script=None, patience=None, sites=("one",), blocks=None, **pool):
        paths = dict.fromkeys(("anchor", "bulk_socket", "ready_file", "exogenous_log"), folder / "unused")
        ports = {"enabled": True, "v1_port": 0, "v2_port": 0, "api_port": 0} | EASY | pool
        document = {
            "version": 1, **paths, "transition_log": folder / "transitions.jsonl",
            "sites": [
                {"site": name, "settlement_point": "HB_NORTH", "groups": [group("stock", 0, devices)]} for name in sites
            ],
            "protocols": {"pool": ports},
        }  # fmt: skip
        self.clock = ManualClock(START_S)
        self.config = WorldConfig.model_validate(document)
        self.fleet = Fleet(self.config.sites, self.config.seed, START_S, script)
        self.transitions = TransitionLog(self.config.transition_log, self.fleet, self.clock)
        self.pool = PoolServer(self.config, self.fleet, self.transitions, self.clock, patience or Patience(), blocks)

    async def __aenter__(self):
        await self.pool.start()
        return self

    async def __aexit__(self, *_):
        await self.pool.stop()
        await self.transitions.close()

    @property
    def v1(self):
        return self.pool.v1.port.port

    @property
    def v2(self):
        return self.pool.v2.port.port

    def worker(self, name="hcp.rig"):
        return self.pool.office.outside.workers[name]

    def to(self, after_s):
        self.clock.at_s = START_S + after_s
        self.pool.renew()
        return self
