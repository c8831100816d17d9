"""Work on the wire: what a gateway takes of it, and the key by which owner and gateway say whose work a slot was told. Pure."""

import hashlib
import math
import re

import numpy as np
import numpy.typing as npt

from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import decode_slots, encode_slots

Keys = npt.NDArray[np.int64]

NOBODYS = 0  # the key of a slot that was told no work of anybody's
TEXT_MAX = 500
MODEL_MAX = 100
WEIGHTS_MAX_GIB = 10_000.0
GPUS_EACH_MAX = 8
LOADS = ("", "cold", "streamed")
_ID = re.compile(r"[A-Za-z0-9._:-]{0,128}")


def check_work(work: pb.Work) -> str:
    """What is wrong with work that a command names, in words; empty where nothing is."""
    texts = {"model": (work.model, MODEL_MAX), "checkpoint": (work.checkpoint, TEXT_MAX)}
    for name, (text, most) in texts.items():
        if len(text) > most or not (text.isprintable() or not text):
            return f"work.{name}: {most} printable characters at most"
    if not _ID.fullmatch(work.workload_id):
        return f"work.workload_id {work.workload_id[:40]!r}: 128 of A-Z a-z 0-9 . _ : - at most"
    if not math.isfinite(work.weights_gib) or not 0 <= work.weights_gib <= WEIGHTS_MAX_GIB:
        return f"work.weights_gib {work.weights_gib}: 0 to {WEIGHTS_MAX_GIB:g}"
    if work.gpus_each > GPUS_EACH_MAX:
        return f"work.gpus_each {work.gpus_each}: {GPUS_EACH_MAX} at most"
    return "" if work.load in LOADS else f"work.load {work.load[:40]!r}: cold or streamed"


def key_of(workload_id: str) -> int:
    """A workload's key, eight bytes that say whose a slot is without its name: above 0, and 0 for nobody's.

    >>> key_of(""), key_of("a") == key_of("a"), key_of("a") == key_of("b")
    (0, True, False)
    """
    if not workload_id:
        return NOBODYS
    digest = hashlib.blake2b(workload_id.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 1) or 1


def encode_keys(keys: Keys) -> tuple[bytes, bytes]:
    """(the slots that have one, their keys of eight bytes each in that order) of `keys[n]`."""
    slots = np.flatnonzero(keys).astype(np.uint32)
    return encode_slots(slots), keys[slots].astype("<i8").tobytes()


def decode_keys(slots: bytes, keys: bytes, count: int) -> Keys:
    """[count] the keys of so many slots; what is said of slots beyond them is left out.

    Raises:
        ValueError: not one key a slot, or slots that are no bitmap.
    """
    found = np.zeros(count, dtype=np.int64)
    at = decode_slots(slots, 1_000_000)
    if len(keys) != 8 * len(at):
        raise ValueError(f"{len(keys)} bytes of keys for {len(at)} slots")
    is_known = at < count
    found[at[is_known]] = np.frombuffer(keys, dtype="<i8")[is_known]
    return found
