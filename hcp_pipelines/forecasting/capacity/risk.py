"""The chance that a group loses any device, from quantiles of how many it loses; and how good such chances were. Pure."""

from dataclasses import dataclass

import numpy as np

from hcp_pipelines.forecasting.hours import Floats
from hcp_pipelines.forecasting.learnable.protocol import Examples
from hcp_pipelines.forecasting.learnable.scoring import Forecasts

ANY = 0.5  # between no failure and one


@dataclass(frozen=True)
class Risk:
    """Of a model's chances: how many, how often a device was lost, the mean chance, Brier's score and its skill.

    The skill is over giving each group the share of days on which it lost one before.
    """

    forecasts: int
    happened: float
    mean_chance: float
    brier: float
    skill: float


def chance_of_any(quantiles: Floats, levels: tuple[float, ...]) -> Floats:
    """`[n]` one less the level at which the quantiles pass from no failure to one; beyond the outermost halfway to certainty.

    >>> chance_of_any(np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 2.0]]), (0.1, 0.5, 0.9)).round(2).tolist()
    [0.3, 0.05, 0.95]
    """
    below = np.array([np.interp(ANY, row, levels, left=levels[0] / 2, right=(1 + levels[-1]) / 2) for row in quantiles])
    found: Floats = 1.0 - below
    return found


def risk(forecasts: Forecasts, lessons: Examples) -> Risk:
    """How good the chances were; `lessons`: the days before, which say what is usual of each group."""
    settled = forecasts.settled()
    came = (settled.examples.target > ANY).astype(np.float64)
    chance = chance_of_any(settled.quantiles, settled.levels)
    brier = float(np.mean((chance - came) ** 2))
    usual = float(np.mean((_usual(lessons)[settled.examples.entity] - came) ** 2))
    return Risk(
        len(came), float(came.mean()), float(chance.mean()), brier, 1.0 - brier / usual if usual else float("nan")
    )


def _usual(lessons: Examples) -> Floats:
    """`[entity]` share of days with a failure; of one that is not known yet all days' share."""
    there, kinds = np.isfinite(lessons.target), len(lessons.entities)
    entity, came = lessons.entity[there], (lessons.target[there] > ANY).astype(np.float64)
    count = np.bincount(entity, minlength=kinds)
    return np.where(count > 0, np.bincount(entity, weights=came, minlength=kinds) / np.maximum(count, 1), came.mean())
