"""The register maps of the simulated meter, relay, breakers and cooling plant, as tables, and values to 16-bit words. Pure.

docs/modbus.md is the contract and has the same tables. Addresses are zero-based; the most significant word of a value comes
first unless the site's word order says otherwise. What the values are is in `units`.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

MAP_VERSION: Final = 1
STRING_WORDS: Final = 16
SUNSPEC_ADDRESS: Final = 40_000
VENDOR: Final = "HCP world"

_LAYOUTS = {
    "uint16": (">H", 0, 2**16 - 1), "int16": (">h", -(2**15), 2**15 - 1), "uint32": (">I", 0, 2**32 - 1),
    "int32": (">i", -(2**31), 2**31 - 1), "uint64": (">Q", 0, 2**64 - 1),
}  # fmt: skip

Value = float | int | str


class Register(NamedTuple):
    """One value: in words it is `value × scale` as `type`."""

    address: int
    name: str
    type: str  # uint16 | int16 | uint32 | int32 | uint64 | float32 | string
    unit: str = ""
    scale: int = 1
    access: str = "r"  # r | rw

    @property
    def words(self) -> int:
        """Registers it takes."""
        if self.type == "string":
            return STRING_WORDS
        return 2 if self.type == "float32" else struct.calcsize(_LAYOUTS[self.type][0]) // 2


_HEAD = (
    Register(0, "kind", "uint16"),
    Register(1, "map_version", "uint16"),
    Register(2, "name", "string"),
)
METER: Final = (
    *_HEAD,
    Register(20, "power", "float32", "W"),
    Register(22, "power_int", "int32", "W"),
    Register(24, "energy", "uint64", "Wh"),
    Register(28, "voltage", "float32", "V"),
    Register(30, "current", "float32", "A"),
    Register(32, "frequency", "float32", "Hz"),
    Register(34, "power_factor", "int16", "", 1000),
    Register(36, "simulated_at", "uint32", "s"),
)
RELAY: Final = (
    *_HEAD,
    Register(20, "frequency", "float32", "Hz"),
    Register(22, "trip_frequency", "float32", "Hz"),
    Register(24, "delay", "uint16", "s", 1000),
    Register(25, "state", "uint16"),
    Register(26, "trips", "uint16"),
    Register(27, "breakers_shed", "uint16"),
    Register(28, "last_trip_at", "uint32", "s"),
)
BREAKER: Final = (
    *_HEAD,
    Register(20, "power", "float32", "W"),
    Register(22, "current", "float32", "A"),
    Register(24, "voltage_upstream", "float32", "V"),
    Register(26, "voltage_downstream", "float32", "V"),
    Register(28, "state", "uint16"),
    Register(29, "trips", "uint16"),
    Register(30, "limit", "float32", "W"),
    Register(32, "load", "uint16", "", 1000),
    Register(33, "heat", "uint16", "", 1000),
    Register(40, "command", "uint16", access="rw"),
)
COOLING: Final = (
    *_HEAD,
    Register(20, "outdoor_temperature", "int16", "°C", 10),
    Register(21, "supply_temperature", "int16", "°C", 10),
    Register(22, "pue", "uint16", "", 1000),
    Register(23, "pumps", "uint16"),
    Register(24, "pumps_running", "uint16"),
    Register(25, "fan_stage", "uint16"),
    Register(26, "alarms", "uint16"),
    Register(27, "load", "uint16", "", 1000),
)
MAPS: Final = {"meter": METER, "relay": RELAY, "breaker": BREAKER, "cooling": COOLING}


def encode(register: Register, value: Value, *, is_little: bool = False) -> list[int]:
    """The words of a value; what does not fit becomes the nearest that does.

    >>> encode(METER[3], 1.5), encode(METER[4], -2, is_little=True)
    ([16320, 0], [65534, 65535])
    """
    if register.type == "string":
        text = str(value).encode()[: 2 * STRING_WORDS].ljust(2 * STRING_WORDS, b"\0")
        return list(struct.unpack(f">{STRING_WORDS}H", text))
    if register.type == "float32":
        raw = struct.pack(">f", float(value))
    else:
        layout, least, most = _LAYOUTS[register.type]
        raw = struct.pack(layout, min(max(_scaled(value, register.scale), least), most))
    words = list(struct.unpack(f">{len(raw) // 2}H", raw))
    return words[::-1] if is_little else words


def block(registers: Sequence[Register], values: Mapping[str, Value], *, is_little: bool = False) -> list[int]:
    """Every word from address 0 to the last of a map; reserved ones are 0."""
    last = registers[-1]
    words = [0] * (last.address + last.words)
    for register in registers:
        words[register.address : register.address + register.words] = encode(
            register, values[register.name], is_little=is_little
        )
    return words


def sunspec(values: Mapping[str, Value], scale: int) -> list[int]:
    """The meter as SunSpec sees it, from 40000 on: "SunS", model 1, model 203 (three-phase wye), the end.

    `scale`: power of ten of W and TotWhImp. What the meter does not measure is "not implemented". Always most significant first.
    Source: SunSpec device information models 1 and 203.
    """
    absent, absent_scale = 0x8000, 0x8000
    power, factor = float(values["power"]), 10.0**scale
    watts = [_int16(power / factor), *[_int16(power / 3 / factor)] * 3, _uint16(scale)]
    amps = [*[_int16(float(values["current"]) / 10.0 ** (scale - 4))] * 4, _uint16(scale - 4)]
    line_v = float(values["voltage"])
    volts = [*[_int16(line_v / 3**0.5 / 10)] * 4, *[_int16(line_v / 10)] * 4, 1]
    energy = _acc32(int(int(values["energy"]) / factor))
    body = [*amps, *volts, _int16(float(values["frequency"]) * 100), _uint16(-2), *watts]
    body += [*[absent] * 4, absent_scale] * 2  # VA, VAR
    body += [*[_int16(float(values["power_factor"]) * 100)] * 4, _uint16(-2)]
    body += [*[0] * 8, *energy, *[0] * 6, _uint16(scale)]
    body += [0] * (105 - len(body))
    return [*_text("SunS", 2), 1, 66, *_common(str(values["name"])), 203, 105, *body, 0xFFFF, 0]


def _scaled(value: Value, scale: int) -> int:
    return value * scale if isinstance(value, int) else round(float(value) * scale)


def _common(name: str) -> list[int]:
    """Model 1: manufacturer, model, options, version, serial number, address, pad."""
    return [
        *_text(VENDOR, 16),
        *_text("revenue meter", 16),
        *_text("", 8),
        *_text("1", 8),
        *_text(name, 16),
        1,
        0x8000,
    ]


def _text(text: str, words: int) -> list[int]:
    return list(struct.unpack(f">{words}H", text.encode()[: 2 * words].ljust(2 * words, b"\0")))


def _int16(value: float) -> int:
    return min(max(round(value), -32767), 32767) & 0xFFFF


def _uint16(value: int) -> int:
    return value & 0xFFFF


def _acc32(value: int) -> list[int]:
    """An accumulator that wraps."""
    return [(value >> 16) & 0xFFFF, value & 0xFFFF]
