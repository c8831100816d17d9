"""Other assumptions than ours, drawn by seed around them: what a classifier learns from should not be one world's habits.

Of each family: which models, how many ask for what, latencies (classes' overlap), who may be interrupted, deadlines, checkpoints,
batches. Names stand in pools here; held-out files (`held_out/`) have others, and are written by hand.
"""

from typing import Any, Final

import numpy as np

from simulators.streams import stream
from simulators.workloads.assumed import MINING, Assumed

# billions of parameters by name; a setting takes some of its family's
POOLS: Final[dict[str, dict[str, float]]] = {
    "chat": {
        "llama-3-8b-instruct": 8, "Llama-3.3-70B-Instruct": 70, "mistral-small-24b": 24, "qwen2.5-7b": 7, "qwen3-32b": 32,
        "deepseek-v3": 671, "gpt-4o-mini": 8, "phi-4": 14, "support-bot": 13, "acme-7b": 7, "model-v12": 30, "chatglm3-6b": 6,
    },
    "code": {
        "codestral-22b": 22, "deepseek-coder-33b": 33, "starcoder2-7b": 7, "qwen2.5-coder-7b": 7, "ide-complete": 3, "m4": 15,
    },
    "recommender": {"two-tower": 2, "deepfm": 0.4, "ranker-v7": 5, "dcn-v2": 1, "feed": 8, "ads-ctr": 3, "home-page": 2},
    "images": {
        "sd-xl-turbo": 3.5, "stable-diffusion-3-medium": 2, "flux.1-schnell": 12, "pixart-sigma": 0.6, "product-shots": 3,
        "kandinsky-3": 12, "art-engine": 8, "svd-xt": 1.5,
    },
    "jobs": {
        "e5-large": 0.3, "gte-qwen2-7b": 7, "whisper-medium": 0.8, "mistral-7b": 7, "qwen2.5-72b": 72, "nightly-scoring": 5,
        "parakeet-1.1b": 1.1, "clip-vit-l": 0.4, "catalog-embeddings": 1, "doc-extract": 14, "llama-3-8b": 8, "yolo-v8": 0.07,
    },
    "training": {
        "llama-3-8b": 8, "llama-3-8b-lora": 8, "mistral-7b-sft": 7, "qwen2.5-7b": 7, "qwen2.5-7b-dpo": 7, "resnet-50": 0.03,
        "vit-l": 0.3, "pretrain-run-3": 13, "fraud-model": 0.2, "bert-base-finetune": 0.1, "ranker-v7": 5, "whisper-medium": 0.8,
        "stable-diffusion-3-medium": 2, "exp-114": 3,
    },
}  # fmt: skip
LATENCY_MS: Final = {"chat": (300.0, 1500.0), "code": (100.0, 800.0), "recommender": (15.0, 150.0)}
WIDEST_MS: Final = (900.0, 3000.0)  # how late an answer may be for people who wait for it
BATCH_LEAST_MS: Final = (2000.0, 10_000.0)
MINING_SHARE: Final = (0.02, 0.06)


def varied(ours: Assumed, seed: int) -> Assumed:
    """Assumptions drawn around ours; the same seed draws the same."""
    random = stream(seed, "assumptions")
    told = ours.model_dump()
    told["inference_gb_per_billion"] *= _factor(random, 0.2)
    told["training_gb_per_billion"] *= _factor(random, 0.3)
    told["gangs"]["chance"] = random.uniform(0.02, 0.4)
    told["habits"] |= {
        "leaves_gpu_open": random.uniform(0.2, 0.7), "states_tokens": random.uniform(0.1, 0.8),
        "favourite_model": random.uniform(0.2, 0.7), "active_in_family": random.uniform(0.3, 0.8),
    }  # fmt: skip
    for name, pool in POOLS.items():
        told["families"][name] |= _family(name, told["families"][name], pool, random)
    _share(told["families"], random)
    return Assumed.model_validate(told)


def _family(name: str, ours: dict[str, Any], pool: dict[str, float], random: np.random.Generator) -> dict[str, Any]:
    few = random.choice(list(pool), size=min(6, len(pool)), replace=False).tolist()
    batches = ours["batch"]
    weights = random.dirichlet(np.full(len(batches), 2.0)).tolist()
    drawn: dict[str, Any] = {
        "models": {each: pool[each] for each in few},
        "batch": dict(zip(batches, weights, strict=True)),
    }
    kind = ours["workload_type"]
    if kind == "ai_inference_realtime":
        most = float(np.exp(random.uniform(*np.log(WIDEST_MS))))
        median = float(np.exp(random.uniform(*np.log(LATENCY_MS[name]))))
        drawn["latency_ms"] = {"chance": random.uniform(0.7, 1.0), "median": median, "sigma": 0.5, "most": most}
        gathers = random.uniform(0.0, 0.3)  # servers that gather requests for a few milliseconds
        drawn["batch"] = {1: 1.0 - gathers, 4: gathers / 2, 16: gathers / 3, 64: gathers / 6}
        return drawn | {"interruptible": random.uniform(0.0, 0.15)}
    drawn["interruptible"] = random.uniform(0.6, 1.0)
    drawn["deadline"] = ours["deadline"] | {"chance": random.uniform(0.2, 0.9)}
    if kind == "ai_inference_batch":
        least = random.uniform(*BATCH_LEAST_MS)
        drawn["latency_ms"] = ours["latency_ms"] | {"chance": random.uniform(0.05, 0.6), "least": least}
        drawn["checkpoint_s"] = {"chance": random.uniform(0.0, 0.2), "median": 900.0, "sigma": 0.8}
        return drawn
    return drawn | {"checkpoint_s": ours["checkpoint_s"] | {"chance": random.uniform(0.4, 1.0)}}


def _share(families: dict[str, Any], random: np.random.Generator) -> None:
    """Shares of work by family; of mining few."""
    mining = random.uniform(*MINING_SHARE)
    others = [name for name in families if name != MINING]
    parts = random.dirichlet(np.full(len(others), 3.0)) * (1.0 - mining)
    families[MINING]["share"] = mining
    for name, share in zip(others, parts.tolist(), strict=True):
        families[name]["share"] = share


def _factor(random: np.random.Generator, sigma: float) -> float:
    return float(np.exp(sigma * random.standard_normal()))
