"""A policy as a bid curve, and base points as limits: the dispatch regime `clr_base_point` (DESIGN §6). Pure.

A controllable load resource bids what it would buy at each price; SCED answers with a base point, which is then followed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import numpy as np

from hcp_pipelines.policy.arrays import CompiledPolicy, Ints
from hcp_pipelines.policy.evaluate import evaluate
from hcp_pipelines.policy.guard import GuardState

NUDGE_USD_PER_MWH = 0.01  # bids are in cents: a strike is looked at from just below and just above
POINTS_MAX = 35  # of one curve; ours, so that a fleet of many groups stays a curve that a market would take


@dataclass(frozen=True, slots=True)
class BidPoint:
    """So many MW are wanted while the price is at most this."""

    usd_per_mwh: float
    mw: float


def bid_curve(compiled: CompiledPolicy, present: Ints, indices: Mapping[str, float], at: datetime) -> list[BidPoint]:
    """What the policy would draw at each price: rising prices, never rising MW (property b of DESIGN §6).

    Steps that are nearest to each other are taken together where there are more than `POINTS_MAX`, on the side of less load.
    """
    wanted = [BidPoint(price, load_mw(compiled, present, indices, at, price)) for price in _prices(compiled, indices)]
    curve: list[BidPoint] = []
    for point in wanted:
        mw = min(point.mw, curve[-1].mw) if curve else point.mw
        if curve and mw == curve[-1].mw:
            curve[-1] = BidPoint(point.usd_per_mwh, mw)  # the same MW up to a higher price
        else:
            curve.append(BidPoint(point.usd_per_mwh, mw))
    return _shortened(curve)


def load_mw(compiled: CompiledPolicy, present: Ints, indices: Mapping[str, float], at: datetime, price: float) -> float:
    """MW at the meter that the policy asks for at a price, from the devices that there are."""
    targets = evaluate(compiled, present, price, indices, at, GuardState.empty(compiled)).targets
    return float((targets * compiled.power_mw).sum())


def _prices(compiled: CompiledPolicy, indices: Mapping[str, float]) -> list[float]:
    """Where the load may change: the strikes less what the policy adds to the price, from just below and above."""
    values = compiled.index_values(indices)
    strikes = np.concatenate(
        [
            compiled.on_slope * values[compiled.block_index] + compiled.on_offset,
            compiled.off_slope * values[compiled.block_index] + compiled.off_offset,
        ]
    )
    both = np.concatenate([strikes - NUDGE_USD_PER_MWH, strikes + NUDGE_USD_PER_MWH])
    return sorted({round(float(price), 2) for price in both})


def _shortened(curve: list[BidPoint]) -> list[BidPoint]:
    """At most `POINTS_MAX` points: of the two that are nearest the one with more load goes."""
    points = list(curve)
    while len(points) > POINTS_MAX:
        gaps = [high.usd_per_mwh - low.usd_per_mwh for low, high in pairwise(points)]
        del points[int(np.argmin(gaps))]
    return points
