"""How a target is put to a model: as a distance from something known, by its scale, and back again. Pure.

A quantile of what is learnt is a quantile of the target, since every step rises.
"""

from dataclasses import dataclass

import numpy as np

from hcp_pipelines.forecasting.hours import Floats
from hcp_pipelines.forecasting.learnable.protocol import Examples

NAIVE_ANCHOR = "naive"


@dataclass(frozen=True)
class Framing:
    """What is learnt is (target − anchor) / scale, if wished on a scale that is linear near 0 and logarithmic far away.

    Attributes:
        anchor: `naive`, the seasonal naive forecast; or a feature's name; or nothing, for the target itself.
        softness: of asinh(x / softness); 0: linear.
        lowest, highest: no forecast is beyond, in units of the scale.
    """

    anchor: str = NAIVE_ANCHOR
    softness: float = 0.0
    lowest: float | None = None
    highest: float | None = None

    @property
    def feature(self) -> tuple[str, ...]:
        """The feature that it reads, if it reads one."""
        return () if self.anchor in ("", NAIVE_ANCHOR) else (self.anchor,)

    def learnt(self, examples: Examples) -> Floats:
        """`[n]` what is learnt; NaN where the target, the anchor or the scale is not known."""
        return self.put(examples, examples.target[:, None])[:, 0]

    def put(self, examples: Examples, values: Floats) -> Floats:
        """`[n, level]` values in the target's unit as they would be learnt: what `told` turns back."""
        distance: Floats = (values - self._anchor(examples)[:, None]) / _scale(examples)[:, None]
        return np.arcsinh(distance / self.softness) if self.softness else distance

    def told(self, examples: Examples, learnt: Floats) -> Floats:
        """`[n, level]` in the target's unit; NaN where the anchor or the scale is not known."""
        distance = np.sinh(learnt) * self.softness if self.softness else learnt
        scale = _scale(examples)[:, None]
        found: Floats = self._anchor(examples)[:, None] + distance * scale
        if self.lowest is not None:
            found = np.maximum(found, self.lowest * scale)
        return found if self.highest is None else np.minimum(found, self.highest * scale)

    def _anchor(self, examples: Examples) -> Floats:
        if self.anchor == NAIVE_ANCHOR:
            return examples.naive
        return examples.feature(self.anchor) if self.anchor else np.zeros(len(examples))


def _scale(examples: Examples) -> Floats:
    return np.where(examples.scale > 0, examples.scale, np.nan)
