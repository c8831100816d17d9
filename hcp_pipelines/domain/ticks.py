"""Ticks: one new value of one stream, and how good it is."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Stream(StrEnum):
    """The platform's price and signal streams (DESIGN §5)."""

    POWER_RT_LMP = "power.rt_lmp"
    POWER_RT_SPP = "power.rt_spp"
    POWER_DA_SPP = "power.da_spp"
    BTC_USD = "btc.usd"
    BTC_NETWORK = "btc.network"
    GPU_SPOT = "gpu.spot"
    GRID_SIGNAL = "grid.signal"
    WEATHER_TEMPERATURE = "weather.temperature"


OFFER_SEPARATOR = (
    "/"  # in a series of gpu.spot that is one cloud's offer; without it the series is a model's market rate
)
BITCOIN = "consensus"  # the series of btc.usd that is acted on: what the exchanges stand for together


class Quality(StrEnum):
    """What a tick may be used for.

    `good` and `unusual` are acted on; `unusual` (beyond an offer cap, inside the plausibility band) is flagged.
    `absurd`, `out_of_order` are recorded and never acted on. A duplicate is counted, not recorded.
    """

    GOOD = "good"
    UNUSUAL = "unusual"
    ABSURD = "absurd"
    OUT_OF_ORDER = "out_of_order"


ACTIONABLE = (Quality.GOOD, Quality.UNUSUAL)


@dataclass(frozen=True, slots=True)
class Tick:
    """One value of one series of a stream.

    `series` names the instance within the stream: a settlement point, an exchange, a GPU type.
    `source_at` is the instant the value holds from (an interval's start), in simulated or real UTC.
    """

    stream: Stream
    series: str
    source_at: datetime
    value: float
    unit: str
    source: str
    quality: Quality = Quality.GOOD
    revision: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)
    id: int | None = None
    received_at: datetime | None = None
