"""Sets of slots on the wire: roaring bitmaps in the portable serialisation, checked against a limit when they come in.

They are read here and not by the C library: it trusts the counts in a bitmap's header, and what comes from a socket may lie.
Source: the RoaringFormatSpec of the Roaring bitmap project.
"""

from array import array

import numpy as np
import numpy.typing as npt
import pyroaring

Slots = npt.NDArray[np.uint32]
EMPTY: Slots = np.zeros(0, dtype=np.uint32)

_COOKIE, _COOKIE_WITH_RUNS = 12_346, 12_347
_OFFSETS_FROM = 4  # a bitmap with runs has offsets from so many containers on
_ARRAY_MAX = 4096
_BITSET_BYTES = 8192


def encode_slots(slots: Slots) -> bytes:
    """The bitmap of some slots; an empty set is no bytes at all.

    >>> decode_slots(encode_slots(np.array([3, 5], dtype=np.uint32)), limit=6).tolist()
    [3, 5]
    """
    if len(slots) == 0:
        return b""
    whole = array(
        "I", np.ascontiguousarray(slots, dtype=np.uint32).tobytes()
    )  # ten times as fast as from numpy's array
    bitmap = pyroaring.BitMap(whole)
    bitmap.run_optimize()
    payload: bytes = bitmap.serialize()
    return payload


def decode_slots(payload: bytes, limit: int) -> Slots:
    """The slots of a bitmap, rising.

    Raises:
        ValueError: the bytes are no bitmap, or a slot is `limit` or above.
    """
    if not payload:
        return EMPTY
    try:
        parts = _containers(payload, limit)
    except (IndexError, ValueError) as error:
        raise ValueError(f"{len(payload)} bytes that are no roaring bitmap of slots below {limit}: {error}") from None
    if not parts:
        return EMPTY
    slots = np.concatenate(parts)
    if int(slots[-1]) >= limit:
        raise ValueError(f"slot {slots[-1]} is beyond the last one, {limit - 1}")
    return slots


def _containers(payload: bytes, limit: int) -> list[Slots]:
    cookie = int.from_bytes(payload[:4], "little")
    if cookie == _COOKIE:
        size, at, runs = int.from_bytes(payload[4:8], "little"), 8, b""
    elif cookie & 0xFFFF == _COOKIE_WITH_RUNS:
        size = (cookie >> 16) + 1
        at = 4 + (size + 7) // 8
        runs = payload[4:at]
    else:
        raise ValueError(f"cookie {cookie}")
    if size > limit // 0x1_0000 + 1:
        raise ValueError(f"{size} containers")
    heads = _words(payload, at, 2 * size).reshape(size, 2)
    keys = heads[:, 0].astype(np.int64)
    if (np.diff(keys) <= 0).any() or (size and keys[-1] * 0x1_0000 >= limit):
        raise ValueError("containers out of order or beyond the last slot")
    at += 4 * size + (4 * size if not runs or size >= _OFFSETS_FROM else 0)
    parts = []
    for n, (key, count) in enumerate(zip(keys.tolist(), (heads[:, 1].astype(np.int64) + 1).tolist(), strict=True)):
        low, at = _container(payload, at, count, is_run=bool(runs) and bool(runs[n // 8] >> (n % 8) & 1))
        if len(low) != count or (low[1:] <= low[:-1]).any():
            raise ValueError("a container contradicts its header")
        parts.append(low.astype(np.uint32) + np.uint32(key * 0x1_0000))
    if at != len(payload):
        raise ValueError(f"{len(payload) - at} bytes behind it")
    return parts


def _container(payload: bytes, at: int, count: int, *, is_run: bool) -> tuple[npt.NDArray[np.int64], int]:
    """The low halves of a container's slots, and where the next one begins."""
    if is_run:
        number = int(_words(payload, at, 1)[0])
        pairs = _words(payload, at + 2, 2 * number).astype(np.int64).reshape(number, 2)
        lengths = pairs[:, 1] + 1
        if int(lengths.sum()) != count or (pairs.sum(axis=1) > 0xFFFF).any():
            raise ValueError("runs that contradict their header")
        before = np.cumsum(lengths) - lengths
        return np.repeat(pairs[:, 0] - before, lengths) + np.arange(count), at + 2 + 4 * number
    if count <= _ARRAY_MAX:
        return _words(payload, at, count).astype(np.int64), at + 2 * count
    bits = np.frombuffer(payload, dtype=np.uint8, count=_BITSET_BYTES, offset=at)
    return np.flatnonzero(np.unpackbits(bits, bitorder="little")), at + _BITSET_BYTES


def _words(payload: bytes, at: int, count: int) -> npt.NDArray[np.uint16]:
    if at + 2 * count > len(payload):
        raise ValueError("it ends early")
    return np.frombuffer(payload, dtype="<u2", count=count, offset=at)
