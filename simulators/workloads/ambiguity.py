"""Requests that could be of two classes, as people send them.

Each way takes away or moves what would tell; the label keeps the truth.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

Request = dict[str, Any]
Blur = Callable[[Request, np.random.Generator], None]

BETWEEN_MS: Final = (700.0, 4000.0)  # latencies that either kind of inference states
SHORT_S: Final = (20.0, 900.0)


def _latency_unstated(request: Request, _: np.random.Generator) -> None:
    request["spec"].pop("max_latency_ms", None)


def _latency_between(request: Request, random: np.random.Generator) -> None:
    request["spec"]["max_latency_ms"] = float(round(random.uniform(*BETWEEN_MS)))
    request["spec"]["interruptible"] = bool(random.random() < 0.5)


def _training_unstated(request: Request, _: np.random.Generator) -> None:
    request["spec"].pop("is_training", None)


def _training_short(request: Request, random: np.random.Generator) -> None:
    """A fine-tune on one GPU that neither checkpoints nor says that it trains."""
    spec = request["spec"]
    for name in ("is_training", "checkpoint_interval_s"):
        spec.pop(name, None)
    spec |= {"gpu_count": 1, "estimated_duration_s": float(round(random.uniform(*SHORT_S)))}
    spec.pop("deadline_at", None)


def _batch_that_checkpoints(request: Request, random: np.random.Generator) -> None:
    request["spec"]["checkpoint_interval_s"] = float(round(random.uniform(300.0, 3600.0)))


def _batch_in_a_hurry(request: Request, random: np.random.Generator) -> None:
    """An evening's batch whose owner watches: few seconds, and it may not be interrupted."""
    request["spec"] |= {"max_latency_ms": float(round(random.uniform(*BETWEEN_MS))), "interruptible": False}


BLURS: Final[dict[str, dict[str, Blur]]] = {
    "ai_inference_realtime": {"latency_unstated": _latency_unstated, "latency_between": _latency_between},
    "ai_inference_batch": {
        "latency_unstated": _latency_unstated,
        "latency_between": _latency_between,
        "batch_that_checkpoints": _batch_that_checkpoints,
        "batch_in_a_hurry": _batch_in_a_hurry,
    },
    "model_training": {"training_unstated": _training_unstated, "training_short": _training_short},
    "bitcoin_mining": {},
}


def blur(request: Request, label: dict[str, Any], random: np.random.Generator) -> None:
    """Make a request ambiguous, in place; nothing that says its class outright stays."""
    choices = BLURS[label["workload_type"]]
    if not choices:
        return
    name = list(choices)[int(random.integers(len(choices)))]
    choices[name](request, random)
    request["spec"].pop("workload_type", None)
    label["ambiguity"] = name
