"""What a specification tells of its class: a row of numbers with gaps, and each part of it in words.

Neither the stated class is among them, which is what the rest is held against, nor prices, deadlines' instants and identities,
which say who asks rather than what for.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from hcp_pipelines.forecasting.trees import Matrix
from hcp_pipelines.workloads.classifier.words import (
    CLASS_WORDS,
    KINDS,
    billions_in,
    kind_of,
    number_in,
    plain,
    spoken_of,
)
from hcp_pipelines.workloads.spec import WorkloadSpec

NAN: Final = float("nan")
# column → (part of a specification that tells it, its value where that part is not there)
COLUMNS: Final[Mapping[str, tuple[str, float]]] = {
    "is_training": ("is_training", 0.0),
    "log_latency_ms": ("max_latency_ms", NAN),
    "log_duration_s": ("estimated_duration_s", NAN),
    "log_gpus": ("gpu_count", 0.0),
    "log_memory_gb": ("memory_gb", NAN),
    "log_gb_per_billion": ("memory_gb", NAN),
    "interruptible": ("interruptible", NAN),
    "log_batch": ("batch_size", NAN),
    "has_deadline": ("deadline_at", 0.0),
    "log_checkpoint_s": ("checkpoint_interval_s", NAN),
    "names_model": ("model_name", 0.0),
    **{f"is_{kind}": ("model_name", 0.0) for kind in KINDS},
    "log_billion": ("model size", NAN),
    "log_output_tokens": ("tokens", NAN),
    "log_input_tokens": ("tokens", NAN),
    "log_data_gb": ("data_gb", NAN),
    **{f"says_{name}": (f"words of {name}", 0.0) for name in CLASS_WORDS},
}
NAMES: Final = tuple(COLUMNS)
_PLACE: Final = {name: place for place, name in enumerate(NAMES)}
_OF_PART: Final = {
    part: [_PLACE[name] for name, (of, _) in COLUMNS.items() if of == part] for part, _ in COLUMNS.values()
}
_EMPTY: Final = np.array([empty for _, empty in COLUMNS.values()], dtype=np.float32)
_TOKENS: Final = ("input_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class Evidence:
    """`row`: a value a column of `NAMES`. `told`: the parts that are there, in words."""

    row: Matrix
    told: Mapping[str, str]

    def without_each(self) -> Matrix:
        """[1 + part, column]: the row as it is, then without each part of `told` in turn."""
        rows = np.repeat(self.row[None, :], 1 + len(self.told), axis=0)
        for number, part in enumerate(self.told, 1):
            places = _OF_PART[part]
            rows[number, places] = _EMPTY[places]
        return rows


def evidence_of(spec: WorkloadSpec) -> Evidence:
    """What a specification tells."""
    told: dict[str, str] = {}
    values: dict[str, float] = {}
    _take_members(spec, values, told)
    _take_model(spec, values, told)
    _take_words(spec, values, told)
    row = _EMPTY.copy()
    for name, value in values.items():
        row[_PLACE[name]] = value
    return Evidence(row, told)


def _take_members(spec: WorkloadSpec, values: dict[str, float], told: dict[str, str]) -> None:
    numbers = {
        "log_latency_ms": ("max_latency_ms", spec.max_latency_ms),
        "log_duration_s": ("estimated_duration_s", spec.estimated_duration_s),
        "log_gpus": ("gpu_count", spec.gpu_count if "gpu_count" in spec.model_fields_set else None),
        "log_memory_gb": ("memory_gb", spec.memory_gb),
        "log_batch": ("batch_size", spec.batch_size),
        "log_checkpoint_s": ("checkpoint_interval_s", spec.checkpoint_interval_s),
        "log_data_gb": ("data_gb", _number(spec.sla_parameters.get("data_gb"))),
    }
    for column, (part, value) in numbers.items():
        if value is not None:
            values[column], told[part] = math.log10(value), f"{part} is {value:g}"
    if spec.is_training:
        values["is_training"], told["is_training"] = 1.0, "is_training is set"
    if spec.interruptible is not None:
        values["interruptible"] = float(spec.interruptible)
        told["interruptible"] = "it may be interrupted" if spec.interruptible else "it may not be interrupted"
    if spec.deadline_at is not None:
        values["has_deadline"], told["deadline_at"] = 1.0, "it has a deadline"


def _take_model(spec: WorkloadSpec, values: dict[str, float], told: dict[str, str]) -> None:
    name = plain(spec.model_name or "")
    if name:
        kind = kind_of(name)
        values["names_model"] = 1.0
        told["model_name"] = f"model {spec.model_name} is of {f'kind {kind}' if kind else 'no kind that is known'}"
        if kind:
            values[f"is_{kind}"] = 1.0
    billion = _number(spec.labels.get("model_parameters_billion")) or billions_in(name)
    if billion is not None:
        values["log_billion"], told["model size"] = math.log10(billion), f"the model has {billion:g} billion parameters"
        if spec.memory_gb is not None:
            values["log_gb_per_billion"] = math.log10(spec.memory_gb) + math.log10(spec.gpu_count) - math.log10(billion)
    for label in _TOKENS:
        tokens = _number(spec.labels.get(label))
        if tokens is not None:
            values[f"log_{label}"], told["tokens"] = math.log10(tokens), "its tokens are told"


def _take_words(spec: WorkloadSpec, values: dict[str, float], told: dict[str, str]) -> None:
    labels = [text for pair in spec.labels.items() for text in pair]
    stated = [text for key, value in spec.sla_parameters.items() for text in (key, str(value))]
    text = plain(" ".join([spec.model_name or "", spec.gpu_type or "", *labels, *stated]))
    for name, word in spoken_of(text).items():
        values[f"says_{name}"], told[f"words of {name}"] = 1.0, f"its words speak of {name}: {word}"


def _number(given: object) -> float | None:
    return None if given is None else number_in(str(given))
