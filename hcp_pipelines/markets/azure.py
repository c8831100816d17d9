"""Azure: on-demand and spot prices of machines with GPUs, and which of them can be had, as rows of `cloud`.

The price list is public; the list of sizes, which says how many GPUs a size has and where it is sold out, wants a subscription
and a token (`tokens`, client credentials). Sources: Azure Retail Prices API 2023-01-01-preview; Resource SKUs - List, 2021-07-01.
"""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.markets.cloud import CloudOffer, Machine, Way, gpu_model, normalised
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.pace import Limit

REAL_BASE_URL = "https://prices.azure.com"
REAL_MANAGEMENT_URL = "https://management.azure.com"
LIMIT = Limit(60, 60.0)  # not published: ours
PRICES = "/api/retail/prices"
PRICES_VERSION = "2023-01-01-preview"
SKUS_VERSION = "2021-07-01"
MAX_PAGES = 200
PROVIDER = "azure"


class _Item(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    machine: str = Field(alias="armSkuName")
    sku: str = Field(alias="skuName")
    product: str = Field(alias="productName")
    region: str = Field(alias="armRegionName")
    usd: float = Field(alias="retailPrice")
    unit: str = Field(alias="unitOfMeasure")
    kind: str = Field(alias="type")
    since: datetime = Field(alias="effectiveStartDate")


class _Page(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    items: list[_Item] = Field(alias="Items")
    link: str | None = Field(default=None, alias="NextPageLink")


class _Named(BaseModel):
    name: str
    value: str


class _Restriction(BaseModel):
    kind: str = Field(alias="type")


class _Sku(BaseModel):
    name: str
    family: str = ""
    resource_type: str = Field(alias="resourceType")
    capabilities: list[_Named] = Field(default_factory=list)
    restrictions: list[_Restriction] = Field(default_factory=list)


_SKUS = TypeAdapter(list[_Sku])


class AzureClient:
    """What GPUs cost at Azure, and whether there are any."""

    def __init__(self, prices: MarketHttp, management: MarketHttp, subscription: str) -> None:
        self._prices = prices
        self._management = management
        self._subscription = subscription

    async def offers(self, region: str) -> list[CloudOffer]:
        """On-demand and spot prices of a region's machines with GPUs, USD per GPU and hour; Linux alone.

        Raises:
            MarketError: no reply, or one of another shape.
        """
        machines = {machine.name: (machine, is_free) for machine, is_free in await self._machines(region)}
        found: list[CloudOffer] = []
        for item in await self._items(region):
            if item.machine in machines and (way := _way_of(item)) is not None:
                machine, is_free = machines[item.machine]
                usd = normalised(f"{PRICES} {item.machine}", item.usd, machine.gpus)
                told = (PROVIDER, item.region, "", machine.name, machine.gpu_type, machine.gpus, way)
                found.append(CloudOffer(*told, usd, item.since.astimezone(UTC), is_free))
        return sorted(found)

    async def _items(self, region: str) -> list[_Item]:
        """Every meter of every page. A link is followed by its place alone, and never backwards."""
        query: dict[str, str | int] = {
            "api-version": PRICES_VERSION,
            "$filter": f"serviceName eq 'Virtual Machines' and armRegionName eq '{region}'",
        }
        found: list[_Item] = []
        for _ in range(MAX_PAGES):
            page = _read(PRICES, _Page, (await self._prices.get_json(PRICES, query)).body)
            found += page.items
            if not page.link:
                return found
            query = {**query, "$skip": _next(page.link, after=int(query.get("$skip", 0)))}
        raise MarketError(f"{PRICES}: more than {MAX_PAGES} pages: ask for one region.")

    async def _machines(self, region: str) -> list[tuple[Machine, bool]]:
        """Sizes with GPUs that we know, and whether they can be had."""
        path = f"/subscriptions/{self._subscription}/providers/Microsoft.Compute/skus"
        body = (
            await self._management.get_json(path, {"api-version": SKUS_VERSION, "$filter": f"location eq '{region}'"})
        ).body
        if not isinstance(body, dict) or body.get("nextLink"):
            raise MarketError(f"{path}: not the sizes of one region on one page: {body!r:.200}.")
        found = []
        try:
            skus = _SKUS.validate_python(body.get("value"))
        except ValidationError as error:
            first = error.errors()[0]
            raise MarketError(f"{path}: {first['loc']}: {first['msg']}.") from error
        for sku in skus:
            gpus = next((each.value for each in sku.capabilities if each.name == "GPUs"), "0")
            model = gpu_model(sku.family) or gpu_model(sku.name)
            if sku.resource_type == "virtualMachines" and model and gpus.isdecimal() and int(gpus) > 0:
                is_gone = any(each.kind == "Location" for each in sku.restrictions)
                found.append((Machine(sku.name, model, int(gpus)), not is_gone))
        return found


def _way_of(item: _Item) -> Way | None:
    """How what a meter counts is rented; None: it is Windows, low priority, reserved, or not by the hour."""
    if item.kind != "Consumption" or item.unit != "1 Hour" or "Windows" in item.product or "Low Priority" in item.sku:
        return None
    return Way.SPOT if item.sku.endswith(" Spot") else Way.ON_DEMAND


def _next(link: str, *, after: int) -> int:
    """The place that a link goes on at.

    Raises:
        MarketError: it is none, or not further on.
    """
    skip = parse_qs(urlsplit(link).query).get("$skip", [""])[0]
    if not skip.isdecimal() or int(skip) <= after:
        raise MarketError(f"{PRICES}: the next page after {after} is {link[:200]!r}: pages must go on.")
    return int(skip)


def _read(path: str, model: type[_Page], body: Any) -> _Page:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        raise MarketError(f"{path}: {first['loc']}: {first['msg']}.") from error
