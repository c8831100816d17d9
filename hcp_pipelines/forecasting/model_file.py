"""A learnt model as bytes that run no code when they are read: a .npz of plain arrays, bounded and checked by digest.

Metadata is JSON in an array of bytes. The same model gives the same bytes; where they are kept is said elsewhere.
"""

import hashlib
import io
import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

import numpy as np

from hcp_pipelines.domain.errors import ModelError
from hcp_pipelines.forecasting.trees import Trees

FORMAT = 1
UNREADABLE = (
    KeyError, TypeError, ValueError, OSError, EOFError, RecursionError, MemoryError, NotImplementedError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip
MOST_BYTES = 16 << 20  # thirty times what eight bags of a hundred trees take
ARRAYS: Mapping[str, str] = {
    "first_node": "<i4", "feature": "<i2", "threshold": "<f4", "missing_left": "|b1", "left": "<i4", "right": "<i4",
    "value": "<f8",
}  # fmt: skip


@dataclass(frozen=True)
class Artefact:
    """Trees and what a reader must know of them. `columns`: what they were learnt from, in order.

    `step_minutes` and `delay` (intervals by which the newest price is old) say which question they answer.
    """

    name: str
    trees: Trees
    columns: tuple[str, ...]
    trained_until: datetime
    step_minutes: int
    delay: int
    told: Mapping[str, Any] = field(default_factory=dict)  # points, days, scores: for people

    def to_bytes(self) -> bytes:
        """The model as it is kept."""
        trees = self.trees
        about = {
            "format": FORMAT, "name": self.name, "trained_until": self.trained_until.isoformat(), "baseline": trees.baseline,
            "columns": self.columns, "step_minutes": self.step_minutes, "delay": self.delay, "told": self.told,
        }  # fmt: skip
        return packed(about, {name: getattr(trees, name).astype(kind) for name, kind in ARRAYS.items()})

    @classmethod
    def from_bytes(cls, kept: bytes, digest: str) -> Self:
        """The model of some bytes that have a SHA-256 digest.

        Raises:
            ModelError: other bytes than were kept, too many, or not this format.
        """
        about, arrays = unpacked(kept, digest, ARRAYS)
        try:
            if about["format"] != FORMAT:
                raise ModelError(f"it has format {about['format']}: this version reads {FORMAT}")
            trees = Trees(len(about["columns"]), float(about["baseline"]), *(arrays[name] for name in ARRAYS))
            return cls(
                about["name"], trees, tuple(about["columns"]), datetime.fromisoformat(about["trained_until"]),
                int(about["step_minutes"]), int(about["delay"]), about["told"],
            )  # fmt: skip
        except UNREADABLE as error:
            raise ModelError(f"it can't be read as a model: {type(error).__name__}: {error}") from error


def digest_of(kept: bytes) -> str:
    """SHA-256 of a model's bytes, hexadecimal."""
    return hashlib.sha256(kept).hexdigest()


def packed(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Metadata and plain arrays as bytes; the same give the same."""
    text = json.dumps(about, sort_keys=True, allow_nan=False).encode()
    named = {"about": np.frombuffer(text, dtype=np.uint8), **arrays}
    kept = io.BytesIO()
    np.savez(kept, **named)  # type: ignore[arg-type]
    return kept.getvalue()


def unpacked(kept: bytes, digest: str, kinds: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Metadata and arrays of some bytes that have a SHA-256 digest, each array of its kind.

    Raises:
        ModelError: other bytes than were kept, too many, or no such arrays.
    """
    found = digest_of(kept)
    if found != digest:
        raise ModelError(f"its digest is {found[:12]}…, {digest[:12]}… was kept: it is not what was promoted")
    try:
        arrays = _read(kept, kinds)
        return json.loads(arrays["about"].tobytes()), arrays
    except UNREADABLE as error:
        raise ModelError(f"it can't be read as a model: {type(error).__name__}: {error}") from error


def _read(kept: bytes, kinds: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The arrays, each of the kind it must have; nothing is unpacked that says it is too large."""
    _refuse_large(len(kept))
    with zipfile.ZipFile(io.BytesIO(kept)) as packed:
        _refuse_large(sum(each.file_size for each in packed.infolist()))
        for member in packed.infolist():
            _refuse_claim(packed, member)
    with np.load(io.BytesIO(kept), allow_pickle=False) as packed_arrays:
        arrays = {name: packed_arrays[name] for name in ("about", *kinds)}
    for name, array in arrays.items():
        kind = np.dtype(kinds.get(name, "|u1"))
        if array.dtype != kind or array.ndim != 1:
            raise ModelError(f"{name} is {array.dtype} of {array.ndim} dimensions: must be {kind} of one")
    return arrays


def _refuse_claim(packed: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """An array's header may claim any shape, and the room for it is taken before its values are read."""
    with packed.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = read_header(file)
    claimed = math.prod(shape) * kind.itemsize
    if min(shape, default=0) < 0 or claimed > member.file_size:
        raise ModelError(f"{member.filename} says it has shape {shape} of {kind}: it has {member.file_size:,} bytes")


def _refuse_large(size: int) -> None:
    if size > MOST_BYTES:
        raise ModelError(f"it has {size:,} bytes: at most {MOST_BYTES:,}")
