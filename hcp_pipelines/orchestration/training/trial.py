"""A model's trial: learnt as it was some weeks ago, beside the champion and the baselines on the weeks since; then to the end.

What is kept has learnt from all that is known; what is scored is the same recipe on weeks that it had not seen. A champion older
than those weeks is asked as it is; a younger one has seen them, and its recipe stands in for it. No database here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.hours import instant, microseconds
from hcp_pipelines.forecasting.learnable.compare import Comparison, compare
from hcp_pipelines.forecasting.learnable.protocol import Examples, Fitted, Model, Target
from hcp_pipelines.forecasting.learnable.rolling import rolling
from hcp_pipelines.forecasting.learnable.scoring import ALL, Forecasts, scores
from hcp_pipelines.forecasting.serving import Served
from hcp_pipelines.optimizer.demand_value import demand_value
from hcp_pipelines.optimizer.model_value import Value, commitment_value, price_value
from hcp_pipelines.orchestration.training.looks import SETTLING, days_ahead, least_days
from hcp_pipelines.orchestration.training.targets import model_of

TRIAL = timedelta(days=28)  # the weeks that are scored, if what is looked far ahead needs no more
YARDSTICKS = 2  # so many of a target's models, its first, are baselines and are always beside it
CHALLENGER, CHAMPION = "challenger", "champion"
VALUES: Mapping[str, Callable[[Sequence[Forecasts]], list[Value]]] = {
    "price": price_value,
    "capacity": commitment_value,
    "demand": demand_value,
}
NO_VALUE = "no decision and no back-test asks this forecast yet"


@dataclass(frozen=True)
class Trial:
    """What came of it.

    Attributes:
        fitted: learnt from everything: what is kept.
        window: the weeks that were scored.
        forecasts: of those weeks, by who made them: `challenger`, `champion`, a baseline's name.
        scores: `scoring.scores` of each.
        against: the champion's version, None where none serves and the best baseline stands in.
        comparison: the challenger beside `against`; None where `why` says why not.
        value: dollars of each; empty where `value_note` says why.
    """

    fitted: Fitted
    window: tuple[datetime, datetime]
    forecasts: Mapping[str, Forecasts]
    scores: Mapping[str, pl.DataFrame]
    against: int | None
    comparison: Comparison | None
    why: str
    value: Sequence[Value]
    value_note: str


def hold(
    target: Target,
    examples: Examples,
    now: datetime,
    model: Model,
    seed: int,
    champion: Served | None,
    learnt: timedelta | None = None,
) -> Trial:
    """Learn, score, compare, count dollars; learnt is from so much of the past before each origin, from all if not given.

    Raises:
        TooShortError: too little is known before the trial's weeks.
        ConfigError: nothing was asked in them, or what is said of them is no number.
    """
    length = trial_of(examples, now)
    window = (now - length, now)
    taught = _since(examples, window[0], learnt)
    tried = _named(CHALLENGER, rolling(taught, model, window, every=length, seed=seed).forecasts)
    found = {CHALLENGER: tried}
    for yardstick in target.models[:YARDSTICKS]:
        if yardstick.name != model.name:
            found[yardstick.name] = rolling(taught, yardstick, window, every=length, seed=seed).forecasts
    why = ""
    if champion is not None:
        try:
            found[CHAMPION] = _of_champion(target, taught, tried, window, seed, champion)
        except ConfigError as error:
            why = f"champion {champion.serving.version} can't be asked about the same weeks: {error}"
    lessons = examples.known_by(window[0])
    table = {name: scores(each, lessons) for name, each in found.items()}
    comparison, compared_why = _compared(found, table, has_champion=champion is not None)
    value, note = _value(target.name, list(found.values()))
    return Trial(
        model.fit(_since(examples, now, learnt), now, seed), window, found, table,
        champion.serving.version if champion else None, comparison, why or compared_why, value, note,
    )  # fmt: skip


def _since(examples: Examples, origin: datetime, learnt: timedelta | None) -> Examples:
    """What is asked in so much of the past before an origin, and after it."""
    return examples if learnt is None else examples.only(examples.asked_us >= microseconds(origin - learnt))


def trial_of(examples: Examples, now: datetime) -> timedelta:
    """How long the trial is: so many days as a check must compare, of half of what is known at most, four weeks at least."""
    wanted = timedelta(days=least_days(days_ahead(examples))) + SETTLING
    known = now - instant(int(examples.asked_us.min())) if len(examples) else TRIAL
    return max(TRIAL, min(wanted, known / 2))


def _of_champion(
    target: Target, examples: Examples, tried: Forecasts, window: tuple[datetime, datetime], seed: int, champion: Served
) -> Forecasts:
    """What the champion says of the same questions, or its recipe where it has seen them itself."""
    fitted = champion.fitted
    if fitted.trained_until <= window[0]:
        return Forecasts(CHAMPION, tried.examples, fitted.predict(tried.examples), tuple(fitted.levels))
    recipe = model_of(target.models, target.name, fitted.name)
    return _named(CHAMPION, rolling(examples, recipe, window, every=window[1] - window[0], seed=seed).forecasts)


def overall(scores_of: pl.DataFrame) -> dict[str, Any]:
    """The row of all entities and horizons together."""
    return scores_of.filter((pl.col("entity") == ALL) & (pl.col("horizon") == ALL)).row(0, named=True)


def _compared(
    found: Mapping[str, Forecasts], table: Mapping[str, pl.DataFrame], *, has_champion: bool
) -> tuple[Comparison | None, str]:
    """The challenger beside the champion; without one, beside the best baseline."""
    loss = {name: overall(table[name])["pinball"] for name in found if name not in (CHALLENGER, CHAMPION)}
    baselines = sorted((name for name in loss if loss[name] is not None), key=lambda name: loss[name])
    other = CHAMPION if has_champion else (baselines[0] if baselines else "")
    if other not in found:
        return None, "there is nothing to compare it with"
    try:
        return compare(found[CHALLENGER], found[other]), ""
    except ConfigError as error:
        return None, str(error)


def _value(target: str, forecasts: Sequence[Forecasts]) -> tuple[list[Value], str]:
    if target not in VALUES:
        return [], NO_VALUE
    try:
        return VALUES[target](forecasts), ""
    except ConfigError as error:
        return [], str(error)


def _named(name: str, forecasts: Forecasts) -> Forecasts:
    return replace(forecasts, model=name)
