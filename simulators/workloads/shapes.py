"""Shapes of a load test: by how much the rate is multiplied, seconds after the beginning (SM-25)."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from simulators.streams import FloatArray

RAMP_PIECES: Final = 200
_FIELDS: Final = {"steady": (), "step": ("at", "times"), "spike": ("at", "for", "times"), "ramp": ("for", "times")}


class ShapeError(ValueError):
    """Not a shape; the message says what one looks like."""


@dataclass(frozen=True)
class Shape:
    """Levels: from each of `starts_s` on, the multiple beside it."""

    starts_s: tuple[float, ...] = (0.0,)
    multiples: tuple[float, ...] = (1.0,)

    @classmethod
    def parse(cls, text: str) -> "Shape":
        """`steady`, `step:at=60,times=5`, `spike:at=60,for=10,times=20` or `ramp:for=600,times=10`, seconds and multiples.

        Raises:
            ShapeError: it is none of these.
        """
        kind, _, rest = text.partition(":")
        if kind not in _FIELDS:
            raise ShapeError(f"{text!r} is no shape; there are {', '.join(_FIELDS)}")
        given = _numbers(text, rest)
        if set(given) != set(_FIELDS[kind]):
            wanted = ", ".join(_FIELDS[kind]) or "nothing"
            raise ShapeError(f"{text!r}: {kind} takes {wanted}, not {', '.join(given) or 'nothing'}")
        return cls._of(kind, given)

    @classmethod
    def _of(cls, kind: str, given: dict[str, float]) -> "Shape":
        if kind == "step":
            return cls((0.0, given["at"]), (1.0, given["times"]))
        if kind == "spike":
            return cls((0.0, given["at"], given["at"] + given["for"]), (1.0, given["times"], 1.0))
        if kind == "ramp":
            pieces = (np.arange(RAMP_PIECES) + 0.5) / RAMP_PIECES
            starts = np.linspace(0.0, given["for"], RAMP_PIECES + 1)
            levels = np.append(1.0 + (given["times"] - 1.0) * pieces, given["times"])
            return cls(tuple(starts.tolist()), tuple(levels.tolist()))
        return cls()

    def at(self, since_s: FloatArray) -> FloatArray:
        """The multiples at seconds after the beginning."""
        place = np.searchsorted(self.starts_s, since_s, side="right") - 1
        return np.asarray(self.multiples)[np.maximum(place, 0)]


def _numbers(text: str, rest: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in filter(None, rest.split(",")):
        name, _, value = part.partition("=")
        try:
            found[name] = float(value)
        except ValueError as error:
            raise ShapeError(f"{text!r}: {part!r} is not NAME=NUMBER") from error
        if not 0 <= found[name] <= 1e7 or (name in ("for", "times") and found[name] == 0):
            raise ShapeError(f"{text!r}: {name} must be above 0 and at most 1e7, is {value}")
    return found
