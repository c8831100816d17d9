"""Frames of the bulk device channel, pure: bytes ↔ values. Layout: docs/bulk-channel.md."""

import struct
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import numpy.typing as npt

from hcp_pipelines.domain.errors import DeviceReplyError
from hcp_pipelines.wire.slots import Slots, decode_slots

VERSION = 1
FRAME_MAX_BYTES = 16 * 1024 * 1024
HELLO, SET, READ, METER, SUBSCRIBE, LET_GO = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
WELCOME, SET_DONE, READING, METERED, LET_GO_DONE, ERROR = 0x81, 0x82, 0x83, 0x84, 0x86, 0xFF
POWER, COMMANDED, REACHABLE, HASHRATE, TEMPERATURE = range(5)
FLOATS = (POWER, HASHRATE, TEMPERATURE)
HEAD = struct.Struct("<IBI")
_EMPTY_BITMAP = bytes.fromhex("3a30000000000000")


@dataclass(frozen=True, slots=True)
class Welcome:
    """The site's greeting."""

    version: int
    devices: int
    speed: float


@dataclass(frozen=True, slots=True)
class Reading:
    """One value a device: power in watts, hashrate in TH/s, temperature in °C (float32), or state or reachability (uint8)."""

    what: int
    simulated_at_s: float
    values: npt.NDArray[np.float32] | npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Metered:
    """The revenue meter: site all-in power in watts, energy in watt-hours."""

    simulated_at_s: float
    power_w: float
    energy_wh: float


def encode_frame(kind: int, request: int, payload: bytes) -> bytes:
    """A whole frame.

    >>> encode_frame(METER, 7, b"").hex()
    '050000000407000000'
    """
    return HEAD.pack(5 + len(payload), kind, request) + payload


def encode_hello(site: str) -> bytes:
    """Payload of HELLO."""
    name = site.encode()
    return struct.pack("<HH", VERSION, len(name)) + name


def encode_set(ref: UUID, assignment: int, state: int, slots: bytes) -> bytes:
    """Payload of SET; `slots` as `wire.slots.encode_slots` gives them."""
    return ref.bytes + struct.pack("<HB", assignment, state) + (slots or _EMPTY_BITMAP)


def encode_let_go(slots: bytes) -> bytes:
    """Payload of LET_GO; `slots` as `wire.slots.encode_slots` gives them."""
    return slots or _EMPTY_BITMAP


def decode_welcome(payload: bytes) -> Welcome:
    """WELCOME."""
    version, devices, speed = _unpack("<HId", payload, "WELCOME")
    return Welcome(int(version), int(devices), speed)


def decode_set_done(payload: bytes, limit: int) -> tuple[Slots, Slots]:
    """SET_DONE: accepted and refused slots; LET_GO_DONE, of the same shape: kept and lost."""
    accepted, rest = _bitmap(payload, limit)
    refused, rest = _bitmap(rest, limit)
    if rest:
        raise DeviceReplyError(f"SET_DONE with {len(rest)} bytes too many")
    return accepted, refused


def decode_reading(payload: bytes) -> Reading:
    """READING."""
    if len(payload) < 9:
        raise DeviceReplyError(f"READING of {len(payload)} bytes; it has at least 9")
    what, at_s = struct.unpack_from("<Bd", payload)
    body = memoryview(payload)[9:]
    if what in FLOATS and len(body) % 4:
        raise DeviceReplyError(f"READING of {what} with {len(body)} bytes, not a multiple of 4")
    values = np.frombuffer(body, dtype="<f4" if what in FLOATS else np.uint8)
    return Reading(what, at_s, values)


def decode_metered(payload: bytes) -> Metered:
    """METERED."""
    return Metered(*_unpack("<ddd", payload, "METERED"))


def decode_error(payload: bytes) -> str:
    """ERROR as text."""
    if len(payload) < 2:
        return "an error without a code"
    return f"error {int.from_bytes(payload[:2], 'little')}: {payload[2:].decode(errors='replace')[:200]}"


def _unpack(layout: str, payload: bytes, name: str) -> tuple[float, ...]:
    if len(payload) != struct.calcsize(layout):
        raise DeviceReplyError(
            f"{name} of {len(payload)} bytes; it has {struct.calcsize(layout)}: {payload[:40].hex()}"
        )
    return struct.unpack(layout, payload)


def _bitmap(payload: bytes, limit: int) -> tuple[Slots, bytes]:
    if len(payload) < 4:
        raise DeviceReplyError(f"SET_DONE ends early: {payload[:40].hex()}")
    length = int.from_bytes(payload[:4], "little")
    try:
        return decode_slots(payload[4 : 4 + length], limit), payload[4 + length :]
    except ValueError as error:
        raise DeviceReplyError(f"SET_DONE: {error}") from None
