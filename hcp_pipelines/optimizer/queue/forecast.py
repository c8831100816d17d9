"""What the demand champion said last, as a solve may use it; what can't be used is told with its reason, and costs no solve."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from hcp_pipelines.domain.errors import ModelError
from hcp_pipelines.forecasting.hours import HOUR_US, Floats, Ints, instant, microseconds
from hcp_pipelines.forecasting.learnable.protocol import LEVELS
from hcp_pipelines.optimizer.queue.expected import Expected, nothing_expected
from hcp_pipelines.policy.schema import WorkExpected
from hcp_pipelines.storage import expected_demand

DEMAND = "demand"
OFF = "off"
OLDEST = timedelta(hours=6)  # of the world since it was asked, which is twice an hour of the wall …
OLDEST_S = 3600.0  # … or real: in a fast world hours go by between two askings, and it says 72 of them
QUANTILES = tuple(f"q{round(level * 100):02}" for level in LEVELS)


def read_expected(connection: "psycopg.Connection[Any]", now: datetime, quantile: str) -> Expected:
    """The quantile (`q90`; `off`: none) that the champion said last of each class; nothing, and why, where it can't be used."""
    if quantile == OFF:
        return nothing_expected("HCP_EXPECTED_WORK is off")
    try:
        return usable(expected_demand.said(connection, DEMAND), now, quantile)
    except ModelError as error:
        return nothing_expected(str(error)[:300])


def usable(said: expected_demand.Said, now: datetime, quantile: str) -> Expected:
    """What was said, looked at before anything is decided by it. Pure.

    Raises:
        ModelError: nobody serves, or who serves said nothing yet though it could; it was asked too long ago, or after `now`; it
            says nothing of `now`; or it is damaged.
    """
    _refuse_others(said, now)
    _refuse_untimely(said, now)
    by_class: dict[str, list[expected_demand.Hour]] = {}
    for hour in said.hours:
        by_class.setdefault(hour.demand_class, []).append(hour)
    starts = [_hours(hours, name, said.model) for name, hours in by_class.items()]
    if any(not np.array_equal(each, starts[0]) for each in starts):
        raise ModelError(f"{said.model} does not say the same hours of all classes")
    if microseconds(now) >= (end_us := int(starts[0][-1]) + HOUR_US):
        raise ModelError(
            f"{said.model} says nothing past {instant(end_us):%Y-%m-%dT%H:%MZ}: does forecasts_job run, or does the world go "
            "too fast for it?"
        )
    column = QUANTILES.index(quantile)
    gpus = {name: _quantiles(hours, name, said.model)[:, column] for name, hours in by_class.items()}
    return Expected(WorkExpected(model=said.model, quantile=quantile, asked_at=said.asked_at), starts[0], gpus)


def _refuse_others(said: expected_demand.Said, now: datetime) -> None:
    """It must be the word of who serves, or, until that can be asked, of whose place it took."""
    if said.serves is None:
        raise ModelError(f"no version of {DEMAND} serves (`hcp train {DEMAND}` makes one)")
    first_at = asked_from(said)
    waits = first_at is not None and now < first_at
    when = f"it is asked from {first_at:%Y-%m-%dT%H:%MZ} on" if waits else "forecasts_job asks it twice an hour"
    if said.asked_at is None:
        raise ModelError(f"{said.serves} serves and has said nothing yet: {when}")
    if said.model != said.serves and not (waits and said.model == said.before):
        raise ModelError(f"{said.serves} serves, the newest word is of {said.model}: {when}")


def asked_from(said: expected_demand.Said) -> datetime | None:
    """Since when who serves can be asked: from the first whole hour on that nothing it learnt is later than."""
    return None if said.trained_until is None else instant(-(-microseconds(said.trained_until) // HOUR_US) * HOUR_US)


def _refuse_untimely(said: expected_demand.Said, now: datetime) -> None:
    assert said.asked_at is not None
    age = now - said.asked_at
    if age > OLDEST and (said.kept_for_s is None or said.kept_for_s > OLDEST_S):
        raise ModelError(
            f"{said.model} was asked {age / timedelta(hours=1):.1f} hours of the world ago, at most "
            f"{OLDEST / timedelta(hours=1):g}: does forecasts_job run?"
        )
    if age < timedelta(0):
        raise ModelError(f"{said.model} was asked at {said.asked_at:%Y-%m-%dT%H:%MZ}, which is still to come")


def _hours(hours: Sequence[expected_demand.Hour], name: str, model: str) -> Ints:
    starts = np.array([microseconds(one.hour_at) for one in hours], dtype=np.int64)
    if np.any(starts % HOUR_US) or np.any(np.diff(starts) != HOUR_US):
        raise ModelError(f"{model} does not say hours of {name} one after the other")
    return starts


def _quantiles(hours: Sequence[expected_demand.Hour], name: str, model: str) -> Floats:
    """[hour, level].

    Raises:
        ModelError: as many as there are levels are not there, one is no number of GPUs, or they do not rise.
    """
    if any(len(one.gpus) != len(LEVELS) for one in hours):
        raise ModelError(f"{model} says {len(hours[0].gpus)} quantiles of {name}: must be {len(LEVELS)}")
    found = np.array([one.gpus for one in hours], dtype=float)
    if not np.isfinite(found).all() or (found < 0).any():
        raise ModelError(f"{model} says of {name} what is no number of GPUs")
    if (np.diff(found, axis=1) < -1e-9).any():
        raise ModelError(f"{model} says quantiles of {name} that fall as their level rises")
    return found
