"""Which devices go down when load has to: those that shed most kilowatts a second of settling first. Pure."""

import numpy as np
import numpy.typing as npt

from hcp_pipelines.edge.shape import SiteShape
from hcp_pipelines.wire.slots import EMPTY, Slots

_INSTANT_S = 1.0  # what settles faster counts as this


def present_kw(
    shape: SiteShape, states: npt.NDArray[np.uint8], power_kw: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """[n] all-in kW that each device draws, or will once it has done what it was told: the larger of the two."""
    slots = np.arange(shape.slots, dtype=np.uint32)
    expected = np.where(shape.is_there, shape.state_kw(slots, states), 0)
    return np.maximum(expected, np.nan_to_num(power_kw)) * shape.pue_of_slot


def pick(
    shape: SiteShape,
    states: npt.NDArray[np.uint8],
    draws_kw: npt.NDArray[np.float32],
    shed_kw: float,
    among: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> tuple[Slots, float]:
    """Slots that go to the lowest state of their group so that `shed_kw` go away, and how many kW do.

    Fewer where all that can go does not make it; drawn at random among devices of one kind, so that no PDU takes it alone.
    """
    if shed_kw <= 0:
        return EMPTY, 0.0
    slots = np.flatnonzero(among & shape.is_there).astype(np.uint32)
    groups = shape.group_of_slot[slots]
    lowest = shape.lowest[groups]
    drop = draws_kw[slots] - shape.state_kw(slots, lowest) * shape.pue_of_slot[slots]
    is_up = (states[slots] != lowest) & (drop > 0)
    slots, groups, lowest, drop = slots[is_up], groups[is_up], lowest[is_up], drop[is_up]
    nominal = shape.state_kw(slots, states[slots]) - shape.state_kw(slots, lowest)
    speed = nominal / np.maximum(shape.settle_s[groups, lowest], _INSTANT_S)
    order = np.lexsort((rng.random(len(slots)), -speed))
    so_far = np.cumsum(drop[order])
    needed = min(int(np.searchsorted(so_far, shed_kw - 1e-6)) + 1, len(order))
    chosen = order[:needed]
    return np.sort(slots[chosen]), float(drop[chosen].sum())
