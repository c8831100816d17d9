"""The clients of two clouds: recorded shapes, signatures, pages that don't go on; and the world's clouds, by the GPU-hour."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from pydantic import SecretStr

from hcp_pipelines.domain.clock import ManualClock
from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.markets import aws, azure
from hcp_pipelines.markets.aws import AwsClient
from hcp_pipelines.markets.aws_signing import AwsAuth
from hcp_pipelines.markets.azure import AzureClient
from hcp_pipelines.markets.cloud import CloudOffer, Machine, Way, cheapest, gpu_model, normalised
from hcp_pipelines.markets.http import MarketHttp
from tests.support.market_world import START, MarketWorld

NOW = datetime(2025, 1, 10, 12, tzinfo=UTC)
EC2 = "https://ec2.us-east-1.amazonaws.com"
NS = 'xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"'


def xml(action, inner):
    return httpx.Response(
        200, text=f'<?xml version="1.0" encoding="UTF-8"?>\n<{action}Response {NS}>{inner}</{action}Response>'
    )


class Amazon:
    """Answers by action (EC2) and with one list price, in the published shapes."""

    def __init__(self, **answers):
        self.asked = []
        self.answers = {
            "DescribeInstanceTypes": xml(
                "DescribeInstanceTypes",
                f"<instanceTypeSet>{self.machine('p5.48xlarge')}<item><instanceType>p9.metal</instanceType></item>"
                "</instanceTypeSet>",
            ),
            "DescribeAvailabilityZones": xml(
                "DescribeAvailabilityZones",
                "<availabilityZoneInfo><item><zoneName>us-east-1a</zoneName><zoneId>use1-az6</zoneId></item></availabilityZoneInfo>",
            ),
            "GetSpotPlacementScores": self.score(2),
            "DescribeSpotPriceHistory": xml(
                "DescribeSpotPriceHistory", self.spot("57.7618", "2025-01-10T07:10:46.000Z")
            ),
        } | answers

    @staticmethod
    def machine(name):
        return (
            f"<item><instanceType>{name}</instanceType><gpuInfo><gpus><item><name>H100</name><manufacturer>NVIDIA</manufacturer>"
            "<count>8</count><memoryInfo><sizeInMiB>81920</sizeInMiB></memoryInfo></item></gpus></gpuInfo></item>"
        )

    @staticmethod
    def score(score):
        place = "<region>us-east-1</region><availabilityZoneId>use1-az6</availabilityZoneId>"
        item = f"<item>{place}<score>{score}</score></item>"
        return xml("GetSpotPlacementScores", f"<spotPlacementScoreSet>{item}</spotPlacementScoreSet>")

    @staticmethod
    def spot(price, at, token="", name="p5.48xlarge"):
        return (
            f"<spotPriceHistorySet><item><instanceType>{name}</instanceType><productDescription>Linux/UNIX</productDescription>"
            f"<spotPrice>{price}</spotPrice><timestamp>{at}</timestamp><availabilityZone>us-east-1a</availabilityZone></item>"
            f"</spotPriceHistorySet><nextToken>{token}</nextToken>"
        )

    async def __call__(self, request):
        if request.method == "POST":
            self.asked.append(json.loads(request.content))
            term = {
                "priceDimensions": {"k": {"unit": "Hrs", "pricePerUnit": {"USD": "98.3200000000"}}},
                "effectiveDate": "2025-01-01T00:00:00Z",
            }
            product = {"product": {"attributes": {}}, "terms": {"OnDemand": {"x": term}}}
            return httpx.Response(200, json={"FormatVersion": "aws_v1", "PriceList": [json.dumps(product)]})
        query = dict(request.url.params)
        self.asked.append(query)
        answer = self.answers[query["Action"]]
        return answer(query) if callable(answer) else answer

    def client(self):
        http = MarketHttp("http://aws.test", transport=httpx.MockTransport(self), retry_wait_s=0.0)
        return AwsClient(http, http, "us-east-1")


async def test_amazon_s_machines_are_divided_by_their_gpus():
    amazon = Amazon()
    spot, listed = sorted(await amazon.client().offers(NOW), key=lambda offer: offer.way, reverse=True)
    told = ("aws", "us-east-1", "us-east-1a", "p5.48xlarge", "H100", 8, Way.SPOT)
    assert spot == CloudOffer(*told, 57.7618 / 8, datetime(2025, 1, 10, 7, 10, 46, tzinfo=UTC), None)
    actions = [each.get("Action") for each in amazon.asked]
    assert "GetSpotPlacementScores" not in actions, "the score of one type is always low"
    assert (listed.way, listed.usd_per_gpu_hour, listed.zone) == (Way.ON_DEMAND, 12.29, "")
    asked = next(each for each in amazon.asked if each.get("Action") == "DescribeSpotPriceHistory")
    assert (asked["ProductDescription.1"], asked["InstanceType.1"], asked["Version"]) == (
        "Linux/UNIX",
        "p5.48xlarge",
        "2016-11-15",
    )


@pytest.mark.parametrize(("score", "is_available"), [(1, False), (2, False), (3, None), (10, None)])
async def test_amazon_s_score_is_asked_of_all_types_at_once_and_tells_only_where_none_is_to_be_had(score, is_available):
    names = ("p5.48xlarge", "p5e.48xlarge", "p5en.48xlarge")
    types = xml("x", f"<instanceTypeSet>{''.join(map(Amazon.machine, names))}</instanceTypeSet>")
    amazon = Amazon(DescribeInstanceTypes=types, GetSpotPlacementScores=Amazon.score(score))
    found = await amazon.client().offers(NOW)
    assert [offer.is_available for offer in found if offer.way is Way.SPOT] == [is_available]
    (asked,) = (each for each in amazon.asked if each.get("Action") == "GetSpotPlacementScores")
    assert {asked[f"InstanceType.{n}"] for n in (1, 2, 3)} == set(names)
    assert asked["TargetCapacity"] == "1"


@pytest.mark.parametrize(
    ("action", "answer", "said"),
    [
        ("DescribeSpotPriceHistory", lambda _: xml("x", Amazon.spot("1.0", "2025-01-10T07:10:46Z", "again")), "must go on"),
        ("DescribeSpotPriceHistory", xml("x", Amazon.spot("0", "2025-01-10T07:10:46.000Z")), "no price of a machine"),
        ("DescribeSpotPriceHistory", xml("x", Amazon.spot("1.0", "soon")), "not an ISO date"),
        ("DescribeSpotPriceHistory", xml("x", Amazon.spot("1.0", "2025-01-10T07:10:46.000Z", name="t3.nano")), "not asked for"),
        ("DescribeSpotPriceHistory", xml("x", "<other/>"), "no spotPriceHistorySet"),
        ("DescribeInstanceTypes", httpx.Response(200, text="<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"), "document type"),
        ("DescribeInstanceTypes", httpx.Response(200, text="<a><b></a>"), "not XML"),
        ("DescribeInstanceTypes", httpx.Response(403, text="<Response><Errors/></Response>"), "status 403"),
    ],
)  # fmt: skip
async def test_what_amazon_can_t_have_meant_is_an_error(action, answer, said):
    with pytest.raises(MarketError, match=said):
        await Amazon(**{action: answer}).client().offers(NOW)


@pytest.mark.parametrize(
    ("method", "url", "body", "headers"),
    [
        ("GET", f"{EC2}/?Action=DescribeInstanceTypes&Filter.1.Value.1=p5%2A&Version=2016-11-15", b"", {}),
        ("GET", f"{EC2}/?StartTime=2025-01-10T12%3A00%3A00Z&ProductDescription.1=Linux%2FUNIX", b"", {}),
        ("POST", "https://api.pricing.us-east-1.amazonaws.com/", b'{"ServiceCode":"AmazonEC2"}',
         {"content-type": "application/x-amz-json-1.1", "x-amz-target": "AWSPriceListService.GetProducts"}),
    ],
)  # fmt: skip
def test_our_signature_is_that_of_amazon_s_own_library(method, url, body, headers):
    clock = ManualClock(datetime.now(UTC))
    request = httpx.Request(method, url, content=body, headers=headers)
    signed = next(AwsAuth("AKID", SecretStr("hush"), "us-east-1", "ec2", clock).auth_flow(request))
    theirs = AWSRequest(method, url, data=body, headers=headers)
    auth = SigV4Auth(Credentials("AKID", "hush"), "ec2", "us-east-1")
    theirs.context["timestamp"] = signed.headers["x-amz-date"]
    theirs.headers["X-Amz-Date"] = signed.headers["x-amz-date"]
    names = signed.headers["authorization"].split("SignedHeaders=")[1].split(",")[0]
    canonical = auth.canonical_request(theirs)
    assert names == canonical.splitlines()[-2]
    assert signed.headers["authorization"].endswith(auth.signature(auth.string_to_sign(theirs, canonical), theirs))
    assert "hush" not in str(signed.headers)


def test_the_signature_of_the_published_example():
    clock = ManualClock(datetime(2015, 8, 30, 12, 36, tzinfo=UTC))
    secret = SecretStr("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    auth = AwsAuth("AKIDEXAMPLE", secret, "us-east-1", "service", clock)
    signed = next(auth.auth_flow(httpx.Request("GET", "https://example.amazonaws.com/")))
    assert signed.headers["authorization"].endswith(
        "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    )


def meter(sku="ND96isr H100 v5", usd=88.488, product="Virtual Machines NDSH100v5 Series", **changes):
    return {
        "currencyCode": "USD", "retailPrice": usd, "unitPrice": usd, "armRegionName": "eastus", "productName": product,
        "effectiveStartDate": "2025-01-01T00:00:00Z", "skuName": sku, "serviceName": "Virtual Machines",
        "unitOfMeasure": "1 Hour", "type": "Consumption", "armSkuName": "Standard_ND96isr_H100_v5",
    } | changes  # fmt: skip


def size(name="Standard_ND96isr_H100_v5", gpus="8", restrictions=(), family="standardNDSH100v5Family"):
    capabilities = [{"name": "vCPUs", "value": "96"}, {"name": "GPUs", "value": gpus}]
    return {
        "resourceType": "virtualMachines",
        "name": name,
        "family": family,
        "capabilities": capabilities,
        "restrictions": list(restrictions),
    }


class Azure:
    """Answers with pages of meters, linked, and with sizes."""

    def __init__(self, pages, sizes, link="https://prices.azure.com:443/api/retail/prices?$filter=x&$skip={}"):
        self.pages, self.sizes, self.link, self.asked = pages, sizes, link, []

    async def __call__(self, request):
        query = dict(request.url.params)
        self.asked.append((request.url.path, query))
        if request.url.path.startswith("/subscriptions/s-1/"):
            return httpx.Response(200, json={"value": self.sizes})
        number = int(query.get("$skip", 0))
        link = self.link.format(number + 1) if number + 1 < len(self.pages) else None
        return httpx.Response(
            200, json={"Items": self.pages[number], "NextPageLink": link, "Count": len(self.pages[number])}
        )

    def client(self):
        http = MarketHttp("http://azure.test", transport=httpx.MockTransport(self), retry_wait_s=0.0)
        return AzureClient(http, http, "s-1")


async def test_azure_s_pages_are_followed_and_windows_low_priority_and_reservations_left_out():
    others = [
        meter("ND96isr H100 v5 Low Priority", 17.0), meter(product="Virtual Machines NDSH100v5 Series Windows"),
        meter(type="Reservation"), meter(unitOfMeasure="1 Month"), meter(armSkuName="Standard_D4s_v5"),
    ]  # fmt: skip
    service = Azure(
        [[meter(), *others], [meter("ND96isr H100 v5 Spot", 16.3526)]],
        [size(), size("Standard_D4s_v5", "0", family="D")],
    )
    found = await service.client().offers("eastus")
    assert [(o.way, o.usd_per_gpu_hour, o.gpu_type, o.gpus, o.is_available) for o in found] == [
        (Way.ON_DEMAND, 11.061, "H100", 8, True), (Way.SPOT, pytest.approx(2.044075), "H100", 8, True),
    ]  # fmt: skip
    assert [query.get("$skip") for path, query in service.asked if path == azure.PRICES] == [None, "1"]


@pytest.mark.parametrize(
    "link", ["https://evil.test/x", "https://prices.azure.com/api/retail/prices?$skip=0", "no link"]
)
async def test_a_link_that_does_not_go_on_is_an_error_and_followed_nowhere_else(link):
    service = Azure([[meter()], [meter()]], [size()], link=link)
    with pytest.raises(MarketError, match="pages must go on"):
        await service.client().offers("eastus")
    assert len(service.asked) == 2


async def test_where_azure_restricts_a_location_there_is_none_to_be_had():
    gone = size(restrictions=[{"type": "Location", "values": ["eastus"], "reasonCode": "NotAvailableForSubscription"}])
    some = size(restrictions=[{"type": "Zone", "values": ["eastus"], "reasonCode": "NotAvailableForSubscription"}])
    assert [o.is_available for o in await Azure([[meter()]], [gone]).client().offers("eastus")] == [False]
    assert [o.is_available for o in await Azure([[meter()]], [some]).client().offers("eastus")] == [True]


@pytest.mark.parametrize(
    ("body", "said"), [([{"armSkuName": "x"}], "skuName"), ([meter(retailPrice=0)], "no price"), ("x", "Items")]
)
async def test_what_azure_can_t_have_meant_is_an_error(body, said):
    with pytest.raises(MarketError, match=said):
        await Azure([body], [size()]).client().offers("eastus")


def world_clients(market):
    http = MarketHttp("http://world", transport=market.transport)
    return AwsClient(http, http, "us-east-1"), AzureClient(http, http, "s-1")


async def test_the_world_s_clouds_are_read_by_both_and_normalised_to_a_gpu_hour():
    market = MarketWorld(START + timedelta(days=40))
    amazon, microsoft = world_clients(market)
    offers = [*(await amazon.offers(market.clock.now())), *(await microsoft.offers("eastus"))]
    prices = {(o.provider, o.machine, o.way): o.usd_per_gpu_hour for o in offers if o.way is Way.ON_DEMAND}
    assert prices["aws", "p5.48xlarge", Way.ON_DEMAND] == 12.29
    assert prices["azure", "Standard_ND96isr_H100_v5", Way.ON_DEMAND] == 11.061
    assert prices["azure", "Standard_NC40ads_H100_v5", Way.ON_DEMAND] == 6.98
    assert {o.gpu_type for o in offers} == {"A100", "H100", "H200", "L4"}
    stock = {
        provider: {o.is_available for o in offers if (o.provider, o.way) == (provider, Way.SPOT)}
        for provider in ("aws", "azure")
    }
    assert stock == {"aws": {None}, "azure": {True}}
    best = cheapest(offers)
    assert best["H100", Way.SPOT].usd_per_gpu_hour < best["H100", Way.ON_DEMAND].usd_per_gpu_hour == 6.98


async def test_where_all_the_world_s_machines_are_sold_out_amazon_says_so():
    market = MarketWorld(
        START + timedelta(days=40),
        plan={
            "repeat_h": 24,
            "gpus": [{"from_h": 0, "until_h": 24, "rise_h": 0.1, "sold_out_fraction": 1.0, "rate_factor": 2.0}],
        },
    )
    market.clock.advance(3600)
    amazon, _ = world_clients(market)
    spot = [offer for offer in await amazon.offers(market.clock.now()) if offer.way is Way.SPOT]
    assert {offer.is_available for offer in spot} == {False}
    assert cheapest(spot) == {}


async def test_the_history_of_spot_prices_is_told_once_whatever_its_window():
    market = MarketWorld(START + timedelta(days=40))
    amazon, _ = world_clients(market)
    days = [START + timedelta(days=n) for n in range(20, 24)]
    whole = await amazon.spot_history(days[0], days[-1])
    parts = [row for first, last in pairwise(days) for row in await amazon.spot_history(first, last)]
    assert parts == whole
    assert len({(row.machine, row.zone, row.since) for row in whole}) == len(whole) > 100


def test_a_price_of_a_machine_and_the_model_in_a_name():
    assert normalised("x", 32.77, 8) == pytest.approx(4.09625)
    assert [gpu_model(name) for name in ("standardNDASv4_A100Family", "StandardNCadsH100v5Family", "NVIDIA L40S", "D4s")] == [
        "A100", "H100", "L40S", "",
    ]  # fmt: skip
    for usd, gpus in ((float("nan"), 8), (-1.0, 8), (1.0, 0), (1.0, 1000)):
        with pytest.raises(MarketError):
            normalised("x", usd, gpus)
    assert Machine("m", "H100", 8).gpus == 8
    assert aws.LIMIT.requests == 20
