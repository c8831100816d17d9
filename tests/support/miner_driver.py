"""The platform's miner driver against the simulated miners of tests/support/miners.py, in one loop, on free ports."""

from datetime import UTC, datetime

import pytest

from hcp_pipelines.devices.miner.drive import drive
from hcp_pipelines.devices.miner.make import make_device
from hcp_pipelines.devices.miner.profiles import ProfileStore
from hcp_pipelines.devices.miner.telemetry import Level, MinerGroup, MinerOptions
from hcp_pipelines.devices.miner.web import new_client
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.modes import DeviceState
from simulators.addresses import address_of
from tests.support.miners import ECO, FULL, M60S, OFF, S21

OLD_MD5 = pytest.mark.filterwarnings(
    "ignore:passing settings to md5_crypt:DeprecationWarning"
)  # pyasic's call of passlib
STATES = {OFF: DeviceState.CURTAILED, ECO: DeviceState.MINING_ECO, FULL: DeviceState.MINING_FULL}


def levels_of(states, settle_s=100.0):
    return tuple(Level(DeviceState(s), power, rate, settle_s) for s, (power, rate) in states.items())


S21_LEVELS, M60S_LEVELS = levels_of(S21), levels_of(M60S)


def levels_for(firmware):
    return M60S_LEVELS if firmware.startswith("whatsminer") else S21_LEVELS


def options_of(hall, **changes):
    ports = {"api_port": hall.port(4028), "web_port": hall.port(80), "v3_port": hall.port(4433)}
    return MinerOptions(**ports | {"deadline_s": 2.0, "command_deadline_s": 2.0} | changes)


class HallClock(SystemClock):
    """The hall's simulated time; real time otherwise."""

    def __init__(self, hall) -> None:
        super().__init__()
        self._hall = hall

    def now(self):
        return datetime.fromtimestamp(self._hall.clock.at_s, tz=UTC)


class Rig:
    """One miner of a hall under its driver."""

    def __init__(self, hall, slot, firmware, folder, **options) -> None:
        self.hall, self.slot, self.address = hall, slot, address_of(0, slot)
        self.group = MinerGroup(slot, (self.address,), firmware, levels_for(firmware))
        self.options = options_of(hall, **options)
        self.client = new_client(4)
        self.profiles = ProfileStore(folder)
        self.device = None

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.client.aclose()
        await self.profiles.close()

    async def the_device(self):
        if self.device is None:
            self.device = await make_device(self.address, self.options, self.client)
        return self.device

    async def read_back(self):
        return await (await self.the_device()).read_back()

    async def to(self, state, *, after_s=900.0, is_on_its_way=False):
        """Command a state, let simulated time pass, and read back."""
        level = self.group.level(state)
        device = await self.the_device()
        told = await drive(device, self.address, level, self.group, self.profiles, is_on_its_way=is_on_its_way)
        self.hall.pass_s(after_s)
        return told

    @property
    def truth(self):
        return self.hall.truth(self.slot)
