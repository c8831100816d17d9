"""Replies gone wrong: numbers that are null, no number or in another unit, bodies that are cut, padded or something else."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson

OTHER_UNIT = 1e9  # so far off that no market is ever there: whoever acts on it looks at no bounds
PAGE = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
_CHUNK = b" " * 65_536


def spoilt(body: bytes, fraction: float, draw: np.random.Generator) -> bytes:
    """A JSON body in which a share of the numbers with a fraction, written as such or as text, is wrong."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    return orjson.dumps(_spoil(document, fraction, draw))


def padding(megabytes: float) -> Iterator[bytes]:
    """So many megabytes of nothing."""
    left = int(megabytes * 1_000_000)
    while left > 0:
        yield _CHUNK[:left]
        left -= len(_CHUNK)


def _spoil(node: Any, fraction: float, draw: np.random.Generator) -> Any:
    if isinstance(node, dict):
        return {key: _spoil(value, fraction, draw) for key, value in node.items()}
    if isinstance(node, list):
        return [_spoil(value, fraction, draw) for value in node]
    value = _decimal(node)
    if value is None or draw.random() >= fraction:
        return node
    wrong: list[object] = [None, "N/A", "NaN", value * OTHER_UNIT]
    found = wrong[int(draw.integers(len(wrong)))]
    return str(found) if isinstance(node, str) and isinstance(found, float) else found


def _decimal(node: Any) -> float | None:
    """The value of a number with a fraction, as exchanges write them, too; None: it is something else."""
    if isinstance(node, float):
        return node
    if isinstance(node, str) and node.count(".") == 1 and node.lstrip("-").replace(".", "").isdigit():
        return float(node)
    return None
