"""Learning the classifier from labelled specifications: boosted trees and a temperature, from them and from thinned copies.

Copies that say less teach it to be less sure where little is said. The settings with the highest numbers, a quarter, are kept
from the trees: their specifications alone set the temperature, so that confidence is what it is under assumptions that nothing
was learnt from. scikit-learn is imported here alone, and only when learning.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.trees import Floats, Ints, Matrix, Trees
from hcp_pipelines.workloads.classifier.evidence import COLUMNS, NAMES, evidence_of
from hcp_pipelines.workloads.classifier.lessons import Lesson
from hcp_pipelines.workloads.classifier.model import CLASSES, Classifier, softmax

TREES: Final[dict[str, Any]] = {
    "max_iter": 80, "learning_rate": 0.1, "max_leaf_nodes": 12, "min_samples_leaf": 40, "max_features": 0.4,
    "l2_regularization": 2.0, "early_stopping": False,
}  # fmt: skip
CALIBRATED_ON: Final = 0.25  # of the settings
LEAST_OF_A_CLASS: Final = 20
MOST_THINNED: Final = 0.8  # of the parts of a copy
SELDOM_THINNED: Final = {"is_training": 0.25}  # of that: it is there to be set, and who trains seldom forgets it
THINNED_WEIGHT: Final = 0.3
MOST_CLASS_WEIGHT: Final = 2.0  # of the rarest class: a few specifications shall not count as many
TEMPERATURES: Final = np.geomspace(0.25, 8.0, 201)


@dataclass(frozen=True)
class _Rows:
    rows: Matrix
    classes: Ints  # places in `CLASSES`
    weights: Floats


def learn(lessons: Sequence[Lesson], seed: int) -> Classifier:
    """A classifier; the same lessons and seed give the same model.

    Raises:
        ConfigError: too few settings, or too few specifications of a class.
    """
    taught, kept = _parted(lessons)
    random = np.random.default_rng(seed)
    rows, held = _with_thinned(taught, random), _with_thinned(kept, random)
    _refuse_few(rows.classes[: len(taught)])
    trees = _trees(rows, seed)
    temperature = _temperature(Classifier(trees, 1.0).sums(held.rows), held)
    told = {"seed": seed, "learnt_from": len(taught), "calibrated_on": len(kept), "settings": len(_settings(lessons))}
    return Classifier(trees, temperature, told)


def _settings(lessons: Sequence[Lesson]) -> list[int]:
    return sorted({each.setting for each in lessons})


def _parted(lessons: Sequence[Lesson]) -> tuple[list[Lesson], list[Lesson]]:
    settings = _settings(lessons)
    if len(settings) < 2:
        raise ConfigError(f"lessons of {len(settings)} setting: at least 2 are needed, one to calibrate on")
    kept = set(settings[-max(1, round(CALIBRATED_ON * len(settings))) :])
    return [each for each in lessons if each.setting not in kept], [each for each in lessons if each.setting in kept]


def _refuse_few(classes: Ints) -> None:
    counts = np.bincount(classes, minlength=len(CLASSES))
    few = {str(kind): int(count) for kind, count in zip(CLASSES, counts, strict=True) if count < LEAST_OF_A_CLASS}
    if few:
        raise ConfigError(f"too few specifications to learn from: {few}; at least {LEAST_OF_A_CLASS} of each class")


def rows_of(lessons: Sequence[Lesson]) -> Matrix:
    """A row a specification."""
    return np.stack([evidence_of(each.spec).row for each in lessons])


def _with_thinned(lessons: Sequence[Lesson], random: np.random.Generator) -> _Rows:
    """Each specification as it is, and once more without some of what it says."""
    rows = rows_of(lessons)
    classes = np.array([CLASSES.index(each.workload_type) for each in lessons])
    weights = _balance(classes)
    return _Rows(
        np.concatenate([rows, _thinned(rows, random)]),
        np.concatenate([classes, classes]),
        np.concatenate([weights, weights * THINNED_WEIGHT]),
    )


def _balance(classes: Ints) -> Floats:
    """Weights under which classes count alike: how often each comes is the lessons' habit, and presumed of nobody's work."""
    counts = np.bincount(classes, minlength=len(CLASSES))
    by_class = np.minimum(len(classes) / (len(CLASSES) * np.maximum(counts, 1)), MOST_CLASS_WEIGHT)
    return np.asarray(by_class[classes])


def _thinned(rows: Matrix, random: np.random.Generator) -> Matrix:
    """Without parts at random, but words of mining: an order for hashrate that doesn't say so would be none."""
    share = random.uniform(0.0, MOST_THINNED, len(rows))
    parts = dict.fromkeys(part for part, _ in COLUMNS.values() if part != "words of mining")
    is_gone = {part: random.random(len(rows)) < share * SELDOM_THINNED.get(part, 1.0) for part in parts}
    thin = rows.copy()
    for place, (part, empty) in enumerate(COLUMNS.values()):
        if part in is_gone:
            thin[is_gone[part], place] = empty
    relation, size = NAMES.index("log_gb_per_billion"), NAMES.index("log_billion")
    thin[np.isnan(thin[:, size]), relation] = np.nan
    return thin


def _trees(rows: _Rows, seed: int) -> tuple[Trees, ...]:
    from sklearn.ensemble import HistGradientBoostingClassifier  # takes a second to import

    with threadpool_limits(1):  # the order of additions, and so the digest, would hang on the number of threads
        fitted = HistGradientBoostingClassifier(random_state=seed, **TREES).fit(rows.rows, rows.classes, rows.weights)
    return tuple(Trees.of(_of_class(fitted, place)) for place in range(len(CLASSES)))


def _of_class(fitted: Any, place: int) -> Any:
    """One class's trees, in the shape of a regressor."""
    return SimpleNamespace(
        _predictors=[[iteration[place]] for iteration in fitted._predictors],
        _baseline_prediction=fitted._baseline_prediction[0, place],
        n_features_in_=fitted.n_features_in_,
    )


def _temperature(sums: Floats, held: _Rows) -> float:
    """The one under which the true classes of what was kept are likeliest."""
    truth: npt.NDArray[np.intp] = np.arange(len(sums))
    losses = [
        -float(held.weights @ np.log(np.maximum(softmax(sums, each)[truth, held.classes], 1e-12)))
        for each in TEMPERATURES
    ]
    return float(TEMPERATURES[int(np.argmin(losses))])
