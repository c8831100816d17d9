"""Our log-in at the world's ERCOT: a token before the first question, another before it ends; failures without secrets."""

from datetime import timedelta

import pytest
from pydantic import SecretStr

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.markets.ercot import ErcotClient
from hcp_pipelines.markets.ercot_login import ercot_auth
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.pace import Pace
from tests.support.market_world import START, MarketWorld

LOGIN = {"username": "ann", "password": "hush-hush", "subscription_key": "key-123", "token_life_s": 3600}


def asked(market, **changes):
    told = {"username": "ann", "password": "hush-hush", "subscription_key": "key-123"} | changes
    secrets = {name: SecretStr(told[name]) for name in ("password", "subscription_key")}
    auth = ercot_auth(told["username"], clock=market.clock, login_url="http://world", **secrets)
    return ErcotClient(MarketHttp("http://world", auth=auth, pace=Pace(market.clock), transport=market.transport))


@pytest.mark.parametrize("speed", [1.0, 60.0])
async def test_a_day_of_hourly_questions_is_answered_with_tokens_of_an_hour(speed):
    market = MarketWorld(START, speed, markets={"ercot_login": LOGIN, "limits": "enforced"})
    client = asked(market)
    for _ in range(48):
        market.clock.advance(1800)
        now = market.clock.now()
        assert len(await client.rt_lmp(["HB_NORTH"], now - timedelta(minutes=10), now - timedelta(minutes=5))) == 1
    assert market.counts()["ercot"]["refused"] == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"password": "wrong-one"}, "no token: status 400 access_denied"),
        ({"subscription_key": "key-999"}, "status 401"),
    ],
)
async def test_a_wrong_log_in_says_what_is_wrong_and_no_secret(changes, said):
    market = MarketWorld(START + timedelta(hours=1), markets={"ercot_login": LOGIN})
    with pytest.raises(MarketError, match=said) as caught:
        await asked(market, **changes).rt_lmp(["HB_NORTH"], START, START + timedelta(minutes=5))
    secrets = {"hush-hush", "wrong-one", "key-123", "key-999"}
    assert not any(secret in str(caught.value) for secret in secrets)


async def test_a_token_that_the_gateway_no_longer_takes_is_replaced_once():
    market = MarketWorld(START + timedelta(hours=1), markets={"ercot_login": LOGIN})
    client, window = asked(market), (START, START + timedelta(minutes=5))
    assert len(await client.rt_lmp(["HB_NORTH"], *window)) == 1
    market.services._ercot._login._key = b"another key: the gateway was restarted"
    assert len(await client.rt_lmp(["HB_NORTH"], *window)) == 1


async def test_without_a_log_in_the_reports_are_refused():
    market = MarketWorld(START + timedelta(hours=1), markets={"ercot_login": LOGIN})
    http = MarketHttp("http://world", transport=market.transport)
    with pytest.raises(MarketError, match=r"status 401.*subscription key"):
        await ErcotClient(http).rt_lmp(["HB_NORTH"], START, START + timedelta(minutes=5))
