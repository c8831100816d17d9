"""Distributions that are fitted to traces and drawn from: quantiles with a Pareto tail, and gaps in phases. No files here.

Sources: B. M. Hill, A Simple General Approach to Inference About the Tail of a Distribution (Annals of Statistics, 1975);
expectation-maximisation for mixtures of exponentials (Dempster, Laird and Rubin, 1977).
"""

from itertools import pairwise
from typing import Final, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from simulators.streams import FloatArray

LEVELS: Final = (
    0.0, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5,
    0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.965, 0.98,
)  # fmt: skip
TAIL_FROM: Final = LEVELS[-1]
PHASES: Final = 3
_ROUNDS: Final = 400
_SMALLEST: Final = 1e-9


class Fitted(BaseModel):
    """A record of fitted numbers, as it stands in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Quantiles(Fitted):
    """Values above 0: log-linear between the quantiles at `LEVELS`, above the last a Pareto tail, cut off at `most`."""

    values: tuple[float, ...] = Field(min_length=len(LEVELS), max_length=len(LEVELS))
    tail_index: float = Field(gt=0)  # P(X > x) falls as x^-index
    most: float = Field(gt=0)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.values[0] <= 0 or any(high < low for low, high in pairwise(self.values)):
            raise ValueError("quantiles must be above 0 and must not fall")
        if self.most < self.values[-1]:
            raise ValueError(f"most is {self.most}, the last quantile {self.values[-1]}: it cuts the body")
        return self

    @classmethod
    def fit(cls, sample: FloatArray, most: float) -> Self:
        """The quantiles of a sample, the tail by Hill's estimator from what lies above the last of them."""
        ordered = np.sort(sample[sample > 0])
        if len(ordered) < 100:
            raise ValueError(f"{len(ordered)} values above 0 are too few for a tail; 100 are needed")
        values = np.quantile(ordered, LEVELS)
        above = ordered[ordered > values[-1]]
        excess = float(np.log(above / values[-1]).mean()) if len(above) else 0.0
        index = 1.0 / max(excess, 1e-3)
        return cls(values=tuple(_rounded(values)), tail_index=_rounded(np.array([index]))[0], most=most)

    def draw(self, uniform: FloatArray) -> FloatArray:
        """The values at numbers in [0, 1)."""
        body = np.exp(np.interp(uniform, LEVELS, np.log(self.values)))
        beyond = (1.0 - np.maximum(uniform, TAIL_FROM)) / (1.0 - TAIL_FROM)
        return np.minimum(body * np.maximum(beyond, _SMALLEST) ** (-1.0 / self.tail_index), self.most)


class Gaps(Fitted):
    """Gaps of mean 1: with chance `together` none at all, else exponential in one of some phases."""

    together: float = Field(ge=0, lt=1)
    weights: tuple[float, ...] = Field(min_length=1)
    means: tuple[float, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _matching(self) -> Self:
        if len(self.weights) != len(self.means) or abs(sum(self.weights) - 1) > 1e-3 or min(self.means) <= 0:
            raise ValueError("each phase has a weight and a mean above 0, and weights add up to 1")
        return self

    @classmethod
    def fit(cls, gaps: FloatArray) -> Self:
        """Of gaps in multiples of their mean; what is 0 came together with the one before."""
        together = float((gaps <= 0).mean())
        rest = gaps[gaps > 0]
        weights, means = _phases(rest)
        means = means / ((1 - together) * float(weights @ means))
        order = np.argsort(means)
        shares = np.round(weights[order], 6)
        shares[-1] = 1.0 - shares[:-1].sum()
        return cls(together=round(together, 6), weights=tuple(shares.tolist()), means=tuple(_rounded(means[order])))

    @property
    def variance(self) -> float:
        """Of a gap, whose mean is 1; 1 is Poisson's."""
        second = (1 - self.together) * 2 * float(np.array(self.weights) @ np.square(self.means))
        return second - self.mean**2

    @property
    def mean(self) -> float:
        """One, but for rounding."""
        return (1 - self.together) * float(np.array(self.weights) @ np.array(self.means))

    def draw(self, random: np.random.Generator, count: int) -> FloatArray:
        """So many gaps in a row."""
        chosen = np.searchsorted(np.cumsum(self.weights), random.random(count), side="right")
        means = np.array(self.means)[np.minimum(chosen, len(self.means) - 1)]
        gaps: FloatArray = random.standard_exponential(count) * means
        gaps[random.random(count) < self.together] = 0.0
        return gaps


def ks_distance(one: FloatArray, other: FloatArray) -> float:
    """The greatest distance between two samples' distribution functions, 0 to 1 (Kolmogorov and Smirnov)."""
    points = np.concatenate([one, other])
    first, second = (np.searchsorted(np.sort(sample), points, side="right") / len(sample) for sample in (one, other))
    return float(np.abs(first - second).max())


def _phases(gaps: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(weights, means) of a mixture of exponentials."""
    means = float(gaps.mean()) * np.geomspace(0.1, 5.0, PHASES)
    weights = np.full(PHASES, 1.0 / PHASES)
    for _ in range(_ROUNDS):
        density = weights / means * np.exp(-gaps[:, None] / means)
        share = density / np.maximum(density.sum(axis=1, keepdims=True), 1e-300)
        mass = np.maximum(share.sum(axis=0), _SMALLEST)
        weights = mass / mass.sum()
        means = np.maximum((share * gaps[:, None]).sum(axis=0) / mass, _SMALLEST)
    return weights, means


def _rounded(values: FloatArray) -> list[float]:
    """To six digits: a refit elsewhere, with another linear algebra, writes the same."""
    return [float(f"{value:.6g}") for value in values]
