"""What may fall while a floor holds: nothing that its replacement is not on for yet (DESIGN §6). Pure.

Reductions are planned before increases, and ramps hold increases back: targets that keep a floor do not keep it on the way.
"""

import math

import numpy as np

from hcp_pipelines.policy.arrays import Bools, Ints
from hcp_pipelines.policy.waves import FacilityShape

_FITS = 1e-9


def held_above(shape: FacilityShape, present: Ints, targets: Ints, sheddable: Bools | None, floor_mw: float) -> Ints:
    """Targets `[g, s]` of which the sheddable groups fall by no more than they draw above `floor_mw` now.

    What a group draws is counted above its lowest state: that is what can be shed of it.
    """
    groups = [g for g in range(len(shape.ladders)) if sheddable is None or sheddable[g]]
    steps = {g: np.diff(shape.power_mw[g, list(shape.ladders[g])]) for g in groups}
    drawn = sum(float((_above(shape, present, g) * steps[g]).sum()) for g in groups)
    room, held = max(drawn - floor_mw, 0.0), targets.copy()
    for g in groups:
        now, wanted = _above(shape, present, g), _above(shape, targets, g)
        for k in np.flatnonzero((wanted < now) & (steps[g] > 0))[::-1].tolist():
            falls = min(int(now[k] - wanted[k]), math.floor(room / steps[g][k] + _FITS))
            room -= falls * float(steps[g][k])
            wanted[k] = now[k] - falls
        rising = np.maximum.accumulate(wanted[::-1])[::-1]  # a device above a step is above those below it
        _fill(shape, held, g, rising)
    return held


def _above(shape: FacilityShape, counts: Ints, g: int) -> Ints:
    """[k] devices of a group above its k-th state."""
    found: Ints = np.cumsum(counts[g, list(shape.ladders[g])][::-1])[::-1][1:]
    return found.copy()


def _fill(shape: FacilityShape, counts: Ints, g: int, above: Ints) -> None:
    ladder = list(shape.ladders[g])
    whole = int(counts[g, ladder].sum())
    edges = np.minimum(np.concatenate([[whole], above, [0]]), whole)
    counts[g, ladder] = edges[:-1] - edges[1:]
