"""Whether work that finds no room at home would do better in a public cloud, at its price and after its start. Not carried out.

Nothing here rents anything: the decision is recorded, so that an operator sees what was left unserved, and at what price it could
have been served.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from hcp_pipelines.markets.cloud import CloudOffer, cheapest
from hcp_pipelines.workloads.routing.needs import Need


@dataclass(frozen=True, slots=True)
class Overflow:
    """Where it would go: the whole price in dollars, and when it would be done."""

    offer: CloudOffer
    usd: float
    done_at: datetime

    @property
    def reason(self) -> str:
        """In a line, for people."""
        offer = self.offer
        return (
            f"overflow: {offer.provider} {offer.region} has {offer.gpu_type} at ${offer.usd_per_gpu_hour:.2f} a GPU-hour, "
            f"${self.usd:.2f} in all, done by {self.done_at:%Y-%m-%d %H:%M}Z; not carried out"
        )


def overflow(
    need: Need, names: frozenset[str], offers: Iterable[CloudOffer], start_s: float, now: datetime
) -> Overflow | None:
    """The cheapest cloud that would do: of these GPU models, within what is paid at most, and in time; None: there is none.

    Args:
        need: what finds no room.
        names: GPU models that would do.
        offers: what clouds ask.
        start_s: until rented machines work.
        now: world time.
    """
    done_at = now + timedelta(seconds=start_s + need.duration_s)
    if need.deadline_at is not None and done_at > need.deadline_at:
        return None
    fitting = [offer for (model, _), offer in cheapest(offers).items() if model in names]
    best = min(fitting, key=lambda offer: offer.usd_per_gpu_hour, default=None)
    most = need.place.max_usd_per_gpu_hour
    if best is None or (most is not None and best.usd_per_gpu_hour > most):
        return None
    return Overflow(best, best.usd_per_gpu_hour * need.place.gpu_count * need.duration_s / 3600, done_at)
