"""Scenario files: what differs from a calm world, and when. `scenarios/NAME.yaml`, checked by the schema below.

Hours count from the world's beginning, and the script begins anew every `repeat_h`, so that any restart comes upon it. What the
hours mean at an instant is in `script`; the effects are in the rooms of the things that change. Scenario and seed (and what is
recorded) are all that the exogenous log depends on.
"""

from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from simulators.faults import FAULTS, GPU_FAULTS, XID, XID_OF
from simulators.grid_calls import GridCall
from simulators.service_plan import BitcoinShift, ServicePlan
from simulators.settings import WorldConfigError
from simulators.spans import Span, Strict

FOLDER = Path(__file__).with_name("scenarios")
WEEK_H = 168.0


def _known_fault(kind: str) -> str:
    if kind not in FAULTS or kind == XID:
        message = f"{kind!r} is no fault; there are {', '.join(sorted(set(FAULTS) - {XID}))}"
        raise ValueError(message)
    return kind


def _known_event(kind: str) -> str:
    return kind if kind == XID else _known_fault(kind)


EventName = Annotated[str, AfterValidator(_known_event)]
FaultName = Annotated[str, AfterValidator(_known_fault)]
Unit = Literal["device", "node", "pdu", "rack", "cooling_loop", "site"]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class PriceShift(Span):
    """Power prices × `factor` + `add_usd_per_mwh`, real-time and day-ahead."""

    factor: float = Field(default=1.0, ge=0.0, le=100.0)
    add_usd_per_mwh: float = Field(default=0.0, ge=-5000.0, le=5000.0)


class WeatherShift(Span):
    """Outdoor temperature + `shift_celsius`."""

    shift_celsius: float = Field(ge=-60.0, le=40.0)


class GpuShift(Span):
    """Demand for rented GPUs: rates × `rate_factor`, and a share of the listings without stock."""

    rate_factor: float = Field(default=1.0, gt=0.0, le=20.0)
    sold_out_fraction: Fraction = 0.0


class FaultShift(Span):
    """Rates of faults × `factor`; of some kinds only, where they are named."""

    factor: float = Field(ge=0.0, le=1000.0)
    kinds: list[FaultName] = Field(default_factory=list)


class ScriptedFault(Strict):
    """A fault at an hour of the script, for some minutes, on a share of the units of one site (by number) or of all.

    Attributes:
        spread_minutes: each unit begins at its own moment within them.
        xid: what GPUs report with it; left out, the code that goes with the kind. `xid` alone is an event without another effect.
    """

    at_h: float = Field(ge=0.0)
    minutes: float = Field(gt=0.0, le=20_160.0)
    kind: EventName
    xid: int | None = Field(default=None, ge=1, le=999)
    unit: Unit = "device"
    fraction: Fraction = 1.0
    devices: Literal["ASIC", "GPU"] | None = None
    site: int | None = Field(default=None, ge=0)
    spread_minutes: float = Field(default=0.0, ge=0.0, le=1440.0)

    @model_validator(mode="after")
    def _xid_is_told(self) -> Self:
        if self.kind == XID and self.xid is None:
            message = "an event of kind xid needs its code, as xid: 63"
            raise ValueError(message)
        if self.xid is not None and self.kind not in GPU_FAULTS:
            message = f"xid {self.xid}: {self.kind} is no fault of a GPU"
            raise ValueError(message)
        return self

    @property
    def code(self) -> int:
        """The XID that GPUs report with it; 0: none."""
        return self.xid if self.xid is not None else XID_OF.get(self.kind, 0)


class RateChange(Strict):
    """Another rate or duration of one hazard of `hazards`; what is absent stays."""

    per_day: float | None = Field(default=None, ge=0.0, le=10.0)
    median_h: float | None = Field(default=None, gt=0.0, le=480.0)


class FaultPlan(Strict):
    """Which random faults there are: none, or those of the table in `hazards` × `factor`."""

    profile: Literal["none", "typical"] = "none"
    factor: float = Field(default=1.0, ge=0.0, le=1000.0)
    rates: dict[str, RateChange] = Field(default_factory=dict)


class Cut(Strict):
    """No message passes between a site (by number) and its gateway."""

    from_h: float = Field(ge=0.0)
    until_h: float = Field(gt=0.0)
    site: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.until_h <= self.from_h:
            message = f"from_h {self.from_h} is not before until_h {self.until_h}"
            raise ValueError(message)
        return self


class NetworkPlan(Strict):
    """Between a site and its gateway, one way, in real time; a lost message is sent again and comes late."""

    latency_ms: float = Field(default=0.0, ge=0.0, le=5000.0)
    jitter_ms: float = Field(default=0.0, ge=0.0, le=5000.0)
    loss_fraction: Fraction = 0.0
    cuts: list[Cut] = Field(default_factory=list)


class FrequencyDip(Strict):
    """The grid's frequency falls to `nadir_hz` within `fall_s`, stays for `hold_s`, and is back after `recover_s` more.

    Attributes:
        recall_minutes: after its end the sites are told to come back, and close what their relays opened; None: nobody does.
    """

    at_h: float = Field(ge=0.0)
    nadir_hz: float = Field(ge=57.0, lt=60.0)
    fall_s: float = Field(default=2.0, ge=0.1, le=600.0)
    hold_s: float = Field(default=20.0, ge=0.0, le=3600.0)
    recover_s: float = Field(default=300.0, ge=0.1, le=3600.0)
    recall_minutes: float | None = Field(default=None, ge=0.0, le=1440.0)


class PumpFailure(Strict):
    """A pump of a site's cooling plant (both by number) stands still for some minutes."""

    at_h: float = Field(ge=0.0)
    minutes: float = Field(gt=0.0, le=20_160.0)
    pump: int = Field(default=0, ge=0, le=99)
    site: int | None = Field(default=None, ge=0)


class Scenario(Strict):
    """One scenario file.

    Attributes:
        begins: where a generated world begins; None: 2025-01-01.
        night_wind: added to the wind index (standard deviations) at the dead of every local night.
    """

    name: str
    description: str = Field(min_length=10)
    begins: datetime | None = None
    repeat_h: float = Field(default=WEEK_H, gt=0.0)
    night_wind: float = Field(default=0.0, ge=-10.0, le=10.0)
    prices: list[PriceShift] = Field(default_factory=list)
    weather: list[WeatherShift] = Field(default_factory=list)
    gpus: list[GpuShift] = Field(default_factory=list)
    bitcoin: list[BitcoinShift] = Field(default_factory=list)
    pumps: list[PumpFailure] = Field(default_factory=list)
    faults: FaultPlan = Field(default_factory=FaultPlan)
    fault_shifts: list[FaultShift] = Field(default_factory=list)
    events: list[ScriptedFault] = Field(default_factory=list)
    frequency: list[FrequencyDip] = Field(default_factory=list)
    grid: list[GridCall] = Field(default_factory=list)
    network: NetworkPlan = Field(default_factory=NetworkPlan)
    services: ServicePlan = Field(default_factory=ServicePlan)

    @field_validator("begins")
    @classmethod
    def _aware(cls, begins: datetime | None) -> datetime | None:
        return begins if begins is None or begins.tzinfo else begins.replace(tzinfo=UTC)

    @model_validator(mode="after")
    def _within_the_script(self) -> Self:
        shifts: list[Span] = [*self.prices, *self.weather, *self.gpus, *self.bitcoin, *self.fault_shifts]
        spans: list[Span | Cut] = [*shifts, *self.services.troubles, *self.services.revisions, *self.network.cuts]
        events: list[ScriptedFault | FrequencyDip | GridCall] = [*self.events, *self.frequency, *self.grid]
        starts_h = [each.at_h for each in events]
        latest_h = max([*(span.until_h for span in spans), *starts_h], default=0.0)
        if latest_h > self.repeat_h:
            message = f"something is due at hour {latest_h}, but the script begins anew after {self.repeat_h}"
            raise ValueError(message)
        return self


def scenario_names() -> list[str]:
    """The scenarios there are."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


@lru_cache(maxsize=16)
def scenario_named(name: str) -> Scenario:
    """The scenario of that name.

    Raises:
        WorldConfigError: there is none, or its file is wrong.
    """
    if name not in scenario_names():
        message = f"scenario {name!r} is unknown; there are {', '.join(scenario_names())}"
        raise WorldConfigError(message)
    return read_scenario(FOLDER / f"{name}.yaml")


def read_scenario(path: Path) -> Scenario:
    """Read and check a scenario file; its name is the file's.

    Raises:
        WorldConfigError: it is not YAML, or a field is wrong.
    """
    try:
        return Scenario.model_validate({"name": path.stem, **(yaml.safe_load(path.read_text()) or {})})
    except yaml.YAMLError as error:
        message = f"scenario file {path} is not YAML: {error}"
        raise WorldConfigError(message) from error
    except ValidationError as error:
        lines = [f"  {'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors()[:20]]
        message = f"scenario file {path} has {error.error_count()} wrong fields:\n" + "\n".join(lines)
        raise WorldConfigError(message) from error
