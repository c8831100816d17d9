"""Requests that could be of two classes, as people send them: nothing says the class outright, and the label keeps the truth.

Some ways take away, or contradict, what rules look at. The others, half of all, are drawn alike for both classes, so that
nobody can do better than to know how often each occurs.
"""

from collections.abc import Callable
from math import ceil
from typing import Any, Final

import numpy as np

Spec = dict[str, Any]
Blur = Callable[[Spec, np.random.Generator], None]

BETWEEN_MS: Final = (700.0, 4000.0)  # latencies that either kind of inference states
ALIKE_SHARE: Final = 0.5
ALIKE_MODELS: Final = {"llama-3.1-8b": 8.0, "gpt-oss-20b": 21.0}
ALIKE_MEMORY_GB: Final = (24.0, 40.0, 72.0)
SECONDS: Final = {"realtime_or_batch": (3.0, 1.2), "batch_or_training": (240.0, 1.0)}  # median, sigma of the logarithm
BATCHES: Final = {"realtime_or_batch": (1, 1, 1, 4, 8), "batch_or_training": (8, 32, 128)}
ESTIMATE_SIGMA: Final = 0.3  # of the truth, around what is said


def _latency_unstated(spec: Spec, _: np.random.Generator) -> None:
    spec.pop("max_latency_ms", None)


def _latency_between(spec: Spec, random: np.random.Generator) -> None:
    spec["max_latency_ms"] = float(round(random.uniform(*BETWEEN_MS)))
    spec["interruptible"] = bool(random.random() < 0.5)


def _training_unstated(spec: Spec, _: np.random.Generator) -> None:
    spec.pop("is_training", None)


def _batch_that_checkpoints(spec: Spec, random: np.random.Generator) -> None:
    spec["checkpoint_interval_s"] = float(round(random.uniform(300.0, 3600.0)))


def _batch_in_a_hurry(spec: Spec, random: np.random.Generator) -> None:
    """An evening's batch whose owner watches: few seconds, and it may not be interrupted."""
    spec |= {"max_latency_ms": float(round(random.uniform(*BETWEEN_MS))), "interruptible": False}


MISLEADING: Final[dict[str, dict[str, Blur]]] = {
    "ai_inference_realtime": {"latency_unstated": _latency_unstated, "latency_between": _latency_between},
    "ai_inference_batch": {
        "latency_between": _latency_between,
        "batch_that_checkpoints": _batch_that_checkpoints,
        "batch_in_a_hurry": _batch_in_a_hurry,
    },
    "model_training": {"training_unstated": _training_unstated},
}
ALIKE: Final = {
    "ai_inference_realtime": ("realtime_or_batch",),
    "ai_inference_batch": ("realtime_or_batch", "batch_or_training"),
    "model_training": ("batch_or_training",),
}


def blurred(spec: Spec, label: dict[str, Any], random: np.random.Generator) -> Spec:
    """An ambiguous specification for one; an order for hashrate is none and stays as it is."""
    true = label["workload_type"]
    if true not in ALIKE:
        return spec
    spec.pop("workload_type", None)
    if random.random() < ALIKE_SHARE:
        label["ambiguity"] = _one_of(ALIKE[true], random)
        spec = _alike(label["ambiguity"], spec, random)
        _tell(label, spec, random)
    else:
        label["ambiguity"] = _one_of(tuple(MISLEADING[true]), random)
        MISLEADING[true][label["ambiguity"]](spec, random)
    return spec


def _alike(pair: str, spec: Spec, random: np.random.Generator) -> Spec:
    """A specification whose every member is drawn as for the other class; the customer's GPU and price limit stay."""
    median, sigma = SECONDS[pair]
    model = _one_of(tuple(ALIKE_MODELS), random)
    kept = {name: spec[name] for name in ("gpu_type", "max_usd_per_gpu_hour") if name in spec}
    alike = kept | {
        "model_name": model,
        "gpu_count": 1,
        "memory_gb": _one_of(ALIKE_MEMORY_GB, random),
        "batch_size": _one_of(BATCHES[pair], random),
        "estimated_duration_s": float(ceil(median * np.exp(sigma * random.standard_normal()))),
        "interruptible": bool(random.random() < 0.5),
        "labels": {"model_parameters_billion": f"{ALIKE_MODELS[model]:g}"},
    }
    if pair == "realtime_or_batch" and random.random() < 0.5:
        alike["max_latency_ms"] = float(round(random.uniform(*BETWEEN_MS)))
    return alike


def _tell(label: dict[str, Any], spec: Spec, random: np.random.Generator) -> None:
    """The truth about a request that was drawn anew."""
    seconds = spec["estimated_duration_s"] * float(np.exp(ESTIMATE_SIGMA * random.standard_normal()))
    label["duration_s"] = round(seconds, 3)
    label["value_usd"] = round(label["value_usd_per_gpu_hour"] * spec["gpu_count"] * seconds / 3600.0, 6)


def _one_of(choices: tuple[Any, ...], random: np.random.Generator) -> Any:
    return choices[int(random.integers(len(choices)))]
