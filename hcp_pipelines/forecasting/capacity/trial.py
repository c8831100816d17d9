"""Models of a target over the fleet beside each other on a past: scores and the shortfall's quantiles; GPUs, heat waves alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.capacity.fleet_days import TABLE
from hcp_pipelines.forecasting.capacity.risk import Risk, risk
from hcp_pipelines.forecasting.capacity.targets import FAILURE_RISK, FleetTarget
from hcp_pipelines.forecasting.learnable.compare import LEAST_DAYS, Comparison, compare
from hcp_pipelines.forecasting.learnable.protocol import Examples
from hcp_pipelines.forecasting.learnable.rolling import MONTH, rolling
from hcp_pipelines.forecasting.learnable.scoring import ALL, Forecasts, scores

COMPARED = (0.05, 0.1, 0.5)  # of what is available the first say how much is missing at most, 19 and 18 times in 20
ALL_DAYS, HOT_DAYS, GPUS = "all days", "heat waves", "GPUs, all days"
Window = tuple[datetime, datetime]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Versus:
    """The shipped model beside a baseline on some days, by the loss of one level."""

    days: str
    level: float
    comparison: Comparison


@dataclass(frozen=True)
class Trial:
    """Scores: a row a model and kind of days; comparisons of the last model with each of the others; of failures the chances."""

    scores: pl.DataFrame
    versus: tuple[Versus, ...]
    risks: Mapping[str, Risk]


def trial(
    target: FleetTarget, hours: pl.DataFrame, window: Window, *, ahead: Sequence[int] = (1,),
    seed: int = 0, progress: Progress = lambda *_: None,
) -> Trial:  # fmt: skip
    """Each of a target's models, learnt anew every thirty days of a window from all that was known, asked each midnight.

    Args:
        target: whose models compete.
        hours: rows of `FLEET_HOURS`; with `is_heat_wave` these days are scored alone, too.
        window: of questions.
        ahead: which of the target's days ahead.
        seed: of the learning.
        progress: is told what is being done.

    Raises:
        ConfigError: nothing is asked in the window, or too little was known before it.
    """
    start, end = hours["start_at"].min(), hours["start_at"].max()
    if not isinstance(start, datetime) or not isinstance(end, datetime):
        raise ConfigError("the history has no hours")
    examples = target.examples({TABLE: hours}, (start, end + timedelta(days=1)))
    day_ahead = np.round((examples.wanted_us - examples.asked_us) / 86_400e6) + 1
    examples = examples.only(np.isin(day_ahead, list(ahead)))
    told = {
        model.name: rolling(examples, model, window, every=MONTH, seed=seed, progress=progress).forecasts
        for model in target.models
    }
    parts = {ALL_DAYS: told}
    is_gpu = examples.feature("is_gpu")
    if 0 < is_gpu.mean() < 1:
        parts[GPUS] = {name: _only(each, each.examples.feature("is_gpu") > 0) for name, each in told.items()}
    hot = _hot_days(hours)
    if _are_hot(examples, hot).any():
        parts[HOT_DAYS] = {name: _only(each, _are_hot(each.examples, hot)) for name, each in told.items()}
    risks = {}
    if target is FAILURE_RISK:
        before = examples.known_by(window[0])
        risks = {name: risk(each, before) for name, each in told.items()}
    return Trial(pl.concat(_rows(days, each) for days, each in parts.items()), tuple(_versus(parts)), risks)


def _rows(days: str, told: dict[str, Forecasts]) -> pl.DataFrame:
    found = []
    for name, each in told.items():
        of_all = scores(each).filter((pl.col("entity") == ALL) & (pl.col("horizon") == ALL))
        found.append(of_all.with_columns(model=pl.lit(name), days=pl.lit(days)))
    return pl.concat(found)


def _versus(parts: dict[str, dict[str, Forecasts]]) -> Sequence[Versus]:
    found = []
    for days, told in parts.items():
        *baselines, ours = told.values()
        if len(np.unique(ours.settled().examples.wanted_us)) < LEAST_DAYS:
            continue
        for level in COMPARED:
            found += [Versus(days, level, compare(ours, other, (level,))) for other in baselines]
    return found


def _hot_days(hours: pl.DataFrame) -> set[tuple[str, int]]:
    """Group and day (microseconds) of heat waves; none where the history doesn't tell them."""
    if "is_heat_wave" not in hours.columns:
        return set()
    entity, day = pl.col("facility_id") + "/" + pl.col("group_id"), pl.col("start_at").dt.truncate("1d").dt.epoch("us")
    rows: Any = hours.filter("is_heat_wave").select(entity.alias("entity"), day.alias("day")).unique().iter_rows()
    return set(rows)


def _are_hot(examples: Examples, hot: set[tuple[str, int]]) -> npt.NDArray[np.bool_]:
    asked = zip(examples.entity.tolist(), examples.wanted_us.tolist(), strict=True)
    return np.array([(examples.entities[entity], day) in hot for entity, day in asked], dtype=np.bool_)


def _only(forecasts: Forecasts, kept: npt.NDArray[np.bool_]) -> Forecasts:
    return Forecasts(forecasts.model, forecasts.examples.only(kept), forecasts.quantiles[kept], forecasts.levels)
