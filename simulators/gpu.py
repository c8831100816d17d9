"""Generated GPU rental offers: per type a mean-reverting rate, per provider an offset and a stock level.

USD per GPU-hour, stepping every 10 minutes. Levels from the recorded aggregator snapshots of 2025-10.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from simulators.script import Script
from simulators.streams import DAY_S, FloatArray, smooth_noise, stream

STEP_S = 600
_STEPS = DAY_S // STEP_S


class GpuType(NamedTuple):
    """A rented accelerator: listing name, memory, and the level and spread of its rate."""

    name: str
    socket: str
    memory_gb: int
    usd_per_gpu_hour: float
    log_sd: float


class Offer(NamedTuple):
    """One line of a listing."""

    gpu_type: GpuType
    provider: str
    gpu_count: int
    usd_per_gpu_hour: float
    stock_status: str


GPU_TYPES = (
    GpuType("H100_80GB", "SXM5", 80, 2.45, 0.10),
    GpuType("H100_80GB", "PCIe", 80, 2.17, 0.09),
    GpuType("H200_141GB", "SXM5", 141, 3.54, 0.06),
    GpuType("B200_180GB", "SXM6", 180, 5.65, 0.05),
    GpuType("A100_80GB", "SXM4", 80, 1.76, 0.06),
    GpuType("A100_80GB", "PCIe", 80, 1.64, 0.04),
)
PROVIDERS = ("lambdalabs", "hyperstack", "runpod", "crusoecloud", "datacrunch", "massedcompute", "nebius")
_TAU_S = 36 * 3600.0


class GpuMarket:
    """Offers at any instant."""

    def __init__(self, seed: int, script: Script | None = None) -> None:
        self._seed = seed
        self._script = script
        self._day = lru_cache(maxsize=1024)(self._log_rates)
        self.offers_at_step = lru_cache(maxsize=256)(self._offers)

    def offers(self, at_s: float) -> list[Offer]:
        """All offers listed at an instant; they change every 10 minutes."""
        return list(self.offers_at_step(int(at_s // STEP_S)))

    def _log_rates(self, gpu: GpuType, day: int) -> FloatArray:
        return gpu.log_sd * smooth_noise(self._seed, f"gpu.{gpu.name}.{gpu.socket}", day, _STEPS, _TAU_S / STEP_S)

    def _offers(self, step: int) -> tuple[Offer, ...]:
        day, offset = divmod(step, _STEPS)
        factor, sold_out = self._script.gpu_market(float(step * STEP_S)) if self._script else (1.0, 0.0)
        found: list[Offer] = []
        for gpu in GPU_TYPES:
            level = gpu.usd_per_gpu_hour * float(np.exp(self._day(gpu, day)[offset])) * factor
            for provider in PROVIDERS:
                margin = float(stream(self._seed, "gpu.margin", gpu.name, gpu.socket, provider).normal(0.0, 0.08))
                draw = stream(self._seed, "gpu.stock", gpu.name, gpu.socket, provider, step // 3)
                status = ("Unavailable", "Low", "Medium", "High")[int(draw.choice(4, p=[0.15, 0.35, 0.3, 0.2]))]
                if (
                    sold_out
                    and stream(self._seed, "gpu.sold_out", gpu.socket, provider, gpu.name, step // 3).random()
                    < sold_out
                ):
                    status = "Unavailable"
                count = int(draw.choice([1, 2, 4, 8], p=[0.2, 0.15, 0.15, 0.5]))
                found.append(Offer(gpu, provider, count, round(level * float(np.exp(margin)), 2), status))
        return tuple(found)
