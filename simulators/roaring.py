"""Checks the portable roaring format before the C library sees it: bytes from a socket must not reach it unchecked.

Source: the RoaringFormatSpec of the Roaring bitmap project. Sets are kept as `pyroaring.BitMap`.
"""

import numpy as np
from pyroaring import BitMap

_COOKIE_NO_RUNS = 12_346
_COOKIE_RUNS = 12_347
_NO_OFFSET_THRESHOLD = 4
_BITSET_BYTES = 8192
_ARRAY_MAX = 4096


class RoaringError(Exception):
    """The bytes are not one well-formed portable roaring bitmap."""


def parse(payload: bytes) -> BitMap:
    """The set that the bytes hold; they must hold exactly one bitmap.

    Raises:
        RoaringError: anything else.
    """
    try:
        _check(payload)
        return BitMap.deserialize(payload)
    except (ValueError, IndexError) as error:
        message = f"not a portable roaring bitmap: {error}"
        raise RoaringError(message) from error


def slots(bitmap: BitMap) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The members as an index array, rising."""
    if not bitmap:
        return np.zeros(0, dtype=np.int64)
    return np.frombuffer(bitmap.to_array(), dtype=np.uint32).astype(np.int64)


def from_slots(members: np.ndarray[tuple[int], np.dtype[np.int64]]) -> BitMap:
    """The set of these members."""
    return BitMap(members.astype(np.uint32))


def _words(payload: bytes, start: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    if start + 2 * count > len(payload):
        message = "it ends early"
        raise ValueError(message)
    return np.frombuffer(payload, dtype="<u2", count=count, offset=start).astype(np.int64)


def _check(payload: bytes) -> None:
    """Walk every container; sizes, order and cardinalities must agree."""
    if len(payload) < 8:
        message = f"{len(payload)} bytes are too few"
        raise ValueError(message)
    cookie = int.from_bytes(payload[:4], "little")
    if cookie == _COOKIE_NO_RUNS:
        size, at, run_flags = int.from_bytes(payload[4:8], "little"), 8, b""
        has_offsets = True
    elif cookie & 0xFFFF == _COOKIE_RUNS:
        size = (cookie >> 16) + 1
        run_flags, at = payload[4 : 4 + (size + 7) // 8], 4 + (size + 7) // 8
        has_offsets = size >= _NO_OFFSET_THRESHOLD
    else:
        message = f"its cookie is {cookie}"
        raise ValueError(message)
    if size > 65_536:
        message = f"{size} containers are too many"
        raise ValueError(message)
    header = _words(payload, at, 2 * size)
    if np.any(np.diff(header[0::2]) <= 0):
        message = "its containers are out of order"
        raise ValueError(message)
    at += 4 * size + (4 * size if has_offsets else 0)
    for index in range(size):
        is_run = bool(run_flags) and bool(run_flags[index // 8] >> (index % 8) & 1)
        at += _container_bytes(payload, at, int(header[2 * index + 1]) + 1, is_run)
    if at != len(payload):
        message = f"{len(payload) - at} bytes remain after it"
        raise ValueError(message)


def _container_bytes(payload: bytes, at: int, cardinality: int, is_run: bool) -> int:
    """Length of the container at an offset, after checking it."""
    if is_run:
        runs = int(_words(payload, at, 1)[0])
        pairs = _words(payload, at + 2, 2 * runs)
        first, last = pairs[0::2], pairs[0::2] + pairs[1::2]
        well = np.all(last <= 0xFFFF) and np.all(first[1:] > last[:-1]) and int((last - first + 1).sum()) == cardinality
        length = 2 + 4 * runs
    elif cardinality <= _ARRAY_MAX:
        well = bool(np.all(np.diff(_words(payload, at, cardinality)) > 0))
        length = 2 * cardinality
    else:
        words = _words(payload, at, _BITSET_BYTES // 2)
        well = int(np.bitwise_count(words).sum()) == cardinality
        length = _BITSET_BYTES
    if not well:
        message = "a container contradicts its header"
        raise ValueError(message)
    return length
