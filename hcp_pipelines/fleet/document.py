"""The facility document: the shape, defaults and own consistency of a facility file (docs/facility-file.md).

YAML is read and written in `facility_file.py`; what needs the database (armed obligations, generations) is checked in
`apply.py`; what a model name stands for is in `models.py`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from hcp_pipelines.devices.settling import family
from hcp_pipelines.domain.modes import ControlMode, DeviceState, DispatchRegime, ResourceType
from hcp_pipelines.fleet.models import MODELS, ResolvedGroup, StateSpec, states_of
from hcp_pipelines.fleet.reach import DriverKind, MinerApi, Reach, check_reach

FILE_VERSION: Literal[1] = 1
DEFAULT_RAMP_MW = {
    "feeder": 25.0,
    "facility": 75.0,
    "portfolio": 300.0,
}  # per 5 minutes, up and down (ours: DESIGN §7.6)
RAMP_WINDOW_S = 300.0
_ID = r"^[a-z0-9][a-z0-9-]{0,40}$"


def parse_state(value: object) -> DeviceState:
    """A state from its label.

    >>> parse_state("mining_full").value
    3
    """
    if isinstance(value, DeviceState):
        return value
    for state in DeviceState:
        if state.label == value:
            return state
    raise ValueError(f"{value!r} is not a state: use one of {', '.join(s.label for s in DeviceState)}")


StateLabel = Annotated[DeviceState, BeforeValidator(parse_state), PlainSerializer(lambda s: s.label, return_type=str)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Location(_Part):
    """Where the site is."""

    lat: float = Field(ge=-90, le=90)
    lon: float = Field(ge=-180, le=180)
    city: str = ""
    state: str = ""


class Pue(_Part):
    """Power usage effectiveness: all-in power over IT power, with an optional slope above a temperature."""

    value: float = Field(ge=1, le=3)
    slope_per_celsius: float = Field(default=0.0, ge=0)
    above_celsius: float = 20.0

    def at(self, temperature_celsius: float) -> float:
        """PUE at an outdoor temperature.

        >>> round(Pue(value=1.05, slope_per_celsius=0.002).at(35), 3)
        1.08
        """
        return self.value + self.slope_per_celsius * max(0.0, temperature_celsius - self.above_celsius)


class Hedge(_Part):
    """So many MW bought at a fixed price over [start, end). It changes settlement, never the marginal decision."""

    start: AwareDatetime
    end: AwareDatetime
    mw: float = Field(gt=0)
    usd_per_mwh: float


class Contract(_Part):
    """The power contract. `adders_usd_per_mwh` is what each consumed MWh costs beyond the market price."""

    market: Literal["ERCOT"] = "ERCOT"
    kind: Literal["index", "hedged"] = "index"
    hedge: tuple[Hedge, ...] = ()
    adders_usd_per_mwh: float = 0.0

    @model_validator(mode="after")
    def _hedges_match_kind(self) -> Self:
        if (self.kind == "hedged") != bool(self.hedge):
            raise ValueError(
                f"kind {self.kind!r} with {len(self.hedge)} hedge(s): 'hedged' needs some, 'index' has none"
            )
        return self


class Economics(_Part):
    """What scales revenue: the pool's share of mining, and the share of GPU hours that is sold."""

    pool_fee_fraction: float = Field(default=0.01, ge=0, lt=1)
    gpu_utilization: float = Field(default=0.6, ge=0, le=1)


class Ramp(_Part):
    """MW of load change per rolling window, up and down apart."""

    up_mw: float = Field(gt=0)
    down_mw: float = Field(gt=0)
    window_s: float = Field(default=RAMP_WINDOW_S, gt=0)


def _default_ramp(scope: str) -> Ramp:
    return Ramp(up_mw=DEFAULT_RAMP_MW[scope], down_mw=DEFAULT_RAMP_MW[scope])


class Ramps(_Part):
    """Limits above the feeders'. Of several facilities' `portfolio` the smallest holds."""

    facility: Ramp = Field(default_factory=lambda: _default_ramp("facility"))
    portfolio: Ramp = Field(default_factory=lambda: _default_ramp("portfolio"))


class Feeder(_Part):
    """One feeder with its limit in all-in MW."""

    feeder_id: str = Field(pattern=_ID)
    limit_mw: float = Field(gt=0)
    ramp: Ramp = Field(default_factory=lambda: _default_ramp("feeder"))


class StateOverride(_Part):
    """A state's measured figures in place of the model table's; what is left out stays as shipped."""

    state: StateLabel
    power_kw: float | None = Field(default=None, ge=0)
    settle_s: float | None = Field(default=None, gt=0)
    hash_rate_th_per_s: float | None = Field(default=None, ge=0)


class Group(_Part):
    """The devices of one model, firmware, cooling class and feeder."""

    group_id: str = Field(pattern=_ID)
    type: Literal["ASIC", "GPU"]
    model: str
    firmware: str = "stock"
    cooling_class: str = "air"
    feeder_id: str
    devices: int = Field(gt=0, le=2_000_000)
    states: tuple[StateOverride, ...] = ()
    driver: DriverKind | None = None
    addresses: tuple[str, ...] = ()

    def resolved(self) -> ResolvedGroup:
        """Ladder (rising in IT power) and specifications.

        Raises:
            ValueError: an unknown model without written-out states, or a ladder whose power does not rise.
        """
        shipped = MODELS.get(self.model)
        by_state = {s.state: s for s in states_of(shipped, self.firmware)} if shipped else {}
        for override in self.states:
            by_state[override.state] = _overridden(self, by_state.get(override.state), override)
        ladder = tuple(sorted(by_state.values(), key=lambda s: s.power_kw))
        if len({s.power_kw for s in ladder}) != len(ladder):
            raise ValueError(f"group {self.group_id}: two states of the same power; a ladder must rise")
        return ResolvedGroup(ladder, _specifications(self, ladder))

    @model_validator(mode="after")
    def _model_is_known(self) -> Self:
        shipped = MODELS.get(self.model)
        if shipped is None and len(self.states) < 2:
            known = ", ".join(MODELS)
            raise ValueError(
                f"model {self.model!r} is not in the table ({known}); write out its `states` with power_kw"
            )
        if shipped is not None and shipped.type != self.type:
            raise ValueError(f"model {self.model!r} is of type {shipped.type.value}, not {self.type}")
        if shipped is not None and family(self.firmware) not in shipped.firmware:
            raise ValueError(
                f"firmware {self.firmware!r} is not known for {self.model!r}: use one of {', '.join(shipped.firmware)}"
            )
        self.resolved()
        return self


def _overridden(group: Group, shipped: StateSpec | None, override: StateOverride) -> StateSpec:
    if shipped is None:
        if override.power_kw is None:
            raise ValueError(f"group {group.group_id}: state {override.state.label} needs power_kw")
        shipped = StateSpec(override.state, override.power_kw, 300.0, 60.0, 20.0)
    return StateSpec(
        state=override.state,
        power_kw=shipped.power_kw if override.power_kw is None else override.power_kw,
        settle_s=shipped.settle_s if override.settle_s is None else override.settle_s,
        ramp_up_s=shipped.ramp_up_s,
        ramp_down_s=shipped.ramp_down_s,
        hash_rate_th_per_s=shipped.hash_rate_th_per_s
        if override.hash_rate_th_per_s is None
        else override.hash_rate_th_per_s,
    )


def _specifications(group: Group, ladder: tuple[StateSpec, ...]) -> dict[str, object]:
    """What `device_groups.specifications` holds: rates by state, ramp times, GPU type."""
    ramps = {s.state.label: {"up": s.ramp_up_s, "down": s.ramp_down_s} for s in ladder}
    shipped = MODELS.get(group.model)
    if group.type == ResourceType.GPU:
        gpu_type = shipped.gpu_type if shipped else group.model
        return {"gpu_type": gpu_type, "gpus_per_node": shipped.gpus_per_node if shipped else 0, "ramp_s": ramps}
    hashing = {s.state: s for s in ladder if s.hash_rate_th_per_s > 0}
    full = max(hashing.values(), key=lambda s: s.power_kw, default=None)
    specifications: dict[str, object] = {
        "hash_rate_th_per_s": full.hash_rate_th_per_s if full else 0.0,
        "efficiency_j_per_th": full.power_kw * 1000 / full.hash_rate_th_per_s if full else 0.0,
        "hash_rate_by_state_th_per_s": {s.label: spec.hash_rate_th_per_s for s, spec in hashing.items()},
        "ramp_s": ramps,
    }
    eco = hashing.get(DeviceState.MINING_ECO)
    if eco is not None:
        specifications["eco"] = {"hash_rate_th_per_s": eco.hash_rate_th_per_s, "power_kw": eco.power_kw}
    return specifications


class Dwell(_Part):
    """Least time a group stays on, or off, once switched."""

    min_up_s: float = Field(default=0.0, ge=0)
    min_down_s: float = Field(default=0.0, ge=0)


class Staleness(_Part):
    """Own limits for old prices, in seconds of world time; what is left out follows the platform's settings."""

    power_price_s: float | None = Field(default=None, gt=0)
    btc_price_s: float | None = Field(default=None, gt=0)
    hold_s: float | None = Field(default=None, gt=0)


class FacilityFile(_Part):
    """One facility as its operator describes it; the same file back-tests read."""

    version: Literal[1] = FILE_VERSION
    facility_id: str = Field(pattern=_ID)
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

    @property
    def devices(self) -> int:
        """Devices of all groups."""
        return sum(g.devices for g in self.groups)

    def driver_of(self, group: Group) -> DriverKind:
        """The group's own driver, or the facility's."""
        return group.driver or self.driver

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
            Reach(g.group_id, g.type, g.firmware, g.devices, g.driver or self.driver, g.addresses) for g in self.groups
        )
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
