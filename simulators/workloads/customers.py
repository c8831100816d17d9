"""Customers: how much each asks, its tier, and its habits. They are the same for every stretch of time under one seed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from simulators.streams import BoolArray, FloatArray, IntArray, stream
from simulators.workloads.assumed import Assumed
from simulators.workloads.fitted import FittedNumbers

HEAVY: Final = 0.05  # of customers: those that ask most
TIERS: Final = ("free", "pro", "enterprise")


@dataclass(frozen=True)
class Customers:
    """A column an attribute; customer 0 asks most."""

    ids: tuple[str, ...]
    tier: IntArray  # place in TIERS
    region: IntArray
    gpu: IntArray  # the one that it likes
    leaves_gpu_open: BoolArray
    states_type: FloatArray  # chance
    pays: FloatArray  # of its tier's price
    expects: FloatArray  # of true durations
    activity: Mapping[str, FloatArray]  # by family, cumulated, to 1
    favourite: Mapping[str, IntArray]  # by family, place of a model

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def make(cls, seed: int, count: int, assumed: Assumed, fitted: FittedNumbers) -> "Customers":
        """So many customers."""
        random, habits = stream(seed, "customers", count), assumed.habits
        weights = np.arange(1, count + 1, dtype=float) ** -fitted.customers.zipf_exponent
        heavy = np.arange(count) < max(1, round(HEAVY * count))
        tiers = assumed.tiers
        chances = np.where(heavy[:, None], [tiers.heavy[t] for t in TIERS], [tiers.others[t] for t in TIERS])
        spread = habits.estimate_sigma / 2  # half of it is the customer, half the request
        return cls(
            ids=tuple(f"c{number:06d}" for number in range(count)),
            tier=(random.random(count)[:, None] > np.cumsum(chances, axis=1)[:, :-1]).sum(axis=1),
            region=random.choice(len(assumed.regions), count, p=list(assumed.regions.values())),
            gpu=random.choice(len(assumed.gpus), count, p=[gpu.liked for gpu in assumed.gpus.values()]),
            leaves_gpu_open=random.random(count) < habits.leaves_gpu_open,
            states_type=np.clip(random.normal(habits.states_type, 0.25, count), 0.0, 1.0),
            pays=np.exp(habits.price_sigma * random.standard_normal(count)),
            expects=np.exp(spread * random.standard_normal(count)),
            activity={name: _activity(random, weights, habits.active_in_family) for name in assumed.families},
            favourite={name: _zipf_choice(random, len(kind.models), count) for name, kind in assumed.families.items()},
        )

    def draw(self, family: str, random: np.random.Generator, count: int, asks_again: float, last: int) -> IntArray:
        """Who sends requests in a row; `last` sent the one before them (-1: nobody)."""
        fresh = np.searchsorted(self.activity[family], random.random(count), side="right")
        again = random.random(count) < asks_again
        if last < 0:
            again[0] = False
        origin = np.maximum.accumulate(np.where(again, -1, np.arange(count)))
        return np.asarray(np.where(origin < 0, last, fresh[np.maximum(origin, 0)]))


def _activity(random: np.random.Generator, weights: FloatArray, active: float) -> FloatArray:
    is_active = random.random(len(weights)) < active
    if not is_active.any():
        is_active[0] = True
    total = np.cumsum(weights * is_active)
    return np.asarray(total / total[-1])


def _zipf_choice(random: np.random.Generator, kinds: int, count: int) -> IntArray:
    """Favourites: the first of a list is liked most."""
    if not kinds:
        return np.zeros(count, dtype=np.int64)
    weights = 1.0 / np.arange(1, kinds + 1)
    return np.asarray(random.choice(kinds, count, p=weights / weights.sum()))
