"""Amazon EC2: spot and on-demand prices of machines with GPUs, now and in the past, as rows of `cloud`. Wants signed requests.

Spot prices come as changes, by zone, for ninety days back; how many GPUs of which model a type has is asked of EC2 itself.
Sources: Amazon EC2 API reference 2016-11-15 (DescribeInstanceTypes, DescribeSpotPriceHistory, DescribeAvailabilityZones,
GetSpotPlacementScores); AWS Price List Query API (GetProducts).
"""

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from xml.etree.ElementTree import Element, ParseError, fromstring

import httpx

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.markets.cloud import CloudOffer, Machine, Way, gpu_model, normalised
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.pace import Limit
from hcp_pipelines.markets.values import instant_or_error, integer, number

REGION_URL = "https://ec2.{}.amazonaws.com"
REAL_PRICING_URL = "https://api.pricing.us-east-1.amazonaws.com"
PRICING_REGION = "us-east-1"  # that the price list is signed for, whatever region is asked about
LIMIT = Limit(20, 1.0)  # of calls that change nothing, by account and region
VERSION = "2016-11-15"
LINUX = "Linux/UNIX"
FAMILIES = ("p4*", "p5*", "p6*", "g6*")  # setting: machines with GPUs that overflow work may be sent to
MAX_PAGES = 100
LEAST_SCORE = 3  # of 10: below it a request for spot capacity is likely to fail
LEAST_TYPES = 3  # to choose from: by EC2's documentation the score of fewer is always low, whatever there is
PROVIDER = "aws"


class AwsClient:
    """What GPUs cost at Amazon, and whether there are any."""

    def __init__(self, ec2: MarketHttp, pricing: MarketHttp, region: str) -> None:
        """`ec2` signs for the region, `pricing` for the price list's own."""
        self._ec2 = ec2
        self._pricing = pricing
        self._region = region

    async def offers(self, now: datetime) -> list[CloudOffer]:
        """On-demand prices of the region and spot prices of its zones, USD per GPU and hour; Linux alone.

        Raises:
            MarketError: no reply, or one of another shape.
        """
        machines = await self.machines()
        spot = await self._spot(machines, now, now)
        newest: dict[tuple[str, str], CloudOffer] = {}
        for offer in spot:
            newest[offer.machine, offer.zone] = offer
        empty = await self._empty_zones(machines)
        stocked = [o._replace(is_available=False if o.zone in empty else None) for o in newest.values()]
        return sorted([*(await self._on_demand(machines)), *stocked])

    async def machines(self) -> list[Machine]:
        """The types with GPUs that we know, as EC2 describes them."""
        filters = {f"Filter.1.Value.{n}": family for n, family in enumerate(FAMILIES, start=1)}
        query = {"Filter.1.Name": "instance-type", **filters, "MaxResults": "100"}
        found = []
        async for item in self._items("DescribeInstanceTypes", "instanceTypeSet", query):
            where, gpu = "DescribeInstanceTypes", item.find("gpuInfo/gpus/item")
            if gpu is not None and (model := gpu_model(_text(where, gpu, "name"))):
                found.append(
                    Machine(_text(where, item, "instanceType"), model, integer(where, _text(where, gpu, "count")))
                )
        return sorted(found)

    async def spot_history(self, start: datetime, end: datetime) -> list[CloudOffer]:
        """Changes of spot prices in [start, end), oldest first."""
        changes = await self._spot(await self.machines(), start, end)
        return [offer for offer in changes if start <= offer.since < end]

    async def _spot(self, machines: Sequence[Machine], start: datetime, end: datetime) -> list[CloudOffer]:
        """Changes in a window, oldest first, and those that hold at its beginning."""
        by_name = {machine.name: machine for machine in machines}
        query = {f"InstanceType.{n}": name for n, name in enumerate(by_name, start=1)}
        query |= {
            "MaxResults": "1000",
            "ProductDescription.1": LINUX,
            "StartTime": _stamp(start),
            "EndTime": _stamp(end),
        }
        where, found = "DescribeSpotPriceHistory", []
        async for item in self._items(where, "spotPriceHistorySet", query):
            machine, zone = by_name.get(_text(where, item, "instanceType")), _text(where, item, "availabilityZone")
            if machine is None:
                raise MarketError(f"{where}: {_text(where, item, 'instanceType')!r:.60} was not asked for.")
            usd = normalised(f"{where} {machine.name}", number(_text(where, item, "spotPrice")), machine.gpus)
            since = instant_or_error(where, _text(where, item, "timestamp")).astimezone(UTC)
            told = (PROVIDER, self._region, zone, machine.name, machine.gpu_type, machine.gpus, Way.SPOT)
            found.append(CloudOffer(*told, usd, since))
        return sorted(found, key=lambda offer: (offer.since, offer.machine, offer.zone))

    async def _zones(self) -> dict[str, str]:
        """The account's names of the region's zones, by the ids that are the same for all."""
        where = "DescribeAvailabilityZones"
        items = self._items(where, "availabilityZoneInfo", {})
        return {_text(where, item, "zoneId"): _text(where, item, "zoneName") async for item in items}

    async def _empty_zones(self, machines: Sequence[Machine]) -> set[str]:
        """The zones where no spot capacity of any of these types is likely to be had.

        A zone's score is one for all types that EC2 may choose from: a high one doesn't say which of them there is.
        """
        if len(machines) < LEAST_TYPES:
            return set()
        zones, where = await self._zones(), "GetSpotPlacementScores"
        query = {f"InstanceType.{n}": machine.name for n, machine in enumerate(machines, start=1)}
        query |= {"TargetCapacity": "1", "SingleAvailabilityZone": "true", "RegionName.1": self._region}
        return {
            zones.get(_text(where, item, "availabilityZoneId"), "")
            async for item in self._items(where, "spotPlacementScoreSet", query)
            if integer(where, _text(where, item, "score")) < LEAST_SCORE
        }

    async def _on_demand(self, machines: Sequence[Machine]) -> list[CloudOffer]:
        """List prices of the region."""
        found = []
        for machine in machines:
            fields = {
                "instanceType": machine.name, "regionCode": self._region, "operatingSystem": "Linux", "tenancy": "Shared",
                "preInstalledSw": "NA", "capacitystatus": "Used",
            }  # fmt: skip
            for product in await self._products(fields):
                usd, since = _list_price(machine.name, product)
                per_gpu = normalised(f"GetProducts {machine.name}", usd, machine.gpus)
                told = (PROVIDER, self._region, "", machine.name, machine.gpu_type, machine.gpus, Way.ON_DEMAND)
                found.append(CloudOffer(*told, per_gpu, since))
        return found

    async def _products(self, fields: dict[str, str]) -> list[Any]:
        """The products of every page, each of which is JSON within the JSON."""
        filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in fields.items()]
        asked: dict[str, Any] = {"ServiceCode": "AmazonEC2", "Filters": filters, "FormatVersion": "aws_v1"}
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": "AWSPriceListService.GetProducts"}
        found: list[Any] = []
        for token in self._tokens("GetProducts", lambda: asked.get("NextToken", "")):
            body = (await self._pricing.post_json("/", asked, headers)).body
            try:
                found += [json.loads(text) for text in body["PriceList"]]
                asked["NextToken"] = str(body.get("NextToken") or "")
            except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
                raise MarketError(f"GetProducts: not a page of products after {token!r:.40}: {body!r:.200}.") from error
            if not asked["NextToken"]:
                break
        return found

    async def _items(self, action: str, name: str, query: dict[str, str]) -> AsyncIterator[Element]:
        """The items of a set, of every page."""
        asked = {"Action": action, "Version": VERSION, **query}
        for token in self._tokens(action, lambda: asked.get("NextToken", "")):
            root = (await self._ec2.get("/", asked, _read_xml)).body
            found = root.find(name)
            if found is None:
                raise MarketError(f"{action}: no {name} in the reply after {token!r:.40}: it has changed.")
            for item in found:
                yield item
            asked["NextToken"] = root.findtext("nextToken") or ""
            if not asked["NextToken"]:
                return

    @staticmethod
    def _tokens(where: str, newest: Callable[[], str]) -> Iterator[str]:
        """The token of each page until the caller stops.

        Raises:
            MarketError: one comes again, or there are too many.
        """
        seen: set[str] = set()
        for _ in range(MAX_PAGES):
            if (token := newest()) in seen:
                raise MarketError(f"{where}: the page after {token!r:.40} is the same one again: pages must go on.")
            seen.add(token)
            yield token
        raise MarketError(f"{where}: more than {MAX_PAGES} pages: ask for less.")


def _read_xml(response: httpx.Response) -> Element:
    """The document of a reply, without namespaces.

    Raises:
        ValueError: it is none, or has a document type, which no reply of Amazon's has.
    """
    if b"<!DOCTYPE" in response.content or b"<!ENTITY" in response.content:
        raise ValueError("a document type in the reply")
    try:
        root = fromstring(response.content)  # noqa: S314 - without a document type there are no entities
    except ParseError as error:
        raise ValueError(f"not XML: {error}") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _text(where: str, parent: Element, name: str) -> str:
    """The text of a child.

    Raises:
        MarketError: there is none.
    """
    text = parent.findtext(name)
    if not text:
        raise MarketError(f"{where}: an item has no {name}: the reply has changed.")
    return text


def _list_price(name: str, product: Any) -> tuple[float, datetime]:
    """The on-demand price of a product, USD an hour, and since when it holds.

    Raises:
        MarketError: it has none, or several.
    """
    try:
        (term,) = product["terms"]["OnDemand"].values()
        (dimension,) = term["priceDimensions"].values()
        usd, since = number(dimension["pricePerUnit"]["USD"]), instant_or_error("GetProducts", term["effectiveDate"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise MarketError(f"GetProducts: {name}: not one on-demand price: {product!r:.200}.") from error
    return usd, since.astimezone(UTC)


def _stamp(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
