"""How services are asked: limits and pauses obeyed, circuits, conditional requests, torn replies, tokens. On a manual clock."""

import asyncio
import itertools
from datetime import UTC, datetime

import httpx
import pytest
from pydantic import SecretStr

from hcp_pipelines.domain.clock import ManualClock
from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.markets.ercot_login import KEY_HEADER, TOKEN, ercot_auth
from hcp_pipelines.markets.http import LeftAloneError, MarketHttp
from hcp_pipelines.markets.pace import Limit, Pace

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
OK = {"a": 1}


class Rig:
    """A service that answers what a test says, the instants (real seconds) at which it was asked, and a client."""

    def __init__(self, answer, *, speed=1.0, limit=None, **options):
        self.clock = ManualClock(NOON, speed)
        self.asked, self.answer = [], answer
        pace = Pace(self.clock, limit)
        self.http = MarketHttp("http://api.test", pace=pace, transport=httpx.MockTransport(self._handle), **options)

    async def _handle(self, request):
        self.asked.append((self.clock.monotonic_s(), request))
        found = self.answer(request) if callable(self.answer) else self.answer.pop(0)
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, httpx.Response) else httpx.Response(200, json=found)

    @property
    def instants(self):
        return [at for at, _ in self.asked]

    async def get(self, **params):
        return await self.http.get_json("/x", params)


def refused(status=429, **headers):
    return httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("answer", "speed", "pause_s"),
    [
        (refused(retry_after="7"), 1, 7.0),
        (refused(418, retry_after="7"), 1, 7.0),
        (refused(retry_after="Wed, 01 Jan 2025 12:00:09 GMT"), 1, 9.0),
        (refused(503, retry_after="6"), 1, 6.0),
        (refused(retry_after="120"), 60, 2.0),
        (refused(), 1, 1.0),
        (refused(retry_after="0"), 1, 1.0),
        (refused(retry_after="soon"), 1, 1.0),
    ],
)
async def test_a_pause_that_is_asked_for_is_kept_in_the_service_s_own_seconds(answer, speed, pause_s):
    rig = Rig([answer, OK], speed=speed, patience_s=10.0)
    assert (await rig.get()).body == OK
    assert rig.instants[1] == pytest.approx(pause_s, abs=0.2)


async def test_a_longer_pause_than_the_caller_s_patience_is_told_at_once_and_nobody_asks_before_it_is_over():
    rig = Rig([refused(retry_after="60"), OK], patience_s=2.0)
    for _ in range(3):
        with pytest.raises(LeftAloneError, match=r"http://api\.test/x: its limit is reached.* 60\.0 s more") as caught:
            await rig.get()
    assert caught.value.wait_s == pytest.approx(60.0)
    assert len(rig.asked) == 1
    rig.clock.advance(60)
    assert (await rig.get()).body == OK


async def test_who_says_too_many_and_not_for_how_long_is_left_alone_twice_as_long_each_time():
    rig = Rig([refused(), refused(), refused(), refused(), OK], patience_s=30.0)
    assert (await rig.get()).body == OK
    assert rig.instants == pytest.approx([0, 1, 3, 7, 15])


@pytest.mark.parametrize("speed", [1, 60, 600])
async def test_a_limit_is_never_exceeded_in_any_window(speed):
    rig = Rig(lambda _: OK, speed=speed, limit=Limit(30, 60.0), patience_s=1000.0)
    for n in range(100):
        await rig.get()
        rig.clock.advance(0.01 * n)
    instants = [at * speed for at in rig.instants]
    assert len(instants) == 100
    assert all(late - early > 60 for early, late in zip(instants, instants[30:], strict=False))
    assert instants[29] < 10, "a burst is not held up"


async def test_clients_of_one_account_share_its_pace():
    rig = Rig(lambda _: OK, limit=Limit(2, 60.0))
    other = MarketHttp("http://api.test", pace=rig.http._pace, transport=httpx.MockTransport(rig._handle))
    await rig.get()
    await other.get_json("/x")
    with pytest.raises(LeftAloneError):
        await rig.get()


@pytest.mark.parametrize(
    ("headers", "until_s"),
    [
        ({"X-MBX-USED-WEIGHT-1M": "5500"}, 60.0),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "9"}, 9.0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1735732800"}, 1.0),
        ({"X-MBX-USED-WEIGHT-1M": "100"}, 0.0),
        ({"RateLimit-Remaining": "3", "RateLimit-Reset": "9"}, 0.0),
        ({"RateLimit-Remaining": "many"}, 0.0),
    ],
)
async def test_what_remains_of_a_limit_is_heeded(headers, until_s):
    limit = Limit(1000, 60.0, weight_a_minute=6000)
    rig = Rig(lambda _: httpx.Response(200, headers=headers, json=OK), limit=limit, patience_s=100.0)
    await rig.get()
    await rig.get()
    assert rig.instants[1] == pytest.approx(until_s, abs=0.1)


async def test_a_service_that_fails_on_is_left_alone_and_tried_by_one_request_after_a_pause():
    down = httpx.ConnectError("refused")
    rig = Rig(lambda _: down, attempts=1)
    for _ in range(5):
        with pytest.raises(MarketError, match="refused after 1 tries"):
            await rig.get()
    with pytest.raises(LeftAloneError, match="failed 5 times"):
        await rig.get()
    assert len(rig.asked) == 5
    rig.clock.advance(1.0)
    with pytest.raises(MarketError, match="refused"):
        await rig.get()
    with pytest.raises(LeftAloneError, match="failed 6 times") as caught:
        await rig.get()
    assert 0.7 < caught.value.wait_s < 1.3, "twice as long"
    gate = asyncio.Event()

    async def slow(_):
        await gate.wait()
        return httpx.Response(200, json=OK)

    rig.http._client._transport = httpx.MockTransport(slow)
    rig.clock.advance(1.3)
    trial = asyncio.create_task(rig.get())
    await asyncio.sleep(0)
    with pytest.raises(LeftAloneError):
        await rig.get()
    gate.set()
    assert (await trial).body == OK
    assert (await rig.get()).body == OK


async def test_a_request_that_its_caller_gives_up_has_failed_and_a_refusal_has_not():
    async def mute(_):
        await asyncio.sleep(3600)

    rig = Rig([])
    rig.http._client._transport = httpx.MockTransport(mute)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(rig.get(), 0.01)
    with pytest.raises(LeftAloneError):
        await rig.get()
    denied = Rig(lambda _: httpx.Response(403, text="no"))
    for _ in range(10):
        with pytest.raises(MarketError, match="status 403"):
            await denied.get()


async def test_another_address_begins_with_a_closed_circuit():
    ports = iter(["http://a.test"] * 5 + ["http://b.test"] * 2)
    http = MarketHttp(lambda: next(ports), attempts=1, transport=httpx.MockTransport(lambda _: httpx.Response(500)))
    for _ in range(7):
        with pytest.raises(MarketError, match="status 500 after 1 tries"):
            await http.get_json("/x")


@pytest.mark.parametrize(("name", "condition"), [("etag", "if-none-match"), ("last-modified", "if-modified-since")])
async def test_what_has_not_changed_is_not_sent_again(name, condition):
    def answer(request):
        if request.headers.get(condition) == "v1":
            return httpx.Response(304, headers={"x-world-time": "2025-01-01T12:00:05+00:00"})
        return httpx.Response(
            200, headers={name: "v1", "x-world-source": "generated"}, json=[request.url.query.decode()]
        )

    rig = Rig(answer)
    first, again, other = await rig.get(n=1), await rig.get(n=1), await rig.get(n=2)
    assert (first.body, again.body, other.body) == (["n=1"], ["n=1"], ["n=2"])
    assert (first.is_unchanged, again.is_unchanged, other.is_unchanged) == (False, True, False)
    assert again.world_source == "generated"
    assert again.world_at == datetime(2025, 1, 1, 12, 0, 5, tzinfo=UTC)


async def test_only_the_newest_replies_are_kept():
    rig = Rig(lambda request: httpx.Response(200, headers={"etag": "v1"}, json=OK))
    for n in (*range(40), 0):
        await rig.get(n=n)
    assert "if-none-match" not in rig.asked[-1][1].headers
    assert len(rig.http._kept._kept) == 32


async def test_a_torn_reply_is_asked_for_again():
    rig = Rig([httpx.Response(200, text='{"a": [1, 2'), OK])
    assert (await rig.get()).body == OK
    torn = Rig(lambda _: httpx.Response(200, text='{"a": [1, 2'))
    with pytest.raises(MarketError, match=r"http://api\.test/x: not JSON .* after 3 tries"):
        await torn.get()


class Ercot:
    """A gateway that hands out tokens by number and takes the newest ones."""

    def __init__(self):
        self.logins, self.refuses, self.is_open = [], set(), True
        self.clock = ManualClock(NOON)
        auth = ercot_auth("ann", SecretStr("hush"), SecretStr("key-1"), self.clock, "http://login.test")
        transport = httpx.MockTransport(self._handle)
        self.http = MarketHttp("http://api.test", auth=auth, pace=Pace(self.clock), transport=transport)
        self.answer = {"expires_in": "3600"}

    async def _handle(self, request):
        await asyncio.sleep(0)
        if request.url.host == "login.test":
            assert (request.method, request.url.path) == ("POST", TOKEN)
            self.logins.append(dict(httpx.QueryParams(request.content.decode())))
            token = {"id_token": f"token-{len(self.logins)}"} if self.is_open else {"error": "invalid_grant"}
            return httpx.Response(200 if self.is_open else 400, json=self.answer | token)
        assert request.headers[KEY_HEADER] == "key-1"
        token = request.headers["authorization"].removeprefix("Bearer ")
        return httpx.Response(401 if token in self.refuses else 200, json={"token": token})

    async def token(self):
        return (await self.http.get_json("/x")).body["token"]


async def test_a_token_is_asked_for_once_and_anew_before_it_ends():
    ercot = Ercot()
    assert await asyncio.gather(*(ercot.token() for _ in range(4))) == ["token-1"] * 4
    assert ercot.logins[0]["grant_type"] == "password"
    assert (ercot.logins[0]["username"], ercot.logins[0]["password"]) == ("ann", "hush")
    assert ercot.logins[0]["scope"].startswith("openid fec253ea-")
    ercot.clock.advance(3539)
    assert await ercot.token() == "token-1"
    ercot.clock.advance(2)
    assert await ercot.token() == "token-2"
    assert len(ercot.logins) == 2


async def test_a_token_that_is_refused_is_replaced_once():
    ercot = Ercot()
    await ercot.token()
    ercot.refuses = {"token-1"}
    assert set(await asyncio.gather(*(ercot.token() for _ in range(4)))) == {"token-2"}
    assert len(ercot.logins) == 2
    ercot.refuses = {f"token-{n}" for n in itertools.chain(range(1, 9))}
    with pytest.raises(MarketError, match="status 401"):
        await ercot.token()
    assert len(ercot.logins) == 3


@pytest.mark.parametrize(
    ("answer", "is_open", "said"),
    [
        ({"expires_in": "3600"}, False, "no token: status 400 invalid_grant"),
        ({"x": "y" * 100_000}, True, "more than 65536 bytes"),
    ],
)
async def test_a_log_in_that_fails_says_why_and_no_secret(answer, is_open, said):
    ercot = Ercot()
    ercot.answer, ercot.is_open = answer, is_open
    with pytest.raises(MarketError, match=said) as caught:
        await ercot.token()
    assert not any(secret in str(caught.value) for secret in ("hush", "key-1", "token-1"))
    assert "login.test" in str(caught.value)
