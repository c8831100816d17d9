"""Sets of slots on the wire: roaring bitmaps in the portable serialisation, checked against a limit when they come in.

What comes in is checked container by container before the C library sees it: it trusts the counts in a bitmap's header, and
what comes from a socket may lie.
Source: the RoaringFormatSpec of the Roaring bitmap project.
"""

from array import array
from itertools import pairwise

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
        _check(payload, limit)
    except (IndexError, ValueError) as error:
        raise ValueError(f"{len(payload)} bytes that are no roaring bitmap of slots below {limit}: {error}") from None
    slots: Slots = np.frombuffer(pyroaring.BitMap.deserialize(payload).to_array(), dtype=np.uint32)
    if len(slots) and int(slots[-1]) >= limit:
        raise ValueError(f"slot {slots[-1]} is beyond the last one, {limit - 1}")
    return slots


def _check(payload: bytes, limit: int) -> None:
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
    heads = _words(payload, at, 2 * size).tolist()
    keys, counts = heads[0::2], heads[1::2]
    if any(key <= before for before, key in pairwise(keys)) or (keys and keys[-1] * 0x1_0000 >= limit):
        raise ValueError("containers out of order or beyond the last slot")
    at += 4 * size + (4 * size if not runs or size >= _OFFSETS_FROM else 0)
    for n, count in enumerate(counts):
        at = _check_container(payload, at, count + 1, is_run=bool(runs) and bool(runs[n // 8] >> (n % 8) & 1))
    if at != len(payload):
        raise ValueError(f"{len(payload) - at} bytes behind it")


def _check_container(payload: bytes, at: int, count: int, *, is_run: bool) -> int:
    """Where the next container begins."""
    if is_run:
        number = int(_words(payload, at, 1)[0])
        pairs = _words(payload, at + 2, 2 * number).astype(np.int64)
        first, last = pairs[0::2], pairs[0::2] + pairs[1::2]
        is_true = (first[1:] > last[:-1]).all() and (last <= 0xFFFF).all() and (last - first + 1).sum() == count
        end = at + 2 + 4 * number
    elif count <= _ARRAY_MAX:
        low = _words(payload, at, count)
        is_true, end = (low[1:] > low[:-1]).all(), at + 2 * count
    else:
        bits = np.frombuffer(payload, dtype="<u8", count=_BITSET_BYTES // 8, offset=at)
        is_true, end = np.bitwise_count(bits).sum() == count, at + _BITSET_BYTES
    if not is_true:
        raise ValueError("a container contradicts its header")
    return end


def _words(payload: bytes, at: int, count: int) -> npt.NDArray[np.uint16]:
    if at + 2 * count > len(payload):
        raise ValueError("it ends early")
    return np.frombuffer(payload, dtype="<u2", count=count, offset=at)
