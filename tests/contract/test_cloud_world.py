"""The clouds of the world: EC2 and the price list by boto3, which we did not write, over a socket; Azure in its own shapes."""

import contextlib
import threading
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import boto3
import botocore.exceptions
import pytest
import uvicorn
from botocore.config import Config

from simulators.clock import ManualClock
from simulators.http import Services
from tests.contract.test_world_http import START_S, Client, Well, world

NOW_S = START_S + 40 * 86_400
NOW = datetime.fromtimestamp(NOW_S, UTC)
PRICES, SKUS = "/api/retail/prices", "/subscriptions/s-1/providers/Microsoft.Compute/skus"


@pytest.fixture(scope="module")
def url():
    """Where a generated world answers."""
    app = Services(world(), ManualClock(NOW_S), Well()).app()
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(30)


@contextlib.contextmanager
def amazon(url, service, region="us-east-1"):
    client = boto3.client(
        service, region_name=region, endpoint_url=url, aws_access_key_id="AKID", aws_secret_access_key="hush",
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )  # fmt: skip
    try:
        yield client
    finally:
        client.close()


def test_boto3_reads_the_spot_price_history_page_by_page(url):
    with amazon(url, "ec2") as ec2:
        asked = {
            "InstanceTypes": ["p5.48xlarge"],
            "ProductDescriptions": ["Linux/UNIX"],
            "StartTime": NOW - timedelta(days=7),
        }
        whole = ec2.describe_spot_price_history(**asked)["SpotPriceHistory"]
        pages = ec2.get_paginator("describe_spot_price_history").paginate(**asked, PaginationConfig={"PageSize": 10})
        assert [row for page in pages for row in page["SpotPriceHistory"]] == whole
    assert 30 < len(whole) < 120
    assert [row["Timestamp"] for row in whole] == sorted((row["Timestamp"] for row in whole), reverse=True)
    assert {row["AvailabilityZone"] for row in whole} == {"us-east-1a", "us-east-1b", "us-east-1c"}
    assert all(30 < float(row["SpotPrice"]) <= 98.32 for row in whole)
    before = [row for row in whole if row["Timestamp"] < NOW - timedelta(days=7)]
    assert len(before) == 3, "the price that held at the beginning, of each zone"


def test_boto3_reads_types_offerings_scores_and_list_prices(url):
    with amazon(url, "ec2", "us-west-2") as ec2:
        types = ec2.describe_instance_types(Filters=[{"Name": "instance-type", "Values": ["p5*"]}])["InstanceTypes"]
        assert {t["InstanceType"]: t["GpuInfo"]["Gpus"][0]["Name"] for t in types} == {
            "p5.48xlarge": "H100",
            "p5en.48xlarge": "H200",
        }
        assert {t["GpuInfo"]["Gpus"][0]["Count"] for t in types} == {8}
        offered = ec2.describe_instance_type_offerings(LocationType="availability-zone")["InstanceTypeOfferings"]
        assert {each["Location"] for each in offered} == {"us-west-2a", "us-west-2b"}
        assert [region["RegionName"] for region in ec2.describe_regions()["Regions"]] == ["us-east-1", "us-west-2"]
        names = ["p4d.24xlarge", "p5.48xlarge", "g6.xlarge"]
        for asked, low, high in ((names, 3, 9), (names[:2], 1, 2), (names[:1], 1, 2)):
            scores = ec2.get_spot_placement_scores(InstanceTypes=asked, TargetCapacity=1, SingleAvailabilityZone=True)
            assert all(low <= each["Score"] <= high for each in scores["SpotPlacementScores"])
    with amazon(url, "pricing") as pricing:
        filters = [{"Type": "TERM_MATCH", "Field": "regionCode", "Value": "us-east-1"}]
        pages = pricing.get_paginator("get_products").paginate(
            ServiceCode="AmazonEC2", Filters=filters, PaginationConfig={"PageSize": 2}
        )
        products = [product for page in pages for product in page["PriceList"]]
        assert len(products) == 6
        assert '"USD":"98.3200000000"' in next(p for p in products if "p5.48xlarge" in p)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda ec2: ec2.describe_spot_price_history(InstanceTypes=["p9.huge"]), "InvalidInstanceType"),
        (lambda ec2: ec2.describe_vpcs(), "InvalidAction"),
        (lambda ec2: ec2.describe_spot_price_history(NextToken="x"), "InvalidParameterValue"),
        (lambda ec2: ec2.get_spot_placement_scores(TargetCapacity=1), "MissingParameter"),
    ],
)
def test_boto3_is_told_what_is_wrong(url, call, code):
    with amazon(url, "ec2") as ec2, pytest.raises(botocore.exceptions.ClientError) as caught:
        call(ec2)
    assert caught.value.response["Error"]["Code"] == code
    with (
        amazon(url, "ec2", "eu-west-1") as elsewhere,
        pytest.raises(botocore.exceptions.ClientError, match="no region"),
    ):
        elsewhere.describe_instance_types()


async def test_azure_s_prices_are_linked_page_by_page_and_filtered():
    client = Client(NOW_S)
    found, query = [], {"$filter": "serviceName eq 'Virtual Machines' and armRegionName eq 'eastus'"}
    while True:
        page = await client.get(PRICES, **query)
        assert page["Count"] == len(page["Items"]) <= 10
        found += page["Items"]
        if page["NextPageLink"] is None:
            break
        query = {name: values[0] for name, values in parse_qs(urlsplit(page["NextPageLink"]).query).items()}
    assert len(found) == len({item["meterId"] for item in found}) == 5 * 4
    spot = [
        item for item in found if item["skuName"].endswith("Spot") and item["armSkuName"] == "Standard_ND96isr_H100_v5"
    ]
    assert [8 < item["retailPrice"] < 40 for item in spot] == [True]
    h100 = await client.get(PRICES, **{"$filter": "contains(armSkuName, 'H100') and armRegionName eq 'southcentralus'"})
    assert {item["armSkuName"] for item in h100["Items"]} == {"Standard_ND96isr_H100_v5", "Standard_NC40ads_H100_v5"}
    either = "(armSkuName eq 'Standard_ND96isr_H100_v5' or startswith(armSkuName, 'Standard_NC40'))"
    wanted = f"{either} and priceType eq 'Consumption' and armRegionName ne 'eastus' and not contains(productName, 'Windows')"
    named = (await client.get(PRICES, **{"$filter": wanted, "$top": "3"}))["Items"]
    assert {item["armRegionName"] for item in named} == {"southcentralus"}
    assert len(named) == 3
    for wrong in ("1 eq 1 or 2 eq 2", "(" * 50, "armSkuName eq 'x", "armSkuName eq 'x' or", "not", "a eq 'x' " * 300):
        await client.get(PRICES, expected=400, **{"$filter": wrong})
    await client.get(PRICES, expected=400, currencyCode="'EUR'")
    await client.get(PRICES, expected=400, **{"$skip": "9" * 5000})


async def test_azure_s_sizes_say_their_gpus_and_where_there_are_none():
    client = Client(NOW_S)
    sizes = (await client.get(SKUS, **{"api-version": "2021-07-01", "$filter": "location eq 'eastus'"}))["value"]
    gpus = {size["name"]: {each["name"]: each["value"] for each in size["capabilities"]}["GPUs"] for size in sizes}
    assert gpus["Standard_ND96isr_H100_v5"] == "8"
    gone = [size["restrictions"] for size in sizes]
    assert any(gone)
    assert not all(gone)
    await client.get(SKUS, expected=400)


async def test_a_shortage_makes_spot_dear_and_sells_out():
    calm, short = Client(START_S + 12 * 3600), Client(START_S + 12 * 3600, scenario="gpu-shortage")
    asked = {"$filter": "contains(skuName, 'Spot') and armSkuName eq 'Standard_NC40ads_H100_v5'"}
    prices = [(await client.get(PRICES, **asked))["Items"][0]["retailPrice"] for client in (calm, short)]
    assert prices[1] > 1.7 * prices[0]
    gone = [
        sum(bool(size["restrictions"]) for size in (await client.get(SKUS, **{"api-version": "2021-07-01"}))["value"])
        for client in (calm, short)
    ]
    assert gone[1] > gone[0]
