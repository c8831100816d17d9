"""The demo fleet: so many devices spread over so many facilities, as facility files. Nothing here is a real site."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import ControlMode, DeviceState
from hcp_pipelines.fleet.document import FacilityFile, Feeder, Location, Pue
from hcp_pipelines.fleet.groups import Group, StateOverride
from hcp_pipelines.fleet.models import MODELS

FEEDER_MW = 25.0  # a feeder is planned for so much up to 20 °C; its limit is for the hottest hour, and a little above
MAX_GROUPS_PER_MODEL = 3
HEADROOM = 1.02
PUE = 1.06
WARM = Pue(value=PUE, slope_per_celsius=0.002, above_celsius=20.0)  # settings: no operator publishes a slope
HOTTEST_CELSIUS = 45.0  # Texas' highest of most summers (setting)
SMALL_FEEDERS = {"ASIC": "feeder-1", "GPU": "feeder-2"}  # of a site that one would do for: mining halls and AI hall


@dataclass(frozen=True, slots=True)
class _Place:
    prefix: str
    settlement_point: str
    location: Location


_PLACES = (
    _Place("hou", "HB_HOUSTON", Location(lat=29.76, lon=-95.37, city="Houston", state="TX")),
    _Place("nor", "HB_NORTH", Location(lat=32.78, lon=-96.80, city="Dallas", state="TX")),
    _Place("hub", "HB_HUBAVG", Location(lat=31.55, lon=-97.15, city="Waco", state="TX")),
)


@dataclass(frozen=True, slots=True)
class _Line:
    """One model of the demo: its group name, firmware, and share of the devices in sixths."""

    name: str
    type: str
    model: str
    firmware: str
    cooling_class: str
    sixths: int


_LINES = (
    _Line("s21", "ASIC", "S21", "luxos", "air", 2),
    _Line("m60s", "ASIC", "M60S", "whatsminer", "air", 2),
    _Line("s19xp", "ASIC", "S19 XP", "stock", "air", 1),
    _Line("h100", "GPU", "H100 SXM5", "stock", "liquid", 1),
)


_WORKING_KW = {"inference_batch": 1.1, "inference_realtime": 1.2, "training": 1.3}  # settings; training draws most


def demo_facilities(facilities: int, devices: int, *, scheduled: bool = False) -> list[FacilityFile]:
    """Facility files of a demo fleet: about 5/6 miners of three models and 1/6 GPUs, `control_mode: auto`.

    With `scheduled` its GPUs do customers' work of every class, and nothing else.

    Raises:
        ConfigError: fewer devices than facilities.

    >>> [f.facility_id for f in demo_facilities(4, 2000)]
    ['hou-1', 'nor-1', 'hub-1', 'hou-2']
    >>> sum(f.devices for f in demo_facilities(3, 2000))
    2000
    """
    if facilities < 1 or devices < facilities:
        raise ConfigError(f"{devices} devices in {facilities} facilities: each facility needs at least one device")
    share, rest = divmod(devices, facilities)
    return [_facility(n, share + (n < rest), scheduled) for n in range(facilities)]


def _facility(n: int, devices: int, scheduled: bool) -> FacilityFile:
    place, number = _PLACES[n % len(_PLACES)], n // len(_PLACES) + 1
    full_mw = {line.name: _full_mw(line.model, count) for line, count in _split(devices)}
    is_small = sum(full_mw.values()) <= FEEDER_MW
    groups: list[Group] = []
    for line, count in _split(devices):
        parts = 1 if is_small else min(MAX_GROUPS_PER_MODEL, math.ceil(full_mw[line.name] / FEEDER_MW))
        groups.extend(_groups(line, count, parts, is_small, scheduled))
    feeders = _feeders(groups)
    return FacilityFile(
        facility_id=f"{place.prefix}-{number}",
        name=f"{place.location.city} {number}",
        location=place.location,
        settlement_point=place.settlement_point,
        capacity_mw=_round_up(sum(f.limit_mw for f in feeders)),
        pue=WARM,
        feeders=feeders,
        groups=tuple(groups),
        fallback={g.group_id: _fallback(g) for g in groups},
        control_mode=ControlMode.AUTO,
    )


def _split(devices: int) -> list[tuple[_Line, int]]:
    """Devices of each line; they add up, and lines without any are left out."""
    counts = [devices * line.sixths // 6 for line in _LINES]
    for n in range(devices - sum(counts)):
        counts[n % len(counts)] += 1
    return [(line, count) for line, count in zip(_LINES, counts, strict=True) if count]


def _groups(line: _Line, devices: int, parts: int, is_small: bool, scheduled: bool) -> Iterator[Group]:
    share, rest = divmod(devices, parts)
    works = scheduled and line.type == "GPU"
    states = tuple(StateOverride.model_validate({"state": s, "power_kw": kw}) for s, kw in _WORKING_KW.items())
    for n in range(parts):
        name = line.name if parts == 1 else f"{line.name}-{n + 1}"
        yield Group(
            group_id=name,
            type="GPU" if line.type == "GPU" else "ASIC",
            model=line.model,
            firmware=line.firmware,
            cooling_class=line.cooling_class,
            feeder_id=SMALL_FEEDERS[line.type] if is_small else f"feeder-{name}",
            devices=share + (n < rest),
            states=states if works else (),
            scheduled=works,
        )


def _feeders(groups: Sequence[Group]) -> tuple[Feeder, ...]:
    """A feeder each for what the groups name; those of miners are what a site sells as interruptible."""
    hottest = HEADROOM * WARM.at(HOTTEST_CELSIUS) / PUE
    load: dict[str, float] = {}
    for group in groups:
        load[group.feeder_id] = load.get(group.feeder_id, 0.0) + _full_mw(group.model, group.devices)
    mining = {group.feeder_id for group in groups if group.type == "ASIC"}
    return tuple(
        Feeder(feeder_id=f, limit_mw=_round_up(mw * hottest), interruptible=f in mining) for f, mw in load.items()
    )


def _fallback(group: Group) -> DeviceState:
    """Without a price miners sleep and sold GPU hours go on."""
    return DeviceState.INFERENCE_BATCH if group.type == "GPU" else DeviceState.CURTAILED


def _full_mw(model: str, devices: int) -> float:
    return MODELS[model].power_kw * devices * PUE / 1000


def _round_up(mw: float) -> float:
    return math.ceil(mw * 1000 - 1e-6) / 1000
