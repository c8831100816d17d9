"""Azure's retail price list with its OData filters and page links, and the list of machine sizes of a subscription.

Sources: Azure Retail Prices API 2023-01-01-preview; Azure Compute, Resource SKUs - List, 2021-07-01.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

from simulators.cloud.market import ZONES, CloudMarket, InstanceType, types_of
from simulators.cloud.odata import FilterError, compiled
from simulators.streams import DAY_S

PAGE: Final = 10  # of the real one a hundred: small, so that there are pages
_LOCATIONS = {"eastus": "US East", "southcentralus": "US South Central"}

Answer = tuple[int, dict[str, object]]


def retail_prices(market: CloudMarket, query: Mapping[str, str], base_url: str, now_s: float) -> Answer:
    """A page of meters that a filter lets through; the last one's link is null."""
    skip, top = query.get("$skip", "0"), query.get("$top", str(PAGE))
    try:
        test = compiled(query.get("$filter", ""))
    except FilterError:
        return _bad("The $filter is not valid.")
    if not (skip.isdecimal() and len(skip) <= 9 and top.isdecimal() and 1 <= len(top) <= 4 and int(top)):
        return _bad("$skip or $top is not valid.")
    if query.get("currencyCode", "USD").strip("'").upper() != "USD":
        return _bad("There are prices in USD alone.")
    meters = [
        meter
        for kind in types_of("azure")
        for region in ZONES["azure"]
        for meter in _meters(market, kind, region, now_s)
    ]
    chosen = [meter for meter in meters if test(meter | {"priceType": meter["type"]})]  # filters call it so
    start, size = int(skip), min(int(top), PAGE)
    link = None
    if start + size < len(chosen) and "$top" not in query:
        link = f"{base_url}/api/retail/prices?{urlencode({**query, '$skip': str(start + size)})}"
    page = chosen[start : start + size]
    return 200, {
        "BillingCurrency": "USD", "CustomerEntityId": "Default", "CustomerEntityType": "Retail", "Items": page,
        "NextPageLink": link, "Count": len(page),
    }  # fmt: skip


def _bad(message: str) -> Answer:
    return 400, {"Error": {"Code": "BadRequest", "Message": message}}


def _meters(market: CloudMarket, kind: InstanceType, region: str, now_s: float) -> list[dict[str, object]]:
    """What one size costs in a region: on demand and spot, and with Windows, which is not ours."""
    sku = kind.name.removeprefix("Standard_").replace("_", " ")
    series = kind.family.removesuffix("Family").removeprefix("standard").removeprefix("Standard")
    spot = market.spot(kind, region, now_s)
    month_s = now_s - now_s % (30 * DAY_S)
    rows = (
        (sku, f"Virtual Machines {series} Series", kind.on_demand_usd, month_s),
        (f"{sku} Spot", f"Virtual Machines {series} Series", spot.usd, float(spot.at_s)),
        (f"{sku} Low Priority", f"Virtual Machines {series} Series", round(kind.on_demand_usd * 0.2, 4), month_s),
        (sku, f"Virtual Machines {series} Series Windows", round(kind.on_demand_usd * 1.05, 4), month_s),
    )
    return [
        {
            "currencyCode": "USD", "tierMinimumUnits": 0.0, "retailPrice": usd, "unitPrice": usd, "armRegionName": region,
            "location": _LOCATIONS[region], "effectiveStartDate": _stamp(since_s), "meterId": f"{kind.name}-{region}-{number}",
            "meterName": name, "productId": f"DZH{kind.family[-8:]}", "skuId": f"DZH{kind.family[-8:]}/{number:04d}",
            "productName": product, "skuName": name, "serviceName": "Virtual Machines", "serviceId": "DZH313Z7MMC8",
            "serviceFamily": "Compute", "unitOfMeasure": "1 Hour", "type": "Consumption", "isPrimaryMeterRegion": True,
            "armSkuName": kind.name,
        }
        for number, (name, product, usd, since_s) in enumerate(rows)
    ]  # fmt: skip


def skus(market: CloudMarket, query: Mapping[str, str], now_s: float) -> Answer:
    """The sizes of a location (all without a filter), with their GPUs and what can't be had of them."""
    found = re.fullmatch(r"location eq '(\w+)'", query.get("$filter", ""))
    if "api-version" not in query or ("$filter" in query and found is None):
        message = "The api-version query parameter is required, and the filter can only be location eq 'name'."
        return 400, {"error": {"code": "InvalidParameter", "message": message}}
    regions = [region for region in ZONES["azure"] if found is None or region == found[1].lower()]
    value = [_sku(market, kind, region, now_s) for kind in types_of("azure") for region in regions]
    return 200, {"value": value}


def _sku(market: CloudMarket, kind: InstanceType, region: str, now_s: float) -> dict[str, object]:
    zones = ZONES["azure"][region]
    gone = [zone for zone in zones if market.is_sold_out(kind, f"{region}-{zone}", now_s)]
    restrictions: list[dict[str, object]] = []
    if gone:
        where = {"locations": [region], "zones": gone}
        is_whole = len(gone) == len(zones)
        told: dict[str, object] = {"type": "Location" if is_whole else "Zone", "values": [region]}
        restrictions.append(told | {"restrictionInfo": where, "reasonCode": "NotAvailableForSubscription"})
    capabilities = {"vCPUs": kind.vcpus, "MemoryGB": kind.memory_gib, "GPUs": kind.gpus, "LowPriorityCapable": True}
    return {
        "resourceType": "virtualMachines", "name": kind.name, "tier": "Standard",
        "size": kind.name.removeprefix("Standard_"), "family": kind.family, "locations": [region],
        "locationInfo": [{"location": region, "zones": list(zones), "zoneDetails": []}],
        "capabilities": [{"name": name, "value": str(value)} for name, value in capabilities.items()],
        "restrictions": restrictions,
    }  # fmt: skip


def _stamp(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
