"""The gateway's configuration file (docs/edge-site-file.md): which facilities, their groups, their driver."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hcp_pipelines.devices.discovery.ranges import expand
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import DeviceState


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BulkDriver(_Strict):
    """A simulated site's devices over one channel (docs/bulk-channel.md)."""

    kind: Literal["bulk"]
    address: str
    site: str


class MinerApiDriver(_Strict):
    """Miners at their own addresses, over their own protocols (docs/devices.md)."""

    kind: Literal["miner_api"]
    poll_period_ms: int = Field(default=5_000, ge=200, le=60_000)
    concurrency: int = Field(default=64, ge=1, le=512)
    deadline_ms: int = Field(default=3_000, ge=100, le=30_000)
    api_port: int = Field(default=4028, ge=1, le=65_535)
    web_port: int = Field(default=80, ge=1, le=65_535)
    v3_port: int = Field(default=4433, ge=1, le=65_535)
    passwords_file: Path | None = None
    meters: str | None = Field(
        default=None, pattern=r"^[^:\s]+:\d+$", description="Modbus TCP of the feeders' breakers."
    )


DriverConfig = Annotated[BulkDriver | MinerApiDriver, Field(discriminator="kind")]


class LadderConfig(_Strict):
    """A state, the IT power a device draws in it, and how long it may take to get there (simulated seconds)."""

    state: DeviceState
    power_kw: float = Field(ge=0)
    settle_s: float = Field(ge=0)
    hash_rate_th_per_s: float = Field(default=0, ge=0)


class GroupConfig(_Strict):
    """A contiguous run of slots."""

    group_id: str
    feeder_id: str
    first_slot: int = Field(ge=0)
    devices: int = Field(gt=0)
    pue: float = Field(ge=1)
    ladder: tuple[LadderConfig, ...] = Field(min_length=1)
    firmware: str = "stock"
    driver: DriverConfig | None = None
    addresses: tuple[str, ...] = ()

    @cached_property
    def address_of_each(self) -> tuple[str, ...]:
        """The address of each device, in the order of the slots; empty where none are given."""
        return tuple(expand(self.addresses))


class FacilityConfig(_Strict):
    """A facility behind this gateway."""

    facility_id: str
    generation: int = Field(gt=0)
    driver: DriverConfig
    groups: tuple[GroupConfig, ...] = Field(min_length=1)
    fallback: dict[str, DeviceState] = Field(default_factory=dict)
    fallback_after_s: float = Field(default=3600, gt=0, description="Without any owner for so long: the fallback plan.")

    @property
    def slots(self) -> int:
        """Number of slots, gaps included."""
        return max(g.first_slot + g.devices for g in self.groups)

    def driver_of(self, group: GroupConfig) -> DriverConfig:
        """The group's own driver, or the facility's."""
        return group.driver or self.driver

    @model_validator(mode="after")
    def _miners_have_addresses(self) -> Self:
        seen: dict[str, str] = {}
        for group in self.groups:
            addresses = group.address_of_each
            if isinstance(self.driver_of(group), MinerApiDriver) and len(addresses) != group.devices:
                raise ValueError(f"group {group.group_id} has {group.devices} devices and {len(addresses)} addresses")
            for address in addresses:
                if address in seen:
                    raise ValueError(f"{address} is in group {seen[address]} and in group {group.group_id}")
                seen[address] = group.group_id
        return self

    @model_validator(mode="after")
    def _groups_are_apart(self) -> Self:
        end, last = 0, ""
        for group in sorted(self.groups, key=lambda g: g.first_slot):
            if group.first_slot < end:
                raise ValueError(f"groups {last} and {group.group_id} share slot {group.first_slot}")
            end, last = group.first_slot + group.devices, group.group_id
        unknown = set(self.fallback) - {g.group_id for g in self.groups}
        if unknown:
            raise ValueError(f"fallback names {sorted(unknown)[0]!r}, which is no group of {self.facility_id}")
        for group in self.groups:
            state = self.fallback.get(group.group_id)
            if state is not None and state not in [step.state for step in group.ladder]:
                raise ValueError(f"fallback puts {group.group_id} into {state.label}, which is not on its ladder")
        return self


class EdgeConfig(_Strict):
    """The whole file."""

    version: Literal[1]
    gateway: str
    listen: str
    state_dir: Path
    simulated: bool
    anchor: Path | None = None
    power_period_ms: int = Field(default=500, ge=100, le=10_000)
    facilities: tuple[FacilityConfig, ...] = Field(min_length=1)

    def check_speed(self, speed: float) -> None:
        """Refuse to hurry real devices.

        Raises:
            ConfigError: they are real, and simulated time does not run as real time does.
        """
        if not self.simulated and speed != 1:
            raise ConfigError(
                f"{self.gateway}: `simulated: false`, and the clock runs {speed:g} times as fast: real devices need 1"
            )


def load_edge_config(path: Path) -> EdgeConfig:
    """Read and check a gateway's file.

    Raises:
        ConfigError: the message names the file, the place and the value.
    """
    try:
        return EdgeConfig.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        raise ConfigError(f"{path}: {where}: {first['msg']} (docs/edge-site-file.md)") from error
