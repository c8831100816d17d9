"""GPU capacity of public clouds as one kind of row: dollars per GPU and hour, by model, place and way of renting. No HTTP.

Clouds quote whole machines, often of eight GPUs: `normalised` divides once (ER-13). What a machine has in it is what the cloud
itself says of it, not a table of ours.
"""

import math
import re
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.markets.gpu_listings import gpu_family

_MODELS = re.compile(r"MI3\d\dX|GB200|B200|H200|H100|A100|L40S|L4|A10|T4|V100", re.IGNORECASE)
MOST_GPUS = 128  # of one machine


class Way(StrEnum):
    """How a machine is rented: at the list price, or until somebody pays more."""

    ON_DEMAND = "on_demand"
    SPOT = "spot"


class Machine(NamedTuple):
    """What a cloud says is in a machine of a size."""

    name: str
    gpu_type: str
    gpus: int


class CloudOffer(NamedTuple):
    """A price of capacity in a place since an instant; `is_available` is None where the cloud doesn't say."""

    provider: str
    region: str
    zone: str
    machine: str
    gpu_type: str
    gpus: int
    way: Way
    usd_per_gpu_hour: float
    since: datetime
    is_available: bool | None = None


def normalised(where: str, usd_per_hour: float, gpus: int) -> float:
    """Dollars per GPU and hour of a machine's price.

    Raises:
        MarketError: it is no price, or no number of GPUs.

    >>> normalised("a list", 98.32, 8)
    12.29
    """
    if not (math.isfinite(usd_per_hour) and usd_per_hour > 0):
        raise MarketError(f"{where}: {usd_per_hour!r} is no price of a machine.")
    if not 1 <= gpus <= MOST_GPUS:
        raise MarketError(f"{where}: a machine of {gpus!r} GPUs: 1 to {MOST_GPUS} are known.")
    return usd_per_hour / gpus


def gpu_model(text: str) -> str:
    """The GPU model that a name holds; empty where it holds none.

    >>> gpu_model("standardNDSH100v5Family"), gpu_model("StandardDSv3Family")
    ('H100', '')
    """
    found = _MODELS.search(text)
    return gpu_family(found[0]) if found else ""


def cheapest(offers: Iterable[CloudOffer]) -> dict[tuple[str, Way], CloudOffer]:
    """The cheapest capacity by GPU model and way of renting, of what is not known to be sold out."""
    found: dict[tuple[str, Way], CloudOffer] = {}
    for offer in offers:
        key = (offer.gpu_type, offer.way)
        if offer.is_available is not False and (
            key not in found or offer.usd_per_gpu_hour < found[key].usd_per_gpu_hour
        ):
            found[key] = offer
    return found
