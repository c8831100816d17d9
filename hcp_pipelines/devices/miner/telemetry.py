"""What a miner reads back, what must be remembered of it before a sleep, and what a facility's miners are. Plain values.

How power follows from a reading where a miner doesn't measure it is in `evidence`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hcp_pipelines.domain.modes import DeviceState

WORKING = (DeviceState.MINING_ECO, DeviceState.MINING_FULL)


class Dialect(StrEnum):
    """Whose protocol a miner speaks. Only the first four are driven."""

    ANTMINER = "antminer"
    WHATSMINER_V2 = "whatsminer-v2"
    WHATSMINER_V3 = "whatsminer-v3"
    LUXOS = "luxos"
    BRAIINS = "braiins"
    VNISH = "vnish"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Level:
    """A state of the group's ladder: IT power and hashrate of one device in it, and within how many seconds it must be there."""

    state: DeviceState
    power_w: float
    hash_rate_th_per_s: float = 0.0
    settle_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One reading. None: this firmware doesn't say, or this read did not ask."""

    hash_rate_th_per_s: float
    is_asleep: bool | None = None  # as its configuration says: a miner may say so and hash on
    power_w: float | None = None
    is_power_measured: bool = False  # else the firmware's estimate
    profile_w: float | None = None  # power limit, or watts of the configured profile
    state_told: DeviceState | None = None  # where the firmware names a mode that is a state
    chip_temperature_celsius: float | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """What a miner was set to before it was put to sleep."""

    firmware: str  # its version: a profile is not written back into another one
    state: DeviceState
    limit_w: float | None = None
    name: str = ""  # LuxOS: the profile
    configuration: Mapping[str, Any] = field(default_factory=dict)  # stock: the whole of it, pools included


@dataclass(frozen=True, slots=True)
class MinerGroup:
    """A run of slots: an address each, a firmware as the inventory has it, and a ladder rising in power."""

    first_slot: int
    addresses: tuple[str, ...]
    firmware: str
    levels: tuple[Level, ...]
    feeder_id: str = ""
    model: str = ""  # as the model table names it

    def level(self, state: int) -> Level | None:
        """The ladder's entry of a state; None where there is none."""
        return next((one for one in self.levels if one.state == state), None)


@dataclass(frozen=True, slots=True)
class MinerOptions:
    """How a site's miners are spoken to."""

    api_port: int = 4028
    web_port: int = 80
    v3_port: int = 4433
    deadline_s: float = 3.0  # of a read
    command_deadline_s: float = 30.0  # of a command: some stock firmware answers after 21 s (asic-rs issue 245)
    concurrency: int = 64  # connections at once, for polls and for commands apart
    passwords: Mapping[str, str] = field(default_factory=dict, repr=False)  # by `Dialect`; left out: the factory's


FACTORY_PASSWORDS = {Dialect.ANTMINER: "root", Dialect.WHATSMINER_V2: "admin", Dialect.WHATSMINER_V3: "super"}
