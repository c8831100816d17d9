"""Stratum V2's messages of mining: their fields on the wire, little-endian. Pure.

Source: Stratum V2 specification, 03 Protocol Overview (data types, framing), 05 Mining Protocol, 08 Message Types.
"""

import struct
from typing import Any, Final, NamedTuple

HEADER_BYTES: Final = 6
MOST_PAYLOAD_BYTES: Final = 4096
CHANNEL_BIT: Final = 0x8000
_EXTENSION: Final = 0x7FFF


class MalformedError(Exception):
    """A payload has not the fields of its message."""


class FrameHeader(NamedTuple):
    """What is before each payload."""

    extension: int
    type: int
    length: int


class SetupConnection(NamedTuple):
    """The first message of a miner."""

    protocol: int
    min_version: int
    max_version: int
    flags: int
    host: str
    port: int
    vendor: str
    hardware: str
    firmware: str
    device: str


class SetupConnectionSuccess(NamedTuple):
    """The connection stands."""

    used_version: int
    flags: int


class SetupConnectionError(NamedTuple):
    """It doesn't; `flags` are those that can't be had."""

    flags: int
    code: str


class OpenStandardMiningChannel(NamedTuple):
    """A miner wants to work; `nominal_hashes_per_s` is its claim, `max_target` the easiest target it takes."""

    request: int
    user: str
    nominal_hashes_per_s: float
    max_target: int


class OpenStandardMiningChannelSuccess(NamedTuple):
    """It may."""

    request: int
    channel: int
    target: int
    extranonce_prefix: bytes
    group: int


class OpenMiningChannelError(NamedTuple):
    """It may not."""

    request: int
    code: str


class NewMiningJob(NamedTuple):
    """A job; without a time it is for the block that the next SetNewPrevHash tells of."""

    channel: int
    job: int
    min_time_s: int | None
    version: int
    merkle_root: bytes


class SetNewPrevHash(NamedTuple):
    """A block was found, and this job follows it."""

    channel: int
    job: int
    previous_hash: bytes
    min_time_s: int
    bits: int


class SetTarget(NamedTuple):
    """The target of a channel's shares from now on."""

    channel: int
    target: int


class UpdateChannel(NamedTuple):
    """A miner's new claim."""

    channel: int
    nominal_hashes_per_s: float
    max_target: int


class UpdateChannelError(NamedTuple):
    """It is not taken."""

    channel: int
    code: str


class CloseChannel(NamedTuple):
    """The end of a channel."""

    channel: int
    reason: str


class SubmitSharesStandard(NamedTuple):
    """A share."""

    channel: int
    sequence: int
    job: int
    nonce: int
    time_s: int
    version: int


class SubmitSharesSuccess(NamedTuple):
    """Shares count; `difficulty_sum` is what they were credited."""

    channel: int
    last_sequence: int
    shares: int
    difficulty_sum: int


class SubmitSharesError(NamedTuple):
    """A share does not count."""

    channel: int
    sequence: int
    code: str


class OpenExtendedMiningChannel(NamedTuple):
    """A proxy wants to work: it makes the extranonce, and so the coinbase and the merkle root, itself."""

    request: int
    user: str
    nominal_hashes_per_s: float
    max_target: int
    min_extranonce_bytes: int


class OpenExtendedMiningChannelSuccess(NamedTuple):
    """It may."""

    request: int
    channel: int
    target: int
    extranonce_bytes: int
    extranonce_prefix: bytes
    group: int


class NewExtendedMiningJob(NamedTuple):
    """A job for a proxy; without a time it is for the block that the next SetNewPrevHash tells of."""

    channel: int
    job: int
    min_time_s: int | None
    version: int
    is_version_rolling: bool
    merkle_path: tuple[bytes, ...]
    coinbase_prefix: bytes
    coinbase_suffix: bytes


class SubmitSharesExtended(NamedTuple):
    """A proxy's share."""

    channel: int
    sequence: int
    job: int
    nonce: int
    time_s: int
    version: int
    extranonce: bytes


_PLAIN: Final = {"u8": "<B", "u16": "<H", "u32": "<I", "u64": "<Q", "f32": "<f", "bool": "<?"}
_FIELDS: Final[dict[type[Any], tuple[int, str]]] = {
    SetupConnection: (0x00, "u8 u16 u16 u32 str u16 str str str str"),
    SetupConnectionSuccess: (0x01, "u16 u32"),
    SetupConnectionError: (0x02, "u32 str"),
    OpenStandardMiningChannel: (0x10, "u32 str f32 u256"),
    OpenStandardMiningChannelSuccess: (0x11, "u32 u32 u256 b32 u32"),
    OpenMiningChannelError: (0x12, "u32 str"),
    OpenExtendedMiningChannel: (0x13, "u32 str f32 u256 u16"),
    OpenExtendedMiningChannelSuccess: (0x14, "u32 u32 u256 u16 b32 u32"),
    NewMiningJob: (0x15, "u32 u32 option_u32 u32 hash"),
    UpdateChannel: (0x16, "u32 f32 u256"),
    UpdateChannelError: (0x17, "u32 str"),
    CloseChannel: (0x18, "u32 str"),
    SubmitSharesStandard: (0x1A, "u32 u32 u32 u32 u32 u32"),
    SubmitSharesExtended: (0x1B, "u32 u32 u32 u32 u32 u32 b32"),
    SubmitSharesSuccess: (0x1C, "u32 u32 u32 u64"),
    SubmitSharesError: (0x1D, "u32 u32 str"),
    NewExtendedMiningJob: (0x1F, "u32 u32 option_u32 u32 bool hashes b64k b64k"),
    SetNewPrevHash: (0x20, "u32 u32 hash u32 u32"),
    SetTarget: (0x21, "u32 u256"),
}
_OF_TYPE: Final = {number: made for made, (number, _) in _FIELDS.items()}
_OF_CHANNELS: Final = range(0x15, 0x25)


def encode(message: Any) -> tuple[bytes, bytes]:
    """Header and payload."""
    number, kinds = _FIELDS[type(message)]
    payload = b"".join(_write(kind, value) for kind, value in zip(kinds.split(), message, strict=True))
    extension = CHANNEL_BIT if number in _OF_CHANNELS else 0
    return struct.pack("<HB", extension, number) + len(payload).to_bytes(3, "little"), payload


def decode_header(data: bytes) -> FrameHeader:
    """What a payload is going to be."""
    extension, number = struct.unpack_from("<HB", data)
    return FrameHeader(extension & _EXTENSION, number, int.from_bytes(data[3:6], "little"))


def decode(header: FrameHeader, payload: bytes) -> Any:
    """The message of a payload; None of a kind that nobody here knows.

    Raises:
        MalformedError: it has not its fields, or more than these.
    """
    made = _OF_TYPE.get(header.type) if header.extension == 0 else None
    if made is None:
        return None
    rest, values = payload, []
    try:
        for kind in _FIELDS[made][1].split():
            value, rest = _read(kind, rest)
            values.append(value)
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        reason = f"{made.__name__}: {error}"
        raise MalformedError(reason) from error
    if rest:
        reason = f"{made.__name__}: {len(rest)} bytes too many"
        raise MalformedError(reason)
    return made(*values)


def _write(kind: str, value: Any) -> bytes:
    if kind in _PLAIN:
        return struct.pack(_PLAIN[kind], value)
    if kind == "option_u32":
        return b"\0" if value is None else struct.pack("<BI", 1, value)
    if kind == "u256":
        return int(value).to_bytes(32, "little")
    if kind in ("hash", "hashes"):
        return bytes(value) if kind == "hash" else bytes([len(value)]) + b"".join(value)
    if kind == "b64k":
        return struct.pack("<H", len(value)) + bytes(value)
    data = value.encode() if isinstance(value, str) else bytes(value)
    return bytes([len(data)]) + data


def _read(kind: str, data: bytes) -> tuple[Any, bytes]:
    if kind in _PLAIN:
        size = struct.calcsize(_PLAIN[kind])
        return struct.unpack_from(_PLAIN[kind], data)[0], data[size:]
    if kind == "option_u32":
        return _read("u32", data[1:]) if data[0] else (None, data[1:])
    if kind in ("u256", "hash"):
        found = struct.unpack_from("<32s", data)[0]
        return (int.from_bytes(found, "little") if kind == "u256" else found), data[32:]
    size = data[0]
    found = struct.unpack_from(f"<{size}s", data, 1)[0]
    return (found.decode() if kind == "str" else found), data[1 + size :]
