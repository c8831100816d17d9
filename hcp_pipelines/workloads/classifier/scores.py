"""How right a classifier is on labelled specifications: by class, against rules, and whether its confidence can be believed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hcp_pipelines.domain.workloads import WorkloadType
from hcp_pipelines.workloads.classifier.classify import classify
from hcp_pipelines.workloads.classifier.lessons import Lesson
from hcp_pipelines.workloads.classifier.model import CLASSES, Classifier
from hcp_pipelines.workloads.spec import Classified

BINS: Final = 10


@dataclass(frozen=True, slots=True)
class Score:
    """Shares of specifications, 0–1.

    `accuracy` is of what `classify` answers, `accuracy_unstated` of those that state no class, `rules_accuracy` of rules alone;
    `flagged`: how many want a look, `accuracy_unflagged` of the others. `confusion`: counts, true class → answer.
    `calibration_error`: what confidence is off by, weighted over ten bins of it; of those that state no class.
    """

    count: int
    accuracy: float
    accuracy_unstated: float
    rules_accuracy: float
    flagged: float
    accuracy_unflagged: float
    recall: dict[str, float]
    confusion: dict[str, dict[str, int]]
    calibration_error: float


def score(lessons: Sequence[Lesson], model: Classifier | None) -> Score:
    """How right the answers are."""
    answers = [classify(each.spec, model) for each in lessons]
    rules = answers if model is None else [classify(each.spec) for each in lessons]
    right = [answer.type is each.workload_type for answer, each in zip(answers, lessons, strict=True)]
    unflagged = [yes for yes, answer in zip(right, answers, strict=True) if not answer.is_flagged]
    unstated = [
        (answer, yes)
        for answer, yes, each in zip(answers, right, lessons, strict=True)
        if each.spec.workload_type is None
    ]
    counts = Counter((each.workload_type, answer.type) for each, answer in zip(lessons, answers, strict=True))
    confusion = {str(true): {str(said): counts[true, said] for said in CLASSES} for true in CLASSES}
    return Score(
        count=len(lessons),
        accuracy=_share(right),
        accuracy_unstated=_share([yes for _, yes in unstated]),
        rules_accuracy=_share([rule.type is each.workload_type for rule, each in zip(rules, lessons, strict=True)]),
        flagged=1.0 - len(unflagged) / len(lessons),
        accuracy_unflagged=_share(unflagged),
        recall={str(true): _recall(counts, true) for true in CLASSES},
        confusion=confusion,
        calibration_error=_calibration_error(unstated),
    )


def _share(right: Sequence[bool]) -> float:
    return sum(right) / len(right) if right else 0.0


def _recall(counts: Counter[tuple[WorkloadType, WorkloadType]], true: WorkloadType) -> float:
    all_of_it = sum(counts[true, said] for said in CLASSES)
    return counts[true, true] / all_of_it if all_of_it else 0.0


def _calibration_error(answers: Sequence[tuple[Classified, bool]]) -> float:
    bins: dict[int, list[float]] = {}
    for answer, is_right in answers:
        bins.setdefault(min(int(answer.confidence * BINS), BINS - 1), []).append(answer.confidence - is_right)
    return sum(abs(sum(each)) for each in bins.values()) / len(answers) if answers else 0.0
