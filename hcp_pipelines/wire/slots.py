"""Sets of slots on the wire: roaring bitmaps in the portable serialisation, checked against a limit when they come in."""

import numpy as np
import numpy.typing as npt
import pyroaring

Slots = npt.NDArray[np.uint32]
EMPTY: Slots = np.zeros(0, dtype=np.uint32)


def encode_slots(slots: Slots) -> bytes:
    """The bitmap of some slots; an empty set is no bytes at all.

    >>> decode_slots(encode_slots(np.array([3, 5], dtype=np.uint32)), limit=6).tolist()
    [3, 5]
    """
    if len(slots) == 0:
        return b""
    bitmap = pyroaring.BitMap(np.ascontiguousarray(slots, dtype=np.uint32))
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
        bitmap = pyroaring.BitMap.deserialize(payload)
    except (ValueError, IndexError) as error:
        raise ValueError(f"{len(payload)} bytes that are no roaring bitmap: {error}") from None
    if not bitmap:
        return EMPTY
    if bitmap.max() >= limit:
        raise ValueError(f"slot {bitmap.max()} is beyond the last one, {limit - 1}")
    return np.frombuffer(bitmap.to_array(), dtype=np.uint32)
