"""What a GPU-hour costs: the aggregator's rate by model, each cloud's best offers, and these as the rate where it is silent.

How often each is asked is in `service`; how offers become ticks in `markets.capacity`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.ticks import Quality, Stream, Tick
from hcp_pipelines.markets.capacity import READ_EACH, Cloud, Place, ticks_of
from hcp_pipelines.markets.cloud import CloudOffer, cheapest
from hcp_pipelines.markets.ercot import floor_to
from hcp_pipelines.markets.gpu_listings import UNIT, GpuListingsClient

STANDING_IN = "clouds"  # the source of a rate that no aggregator has told
_NEVER = datetime.min.replace(tzinfo=UTC)


class GpuRates:
    """The sources of `gpu.spot` together."""

    def __init__(self, listings: GpuListingsClient | None, clock: Clock, stale_after_s: float) -> None:
        """`stale_after_s`: so old, the aggregator's rate of a model, or a cloud's offer, is no rate any more; world time."""
        self._listings, self._clock = listings, clock
        self._stale_after_s = stale_after_s
        self._since = _NEVER if listings is None else clock.now()
        self._told_at: dict[str, datetime] = {}
        self._offers: dict[Place, tuple[datetime, list[CloudOffer]]] = {}

    async def listed(self) -> Sequence[Tick]:
        """The aggregator's rates by model.

        Raises:
            MarketError: no reply, or one of another shape.
        """
        now = self._clock.now()
        ticks = [] if self._listings is None else await self._listings.spot(now)
        self._told_at |= {tick.series: now for tick in ticks}
        return ticks

    async def of_cloud(self, cloud: Cloud) -> Sequence[Tick]:
        """A cloud's best offers, and the rates of models that the aggregator has not told for too long.

        Raises:
            MarketError: no reply, or one of another shape.
        """
        offers = await cloud.offers()
        now = self._clock.now()
        self._offers[cloud.place] = now, offers
        return [*ticks_of(offers, now), *self._standing_in(now)]

    def _standing_in(self, now: datetime) -> list[Tick]:
        """For each model that the aggregator is silent on, the cheapest offer of all clouds: what customers would take."""
        fresh = [offer for at, offers in self._offers.values() if self._is_fresh(at, now) for offer in offers]
        best: dict[str, CloudOffer] = {}
        for (model, _), offer in cheapest(fresh).items():
            if model not in best or offer.usd_per_gpu_hour < best[model].usd_per_gpu_hour:
                best[model] = offer
        return [
            _stand_in(model, offer, now)
            for model, offer in sorted(best.items())
            if not self._is_fresh(self._told_at.get(model, self._since), now)
        ]

    def _is_fresh(self, at: datetime, now: datetime) -> bool:
        return (now - at).total_seconds() < self._stale_after_s


def _stand_in(model: str, offer: CloudOffer, now: datetime) -> Tick:
    why = "no aggregator tells it: the cheapest cloud's price stands in"
    told = {"gpu_type": model, "provider": offer.provider, "machine": offer.machine, "quality_reason": why}
    read_at = floor_to(now, READ_EACH)
    return Tick(
        Stream.GPU_SPOT, model, read_at, offer.usd_per_gpu_hour, UNIT, STANDING_IN, Quality.UNUSUAL, metadata=told
    )
