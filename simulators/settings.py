"""The world's own settings: the schema of `world.yaml`, and nothing of the platform's.

Every error names the file, the field, the value and what to do about it.
"""

from datetime import UTC, datetime
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from simulators.gpus.config import GpuNodesConfig
from simulators.market_config import MarketsConfig
from simulators.openadr.config import OpenAdrConfig
from simulators.pool.config import PoolConfig
from simulators.power_plant.config import FeederConfig, PlantConfig, check_plant

MAX_DEVICES_PER_SITE = 1_000_000


class WorldConfigError(Exception):
    """The configuration cannot be used; the message says what to change. Exit code 2."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class HttpConfig(_Strict):
    """Where the market services listen; loopback only, since the world has no authentication."""

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)

    @field_validator("host")
    @classmethod
    def _loopback(cls, host: str) -> str:
        if not ip_address(host).is_loopback:
            message = f"{host} is not a loopback address; the simulated world may only listen on loopback"
            raise ValueError(message)
        return host


class StateConfig(_Strict):
    """One state a device of the group can be in, and what it draws there (IT power, without PUE)."""

    state: int = Field(ge=0, le=6)
    power_w: float = Field(ge=0, le=1_000_000)
    ramp_up_s: float = Field(default=30.0, ge=0, le=86_400)
    ramp_down_s: float = Field(default=10.0, ge=0, le=86_400)
    hash_rate_th_per_s: float = Field(default=0.0, ge=0, le=10_000)


class GroupConfig(_Strict):
    """A contiguous run of slots with devices of one model."""

    group: str = Field(min_length=1)
    kind: Literal["ASIC", "GPU"]
    model: str
    firmware: str = "stock"
    feeder: str | None = None
    first_slot: int = Field(ge=0)
    devices: int = Field(ge=1, le=MAX_DEVICES_PER_SITE)
    states: list[StateConfig] = Field(min_length=1)

    @property
    def end_slot(self) -> int:
        """The first slot after this group."""
        return self.first_slot + self.devices


class SiteConfig(_Strict):
    """One simulated facility: its settlement point and its devices."""

    site: str = Field(min_length=1)
    settlement_point: str = Field(min_length=1)
    pue: float = Field(default=1.0, ge=1.0, le=3.0)
    groups: list[GroupConfig] = Field(min_length=1)
    feeders: list[FeederConfig] = Field(default_factory=list)
    plant: PlantConfig = Field(default_factory=PlantConfig)

    @property
    def slots(self) -> int:
        """Number of slots, gaps between groups included."""
        return max(group.end_slot for group in self.groups)

    @model_validator(mode="after")
    def _no_overlap(self) -> Self:
        ordered = sorted(self.groups, key=lambda group: group.first_slot)
        for before, after in pairwise(ordered):
            if before.end_slot > after.first_slot:
                message = (
                    f"site {self.site}: groups {before.group} and {after.group} share slots "
                    f"{after.first_slot} to {before.end_slot - 1}; give each slot to one group"
                )
                raise ValueError(message)
        if self.slots > MAX_DEVICES_PER_SITE:
            message = f"site {self.site} has {self.slots} slots, the limit is {MAX_DEVICES_PER_SITE}; split the site"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _plant_fits(self) -> Self:
        check_plant(self.site, self.slots, self.feeders, [group.feeder for group in self.groups], self.plant)
        return self


class MinersConfig(_Strict):
    """The miners' own protocols: one listener a port, on every address of 127/8. Port 0 takes a free one."""

    enabled: bool = False
    port_4028: int = Field(default=4028, ge=0, le=65535)
    http_port: int = Field(default=80, ge=0, le=65535)
    v3_port: int = Field(default=4433, ge=0, le=65535)


class ModbusConfig(_Strict):
    """Meters and PDUs over Modbus TCP. The standard port, 502, is for root; 5020 is not."""

    enabled: bool = False
    port: int = Field(default=5020, ge=0, le=65535)


class ProtocolsConfig(_Strict):
    """What speaks its own protocol beside the bulk channel and the market services; nothing by default."""

    miners: MinersConfig = Field(default_factory=MinersConfig)
    gpu_nodes: GpuNodesConfig = Field(default_factory=GpuNodesConfig)
    modbus: ModbusConfig = Field(default_factory=ModbusConfig)
    pool: PoolConfig = Field(default_factory=PoolConfig)
    openadr: OpenAdrConfig = Field(default_factory=OpenAdrConfig)


class WorldConfig(_Strict):
    """The whole of `world.yaml` (docs/world.md)."""

    version: Literal[1]
    anchor: Path
    seed: int = 7
    scenario: str = "calm"
    replay_dir: Path | None = None
    start_at: datetime | None = Field(default=None, alias="from")
    point_map: dict[str, str] = Field(default_factory=dict)
    http: HttpConfig = Field(default_factory=HttpConfig)
    bulk_socket: Path
    ready_file: Path
    transition_log: Path
    exogenous_log: Path
    settlement_points: list[str] = Field(default_factory=lambda: ["HB_HOUSTON", "HB_NORTH", "HB_HUBAVG", "HB_WEST"])
    sites: list[SiteConfig] = Field(default_factory=list)
    protocols: ProtocolsConfig = Field(default_factory=ProtocolsConfig)
    markets: MarketsConfig = Field(default_factory=MarketsConfig)

    @field_validator("start_at")
    @classmethod
    def _aware(cls, instant: datetime | None) -> datetime | None:
        return instant if instant is None or instant.tzinfo else instant.replace(tzinfo=UTC)

    @model_validator(mode="after")
    def _unique_sites(self) -> Self:
        names = [site.site for site in self.sites]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            message = f"sites {', '.join(twice)} are described twice; name each site once"
            raise ValueError(message)
        return self

    @property
    def points(self) -> list[str]:
        """Every settlement point served: those listed and those of the sites, each once, in order."""
        return list(dict.fromkeys([*self.settlement_points, *(site.settlement_point for site in self.sites)]))


def load_config(path: Path) -> WorldConfig:
    """Read and check a world file.

    Raises:
        WorldConfigError: the file is missing, is not YAML, or a field is wrong.
    """
    try:
        raw = yaml.safe_load(path.read_text())
    except OSError as error:
        message = f"world file {path}: {error.strerror}; give --config the file that `hcp up` writes"
        raise WorldConfigError(message) from error
    except yaml.YAMLError as error:
        message = f"world file {path} is not YAML: {error}"
        raise WorldConfigError(message) from error
    try:
        return WorldConfig.model_validate(raw)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(str(part) for part in problem['loc']) or '(file)'}: {problem['msg']}"
            for problem in error.errors()[:20]
        ]
        message = f"world file {path} has {error.error_count()} wrong fields (docs/world.md):\n" + "\n".join(lines)
        raise WorldConfigError(message) from error
