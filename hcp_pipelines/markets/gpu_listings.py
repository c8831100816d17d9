"""GPU rental offers in the shape of an aggregator's listing, as ticks of `gpu.spot`: the median offer of each GPU type.

Offers, not fills; a single odd offer must not move the price, hence the median. No value curve and no utilisation.
Source: Prime Intellect's availability API.
"""

import math
from collections import defaultdict
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.domain.ticks import OFFER_SEPARATOR, Stream, Tick
from hcp_pipelines.markets.ercot import floor_to
from hcp_pipelines.markets.http import MarketHttp, Reply
from hcp_pipelines.markets.pace import Limit
from hcp_pipelines.markets.values import number

REAL_BASE_URL = "https://api.primeintellect.ai"
LIMIT = Limit(60, 60.0)  # not published: ours
LISTINGS = "/api/v1/availability/gpus"
SNAPSHOT = timedelta(minutes=1)  # an offer list has no stamp of its own: it holds from the minute it was read in
MOST_GPUS = 10_000  # of one offer
PAGE_SIZE = 100
MAX_PAGES = 50
SOURCE = "primeintellect"
UNIT = "USD/GPU-hour"


class _Prices(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    on_demand: float = Field(alias="onDemand")

    @field_validator("on_demand", mode="before")
    @classmethod
    def _number_or_nan(cls, raw: Any) -> float:
        return number(raw)


class _Offer(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    provider: str
    gpu_type: str = Field(alias="gpuType")
    gpu_count: int = Field(default=1, alias="gpuCount", ge=1, le=MOST_GPUS)
    prices: _Prices
    stock_status: str = Field(default="Available", alias="stockStatus")


class _Listings(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    items: list[_Offer]
    total_count: int | None = Field(default=None, alias="totalCount")


class GpuListingsClient:
    """Rental rates by GPU type."""

    def __init__(self, http: MarketHttp) -> None:
        self._http = http

    async def spot(self, now: datetime) -> list[Tick]:
        """Median offer of each GPU type that can be rented, USD per GPU-hour, holding from the minute it was read in."""
        offers, reply = await self._offers()
        rates: dict[str, list[float]] = defaultdict(list)
        for offer in offers:
            rate = offer.prices.on_demand / offer.gpu_count
            family = gpu_family(offer.gpu_type)
            if family and offer.stock_status.lower() != "unavailable" and math.isfinite(rate):
                rates[family].append(rate)
        read_at = floor_to(reply.world_at or now, SNAPSHOT)
        return [
            Tick(
                Stream.GPU_SPOT, family, read_at, median(values), UNIT, SOURCE,
                metadata={"gpu_type": family, "offers": len(values), **reply.provenance()},
            )
            for family, values in sorted(rates.items())
        ]  # fmt: skip

    async def _offers(self) -> tuple[list[_Offer], Reply]:
        """Every offer of every page, and the last reply."""
        offers: list[_Offer] = []
        for page in range(1, MAX_PAGES + 1):
            reply = await self._http.get_json(LISTINGS, {"page": page, "page_size": PAGE_SIZE})
            try:
                listings = _Listings.model_validate(reply.body)
            except ValidationError as error:
                first = error.errors()[0]
                raise MarketError(f"{LISTINGS}: {first['loc']}: {first['msg']}.") from error
            offers += listings.items
            if not listings.items or len(offers) >= (listings.total_count or 0):
                return offers, reply
        raise MarketError(f"{LISTINGS}: more than {MAX_PAGES} pages of {PAGE_SIZE} offers: the limit is too low.")


def gpu_family(gpu_type: str) -> str:
    """The GPU type without memory size: H100 of H100_80GB; empty where it would read as a cloud's offer.

    >>> gpu_family("H100_80GB"), gpu_family("B200"), gpu_family("H100/PCIE_80GB")
    ('H100', 'B200', '')
    """
    family = gpu_type.replace("-", "_").split("_", maxsplit=1)[0].upper()
    return "" if OFFER_SEPARATOR in family else family
