"""Forecasts as they would have been made: a model learnt anew every so often, from what was known by then."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.hours import microseconds
from hcp_pipelines.forecasting.learnable.protocol import Examples, Fitted, Model
from hcp_pipelines.forecasting.learnable.scoring import Forecasts

MONTH = timedelta(days=30)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Rolled:
    """Forecasts of a window, and the models that made them, oldest first."""

    forecasts: Forecasts
    models: tuple[Fitted, ...]


def rolling(
    examples: Examples,
    model: Model,
    window: tuple[datetime, datetime],
    *,
    every: timedelta = MONTH,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> Rolled:  # fmt: skip
    """What a model says of the questions asked in a window, learnt anew at its start and every so often from then on.

    Raises:
        ConfigError: nothing is asked in the window.
        TooShortError: there is too little to learn from before it.
    """
    origins = list(_origins(examples, window, every))
    if not origins:
        raise ConfigError(f"nothing is asked from {window[0]} to {window[1]}: the examples are of another time")
    parts, quantiles, models = [], [], []
    for n, (origin, asked) in enumerate(origins):
        progress("origins", n, len(origins))
        models.append(model.fit(examples, origin, seed))
        parts.append(asked)
        quantiles.append(models[-1].predict(examples.only(asked)))
    progress("origins", len(origins), len(origins))
    found = Forecasts(
        model.name, examples.only(np.concatenate(parts)), np.concatenate(quantiles), tuple(models[0].levels)
    )
    return Rolled(found, tuple(models))


def _origins(
    examples: Examples, window: tuple[datetime, datetime], every: timedelta
) -> Iterator[tuple[datetime, np.ndarray]]:
    """When to learn, and the questions asked from then until the next time."""
    origin = window[0]
    while origin < window[1]:
        following = min(origin + every, window[1])
        asked = np.flatnonzero(
            (examples.asked_us >= microseconds(origin)) & (examples.asked_us < microseconds(following))
        )
        if len(asked):
            yield origin, asked
        origin = following
