"""What is learnt from: the examples that were over by an instant, put to the model, the newest of them held back. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt

from hcp_pipelines.forecasting.hours import HOUR_US, Floats, Ints
from hcp_pipelines.forecasting.learnable.framing import Framing
from hcp_pipelines.forecasting.learnable.protocol import Examples, Matrix, TooShortError

DAY_US = 24 * HOUR_US
HORIZONS_H = (
    1,
    6,
    12,
    24,
    36,
    48,
    72,
    168,
    336,
    720,
)  # ends of the horizons that are calibrated and scored each by itself
RECENT_US = 7 * DAY_US


@dataclass(frozen=True)
class Learning:
    """How much is learnt from.

    Attributes:
        least_days: fewer with a known outcome are too few.
        held_days: the newest days, at most a quarter of all, are held back from what is fitted: they calibrate it.
        most_rows: beyond, a sample.
    """

    least_days: int = 28
    held_days: int = 28
    most_rows: int = 150_000


@dataclass(frozen=True)
class Lesson:
    """A row an example that was over; `learnt`: what it came to, as the framing puts it.

    `is_held`: nothing may be fitted to it; `horizon`: an index into `HORIZONS_H`.
    """

    examples: Examples
    learnt: Floats
    horizon: Ints
    is_held: npt.NDArray[np.bool_]

    def rows(self, columns: tuple[str, ...]) -> Matrix:
        """`[n, columns]` of all of them."""
        return self.examples.matrix(columns)


def lesson(examples: Examples, until: datetime, framing: Framing, learning: Learning, seed: int = 0) -> Lesson:
    """What was known before an instant, at most about `most_rows` of it.

    Raises:
        TooShortError: fewer days than the least have a known outcome.
    """
    known = examples.known_by(until)
    learnt = framing.learnt(known)
    there = np.isfinite(learnt)
    known, learnt = known.only(there), learnt[there]
    days = len(np.unique(known.wanted_us // DAY_US))
    if days < learning.least_days:
        raise TooShortError(
            f"{days} days with a known outcome before {until:%Y-%m-%dT%H:%MZ}: "
            f"at least {learning.least_days} are needed to learn from"
        )
    known = recorded_to_the_end(known)
    end = int(known.wanted_us.max()) + 1
    held_us = min(learning.held_days * DAY_US, (end - int(known.wanted_us.min())) // 4)
    found = Lesson(known, learnt, horizon_of(known), known.wanted_us >= end - held_us)
    share = learning.most_rows / len(known)
    return _taken(found, np.random.default_rng(seed).random(len(known)) < share) if share < 1 else found


def horizon_of(examples: Examples) -> Ints:
    """Index into `HORIZONS_H`; what is further ahead belongs to the last."""
    found: Ints = np.minimum(np.searchsorted(HORIZONS_H, examples.ahead_h), len(HORIZONS_H) - 1)
    return found


def recorded_to_the_end(examples: Examples) -> Examples:
    """Examples without what an entity no longer has in its last week: a tree that leans on it would be asked without."""
    features = examples.features.copy()
    for entity in np.unique(examples.entity):
        own = examples.entity == entity
        asked = examples.asked_us[own]
        recent = features[own][asked >= asked.max() - RECENT_US]
        features[np.ix_(own, ~np.isfinite(recent).any(axis=0))] = np.nan
    return replace(examples, features=features)


def columns_of(examples: Examples) -> tuple[str, ...]:
    """The features that are known of some of the examples that something is fitted to.

    Raises:
        TooShortError: none is.
    """
    features = zip(examples.names, examples.features.T, strict=True)
    found = tuple(name for name, column in features if np.isfinite(column).any())
    if not found:
        raise TooShortError(f"none of the {len(examples.names)} features is known: there is nothing to learn from")
    return found


def _taken(whole: Lesson, is_taken: npt.NDArray[np.bool_]) -> Lesson:
    return Lesson(
        whole.examples.only(is_taken), whole.learnt[is_taken], whole.horizon[is_taken], whole.is_held[is_taken]
    )
