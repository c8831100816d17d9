"""A specification's class: stated, learnt, or by rules where nothing has been learnt or the model isn't sure."""

from dataclasses import replace
from typing import Final

import numpy as np

from hcp_pipelines.domain.workloads import WorkloadType
from hcp_pipelines.forecasting.trees import Floats
from hcp_pipelines.workloads.classifier.evidence import Evidence, evidence_of
from hcp_pipelines.workloads.classifier.model import CLASSES, Classifier
from hcp_pipelines.workloads.spec import Classified, WorkloadSpec, as_doubted, classified_as, classify_by_rules

SURE_FROM: Final = 0.8  # below it four of five would be right, and rules at least are told beforehand
LEAST_TOLD: Final = 2  # parts; one alone is for rules
MOST_REASONS: Final = 4
LEAST_WEIGHT: Final = 0.1  # of log odds; what changes less is no reason
CONTRADICTED_BELOW: Final = 0.02  # chance of the stated class by all else that is said,
CONTRADICTED_BY: Final = 0.9  # and of the likeliest one


def classify(spec: WorkloadSpec, model: Classifier | None = None) -> Classified:
    """The class of a specification; rules alone without a model.

    A stated class is honoured, and flagged where the model all but rules it out and is sure of another; then it waits at the less
    urgent priority of both. Where the model's best
    class has a chance below `SURE_FROM`, rules decide, the work is flagged, and `confidence` is the model's chance of what the
    rules say.
    """
    by_rules = classify_by_rules(spec)
    if model is None:
        return by_rules
    evidence = evidence_of(spec)
    chances = model.probabilities(evidence.row[None, :])[0]
    if spec.workload_type is not None:
        return _held_against(by_rules, chances)
    if len(evidence.told) < LEAST_TOLD:
        return by_rules
    best = int(chances.argmax())
    if chances[best] < SURE_FROM:
        return _unsure(spec, by_rules, chances)
    confidence = float(chances[best])
    return classified_as(spec, CLASSES[best], confidence, _reasons(evidence, model, best), is_flagged=False)


def _held_against(stated: Classified, chances: Floats) -> Classified:
    """The stated class, doubted where all else speaks for another one."""
    chance, best = float(chances[CLASSES.index(stated.type)]), int(chances.argmax())
    if chance >= CONTRADICTED_BELOW or chances[best] < CONTRADICTED_BY:
        return stated
    doubt = f"in doubt: all else speaks for {_told(chances, CLASSES[best])}"
    doubted = replace(stated, confidence=min(stated.confidence, 0.6), reasons=(*stated.reasons, doubt), is_flagged=True)
    return as_doubted(doubted, CLASSES[best])


def _unsure(spec: WorkloadSpec, by_rules: Classified, chances: Floats) -> Classified:
    first, second = (CLASSES[place] for place in np.argsort(-chances)[:2])
    unsure = f"the model is not sure, {_told(chances, first)}, {_told(chances, second)}: by rules"
    confidence = float(chances[CLASSES.index(by_rules.type)])
    return classified_as(spec, by_rules.type, confidence, (unsure, *by_rules.reasons), is_flagged=True)


def _told(chances: Floats, workload_type: WorkloadType) -> str:
    return f"{workload_type} {chances[CLASSES.index(workload_type)]:.2f}"


def _reasons(evidence: Evidence, model: Classifier, best: int) -> list[str]:
    """What spoke for the class: the parts without which its odds would be lower, the weightiest first."""
    sums = model.sums(evidence.without_each()) / model.temperature
    others = np.delete(sums, best, axis=1)
    odds = sums[:, best] - np.logaddexp.reduce(others, axis=1)
    weights = odds[0] - odds[1:]
    parts = list(evidence.told.values())
    heavy = [place for place in np.argsort(-weights, kind="stable")[:MOST_REASONS] if weights[place] > LEAST_WEIGHT]
    return [parts[place] for place in heavy] or ["nothing alone decides it: all that is said together"]
