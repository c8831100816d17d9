"""A long queue as the optimizer's solves have it: how long it takes to be read as columns, placed, valued and made into blocks.

The queue is seeded, without a database: a fifth of it runs, at twelve facilities of 4,000 GPUs each.
"""

import statistics
import time
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from hcp_pipelines.domain.modes import DeviceState, ResourceType
from hcp_pipelines.optimizer.ai_work import Ahead
from hcp_pipelines.optimizer.inputs import FacilityInputs, GroupInputs, SiteInputs, StateInputs
from hcp_pipelines.optimizer.queue.ahead import QueueWork
from hcp_pipelines.optimizer.queue.deadlines import with_urgency
from hcp_pipelines.optimizer.queue.live import with_work
from hcp_pipelines.optimizer.queue.places import GPU_WORK, placed, places_of
from hcp_pipelines.optimizer.queue.read import WORK, Queue
from hcp_pipelines.optimizer.queue.valued import valued
from hcp_pipelines.optimizer.solve import solve_facility

PIECES, FACILITIES, GPUS = 20_000, 12, 4_000
NOW = datetime(2025, 1, 1, tzinfo=UTC)
_LADDER = tuple(
    StateInputs(state, kw)
    for state, kw in (
        (DeviceState.IDLE, 0.45), (DeviceState.INFERENCE_BATCH, 1.3), (DeviceState.INFERENCE_REALTIME, 1.31),
        (DeviceState.TRAINING, 1.4),
    )
)  # fmt: skip


def long_queue(pieces: int = PIECES, seed: int = 7) -> Queue:
    """Pieces of all classes, sizes and limits; half of them have a deadline."""
    random = np.random.default_rng(seed)
    runs, is_due = random.random(pieces) < 0.2, random.random(pieces) < 0.5
    facilities = [f"f{n}" for n in random.integers(0, FACILITIES, pieces)]
    frame = pl.DataFrame(
        {
            "number": np.arange(pieces),
            "type": [GPU_WORK[n].value for n in random.integers(0, len(GPU_WORK), pieces)],
            "gpu_type": ["H100"] * pieces,
            "gpus": 2 ** random.integers(0, 4, pieces),
            "memory_gb": _where(runs & ~runs, np.zeros(pieces)),
            "is_interruptible": random.random(pieces) < 0.8,
            "credit_fraction": random.choice([0.0, 0.1, 0.25], pieces),
            "limit_usd_per_gpu_hour": random.uniform(0.5, 4.0, pieces),
            "agreed_usd_per_gpu_hour": _where(runs, random.uniform(0.5, 2.5, pieces)),
            "estimated_s": random.lognormal(8.0, 1.5, pieces),
            "saved_s": np.zeros(pieces),
            "unsaved_s": np.where(runs, random.uniform(0, 1800, pieces), 0.0),
            "due_in_s": _where(is_due, random.uniform(600, 200_000, pieces)),
            "start_in_s": random.uniform(-3600, 3600, pieces),
            "level": random.integers(1, 11, pieces),
            "facility_id": [f if r else None for f, r in zip(facilities, runs, strict=True)],
            "group_id": ["h100" if r else None for r in runs],
            "in_facility": [None] * pieces,
            "not_facility": [None] * pieces,
            "region": [None] * pieces,
        }
    )
    return Queue(frame.select(pl.col(name).cast(kind) for name, kind in WORK.items()), 0.05)


def _where(is_known: npt.NDArray[np.bool_], values: npt.NDArray[np.float64]) -> pl.Series:
    return pl.Series(np.where(is_known, values, np.nan)).fill_nan(None)


def sites() -> list[FacilityInputs]:
    """Facilities of scheduled GPUs, each at its own price."""
    group = GroupInputs("h100", "f1", ResourceType.GPU, GPUS, _LADDER, "H100", is_scheduled=True)
    return [
        FacilityInputs(SiteInputs(f"f{n}", "HB", 1, 0, 10.0, (group,)), 1, NOW, 30.0 + n, {"gpu.H100": 2.0})
        for n in range(FACILITIES)
    ]


def measure_queue(rounds: int) -> dict[str, float]:
    """Medians in ms: the queue into steps of every facility, and their policies; and how many steps and blocks a facility has."""
    queue, inputs = long_queue(), sites()
    places = places_of(inputs)
    curve_ms, solve_ms, steps, blocks = [], [], 0, 0
    for _ in range(rounds):
        began_s = time.perf_counter()
        asked = with_work(queue, inputs, places)
        made_s = time.perf_counter()
        policies = [solve_facility(each) for each in asked]
        solve_ms.append((time.perf_counter() - made_s) * 1000)
        curve_ms.append((made_s - began_s) * 1000)
        steps, blocks = len(asked[0].work["h100"]), len(policies[0].blocks)
    return {
        "queue_pieces": PIECES, "queue_curve_p50_ms": statistics.median(curve_ms),
        "queue_policies_p50_ms": statistics.median(solve_ms), "queue_steps": steps, "queue_blocks": blocks,
    }  # fmt: skip


def queued_jobs(hours: int = 48) -> int:
    """Jobs that the queue is to a programme of so many hours."""
    places = places_of(sites())
    served = valued(placed(with_urgency(long_queue().work, {"H100": GPUS * FACILITIES}), places), places)
    starts = round(NOW.timestamp() * 1e6) + 3_600_000_000 * np.arange(hours)
    return len(QueueWork(NOW, served).jobs(Ahead(starts, np.arange(hours) % 24, np.arange(hours) // 24, 4)))
