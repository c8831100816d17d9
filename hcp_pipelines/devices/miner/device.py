"""What every dialect's device does. Domain values in and out; the wire is below, when to do what is in `drive` and `site`."""

from collections.abc import Sequence
from typing import Protocol

from hcp_pipelines.devices.miner.telemetry import Level, Profile, Telemetry


class MinerDevice(Protocol):
    """One miner. Each method ends by a deadline and raises one of the three device errors."""

    @property
    def firmware(self) -> str:
        """The firmware's version, as it tells it."""

    async def read(self) -> Telemetry:
        """Hashrate, and power where it is told: one exchange, for polling."""

    async def read_back(self) -> Telemetry:
        """The same with the mode: after a command."""

    def profile(self, before: Telemetry, levels: Sequence[Level]) -> Profile | None:
        """What it was set to when it was read back just now, to be restored after a sleep; None if it slept."""

    async def sleep(self) -> None:
        """Stop hashing; after `read_back`."""

    async def wake(self, level: Level, remembered: Profile | None, before: Telemetry) -> None:
        """Hash at a level, from what was just read back: as before its sleep if that was it, else as the ladder has it."""


def restorable(remembered: Profile | None, level: Level, firmware: str) -> Profile | None:
    """The remembered profile, if it was of this level and of this very firmware."""
    if remembered is None or remembered.state != level.state or remembered.firmware != firmware:
        return None
    return remembered
