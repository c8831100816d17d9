"""Register words ↔ values of the power plant, pure. The map is docs/modbus.md; a test holds the tables below against it."""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final, Literal, NamedTuple

from hcp_pipelines.domain.errors import DeviceReplyError

WordOrder = Literal["big", "little"]

METER_UNIT, RELAY_UNIT, FIRST_BREAKER_UNIT, COOLING_UNIT = 1, 2, 10, 100
LAST_BREAKER_UNIT: Final = 99
MAP_VERSION: Final = 1
COMMAND_ADDRESS: Final = 40
CLOSE, OPEN, RESET = 1, 2, 3
RECALL_COIL: Final = 0
_STRING_WORDS = 16
_MOST_LOAD = 65.535  # the register holds no more
_PLAUSIBLE_HZ = (45.0, 66.0)
_LAYOUTS = {
    "uint16": ">H", "int16": ">h", "uint32": ">I", "int32": ">i", "uint64": ">Q", "float32": ">f",
    "string": f">{2 * _STRING_WORDS}s",
}  # fmt: skip


class Field(NamedTuple):
    """One value of a map: where it begins, how it is stored, and what it is multiplied by there."""

    address: int
    name: str
    type: str
    scale: int = 1

    @property
    def words(self) -> int:
        """Registers it takes."""
        return struct.calcsize(_LAYOUTS[self.type]) // 2


_HEAD = (Field(0, "kind", "uint16"), Field(1, "map_version", "uint16"), Field(2, "name", "string"))
METER: Final = (
    *_HEAD, Field(20, "power", "float32"), Field(22, "power_int", "int32"), Field(24, "energy", "uint64"),
    Field(28, "voltage", "float32"), Field(30, "current", "float32"), Field(32, "frequency", "float32"),
    Field(34, "power_factor", "int16", 1000), Field(36, "simulated_at", "uint32"),
)  # fmt: skip
RELAY: Final = (
    *_HEAD, Field(20, "frequency", "float32"), Field(22, "trip_frequency", "float32"), Field(24, "delay", "uint16", 1000),
    Field(25, "state", "uint16"), Field(26, "trips", "uint16"), Field(27, "breakers_shed", "uint16"),
    Field(28, "last_trip_at", "uint32"),
)  # fmt: skip
BREAKER: Final = (
    *_HEAD, Field(20, "power", "float32"), Field(22, "current", "float32"), Field(24, "voltage_upstream", "float32"),
    Field(26, "voltage_downstream", "float32"), Field(28, "state", "uint16"), Field(29, "trips", "uint16"),
    Field(30, "limit", "float32"), Field(32, "load", "uint16", 1000), Field(33, "heat", "uint16", 1000),
    Field(COMMAND_ADDRESS, "command", "uint16"),
)  # fmt: skip
COOLING: Final = (
    *_HEAD, Field(20, "outdoor_temperature", "int16", 10), Field(21, "supply_temperature", "int16", 10),
    Field(22, "pue", "uint16", 1000), Field(23, "pumps", "uint16"), Field(24, "pumps_running", "uint16"),
    Field(25, "fan_stage", "uint16"), Field(26, "alarms", "uint16"), Field(27, "load", "uint16", 1000),
)  # fmt: skip
MAPS: Final = {"meter": METER, "relay": RELAY, "breaker": BREAKER, "cooling": COOLING}
_KINDS = {"meter": 1, "relay": 2, "breaker": 3, "cooling": 4}

Values = Mapping[str, float | int | str]


class BreakerState(IntEnum):
    """Why current flows or not."""

    OPEN = 0
    CLOSED = 1
    TRIPPED = 2
    SHED_BY_RELAY = 3
    TRIPPED_HOT = 4


class CoolingAlarm(IntFlag):
    """What is wrong with the cooling plant."""

    PUMP_FAILED = 1
    HIGH_TEMPERATURE = 2
    TRIPPED = 4


@dataclass(frozen=True, slots=True)
class MeterReading:
    """The revenue meter: all-in power of the site; `energy_wh` only rises. `metered_at_s`: the meter's clock, Unix seconds."""

    site: str
    power_w: float
    energy_wh: int
    voltage_v: float
    current_a: float
    frequency_hz: float
    power_factor: float
    metered_at_s: int


@dataclass(frozen=True, slots=True)
class RelayReading:
    """The under-frequency relay. `is_shed`: it has opened breakers and waits for the recall."""

    frequency_hz: float
    trip_hz: float
    is_shed: bool
    trips: int
    breakers_shed: int
    last_trip_at_s: int


@dataclass(frozen=True, slots=True)
class BreakerReading:
    """A feeder's PDU or another breaker of the site. `heat_fraction`: how far the overload has come on the way to a trip."""

    name: str
    power_w: float
    current_a: float
    voltage_upstream_v: float
    voltage_downstream_v: float
    state: BreakerState
    trips: int
    limit_w: float
    load_fraction: float
    heat_fraction: float


@dataclass(frozen=True, slots=True)
class CoolingReading:
    """The cooling plant; pumps are numbered from 0."""

    outdoor_celsius: float
    supply_celsius: float
    pue: float
    pumps: int
    running_pumps: frozenset[int]
    fan_stage: int
    alarms: CoolingAlarm
    load_fraction: float


def words_of(name: str) -> int:
    """How many registers from 0 on a map takes.

    >>> words_of("meter")
    38
    """
    last = MAPS[name][-1]
    return last.address + last.words


def decode(name: str, words: Sequence[int], word_order: WordOrder) -> Values:
    """The values of a map.

    Raises:
        DeviceReplyError: another kind of device, another version, or a value that no device has.
    """
    if len(words) != words_of(name):
        raise DeviceReplyError(f"{name}: {len(words)} registers, {words_of(name)} were asked for")
    values = {field.name: _value(field, words, word_order) for field in MAPS[name]}
    if values["kind"] != _KINDS[name]:
        raise DeviceReplyError(
            f"unit is of kind {values['kind']}, a {name} is {_KINDS[name]} (docs/modbus.md): wrong unit?"
        )
    if values["map_version"] != MAP_VERSION:
        raise DeviceReplyError(f"{name}: register map version {values['map_version']}; this driver knows {MAP_VERSION}")
    wrong = [key for key, value in values.items() if isinstance(value, float) and not math.isfinite(value)]
    if wrong:
        raise DeviceReplyError(f"{name}: {', '.join(wrong)} not finite; is the word order {word_order}?")
    return values


def decode_meter(words: Sequence[int], word_order: WordOrder) -> MeterReading:
    """The revenue meter; its two forms of power must agree, which a wrong word order would break."""
    v = decode("meter", words, word_order)
    power_w, whole_w = float(v["power"]), float(v["power_int"])
    if abs(power_w - whole_w) > max(2.0, 1e-6 * abs(power_w)):
        raise DeviceReplyError(f"meter: power is {power_w:g} W and {whole_w:g} W; is the word order {word_order}?")
    _check_frequency("meter", float(v["frequency"]), word_order)
    return MeterReading(
        str(v["name"]), power_w, int(v["energy"]), float(v["voltage"]), float(v["current"]), float(v["frequency"]),
        float(v["power_factor"]), int(v["simulated_at"]),
    )  # fmt: skip


def decode_relay(words: Sequence[int], word_order: WordOrder) -> RelayReading:
    """The under-frequency relay."""
    v = decode("relay", words, word_order)
    _check_frequency("relay", float(v["frequency"]), word_order)
    if v["state"] not in (0, 1):
        raise DeviceReplyError(f"relay: state {v['state']}; 0 and 1 are known")
    return RelayReading(
        float(v["frequency"]), float(v["trip_frequency"]), bool(v["state"]), int(v["trips"]), int(v["breakers_shed"]),
        int(v["last_trip_at"]),
    )  # fmt: skip


def decode_breaker(words: Sequence[int], word_order: WordOrder) -> BreakerReading:
    """A breaker."""
    v = decode("breaker", words, word_order)
    power_w, limit_w, load = float(v["power"]), float(v["limit"]), float(v["load"])
    if limit_w <= 0 or power_w < 0 or abs(min(power_w / limit_w, _MOST_LOAD) - load) > 0.002:
        raise DeviceReplyError(
            f"breaker: power {power_w:g} W, limit {limit_w:g} W, load {load:g} don't fit; is the word order {word_order}?"
        )
    try:
        state = BreakerState(int(v["state"]))
    except ValueError:
        raise DeviceReplyError(f"breaker {v['name']}: state {v['state']}; 0 to {max(BreakerState)} are known") from None
    return BreakerReading(
        str(v["name"]), power_w, float(v["current"]), float(v["voltage_upstream"]),
        float(v["voltage_downstream"]), state, int(v["trips"]), limit_w, load, float(v["heat"]),
    )  # fmt: skip


def decode_cooling(words: Sequence[int], word_order: WordOrder) -> CoolingReading:
    """The cooling plant."""
    v = decode("cooling", words, word_order)
    if float(v["pue"]) < 1.0:
        raise DeviceReplyError(f"cooling: PUE {v['pue']}; it is at least 1")
    pumps, running = int(v["pumps"]), int(v["pumps_running"])
    return CoolingReading(
        float(v["outdoor_temperature"]), float(v["supply_temperature"]), float(v["pue"]), pumps,
        frozenset(pump for pump in range(16) if running >> pump & 1), int(v["fan_stage"]),
        CoolingAlarm(int(v["alarms"])), float(v["load"]),
    )  # fmt: skip


def _value(field: Field, words: Sequence[int], word_order: WordOrder) -> float | int | str:
    own = list(words[field.address : field.address + field.words])
    if word_order == "little" and field.type != "string":
        own.reverse()
    raw = struct.pack(f">{len(own)}H", *own)
    if field.type == "string":
        return raw.rstrip(b"\0").decode(errors="replace")
    value: float | int = struct.unpack(_LAYOUTS[field.type], raw)[0]
    return value if field.scale == 1 else value / field.scale


def _check_frequency(name: str, hertz: float, word_order: WordOrder) -> None:
    least, most = _PLAUSIBLE_HZ
    if not least <= hertz <= most:
        raise DeviceReplyError(
            f"{name}: {hertz:g} Hz is outside {least:g} to {most:g}; is the word order {word_order}?"
        )
