"""The facility document: the shape, defaults and own consistency of a facility file (docs/facility-file.md).

YAML is read and written in `facility_file.py`; groups are in `groups.py`, how devices are reached in `reach.py`; what needs the
database (armed obligations, generations) is checked in `apply.py`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BeforeValidator, Field, model_validator

from hcp_pipelines.domain.modes import ControlMode, DeviceState, DispatchRegime, ResourceType
from hcp_pipelines.economics.gpu import DEFAULT_UTILIZATION
from hcp_pipelines.economics.power import pue_at
from hcp_pipelines.fleet.discovery_rules import DiscoveryRules
from hcp_pipelines.fleet.groups import Group
from hcp_pipelines.fleet.models import MODELS, ResolvedGroup
from hcp_pipelines.fleet.parts import ID_PATTERN, Part, StateLabel
from hcp_pipelines.fleet.reach import DriverKind, GpuNodes, GpuWork, MinerApi, Reach, check_reach, check_weights

FILE_VERSION: Literal[1] = 1
DEFAULT_RAMP_MW = {
    "feeder": 25.0,
    "facility": 75.0,
    "portfolio": 300.0,
}  # per 5 minutes, up and down (ours: DESIGN §7.6)
RAMP_WINDOW_S = 300.0


class Location(Part):
    """Where the site is."""

    lat: float = Field(ge=-90, le=90)
    lon: float = Field(ge=-180, le=180)
    city: str = ""
    state: str = ""


class Pue(Part):
    """Power usage effectiveness: all-in power over IT power, with an optional slope above a temperature."""

    value: float = Field(ge=1, le=3)
    slope_per_celsius: float = Field(default=0.0, ge=0)
    above_celsius: float = 20.0

    def at(self, temperature_celsius: float) -> float:
        """PUE at an outdoor temperature.

        >>> round(Pue(value=1.05, slope_per_celsius=0.002).at(35), 3)
        1.08
        """
        return pue_at(temperature_celsius, self.value, self.slope_per_celsius, self.above_celsius)


class Hedge(Part):
    """So many MW bought at a fixed price over [start, end). It changes settlement, never the marginal decision."""

    start: AwareDatetime
    end: AwareDatetime
    mw: float = Field(gt=0)
    usd_per_mwh: float


class Contract(Part):
    """The power contract. `adders_usd_per_mwh` is what each consumed MWh costs beyond the market price.

    Settled beside that: a tariff on load in coincident peaks, and what programmes of demand response pay for a MWh not drawn.
    """

    market: Literal["ERCOT"] = "ERCOT"
    kind: Literal["index", "hedged"] = "index"
    hedge: tuple[Hedge, ...] = ()
    adders_usd_per_mwh: float = 0.0
    peak_usd_per_kw_year: Annotated[float, Field(ge=0, le=1000)] = 0.0
    response_usd_per_mwh: dict[str, Annotated[float, Field(ge=0, le=100_000)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _hedges_match_kind(self) -> Self:
        if (self.kind == "hedged") != bool(self.hedge):
            raise ValueError(
                f"kind {self.kind!r} with {len(self.hedge)} hedge(s): 'hedged' needs some, 'index' has none"
            )
        return self


class Economics(Part):
    """What scales revenue: the pool's share of mining, the share of GPU hours that is sold, and what a class of work sells at.

    `gpu_rate_fraction` is a class's rate over the market's on-demand rate; a class left out sells at the market's.
    """

    pool_fee_fraction: float = Field(default=0.01, ge=0, lt=1)
    gpu_utilization: float = Field(default=DEFAULT_UTILIZATION, ge=0, le=1)
    gpu_rate_fraction: dict[GpuWork, Annotated[float, Field(ge=0, le=10)]] = Field(default_factory=dict)


class Ramp(Part):
    """MW of load change per rolling window, up and down apart."""

    up_mw: float = Field(gt=0)
    down_mw: float = Field(gt=0)
    window_s: float = Field(default=RAMP_WINDOW_S, gt=0)


def _default_ramp(scope: str) -> Ramp:
    return Ramp(up_mw=DEFAULT_RAMP_MW[scope], down_mw=DEFAULT_RAMP_MW[scope])


class Ramps(Part):
    """Limits above the feeders'. Of several facilities' `portfolio` the smallest holds."""

    facility: Ramp = Field(default_factory=lambda: _default_ramp("facility"))
    portfolio: Ramp = Field(default_factory=lambda: _default_ramp("portfolio"))


class Feeder(Part):
    """One feeder with its limit in all-in MW, and whether an under-frequency relay may open it."""

    feeder_id: str = Field(pattern=ID_PATTERN)
    limit_mw: float = Field(gt=0)
    interruptible: bool = False
    ramp: Ramp = Field(default_factory=lambda: _default_ramp("feeder"))


class Dwell(Part):
    """Least time a device stays on, or off, once switched; and how often it is started within an hour for the price alone.

    The default of two: with settlement intervals of 15 minutes, start and stop in turn make two starts an hour; more follow what
    flickers within an interval. Source for that starts wear: FACTS §7 (a setting; no maker publishes a figure).
    """

    min_up_s: float = Field(default=0.0, ge=0)
    min_down_s: float = Field(default=0.0, ge=0)
    starts_per_hour: int | None = Field(default=2, ge=1)


class Staleness(Part):
    """Own limits for old prices, in seconds of world time; what is left out follows the platform's settings."""

    power_price_s: float | None = Field(default=None, gt=0)
    btc_price_s: float | None = Field(default=None, gt=0)
    hold_s: float | None = Field(default=None, gt=0)


class FacilityFile(Part):
    """One facility as its operator describes it; the same file back-tests read."""

    version: Literal[1] = FILE_VERSION
    facility_id: str = Field(pattern=ID_PATTERN)
    name: str = Field(min_length=1)
    location: Location
    settlement_point: str = Field(min_length=1)
    capacity_mw: float = Field(gt=0)
    pue: Annotated[Pue, BeforeValidator(lambda v: {"value": v} if isinstance(v, int | float) else v)]
    contract: Contract = Contract()
    economics: Economics = Economics()
    feeders: tuple[Feeder, ...] = Field(min_length=1)
    groups: tuple[Group, ...] = Field(min_length=1)
    ramps: Ramps = Field(default_factory=Ramps)
    dwell: Dwell = Dwell()
    fallback: dict[str, StateLabel] = Field(default_factory=dict)
    control_mode: ControlMode = ControlMode.OBSERVE
    dispatch_regime: DispatchRegime = DispatchRegime.SELF
    staleness: Staleness = Staleness()
    driver: DriverKind = "bulk"
    miner_api: MinerApi = MinerApi()
    gpu_node: GpuNodes = GpuNodes()
    discovery: DiscoveryRules | None = None

    @property
    def devices(self) -> int:
        """Devices of all groups."""
        return sum(g.devices for g in self.groups)

    def driver_of(self, group: Group) -> DriverKind:
        """The group's own driver, or the facility's."""
        return group.driver or self.driver

    def resolved(self, group: Group) -> ResolvedGroup:
        """The group's ladder and specifications; GPU nodes take as long as what the file has them load."""
        is_node = self.driver_of(group) == "gpu_node"
        return group.resolved(self.gpu_node.weights_gib if is_node else {})

    def fallback_state(self, group: Group) -> DeviceState:
        """The state the fallback plan puts a group in: its lowest one if the file names none."""
        return self.fallback.get(group.group_id, group.resolved().ladder[0].state)

    def fallback_mw(self) -> dict[str, float]:
        """All-in MW of each feeder under the fallback plan."""
        mw = dict.fromkeys((f.feeder_id for f in self.feeders), 0.0)
        for group in self.groups:
            power_kw = {s.state: s.power_kw for s in group.resolved().ladder}[self.fallback_state(group)]
            mw[group.feeder_id] += power_kw * group.devices * self.pue.value / 1000
        return mw

    def fallback_sheddable_mw(self) -> float:
        """All-in MW that the fallback plan keeps on of the interruptible load: miners, above their lowest states."""
        mw = 0.0
        for group in (g for g in self.groups if g.type == ResourceType.ASIC):
            ladder = group.resolved().ladder
            power_kw = {s.state: s.power_kw for s in ladder}[self.fallback_state(group)] - ladder[0].power_kw
            mw += power_kw * group.devices * self.pue.value / 1000
        return mw

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        _refuse_twice("feeder", [f.feeder_id for f in self.feeders])
        _refuse_twice("group", [g.group_id for g in self.groups])
        feeders = {f.feeder_id for f in self.feeders}
        for group in self.groups:
            if group.feeder_id not in feeders:
                raise ValueError(
                    f"group {group.group_id} is on feeder {group.feeder_id!r}; there are {sorted(feeders)}"
                )
        for group_id in self.fallback:
            if group_id not in {g.group_id for g in self.groups}:
                raise ValueError(f"fallback names group {group_id!r}; there are {[g.group_id for g in self.groups]}")
        return self

    @model_validator(mode="after")
    def _devices_can_be_reached(self) -> Self:
        check_reach(
            Reach(
                g.group_id,
                g.type,
                g.firmware,
                g.devices,
                self.driver_of(g),
                g.addresses,
                frozenset(s.state for s in g.resolved().ladder),
            )
            for g in self.groups
        )
        for g in self.groups:
            if self.driver_of(g) == "gpu_node" and g.model in MODELS:
                states = {s.state for s in g.resolved().ladder}
                loaded = {state: work for state, work in self.gpu_node.workloads.items() if state in states}
                check_weights(g.group_id, g.model, MODELS[g.model].memory_gb, loaded)
        return self

    @model_validator(mode="after")
    def _there_is_something_to_discover(self) -> Self:
        if self.discovery is not None and all(self.driver_of(g) == "bulk" for g in self.groups):
            raise ValueError("discovery: no group has a driver with addresses: miner_api or gpu_node")
        return self

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        for feeder in self.feeders:
            if feeder.limit_mw > self.capacity_mw * (1 + 1e-9):
                raise ValueError(
                    f"feeder {feeder.feeder_id} has {feeder.limit_mw} MW, the facility {self.capacity_mw} MW; "
                    "no feeder can carry more than the site (is one of them in kW?)"
                )
        for group in self.groups:
            if self.fallback_state(group) not in {s.state for s in group.resolved().ladder}:
                raise ValueError(
                    f"fallback of {group.group_id}: {self.fallback_state(group).label} is not on its ladder"
                )
        load = self.fallback_mw()
        for feeder in self.feeders:
            if load[feeder.feeder_id] > feeder.limit_mw:
                raise ValueError(f"the fallback plan puts {load[feeder.feeder_id]:.3f} MW on feeder {feeder.feeder_id}, "
                                 f"whose limit is {feeder.limit_mw} MW")  # fmt: skip
        if sum(load.values()) > self.capacity_mw:
            raise ValueError(f"the fallback plan needs {sum(load.values()):.3f} MW of {self.capacity_mw} MW")
        return self

    def document(self) -> dict[str, Any]:
        """The file as plain JSON values, every default written out."""
        return self.model_dump(mode="json")


def _refuse_twice(what: str, names: list[str]) -> None:
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"{what} {twice[0]!r} is there twice")
