"""Amazon's query APIs on one path: EC2's spot price history, instance types and their offerings (XML), and list prices (JSON).

GET, or POST of a form, for EC2; POST with `X-Amz-Target` for the price list, as its clients do. Signatures are not checked.
Sources: Amazon EC2 API reference 2016-11-15 (DescribeSpotPriceHistory, DescribeInstanceTypes, DescribeInstanceTypeOfferings,
DescribeAvailabilityZones, GetSpotPlacementScores); AWS Price List Query API, GetProducts.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Final
from xml.sax.saxutils import escape

import orjson

from simulators.clock import epoch_s
from simulators.cloud.market import HISTORY_DAYS, ZONES, CloudMarket, InstanceType, types_of
from simulators.streams import DAY_S

XML: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
XMLNS: Final = "http://ec2.amazonaws.com/doc/2016-11-15/"
LIST_TARGET: Final = "AWSPriceListService.GetProducts"
MOST_ROWS: Final = 1000
PRODUCT: Final = "Linux/UNIX"
LEAST_TYPES: Final = 3  # that a score wants to choose from
LOW_SCORE: Final = 2  # the most it is where there are fewer
_SIGNED_FOR = re.compile(r"Credential=[^/]+/\d{8}/([a-z0-9-]+)/")
DEFAULT_REGION: Final = "us-east-1"

Query = Mapping[str, str]


class RefusedError(Exception):
    """A request that is refused: with a code and a message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def region_of(authorization: str) -> str:
    """The region that a request is signed for; requests without a signature are for the first one."""
    found = _SIGNED_FOR.search(authorization)
    return found[1] if found else DEFAULT_REGION


def ec2(market: CloudMarket, query: Query, region: str, now_s: float) -> tuple[int, str]:
    """The status and the XML of the reply to an action."""
    action = query.get("Action", "")
    try:
        if region not in ZONES["aws"]:
            raise RefusedError("AuthFailure", f"There is no region {region[:40]} here.")
        if action not in _ACTIONS:
            raise RefusedError("InvalidAction", f"The action {action[:60]} is not valid for this web service.")
        body = _ACTIONS[action](market, query, region, now_s)
    except RefusedError as error:
        told = f"<Error><Code>{error.code}</Code><Message>{escape(str(error))}</Message></Error>"
        return (
            400,
            f"{XML}<Response><Errors>{told}</Errors><RequestID>w</RequestID></Response>",
        )
    head = f'{XML}<{action}Response xmlns="{XMLNS}"><requestId>w</requestId>'
    return 200, f"{head}{body}</{action}Response>"


def _spot_history(market: CloudMarket, query: Query, region: str, now_s: float) -> str:
    """Prices by change, newest first."""
    first_s = max(_instant_s(query, "StartTime", now_s), now_s - HISTORY_DAYS * DAY_S)
    last_s = min(_instant_s(query, "EndTime", now_s), now_s)
    if PRODUCT not in (_listed(query, "ProductDescription") or [PRODUCT]):
        return _paged("spotPriceHistorySet", [], query)
    zone_wanted = query.get("AvailabilityZone")
    rows = [
        (change.at_s, kind.name, zone, change.usd)
        for kind in _wanted(query)
        for zone in ZONES["aws"][region]
        if zone_wanted in (None, zone) and first_s <= last_s
        for change in market.changes(kind, zone, first_s, last_s)
    ]
    rows.sort(reverse=True)
    items = [
        f"<instanceType>{name}</instanceType><productDescription>{PRODUCT}</productDescription><spotPrice>{usd:.6f}</spotPrice>"
        f"<timestamp>{_stamp(at_s)}</timestamp><availabilityZone>{zone}</availabilityZone>"
        for at_s, name, zone, usd in rows
    ]
    return _paged("spotPriceHistorySet", items, query)


def _instance_types(_market: CloudMarket, query: Query, _region: str, _now_s: float) -> str:
    """Types with their GPUs."""
    items = [
        f"<instanceType>{kind.name}</instanceType><currentGeneration>true</currentGeneration>"
        f"<supportedUsageClasses><item>on-demand</item><item>spot</item></supportedUsageClasses>"
        f"<vCpuInfo><defaultVCpus>{kind.vcpus}</defaultVCpus></vCpuInfo>"
        f"<memoryInfo><sizeInMiB>{kind.memory_gib * 1024}</sizeInMiB></memoryInfo><gpuInfo><gpus><item><name>{kind.gpu}</name>"
        f"<manufacturer>NVIDIA</manufacturer><count>{kind.gpus}</count>"
        f"<memoryInfo><sizeInMiB>{kind.gpu_memory_mib}</sizeInMiB></memoryInfo></item></gpus>"
        f"<totalGpuMemoryInMiB>{kind.gpu_memory_mib * kind.gpus}</totalGpuMemoryInMiB></gpuInfo>"
        for kind in _wanted(query)
    ]
    return _paged("instanceTypeSet", items, query)


def _offerings(_market: CloudMarket, query: Query, region: str, _now_s: float) -> str:
    """Which types there are at all in each zone, or in the region."""
    by_zone = query.get("LocationType", "region") == "availability-zone"
    places = ZONES["aws"][region] if by_zone else (region,)
    kind_of_place = "availability-zone" if by_zone else "region"
    items = [
        f"<instanceType>{kind.name}</instanceType><locationType>{kind_of_place}</locationType><location>{place}</location>"
        for kind in _wanted(query)
        for place in places
    ]
    return _paged("instanceTypeOfferingSet", items, query)


def _placement_scores(market: CloudMarket, query: Query, region: str, now_s: float) -> str:
    """How likely spot capacity of any of the types is to be had, 1 to 10, by zone: 1 where all are sold out.

    Of fewer than three types it is always low.
    """
    kinds = _wanted(query)
    if "TargetCapacity" not in query or not _listed(query, "InstanceType"):
        raise RefusedError(
            "MissingParameter", "The request must contain the parameters TargetCapacity and InstanceType"
        )
    items = []
    for zone in ZONES["aws"][region]:
        free = sum(not market.is_sold_out(kind, zone, now_s) for kind in kinds) / max(1, len(kinds))
        place = f"<region>{region}</region><availabilityZoneId>{_zone_id(zone)}</availabilityZoneId>"
        score = 1 + round(8 * free)
        items.append(f"{place}<score>{score if len(kinds) >= LEAST_TYPES else min(score, LOW_SCORE)}</score>")
    return _paged("spotPlacementScoreSet", items, query)


def _zones(_market: CloudMarket, query: Query, region: str, _now_s: float) -> str:
    """The zones of the region: their names, which differ by account, and their ids, which don't."""
    items = [
        f"<zoneName>{zone}</zoneName><zoneId>{_zone_id(zone)}</zoneId><zoneState>available</zoneState><regionName>{region}</regionName>"
        for zone in ZONES["aws"][region]
    ]
    return _paged("availabilityZoneInfo", items, query)


def _regions(_market: CloudMarket, query: Query, _region: str, _now_s: float) -> str:
    """The regions that there are."""
    items = [
        f"<regionName>{name}</regionName><regionEndpoint>ec2.{name}.amazonaws.com</regionEndpoint>"
        "<optInStatus>opt-in-not-required</optInStatus>"
        for name in ZONES["aws"]
    ]
    return _paged("regionInfo", items, query)


def _zone_id(zone: str) -> str:
    """As Amazon writes it: use1-az1 for us-east-1a."""
    area, direction, number = zone[:-1].split("-")
    return f"{area}{direction[0]}{number}-az{ord(zone[-1]) - ord('a') + 1}"


_ACTIONS: Mapping[str, Callable[[CloudMarket, Query, str, float], str]] = {
    "DescribeSpotPriceHistory": _spot_history,
    "DescribeAvailabilityZones": _zones,
    "DescribeRegions": _regions,
    "DescribeInstanceTypes": _instance_types,
    "DescribeInstanceTypeOfferings": _offerings,
    "GetSpotPlacementScores": _placement_scores,
}


def get_products(body: bytes, now_s: float) -> tuple[int, bytes]:
    """The status and the JSON of list prices: products as text within JSON, a page at a time."""
    try:
        asked = orjson.loads(body or b"{}")
        filters = {each["Field"]: each["Value"] for each in asked.get("Filters", [])}
        start, size = int(asked.get("NextToken") or 0), min(100, int(asked.get("MaxResults") or 100))
    except (AttributeError, KeyError, TypeError, ValueError):
        return 400, orjson.dumps({"__type": "InvalidParameterException", "message": "The request is not valid."})
    if asked.get("ServiceCode") != "AmazonEC2":
        return 400, orjson.dumps({"__type": "NotFoundException", "message": "Invalid ServiceCode."})
    every = [_product(kind, region, now_s) for kind in types_of("aws") for region in ZONES["aws"]]
    products = [one for one in every if all(one["product"]["attributes"].get(k) == v for k, v in filters.items())]
    reply: dict[str, object] = {"FormatVersion": "aws_v1"}
    reply["PriceList"] = [orjson.dumps(one).decode() for one in products[start : start + size]]
    if start + size < len(products):
        reply["NextToken"] = str(start + size)
    return 200, orjson.dumps(reply)


def _product(kind: InstanceType, region: str, now_s: float) -> dict[str, dict[str, dict[str, object]]]:
    attributes: dict[str, object] = {
        "instanceType": kind.name, "regionCode": region, "operatingSystem": "Linux", "tenancy": "Shared",
        "preInstalledSw": "NA", "capacitystatus": "Used", "gpu": str(kind.gpus), "vcpu": str(kind.vcpus),
        "instanceFamily": "GPU instance", "memory": f"{kind.memory_gib} GiB", "servicecode": "AmazonEC2",
    }  # fmt: skip
    sku = f"{kind.name}-{region}".upper().replace(".", "")
    price = {
        "unit": "Hrs",
        "description": f"${kind.on_demand_usd} per On Demand Linux {kind.name} Instance Hour",
        "pricePerUnit": {"USD": f"{kind.on_demand_usd:.10f}"},
    }
    term = {
        "offerTermCode": "JRTCKXETXF",
        "sku": sku,
        "effectiveDate": _stamp(now_s - now_s % (30 * DAY_S)),
        "priceDimensions": {f"{sku}.JRTCKXETXF.6YS6EN2CT7": price},
    }
    return {
        "product": {"attributes": attributes, "meta": {"sku": sku}},
        "terms": {"OnDemand": {f"{sku}.JRTCKXETXF": term}},
    }


def _wanted(query: Query) -> list[InstanceType]:
    """The types that are asked for, by name or by a filter with wildcards."""
    named = _listed(query, "InstanceType")
    patterns = [value for name, values in _filters(query) if name == "instance-type" for value in values]
    known = types_of("aws")
    if strange := set(named) - {kind.name for kind in known}:
        raise RefusedError(
            "InvalidInstanceType", f"The following supplied instance types do not exist: [{sorted(strange)[0][:40]}]"
        )
    return [
        kind
        for kind in known
        if (not named or kind.name in named) and (not patterns or any(fnmatchcase(kind.name, one) for one in patterns))
    ]


def _filters(query: Query) -> Iterator[tuple[str, list[str]]]:
    number = 1
    while (name := query.get(f"Filter.{number}.Name")) is not None:
        yield name, _listed(query, f"Filter.{number}.Value")
        number += 1


def _listed(query: Query, name: str) -> list[str]:
    """The values of `Name.1`, `Name.2` and so on."""
    found: list[str] = []
    while (value := query.get(f"{name}.{len(found) + 1}")) is not None:
        found.append(value)
    return found


def _paged(name: str, items: list[str], query: Query) -> str:
    try:
        start, size = int(query.get("NextToken") or 0), int(query.get("MaxResults") or MOST_ROWS)
    except ValueError:
        raise RefusedError("InvalidParameterValue", "NextToken or MaxResults is not valid.") from None
    if not (start >= 0 and 1 <= size <= MOST_ROWS):
        raise RefusedError("InvalidParameterValue", f"MaxResults must lie between 1 and {MOST_ROWS}.")
    shown = "".join(f"<item>{item}</item>" for item in items[start : start + size])
    token = str(start + size) if start + size < len(items) else ""
    return f"<{name}>{shown}</{name}><nextToken>{token}</nextToken>"


def _instant_s(query: Query, name: str, default_s: float) -> float:
    text = query.get(name)
    try:
        return default_s if text is None else epoch_s(text)
    except ValueError:
        raise RefusedError(
            "InvalidParameterValue", f"Value ({text[:40] if text else ''}) for parameter {name} is invalid."
        ) from None


def _stamp(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
