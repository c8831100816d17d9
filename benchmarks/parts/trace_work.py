"""Customers' work out of recorded traces: requests of language models gathered into serving work, and tasks with whole GPUs.

Nothing of a trace is kept. What a trace doesn't tell is set here: speeds of serving, how large the service is, and who asks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import merge
from pathlib import Path
from typing import Any, Final

import polars as pl

from simulators.workloads import assumed, fitted
from simulators.workloads.generator import Plan, submissions
from simulators.workloads.requests import Submission

CUSTOMERS: Final = {"c0": "enterprise", "c1": "enterprise", "c2": "pro", "c3": "pro", "c4": "free", "c5": "free"}
USD_PER_GPU_HOUR: Final = {
    "enterprise": 4.5,
    "pro": 4.0,
    "free": 3.5,
}  # above what an H100 is offered at (docs/workloads.md)
READ_PER_S, WRITTEN_PER_S = 20_000.0, 1_500.0  # tokens a second of one GPU that serves many at once: settings
WINDOW_S: Final = 300
SHORTEST_S: Final = 120.0
LONGEST_S: Final = 7_200.0
MADE_PER_S: Final = 0.012
DEADLINE_S: Final = {"conv": 3_600.0, "code": 10_800.0}


@dataclass(frozen=True)
class Amount:
    """How much of the traces: `times` the requests of the language models, and one in so many of the tasks."""

    times: float
    one_task_in: int


def trace_work(folder: Path, from_s: float, hours: float, amount: Amount) -> Iterator[Submission]:
    """Submissions in the order of their instants, from a simulated Unix instant on; the traces begin anew when they end."""
    to_s = from_s + hours * 3600
    kinds = [_served(folder, kind, from_s, to_s, amount.times) for kind in DEADLINE_S]
    return merge(*kinds, _tasks(folder, from_s, to_s, amount.one_task_in), key=lambda each: each.at_s)


def made_work(from_s: float, hours: float) -> Iterator[Submission]:
    """The workload generator's, for these customers and H100s."""
    own = assumed.load()
    h100 = own.model_copy(update={"gpus": {"H100": own.gpus["H100"].model_copy(update={"liked": 1.0})}})
    mix = {"chat": 0.4, "jobs": 0.4, "training": 0.2}
    plan = Plan(7, MADE_PER_S, from_s, from_s + hours * 3600, mix=mix, ambiguous=0.0, malformed=0.0, impossible=0.0)
    names = list(CUSTOMERS)
    for number, each in enumerate(submissions(plan, h100, fitted.load())):
        yield each._replace(customer_id=names[number % len(names)])


def _served(folder: Path, kind: str, from_s: float, to_s: float, times: float) -> Iterator[Submission]:
    """What a customer's requests of five minutes keep one GPU busy for, as one piece of work."""
    arrived = pl.col("arrival_utc").dt.epoch("ms") / 1000
    requests = (
        pl.read_parquet(folder / f"azure_llm_2023_{kind}_first_half.parquet")
        .with_columns(since_s=arrived - arrived.min(), customer=pl.int_range(pl.len()) % len(CUSTOMERS))
        .with_columns(window=(pl.col("since_s") // WINDOW_S).cast(pl.Int64))
        .group_by("window", "customer")
        .agg(
            gpu_s=(pl.col("context_tokens") / READ_PER_S + pl.col("generated_tokens") / WRITTEN_PER_S).sum() * times,
            requests=pl.len(),
        )
        .sort("window", "customer")
    )
    rows = requests.rows(named=True)
    lasts_s, names = (rows[-1]["window"] + 1) * WINDOW_S, list(CUSTOMERS)
    for lap in range(int((to_s - from_s) // lasts_s) + 1):
        for row in rows:
            at_s = from_s + lap * lasts_s + (row["window"] + 1) * WINDOW_S
            if at_s >= to_s:
                return
            customer = names[row["customer"]]
            duration_s = min(max(row["gpu_s"], SHORTEST_S), LONGEST_S)
            is_chat = kind == "conv"
            spec = {
                "workload_type": "ai_inference_realtime" if is_chat else "ai_inference_batch",
                "model_name": "llama-3.1-8b", "gpu_type": "H100", "gpu_count": 1, "memory_gb": 40.0,
                "max_latency_ms": 500.0 if is_chat else 20_000.0, "interruptible": not is_chat,
                "estimated_duration_s": duration_s, "deadline_at": _iso(at_s + DEADLINE_S[kind]),
            }  # fmt: skip
            yield _submission(at_s, f"{kind}-{lap}-{row['window']}-{row['customer']}", customer, spec)


def _tasks(folder: Path, from_s: float, to_s: float, one_in: int) -> Iterator[Submission]:
    """Tasks with whole GPUs, at their own pace and for as long as they ran, up to two hours."""
    tasks = (
        pl.read_parquet(folder / "alibaba_gpu_v2023_pods.parquet")
        .filter(pl.col("num_gpu").is_between(1, 8), pl.col("deletion_s") > pl.col("scheduled_s"))
        .sort("creation_s")
        .gather_every(one_in)
        .with_columns(since_s=(pl.col("creation_s") - pl.col("creation_s").min()) % (to_s - from_s))
        .sort("since_s")
    )
    names = list(CUSTOMERS)
    for number, row in enumerate(tasks.rows(named=True)):
        duration_s = min(max(float(row["deletion_s"] - row["scheduled_s"]), SHORTEST_S), LONGEST_S)
        at_s = from_s + float(row["since_s"])
        spec = {
            "workload_type": "model_training", "is_training": True, "gpu_type": "H100", "gpu_count": int(row["num_gpu"]),
            "memory_gb": 60.0, "interruptible": True, "checkpoint_interval_s": 600.0, "estimated_duration_s": duration_s,
        }  # fmt: skip
        yield _submission(at_s, f"task-{number}", names[number % len(names)], spec)


def _submission(at_s: float, name: str, customer: str, spec: dict[str, Any]) -> Submission:
    rate = USD_PER_GPU_HOUR[CUSTOMERS[customer]]
    return Submission(at_s, f"{name}-{at_s:.0f}", customer, spec | {"max_usd_per_gpu_hour": rate}, {"defect": None})


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat()
