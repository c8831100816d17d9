"""Specifications that an API has to refuse: malformed ones, which are none, and impossible ones, which nobody can serve."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from simulators.workloads.specifications import iso

Spec = dict[str, Any]
Spoil = Callable[[Spec, float], Any]  # of a specification and when it is sent

LONG_NAME: Final = 20_000
HUGE_GPUS: Final = 60_000  # a form takes it, no fleet has it
HUGE_MEMORY_GB: Final = 4000.0


def _with(**members: Any) -> Spoil:
    return lambda spec, _: spec | members


def _too_late(spec: Spec, at_s: float) -> Spec:
    return spec | {"deadline_at": iso(at_s - 3600.0)}


def _no_time(spec: Spec, at_s: float) -> Spec:
    """A deadline before the work could be done, had it begun when it was sent."""
    seconds = max(spec["estimated_duration_s"], 120.0)
    return spec | {"estimated_duration_s": seconds, "deadline_at": iso(at_s + seconds / 10.0)}


MALFORMED: Final[dict[str, Spoil]] = {
    "no_spec": lambda *_: None,
    "spec_is_text": lambda *_: "8 GPUs please",
    "spec_is_a_list": lambda spec, _: [spec],
    "unknown_type": _with(workload_type="ai_inference"),
    "unknown_member": _with(gpus=8),
    "negative_gpus": _with(gpu_count=-1),
    "gpus_as_text": _with(gpu_count="eight"),
    "half_a_gpu": _with(gpu_count=0.5),
    "negative_duration": _with(estimated_duration_s=-60.0),
    "deadline_unreadable": _with(deadline_at="next Tuesday"),
    "endless_name": _with(model_name="x" * LONG_NAME),
    "is_training_as_text": _with(is_training="perhaps"),
}
_TIME: Final[dict[str, Spoil]] = {"deadline_past": _too_late, "deadline_too_near": _no_time}
_GPUS: Final[dict[str, Spoil]] = {
    "more_gpus_than_there_are": _with(gpu_count=HUGE_GPUS),
    "more_memory_than_a_gpu_has": _with(memory_gb=HUGE_MEMORY_GB),
    "unknown_gpu": _with(gpu_type="ABACUS_9000"),
    "pays_nothing": _with(max_usd_per_gpu_hour=0.0001),
}
_LATENCY: Final[dict[str, Spoil]] = {"latency_beyond_physics": _with(max_latency_ms=0.001)}
IMPOSSIBLE: Final[dict[str, dict[str, Spoil]]] = {
    "ai_inference_realtime": _TIME | _GPUS | _LATENCY,
    "ai_inference_batch": _TIME | _GPUS | _LATENCY,
    "model_training": _TIME | _GPUS,
    "bitcoin_mining": _TIME,
}


def spoilt(spec: Spec, label: dict[str, Any], at_s: float, random: np.random.Generator, *, is_malformed: bool) -> Any:
    """A wrong specification for a sound one; its label is marked `malformed:NAME` or `impossible:NAME`."""
    choices = MALFORMED if is_malformed else IMPOSSIBLE[label["workload_type"]]
    name = list(choices)[int(random.integers(len(choices)))]
    label["defect"] = f"{'malformed' if is_malformed else 'impossible'}:{name}"
    return choices[name](spec, at_s)
