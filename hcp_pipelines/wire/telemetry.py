"""Samples of devices' telemetry on the wire: columns of numbers ↔ `telemetry_v1.Sample`, checked when they come in.

What comes from a socket may lie: lengths, bounds and instants are judged here, before anything is made of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from hcp_pipelines.wire import telemetry_v1_pb2 as pb

DEVICES_MAX = 1_000_000  # of a sample: 14 MB, and a message may have 16
PARTS_MAX = 10_000
NAME_MAX = 200
METER_KW_MAX, METER_MWH_MAX = 1e7, 1e12
SERVICE, METHOD = "hcp.telemetry.v1.Telemetry", "Stream"
_FIRST_US, _LAST_US = 946_684_800_000_000, 7_258_118_400_000_000  # the years 2000 to 2199
_SEQ_MAX = 2**62
_SLOT_MAX = 2**31 - 1

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


class Flag(IntFlag):
    """Bits of a device's `flags`; the lowest three are the code of `devices.site.Evidence` that its power rests on."""

    HOT = 8  # above the temperature at which its model has to stop
    DARK = 16  # its feeder has no power


@dataclass(frozen=True, slots=True)
class Part:
    """A group's devices in a sample: a run of slots."""

    group_id: str
    first_slot: int
    devices: int


@dataclass(frozen=True, slots=True)
class Meter:
    """All-in power of a facility, and its meter's register; without a register the power is that of the devices, summed."""

    read_at_us: int  # simulated, by the meter's own clock
    power_kw: float
    energy_mwh: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A facility's devices at an instant. Columns over `[n]`, the parts' devices one after the other; None: nobody tells it."""

    facility_id: str
    generation: int
    seq: int
    sampled_at_us: int
    simulated_at_us: int
    parts: tuple[Part, ...]
    power_kw: Floats
    hashrate_th_per_s: Floats | None
    temperature_celsius: Floats | None
    state: Bytes
    flags: Bytes
    shed: int = 0
    meter: Meter | None = None

    @property
    def devices(self) -> int:
        """How many devices it has."""
        return len(self.power_kw)


def encode_sample(sample: Sample) -> bytes:
    """The message's bytes."""
    message = pb.Sample(
        facility_id=sample.facility_id,
        generation=sample.generation,
        seq=sample.seq,
        sampled_at_us=sample.sampled_at_us,
        simulated_at_us=sample.simulated_at_us,
        parts=[pb.Part(group_id=p.group_id, first_slot=p.first_slot, devices=p.devices) for p in sample.parts],
        power_kw=_packed(sample.power_kw),
        hashrate_th_per_s=_packed(sample.hashrate_th_per_s),
        temperature_celsius=_packed(sample.temperature_celsius),
        state=sample.state.tobytes(),
        flags=sample.flags.tobytes(),
        shed=sample.shed,
        meter=None if sample.meter is None else _told(sample.meter),
    )
    return message.SerializeToString()


def decode_sample(payload: bytes) -> Sample:
    """A sample of a message's bytes.

    Raises:
        ValueError: it is none, or has no sense; the text says what and which bound.
    """
    try:
        message = pb.Sample.FromString(payload)
    except DecodeError:
        raise ValueError(f"{len(payload)} bytes that are no sample") from None
    parts = _parts(message.parts)
    devices = sum(part.devices for part in parts)
    _within("devices", devices, 1, DEVICES_MAX)
    _within("seq", message.seq, 1, _SEQ_MAX)
    _within("generation", message.generation, 1, _SEQ_MAX)
    _within("sampled_at_us", message.sampled_at_us, _FIRST_US, _LAST_US)
    _within("simulated_at_us", message.simulated_at_us, _FIRST_US, _LAST_US)
    power = _floats("power_kw", message.power_kw, devices)
    if power is None:
        raise ValueError("a sample without power_kw")
    return Sample(
        message.facility_id, message.generation, message.seq, message.sampled_at_us, message.simulated_at_us, parts, power,
        _floats("hashrate_th_per_s", message.hashrate_th_per_s, devices),
        _floats("temperature_celsius", message.temperature_celsius, devices),
        _bytes("state", message.state, devices), _bytes("flags", message.flags, devices), message.shed,
        _meter(message.meter) if message.HasField("meter") else None,
    )  # fmt: skip


def seq_of(payload: bytes) -> int:
    """The number of a message's bytes that `decode_sample` refuses; 0 where it can't be told."""
    try:
        seq = int(pb.Sample.FromString(payload).seq)
    except DecodeError:
        return 0
    return seq if seq <= _SEQ_MAX else 0


def check_meter(meter: Meter) -> None:
    """A reading that may be in a sample.

    Raises:
        ValueError: it can't; the text says what and which bound.
    """
    _within("read_at_us of the meter", meter.read_at_us, _FIRST_US, _LAST_US)
    bounds = (("power_kw", meter.power_kw, METER_KW_MAX), ("energy_mwh", meter.energy_mwh or 0.0, METER_MWH_MAX))
    for name, value, most in bounds:
        if not 0 <= value <= most:
            raise ValueError(f"{name} of the meter is {value}, not 0 to {most:g}")


def _told(meter: Meter) -> pb.Meter:
    is_metered = meter.energy_mwh is not None
    return pb.Meter(
        read_at_us=meter.read_at_us, power_kw=meter.power_kw, energy_mwh=meter.energy_mwh, is_metered=is_metered
    )


def _meter(told: pb.Meter) -> Meter:
    meter = Meter(told.read_at_us, told.power_kw, told.energy_mwh if told.is_metered else None)
    check_meter(meter)
    return meter


def _packed(column: Floats | None) -> bytes:
    return b"" if column is None else np.ascontiguousarray(column, dtype="<f4").tobytes()


def _parts(told: Sequence[pb.Part]) -> tuple[Part, ...]:
    _within("parts", len(told), 1, PARTS_MAX)
    end = 0
    for part in told:
        _within("the length of a group's id", len(part.group_id), 1, NAME_MAX)
        _within(f"first_slot of {part.group_id}", part.first_slot, end, _SLOT_MAX)
        end = part.first_slot + part.devices
        _within(f"last slot of {part.group_id}", end, 0, _SLOT_MAX)
    return tuple(Part(part.group_id, part.first_slot, part.devices) for part in told)


def _floats(name: str, payload: bytes, devices: int) -> Floats | None:
    if not payload:
        return None
    _within(f"bytes of {name}", len(payload), 4 * devices, 4 * devices)
    return np.frombuffer(payload, dtype="<f4")


def _bytes(name: str, payload: bytes, devices: int) -> Bytes:
    _within(f"bytes of {name}", len(payload), devices, devices)
    return np.frombuffer(payload, dtype=np.uint8)


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}, not {least}" + (f" to {most}" if most != least else ""))
