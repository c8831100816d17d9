"""Requests that an API has to refuse: malformed ones, which are no request, and impossible ones, which nobody can serve."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from simulators.workloads.specifications import iso

Request = dict[str, Any]
Spoil = Callable[[Request, float], None]

LONG_NAME: Final = 20_000
HUGE_GPUS: Final = 60_000  # a form takes it, no fleet has it
HUGE_MEMORY_GB: Final = 4000.0


def _set(**members: Any) -> Spoil:
    def spoil(request: Request, _: float) -> None:
        request["spec"] |= members

    return spoil


def _no_spec(request: Request, _: float) -> None:
    del request["spec"]


def _spec_is_text(request: Request, _: float) -> None:
    request["spec"] = "8 GPUs please"


def _unknown_type(request: Request, _: float) -> None:
    request["spec"]["workload_type"] = "ai_inference"


def _no_customer(request: Request, _: float) -> None:
    del request["customer_id"]


def _too_late(request: Request, at_s: float) -> None:
    request["spec"]["deadline_at"] = iso(at_s - 3600.0)


def _no_time(request: Request, at_s: float) -> None:
    """A deadline before the work could be done, had it begun when it was sent."""
    spec = request["spec"]
    spec["estimated_duration_s"] = max(spec["estimated_duration_s"], 120.0)
    spec["deadline_at"] = iso(at_s + spec["estimated_duration_s"] / 10.0)


MALFORMED: Final[dict[str, Spoil]] = {
    "no_spec": _no_spec,
    "spec_is_text": _spec_is_text,
    "no_customer": _no_customer,
    "unknown_type": _unknown_type,
    "negative_gpus": _set(gpu_count=-1),
    "gpus_as_text": _set(gpu_count="eight"),
    "half_a_gpu": _set(gpu_count=0.5),
    "negative_duration": _set(estimated_duration_s=-60.0),
    "deadline_unreadable": _set(deadline_at="next Tuesday"),
    "endless_name": _set(model_name="x" * LONG_NAME),
    "is_training_as_text": _set(is_training="perhaps"),
}
_TIME: Final[dict[str, Spoil]] = {"deadline_past": _too_late, "deadline_too_near": _no_time}
_GPUS: Final[dict[str, Spoil]] = {
    "more_gpus_than_there_are": _set(gpu_count=HUGE_GPUS),
    "more_memory_than_a_gpu_has": _set(memory_gb=HUGE_MEMORY_GB),
    "unknown_gpu": _set(gpu_type="ABACUS_9000"),
    "pays_nothing": _set(max_usd_per_gpu_hour=0.0001),
}
_LATENCY: Final[dict[str, Spoil]] = {"latency_beyond_physics": _set(max_latency_ms=0.001)}
IMPOSSIBLE: Final[dict[str, dict[str, Spoil]]] = {
    "ai_inference_realtime": _TIME | _GPUS | _LATENCY,
    "ai_inference_batch": _TIME | _GPUS | _LATENCY,
    "model_training": _TIME | _GPUS,
    "bitcoin_mining": _TIME,
}


def spoil(
    request: Request, label: dict[str, Any], at_s: float, random: np.random.Generator, *, is_malformed: bool
) -> None:
    """Spoil a request in place and mark its label `malformed:NAME` or `impossible:NAME`."""
    choices = MALFORMED if is_malformed else IMPOSSIBLE[label["workload_type"]]
    name = list(choices)[int(random.integers(len(choices)))]
    choices[name](request, at_s)
    label["defect"] = f"{'malformed' if is_malformed else 'impossible'}:{name}"
