"""Models that learn: baselines, boosted trees, a random forest. Each is its parameters; scikit-learn is imported as it fits.

All of them answer as `FittedQuantiles`: an anchor, trees or none, and a shift a level and horizon, by which the quantiles cover
on the newest days, which nothing was fitted to (`forecasting.conformal`).
"""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from hcp_pipelines.forecasting.conformal import LEAST_PAIRS, conformal_shifts
from hcp_pipelines.forecasting.hours import Floats, instant
from hcp_pipelines.forecasting.learnable.fitted import FittedQuantiles, found_of, group_of, parts_of
from hcp_pipelines.forecasting.learnable.framing import Framing
from hcp_pipelines.forecasting.learnable.lessons import DAY_US, HORIZONS_H, Learning, Lesson, columns_of, lesson
from hcp_pipelines.forecasting.learnable.protocol import LAST, LEVELS, Examples, TooShortError
from hcp_pipelines.forecasting.trees import Trees

ERRORS = Learning(least_days=1, held_days=56)  # of a baseline: those of the last eight weeks
MOST_TOLD = 20  # features whose importance is told
Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SeasonalNaive:
    """The seasonal naive forecast, or another anchor, with the quantiles of its errors of the last weeks.

    `assumed`: its errors where there are too few to count, a level each, as they are learnt; empty: then nothing is.
    """

    framing: Framing = field(default_factory=Framing)
    learning: Learning = ERRORS
    levels: tuple[float, ...] = LEVELS
    assumed: tuple[float, ...] = ()
    name: str = "seasonal_naive"

    def fit(self, examples: Examples, until: datetime, seed: int = 0) -> FittedQuantiles:
        """As `Model`."""
        try:
            found = lesson(examples, until, self.framing, self.learning, seed)
            recent = _recent(found.examples, self.learning.held_days, until)
        except TooShortError as error:
            if not self.assumed:
                raise
            shifts = np.tile(self.assumed, (len(HORIZONS_H), 1))
            told: dict[str, Any] = {"is_assumed": True, "why": str(error)}
        else:
            nothing = np.zeros((int(recent.sum()), len(self.levels)))
            shifts = _shifts(found, nothing, recent, self.levels)
            told = {"is_assumed": False} | told_of(found, recent)
        told |= {"parameters": asdict(self)}
        return FittedQuantiles(self.name, until, self.levels, self.framing, shifts, told_of=told)


@dataclass(frozen=True)
class Naive(SeasonalNaive):
    """Persistence: the target's last known value, with the quantiles of its errors."""

    framing: Framing = field(default_factory=lambda: Framing(LAST))
    name: str = "naive"


@dataclass(frozen=True)
class BoostedTrees:
    """Gradient boosting, an ensemble a level; `parted_by`: a feature, what it is above 0 of is calibrated apart."""

    framing: Framing = field(default_factory=Framing)
    learning: Learning = field(default_factory=Learning)
    levels: tuple[float, ...] = LEVELS
    trees: int = 150
    learning_rate: float = 0.06
    leaves: int = 16
    least_in_leaf: int = 60
    share_of_features: float = 0.4
    l2_regularization: float = 2.0
    bins: int = 127
    parted_by: str = ""
    name: str = "boosted_trees"

    def fit(self, examples: Examples, until: datetime, seed: int = 0) -> FittedQuantiles:
        """As `Model`."""
        from sklearn.ensemble import HistGradientBoostingRegressor  # takes a second to import

        found = lesson(examples, until, self.framing, self.learning, seed)
        free = ~found.is_held
        columns = columns_of(found.examples.only(free))
        rows = found.rows(columns)
        with threadpool_limits(1):  # two threads on busy cores wait for each other most of the time
            grown = [
                HistGradientBoostingRegressor(
                    loss="quantile", quantile=level, max_iter=self.trees, learning_rate=self.learning_rate,
                    max_leaf_nodes=self.leaves, min_samples_leaf=self.least_in_leaf, max_features=self.share_of_features,
                    l2_regularization=self.l2_regularization, max_bins=self.bins, early_stopping=False, random_state=seed,
                ).fit(rows[free], found.learnt[free])
                for level in self.levels
            ]  # fmt: skip
        gains = sum(_gains(each, len(columns)) for each in grown)
        trees = tuple(Trees.of(each) for each in grown)
        return _calibrated(self, found, until, trees, columns, np.asarray(gains))


@dataclass(frozen=True)
class Forest:
    """A random forest; its quantiles are those of what came to each of its leaves, meant over the trees.

    `parted_by` as of `BoostedTrees`.
    Source: N. Meinshausen, Quantile Regression Forests, JMLR 2006; here the mean of the leaves' quantiles, which trees can say.
    """

    framing: Framing = field(default_factory=Framing)
    learning: Learning = field(default_factory=lambda: Learning(most_rows=60_000))
    levels: tuple[float, ...] = LEVELS
    trees: int = 100
    leaves: int = 64
    least_in_leaf: int = 20
    share_of_features: float = 0.33
    share_of_rows: float = 0.3
    parted_by: str = ""
    name: str = "random_forest"

    def fit(self, examples: Examples, until: datetime, seed: int = 0) -> FittedQuantiles:
        """As `Model`."""
        from sklearn.ensemble import RandomForestRegressor  # takes a second to import

        found = lesson(examples, until, self.framing, self.learning, seed)
        free = ~found.is_held
        columns = columns_of(found.examples.only(free))
        rows, learnt = found.rows(columns)[free], found.learnt[free]
        with threadpool_limits(1):
            forest = RandomForestRegressor(
                n_estimators=self.trees, max_leaf_nodes=self.leaves, min_samples_leaf=self.least_in_leaf, n_jobs=1,
                max_features=self.share_of_features, max_samples=self.share_of_rows, random_state=seed,
            ).fit(rows, learnt)  # fmt: skip
            leaves = forest.apply(rows)
            gains = forest.feature_importances_
        values = [
            _leaf_quantiles(leaves[:, n], each.tree_.node_count, learnt, self.levels)
            for n, each in enumerate(forest.estimators_)
        ]
        return _calibrated(self, found, until, (Trees.of_forest(forest, values),), columns, gains)


def _calibrated(
    model: BoostedTrees | Forest,
    found: Lesson,
    until: datetime,
    trees: tuple[Trees, ...],
    columns: tuple[str, ...],
    gains: Floats,
) -> FittedQuantiles:
    """What was learnt, each level moved by what it missed on the days that were held back."""
    quantiles = found_of(trees, columns, found.examples.only(found.is_held), len(model.levels))
    shifts = _shifts(found, quantiles, found.is_held, model.levels, model.parted_by)
    total = gains.sum() or 1.0
    most = sorted(zip((gains / total).round(6).tolist(), columns, strict=True), reverse=True)[:MOST_TOLD]
    importance = {name: share for share, name in most}
    told = {"parameters": asdict(model), "importance": importance} | told_of(found, found.is_held)
    return FittedQuantiles(
        model.name, until, model.levels, model.framing, shifts, trees, columns, told, model.parted_by
    )


def _shifts(found: Lesson, quantiles: Floats, of: Masks, levels: tuple[float, ...], parted_by: str = "") -> Floats:
    """What the quantiles of some rows missed, by horizon and part."""
    group, groups = group_of(found.examples.only(of), parted_by), parts_of(parted_by) * len(HORIZONS_H)
    return conformal_shifts(quantiles, found.learnt[of], group, levels, groups)


def _recent(examples: Examples, days: int, until: datetime) -> Masks:
    """The rows of the newest days.

    Raises:
        TooShortError: they are too few to count their errors.
    """
    recent: Masks = examples.wanted_us > examples.wanted_us.max() - days * DAY_US
    if recent.sum() < LEAST_PAIRS:
        raise TooShortError(f"{recent.sum()} errors before {until:%Y-%m-%dT%H:%MZ}: at least {LEAST_PAIRS} are needed")
    return recent


def _gains(grown: Any, columns: int) -> Floats:
    """By how much splits of each feature made the loss less."""
    nodes = np.concatenate([iteration[0].nodes for iteration in grown._predictors])
    splits = nodes[nodes["is_leaf"] == 0]
    gains: Floats = np.bincount(splits["feature_idx"], weights=splits["gain"], minlength=columns).astype(np.float64)
    return gains


def _leaf_quantiles(leaf: npt.NDArray[Any], nodes: int, learnt: Floats, levels: tuple[float, ...]) -> Floats:
    """`[node, level]` quantiles of what came to each leaf, 0 at nodes that are none."""
    found = np.zeros((nodes, len(levels)))
    order = np.argsort(leaf, kind="stable")
    ids, first = np.unique(leaf[order], return_index=True)
    for node, of_it in zip(ids, np.split(learnt[order], first[1:]), strict=True):
        found[node] = np.quantile(of_it, levels)
    return found


def told_of(found: Lesson, calibrates: Masks) -> dict[str, Any]:
    """What it was learnt from, for people."""
    wanted = found.examples.wanted_us
    there = [found.examples.entities[k] for k in np.unique(found.examples.entity)]
    return {
        "rows": len(found.learnt), "rows_that_calibrate": int(calibrates.sum()), "entities": there,
        "first": instant(int(wanted.min())).isoformat(), "last": instant(int(wanted.max())).isoformat(),
    }  # fmt: skip
