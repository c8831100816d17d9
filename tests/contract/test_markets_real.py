"""The clients of the real services, by the file of accounts: the same as the world's, with nothing but other addresses."""

from datetime import timedelta

import httpx
import pytest

from hcp_pipelines.domain.ticks import BITCOIN, Stream
from hcp_pipelines.feed.bitcoin import Bitcoin
from hcp_pipelines.feed.quality import Memory, Rules
from hcp_pipelines.feed.recorder import Recorder
from hcp_pipelines.feed.service import all_sources, open_clients
from hcp_pipelines.markets.aws import AwsClient
from hcp_pipelines.markets.azure import AzureClient
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.real import load_services
from tests.support.market_world import START, MarketWorld

HOST = "http://127.0.0.1"  # which the transport takes for the world
LOGIN = {"username": "ann", "password": "hush-hush", "subscription_key": "key-123", "token_life_s": 3600}
VENUES = ("coinbase", "kraken", "bitstamp", "binance", "gemini", "mempool", "open_meteo")
ACCOUNTS = {
    "ercot": f"{{username: ann, password_file: password, subscription_key_file: key, base_url: '{HOST}', login_url: '{HOST}'}}",
    "primeintellect": f"{{api_key_file: key, base_url: '{HOST}'}}",
    "aws": f"{{key_id: AKID, secret_key_file: key, base_url: '{HOST}', pricing_url: '{HOST}'}}",
}


def accounts(tmp_path, *names):
    (tmp_path / "password").write_text("hush-hush")
    (tmp_path / "key").write_text("key-123")
    public = ", ".join(f"{name}: '{HOST}'" for name in VENUES)
    lines = ["version: 1", f"public: {{{public}}}", *(f"{name}: {ACCOUNTS[name]}" for name in names)]
    (tmp_path / "markets.yaml").write_text("\n".join(lines))
    return load_services(tmp_path / "markets.yaml")


@pytest.fixture
def market():
    return MarketWorld(START + timedelta(hours=1), markets={"ercot_login": LOGIN})


def nowhere():
    raise AssertionError("the real services are not where the world is")


async def test_the_feed_s_clients_log_in_and_are_answered_wherever_the_file_says(market, tmp_path):
    real = accounts(tmp_path, "ercot", "primeintellect")
    carried = {}

    async def passed_on(request):
        carried[request.url.path] = request.headers.get("authorization")
        return await market.transport.handle_async_request(request)

    async with open_clients(nowhere, market.clock, httpx.MockTransport(passed_on), real) as clients:
        lmps = await clients.ercot.rt_lmp(["HB_NORTH"], START, START + timedelta(minutes=30))
        day_ahead = await clients.day_ahead.da_spp(["HB_NORTH"], START, START + timedelta(hours=3))
        rates = await clients.gpu.spot(market.clock.now())
        bitcoin = await Bitcoin(clients.bitcoin, market.clock, 10.0).ticks()
        network = await clients.mempool.network()
    assert (len(lmps), len(day_ahead)) == (6, 3)
    assert carried["/api/v1/availability/gpus"] == "Bearer key-123"
    assert carried["/0/public/Trades"] is None
    assert {tick.stream for tick in rates} == {Stream.GPU_SPOT}
    assert {tick.series for tick in bitcoin} == {"coinbase", "kraken", "bitstamp", "binance", "gemini", BITCOIN}
    assert {tick.stream for tick in network} == {Stream.BTC_NETWORK}


async def test_what_has_no_account_is_not_asked_and_the_rest_is(market, tmp_path):
    async with open_clients(nowhere, market.clock, market.transport, accounts(tmp_path)) as clients:
        recorder = Recorder(None, market.clock, Memory(), Rules(), {})
        sources = all_sources(clients, recorder, market.clock, lambda: ["HB_NORTH"])
        assert [source.name for source in sources] == ["bitcoin", "mempool"]
        for source in sources:
            assert await source.step() > 0
    counts = market.counts()
    assert (counts["ercot"]["requests"], counts["primeintellect"]["requests"]) == (0, 0)
    assert counts["kraken"]["requests"] == 1


async def test_clouds_are_asked_with_the_accounts_of_the_file(market, tmp_path):
    real = accounts(tmp_path, "aws")
    ec2, prices = (
        MarketHttp(access.base_url, auth=access.auth, transport=market.transport)
        for access in real.amazon("us-east-1", market.clock)
    )
    assert len(await AwsClient(ec2, prices, "us-east-1").offers(market.clock.now())) == 6 * (1 + 3)


async def test_azure_s_token_is_asked_of_its_tenant_and_carried_to_the_management_api_alone(market, tmp_path):
    (tmp_path / "secret").write_text("hush")
    (tmp_path / "markets.yaml").write_text(
        "version: 1\nazure: {subscription: s-1, tenant: acme, client_id: us, client_secret_file: secret,"
        f" base_url: '{HOST}', management_url: '{HOST}', login_url: '{HOST}'}}"
    )
    listed, managed, subscription = load_services(tmp_path / "markets.yaml").microsoft(market.clock)
    asked = []

    async def answer(request):
        asked.append((request.method, request.url.path, request.headers.get("authorization")))
        if request.method == "POST":
            assert b"client_secret=hush" in request.content
            return httpx.Response(200, json={"access_token": "t-1", "expires_in": 3599})
        return await market.transport.handle_async_request(request)

    transport = httpx.MockTransport(answer)
    clients = [MarketHttp(each.base_url, auth=each.auth, transport=transport) for each in (listed, managed)]
    assert len(await AzureClient(*clients, subscription).offers("eastus")) == 5 * 2
    carried = {(path.split("/")[1], token) for _, path, token in asked}
    assert carried == {("acme", None), ("subscriptions", "Bearer t-1"), ("api", None)}
