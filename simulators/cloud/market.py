"""Generated GPU capacity of two clouds: on-demand prices, spot prices that change a few times a day, and what is sold out.

Levels, and the share of the on-demand price that spot costs, are those of a rate card of 2026-07-20; how they move is ours. USD
per instance and hour. The scenario's demand for GPUs (`gpus`) raises spot prices and sells out.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final, Literal, NamedTuple

import numpy as np

from simulators.script import Script
from simulators.streams import DAY_S, FloatArray, smooth_noise, stream

Cloud = Literal["aws", "azure"]
STEP_S: Final = 3 * 3600  # a spot price changes at most once within it
HISTORY_DAYS: Final = 90
_STEPS = DAY_S // STEP_S
_TAU_STEPS = 8.0
_LOG_SD = 0.12
_SOLD_OUT = 0.25  # of the hours, in a calm market
_UNSTEADY = 0.5  # of the steps, that change a price


class InstanceType(NamedTuple):
    """A machine that can be rented: its GPUs, and what it costs."""

    cloud: Cloud
    name: str
    family: str
    gpu: str
    gpu_memory_mib: int
    gpus: int
    vcpus: int
    memory_gib: int
    on_demand_usd: float
    spot_share: float


class Change(NamedTuple):
    """A spot price and since when it holds, Unix seconds."""

    at_s: int
    usd: float


INSTANCE_TYPES: Final = (
    InstanceType("aws", "p4d.24xlarge", "p4d", "A100", 40_960, 8, 96, 1152, 32.7726, 0.40),
    InstanceType("aws", "p4de.24xlarge", "p4de", "A100", 81_920, 8, 96, 1152, 40.96575, 0.42),
    InstanceType("aws", "p5.48xlarge", "p5", "H100", 81_920, 8, 192, 2048, 98.32, 0.59),
    InstanceType("aws", "p5en.48xlarge", "p5en", "H200", 144_384, 8, 192, 2048, 84.80, 0.55),
    InstanceType("aws", "g6.xlarge", "g6", "L4", 22_888, 1, 4, 16, 0.8048, 0.13),
    InstanceType("aws", "g6.48xlarge", "g6", "L4", 22_888, 8, 192, 768, 13.3504, 0.13),
    InstanceType("azure", "Standard_ND96asr_v4", "standardNDASv4_A100Family", "A100", 40_960, 8, 96, 900, 27.197, 0.22),
    InstanceType("azure", "Standard_ND96amsr_A100_v4", "standardNDAMSv4_A100Family", "A100", 81_920, 8, 96, 1900, 32.77, 0.26),
    InstanceType("azure", "Standard_NC48ads_A100_v4", "StandardNCADSA100v4Family", "A100", 81_920, 2, 48, 440, 7.346, 0.185),
    InstanceType("azure", "Standard_ND96isr_H100_v5", "standardNDSH100v5Family", "H100", 81_920, 8, 96, 1900, 88.488, 0.185),
    InstanceType("azure", "Standard_NC40ads_H100_v5", "StandardNCadsH100v5Family", "H100", 96_256, 1, 40, 320, 6.98, 0.20),
)  # fmt: skip
ZONES: Final[Mapping[Cloud, Mapping[str, tuple[str, ...]]]] = {
    "aws": {"us-east-1": ("us-east-1a", "us-east-1b", "us-east-1c"), "us-west-2": ("us-west-2a", "us-west-2b")},
    "azure": {"eastus": ("1", "2", "3"), "southcentralus": ("1", "2")},
}


def types_of(cloud: Cloud) -> list[InstanceType]:
    """What a cloud rents out."""
    return [each for each in INSTANCE_TYPES if each.cloud == cloud]


class CloudMarket:
    """Spot prices and stock at any instant."""

    def __init__(self, seed: int, script: Script) -> None:
        self._seed = seed
        self._script = script
        self._day = lru_cache(maxsize=4096)(self._log_prices)

    def spot(self, kind: InstanceType, place: str, at_s: float) -> Change:
        """The spot price of a place (zone or region) at an instant, and since when it holds."""
        step = int(at_s // STEP_S)
        while (change := self._change(kind, place, step)) is None or change.at_s > at_s:
            step -= 1
        return change

    def changes(self, kind: InstanceType, place: str, first_s: float, last_s: float) -> Iterator[Change]:
        """The changes of a spot price in [first, last], newest first, and the one that holds at the beginning."""
        at_s = last_s
        while True:
            change = self.spot(kind, place, at_s)
            yield change
            if change.at_s <= first_s:
                return
            at_s = change.at_s - 1

    def is_sold_out(self, kind: InstanceType, place: str, at_s: float) -> bool:
        """Whether none of them is to be had in a place at an instant; it changes by the hour."""
        _, sold_out = self._script.gpu_market(at_s)
        draw = stream(self._seed, "cloud.stock", kind.name, place, int(at_s // 3600)).random()
        return bool(draw < max(sold_out, _SOLD_OUT))

    def _change(self, kind: InstanceType, place: str, step: int) -> Change | None:
        """What happens to a price within a step; None: nothing."""
        draw = stream(self._seed, "cloud.change", kind.name, place, step)
        if draw.random() >= _UNSTEADY:
            return None
        at_s = step * STEP_S + int(draw.integers(STEP_S))
        day, offset = divmod(step, _STEPS)
        factor, _ = self._script.gpu_market(float(at_s))
        level = kind.on_demand_usd * kind.spot_share * factor * float(np.exp(self._day(kind.name, place, day)[offset]))
        return Change(at_s, round(min(level, kind.on_demand_usd), 4))

    def _log_prices(self, name: str, place: str, day: int) -> FloatArray:
        return _LOG_SD * smooth_noise(self._seed, f"cloud.{name}.{place}", day, _STEPS, _TAU_STEPS)
