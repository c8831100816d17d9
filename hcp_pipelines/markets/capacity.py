"""The clouds whose GPU capacity is asked for: one client a cloud and region, wherever the clouds are; and its offers as ticks.

What clouds answer is in `aws`, `azure` and `cloud`. Asks nobody until it is told to.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import httpx
from pydantic import SecretStr

from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.ticks import OFFER_SEPARATOR, Stream, Tick
from hcp_pipelines.markets import aws, azure
from hcp_pipelines.markets.aws_signing import AwsAuth
from hcp_pipelines.markets.cloud import CloudOffer, Way
from hcp_pipelines.markets.ercot import floor_to
from hcp_pipelines.markets.gpu_listings import UNIT
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.pace import Limit, Pace
from hcp_pipelines.markets.real import Access, RealServices

SIMULATED = "world"  # subscription and keys at the simulated clouds, which take any
PROVIDERS = (aws.PROVIDER, azure.PROVIDER)
READ_EACH = timedelta(minutes=1)  # a list of offers has no stamp of its own: it holds from the minute it was read in

Where = str | Callable[[], str]


class Place(NamedTuple):
    """A cloud and a region of it."""

    provider: str
    region: str


class Cloud(NamedTuple):
    """A place that can be asked for its offers; `offers` raises MarketError."""

    place: Place
    offers: Callable[[], Awaitable[list[CloudOffer]]]


def places_of(text: str) -> list[Place]:
    """The places of a setting.

    Raises:
        ConfigError: a part of it is none, or a provider is not known.

    >>> places_of("aws:us-east-1,azure:eastus")
    [Place(provider='aws', region='us-east-1'), Place(provider='azure', region='eastus')]
    """
    found = [Place(*part.strip().partition(":")[::2]) for part in text.split(",") if part.strip()]
    for place in found:
        if place.provider not in PROVIDERS or not place.region:
            raise ConfigError(
                f"HCP_CLOUDS={text!r}: {':'.join(place)!r} is no PROVIDER:REGION of {', '.join(PROVIDERS)}: aws:us-east-1."
            )
    return found


@asynccontextmanager
async def open_clouds(
    places: Iterable[Place],
    world: Where,
    real: RealServices | None,
    clock: Clock,
    patience_s: float,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[list[Cloud]]:
    """The clouds of these places, but those where the real ones are meant and there is no account.

    Raises:
        ConfigError: a secret can't be read.
    """
    async with AsyncExitStack() as stack:

        def http(access: Access, limit: Limit) -> MarketHttp:
            pace = Pace(clock, limit)
            made = MarketHttp(access.base_url, auth=access.auth, pace=pace, patience_s=patience_s, transport=transport)
            stack.push_async_callback(made.close)
            return made

        made = (_cloud(place, world, real, clock, http) for place in places)
        yield [cloud for cloud in made if cloud is not None]


def _cloud(
    place: Place, world: Where, real: RealServices | None, clock: Clock, http: Callable[[Access, Limit], MarketHttp]
) -> Cloud | None:
    if place.provider == aws.PROVIDER:
        amazon = _simulated_amazon(world, place.region, clock) if real is None else real.amazon(place.region, clock)
        if amazon is None:
            return None
        ec2, prices = (http(access, aws.LIMIT) for access in amazon)
        asked = aws.AwsClient(ec2, prices, place.region)
        return Cloud(place, lambda: asked.offers(clock.now()))
    microsoft = (Access(world), Access(world), SIMULATED) if real is None else real.microsoft(clock)
    if microsoft is None:
        return None
    listed, managed, subscription = microsoft
    client = azure.AzureClient(http(listed, azure.LIMIT), http(managed, azure.LIMIT), subscription)
    return Cloud(place, lambda: client.offers(place.region))


def _simulated_amazon(world: Where, region: str, clock: Clock) -> tuple[Access, Access]:
    ec2, prices = (
        Access(world, AwsAuth(SIMULATED, SecretStr(SIMULATED), where, service, clock))
        for where, service in ((region, "ec2"), (aws.PRICING_REGION, "pricing"))
    )
    return ec2, prices


def ticks_of(offers: Iterable[CloudOffer], now: datetime) -> list[Tick]:
    """The best offer by model, place and way of renting, as ticks of `gpu.spot`: series MODEL/PROVIDER/REGION/WAY.

    The best is the cheapest of what is not known to be sold out, and where all of it is, the cheapest: `is_available` says so.
    """
    best: dict[str, CloudOffer] = {}
    for offer in offers:
        series = OFFER_SEPARATOR.join((offer.gpu_type, offer.provider, offer.region, offer.way.value))
        if series not in best or _rank(offer) < _rank(best[series]):
            best[series] = offer
    read_at = floor_to(now, READ_EACH)
    return [
        Tick(Stream.GPU_SPOT, series, read_at, offer.usd_per_gpu_hour, UNIT, offer.provider, metadata=_told(offer))
        for series, offer in sorted(best.items())
    ]


def offer_of(metadata: Mapping[str, Any], usd_per_gpu_hour: float, since: datetime) -> CloudOffer:
    """The offer that a tick was made of, as of its instant.

    Raises:
        KeyError, ValueError: it was made of none.
    """
    told = {name: metadata[name] for name in ("provider", "region", "zone", "machine", "gpu_type", "gpus")}
    way = Way(metadata["way"])
    return CloudOffer(
        **told, way=way, usd_per_gpu_hour=usd_per_gpu_hour, since=since, is_available=metadata.get("is_available")
    )


def _rank(offer: CloudOffer) -> tuple[bool, float]:
    return offer.is_available is False, offer.usd_per_gpu_hour


def _told(offer: CloudOffer) -> dict[str, Any]:
    """What is kept of an offer beside its price; `since`: from when the cloud has asked it."""
    told = offer._asdict()
    del told["usd_per_gpu_hour"]
    return told | {"way": offer.way.value, "since": offer.since.isoformat()}
