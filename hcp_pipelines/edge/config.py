"""The gateway's configuration file (docs/edge-site-file.md): which facilities, their groups. Drivers are in `driver_config`."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from hcp_pipelines.devices.discovery.ranges import expand
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.edge.driver_config import (
    BulkDriver,
    DriverConfig,
    GpuNodeDriver,
    KubernetesDriver,
    MinerApiDriver,
    Strict,
)

MINING = (DeviceState.MINING_ECO, DeviceState.MINING_FULL)


class LadderConfig(Strict):
    """A state, the IT power a device draws in it, and how long it may take to get there (simulated seconds)."""

    state: DeviceState
    power_kw: float = Field(ge=0)
    settle_s: float = Field(ge=0)
    hash_rate_th_per_s: float = Field(default=0, ge=0)


class GroupConfig(Strict):
    """A contiguous run of slots."""

    group_id: str
    feeder_id: str
    first_slot: int = Field(ge=0)
    devices: int = Field(gt=0)
    pue: float = Field(ge=1)
    ladder: tuple[LadderConfig, ...] = Field(min_length=1)
    model: str = Field(default="", description="As the model table names it: whose limits hold.")
    firmware: str = "stock"
    driver: DriverConfig | None = None
    addresses: tuple[str, ...] = ()

    @cached_property
    def address_of_each(self) -> tuple[str, ...]:
        """The address of each miner, or of each GPU node, in the order of the slots; empty where none are given."""
        return tuple(expand(self.addresses))


class DiscoveryConfig(Strict):
    """Scans of a facility's addresses, one after the other: how often, where, and how much they may take."""

    every_s: float = Field(default=30, ge=0.2, le=86_400, description="From one's beginning to the next one's, real.")
    ranges: tuple[str, ...] = Field(default=(), description="In place of the groups' own addresses.")
    authenticate: bool = Field(default=False, description="Log on to stock Antminers anywhere in the ranges.")
    probes: int = Field(default=64, ge=1, le=1024, description="First looks at once.")
    concurrency: int = Field(default=16, ge=1, le=512, description="Closer looks at once.")
    connections_per_s: float = Field(default=1000, ge=1, le=50_000)

    @cached_property
    def addresses(self) -> tuple[str, ...]:
        """Every address of the ranges; empty where none are given."""
        return tuple(expand(self.ranges))


class RampConfig(Strict):
    """MW of load change in a rolling window (simulated seconds) that the gateway keeps to when it acts alone."""

    scope: str = Field(description="A feeder's id, `facility`, or `portfolio`: this facility's share of it.")
    up_mw: float = Field(ge=0)
    down_mw: float = Field(ge=0)
    window_s: float = Field(gt=0)


class LocalPrices(Strict):
    """Where a gateway that is cut off has a price from."""

    file: Path | None = None
    url: str = Field(default="", pattern=r"^$|^https?://")
    settlement_point: str = Field(description="Whose price it is; that of the policy, or it is not used.")

    @model_validator(mode="after")
    def _is_one_source(self) -> Self:
        if (self.file is None) == (not self.url):
            raise ValueError("local_prices: a file or a url, one of them")
        return self


class FacilityConfig(Strict):
    """A facility behind this gateway."""

    facility_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$", description="Also the name of its folder.")
    generation: int = Field(gt=0)
    driver: DriverConfig
    groups: tuple[GroupConfig, ...] = Field(min_length=1)
    fallback: dict[str, DeviceState] = Field(default_factory=dict)
    fallback_after_s: float = Field(default=3600, gt=0, description="Without any owner for so long: the fallback plan.")
    price_staleness_s: float = Field(default=900, gt=0, description="A price heard by heartbeat holds for so long.")
    ramps: tuple[RampConfig, ...] = ()
    feeder_limits_kw: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict, description="All in.")
    limit_kw: float | None = Field(default=None, gt=0, description="All in, of the whole facility.")
    local_prices: LocalPrices | None = None
    plant: str | None = Field(default=None, pattern=r"^[^:\s]+:\d+$", description="Modbus TCP: meter and breakers.")
    discovery: DiscoveryConfig | None = None

    @property
    def slots(self) -> int:
        """Number of slots, gaps included."""
        return max(g.first_slot + g.devices for g in self.groups)

    def driver_of(self, group: GroupConfig) -> DriverConfig:
        """The group's own driver, or the facility's."""
        return group.driver or self.driver

    @model_validator(mode="after")
    def _devices_have_addresses(self) -> Self:
        seen: dict[str, str] = {}
        for group in self.groups:
            addresses = group.address_of_each
            _check_addresses(group, self.driver_of(group), len(addresses))
            for address in addresses:
                if address in seen:
                    raise ValueError(f"{address} is in group {seen[address]} and in group {group.group_id}")
                seen[address] = group.group_id
        return self

    @model_validator(mode="after")
    def _there_is_something_to_scan(self) -> Self:
        if self.discovery is not None:
            _ = self.discovery.addresses  # a range that is none is an error here, not at the first scan
            if all(isinstance(self.driver_of(group), BulkDriver | KubernetesDriver) for group in self.groups):
                raise ValueError("discovery: no group has a driver with addresses (miner_api, gpu_node)")
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


def _check_addresses(group: GroupConfig, driver: DriverConfig, addresses: int) -> None:
    match driver:
        case MinerApiDriver() if addresses != group.devices:
            raise ValueError(f"group {group.group_id} has {group.devices} devices and {addresses} addresses")
        case GpuNodeDriver() | KubernetesDriver() if mining := [s for s in group.ladder if s.state in MINING]:
            raise ValueError(f"group {group.group_id}: a GPU node has no state {mining[0].state.label}")
        case GpuNodeDriver() | KubernetesDriver() if addresses != driver.addresses_for(group.devices):
            nodes = driver.addresses_for(group.devices)
            raise ValueError(
                f"group {group.group_id} has {group.devices} GPUs in {nodes} nodes and {addresses} addresses"
            )


class LogConfig(Strict):
    """When a facility's log begins a new file, and how much of the old ones is kept once the journal has them."""

    file_mb: float = Field(default=16, gt=0, le=1024)
    keep_mb: float = Field(default=256, ge=0)
    keep_h: float = Field(default=168, gt=0, description="Real hours.")


class TelemetryConfig(Strict):
    """Samples of all devices for the collector: how often, and how much is kept on disk until they are stored."""

    every_s: float = Field(default=1.0, ge=0.1, le=3600, description="Real seconds between two samples of a facility.")
    spool_mb: float = Field(default=512, ge=1, le=1_000_000, description="Of each facility.")
    free_mb: float = Field(default=1000, ge=0, description="Of the disk: below it the oldest samples are given up.")


class TlsConfig(Strict):
    """Files for a listener that is no unix socket."""

    certificate: Path
    key: Path
    clients_ca: Path
    own_ca: Path | None = Field(default=None, description="Signed our own certificate, where clients_ca did not.")


class EdgeConfig(Strict):
    """The whole file."""

    version: Literal[1]
    gateway: str
    listen: str
    state_dir: Path
    simulated: bool
    anchor: Path | None = None
    power_period_ms: int = Field(default=500, ge=100, le=10_000)
    log: LogConfig = LogConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    operators_file: Path | None = None
    tls: TlsConfig | None = None
    facilities: tuple[FacilityConfig, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_closed_to_others(self) -> Self:
        if not self.listen.startswith("unix:") and self.tls is None:
            raise ValueError(f"listen: {self.listen} is no unix socket and needs `tls` (docs/security.md)")
        if self.listen.startswith("unix:") and self.tls is not None:
            raise ValueError("tls: a unix socket has none; listen on HOST:PORT, or leave it out")
        return self

    @model_validator(mode="after")
    def _has_each_facility_once(self) -> Self:
        names = [facility.facility_id for facility in self.facilities]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"facilities: {name} is there {names.count(name)} times: its log and spool are its own"
                )
        return self

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
