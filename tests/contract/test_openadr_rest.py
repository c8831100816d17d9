"""OpenADR 3.1: the world's server by bare requests, our node against it, and events as the standard's own documents show them."""

import asyncio
import base64
import contextlib
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from hcp_pipelines.domain.errors import ConfigError, MarketError
from hcp_pipelines.markets.openadr3 import RestVen
from hcp_pipelines.markets.openadr3_events import UnreadableError, grid_event, meant_resources, rest_event
from hcp_pipelines.markets.openadr3_server import Client
from hcp_pipelines.markets.openadr_events import Answer, GridEvent, Interval
from simulators.openadr.events import Event
from tests.support.openadr import SIMULATED_S, vtn

EVENT = Event("ev-a", "response", "", ("one",), SIMULATED_S + 7200, 3600, 0.1)


@contextlib.asynccontextmanager
async def served(folder, *calls):
    (folder / "clients").write_text("me:secret-1\nother:secret-2\nodd one:a+b%20:c\n")
    async with vtn(folder, *calls, client_file=folder / "clients") as server:
        yield server


class Raw:
    """Requests with a token of a client's."""

    def __init__(self, http, base):
        self.http, self.base, self.headers = http, base, {}

    async def login(self, client="me", secret="secret-1"):
        server = (await self.http.get(f"{self.base}/auth/server")).json()
        form = {"grant_type": "client_credentials", "client_id": client, "client_secret": secret}
        reply = await self.http.post(server["tokenURL"], data=form)
        if reply.status_code == 200:
            self.headers = {"authorization": f"Bearer {reply.json()['access_token']}"}
        return reply

    async def get(self, path, **query):
        return await self.http.get(self.base + path, params=query, headers=self.headers)

    async def post(self, path, **how):
        return await self.http.post(self.base + path, headers=self.headers, **how)


@pytest.fixture
async def raw(tmp_path):
    async with served(tmp_path) as server, httpx.AsyncClient(trust_env=False) as http:
        made = Raw(http, server.urls["openadr3"])
        made.server = server
        yield made


async def test_events_are_objects_of_their_programmes_for_who_has_a_token(raw):
    raw.server.book.publish(EVENT)
    raw.server.book.publish(Event("ev-b", "alert", "", ("one", "two"), SIMULATED_S, 3600, 2.0))
    assert (await raw.get("/events")).status_code == 401
    token = await raw.login()
    assert (token.json()["token_type"], token.json()["expires_in"]) == ("Bearer", 3600)
    alert, response = (await raw.get("/events")).json()
    assert [response[key] for key in ("id", "objectType", "programID", "targets")] == [
        "ev-a",
        "EVENT",
        "response",
        ["one"],
    ]
    assert response["payloadDescriptors"][0]["units"] == "KW"
    payload = {"type": "DISPATCH_SETPOINT_RELATIVE", "values": [-100.0]}
    assert response["intervals"] == [{"id": 0, "payloads": [payload]}]
    assert response["intervalPeriod"]["duration"] == "PT1M"
    (report,) = response["reportDescriptors"]
    assert report["reportIntervals"] in ("INTERVALS", "SUB_INTERVALS", "OPEN_INTERVALS")
    assert alert["reportDescriptors"] is None
    assert alert["intervals"][0]["payloads"] == [{"type": "SIMPLE", "values": [2]}]
    assert [p["programName"] for p in (await raw.get("/programs")).json()] == ["alert", "response"]
    assert (await raw.get("/events/ev-a")).json() == response
    assert [e["id"] for e in (await raw.get("/events", programID="alert")).json()] == ["ev-b"]
    assert [e["id"] for e in (await raw.get("/events", targets="two")).json()] == ["ev-b"]
    assert [e["id"] for e in (await raw.get("/events", targets=["one", "two"])).json()] == ["ev-b"]
    assert (await raw.get("/events", targets=["one", "nowhere"])).json() == []
    assert [e["id"] for e in (await raw.get("/events", skip=1, limit=1)).json()] == ["ev-a"]
    raw.server.book.cancel("ev-a")
    assert (await raw.get("/events/ev-a")).status_code == 404


async def test_programs_are_there_before_their_events(tmp_path):
    call = {"kind": "deployment", "programme": "ECRS", "at_h": 5.0, "minutes": 60}
    async with served(tmp_path, call) as server, httpx.AsyncClient(trust_env=False) as http:
        raw = Raw(http, server.urls["openadr3"])
        await raw.login()
        assert [p["programName"] for p in (await raw.get("/programs")).json()] == ["deployment-ECRS"]
        assert (await raw.get("/events")).json() == []


async def test_what_is_wrong_is_a_problem_that_says_so_and_is_counted(raw):
    assert (await raw.login(secret="guess")).json() == {"error": "invalid_client"}
    assert (await raw.login(client="nobody", secret="")).status_code == 401
    assert (await raw.http.post(f"{raw.base}/auth/token", data={"grant_type": "password"})).status_code == 400
    await raw.login()
    for path, how, status in (
        ("/reports", {"content": b"[1"}, 400),
        ("/reports", {"json": []}, 400),
        ("/reports", {"content": b"[" * 100_000}, 400),
        ("/reports", {"json": {"eventID": "x", "clientName": "me", "resources": []}}, 400),
        ("/reports", {"content": b" " * 300_000}, 413),
        ("/vens", {"json": {"venName": 5}}, 400),
        ("/events", {"json": {}}, 403),
    ):
        reply = await raw.post(path, **how)
        assert (reply.status_code, reply.json()["status"]) == (status, status), path
        assert reply.headers["content-type"] == "application/problem+json"
    assert (await raw.get("/events", limit=500)).status_code == 400
    assert (await raw.get("/events", skip="x")).status_code == 400
    assert raw.server.troubles["400"] == 7
    assert (await raw.get("/events")).json() == []


GRANT = {"grant_type": "client_credentials"}


def basic(text):
    return {"authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


@pytest.mark.parametrize(
    ("headers", "form", "status"),
    [
        (basic("me:secret-1"), {}, 200),
        (basic("me:secret-1"), {"client_id": "me"}, 200),
        (basic("odd+one:a%2Bb%2520%3Ac"), {}, 200),  # by the letter of the standard
        (basic("odd one:a+b%20:c"), {}, 200),  # as most clients do it
        (basic("me:secret-2"), {}, 401),
        (basic("me:"), {}, 401),
        (basic("nobody:"), {}, 401),
        (basic("me"), {}, 401),
        ({"authorization": "Basic !!"}, {}, 401),
        ({"authorization": "Basic /w=="}, {}, 401),
        ({"authorization": "Bearer me:secret-1"}, {}, 401),
        (basic("me:secret-1"), {"client_secret": "secret-1"}, 400),
        (basic("me:secret-1"), {"grant_type": "password"}, 400),
    ],
)
async def test_a_client_may_say_its_secret_by_http_basic(raw, headers, form, status):
    reply = await raw.http.post(f"{raw.base}/auth/token", data=GRANT | form, headers=headers)
    assert (reply.status_code, "access_token" in reply.json()) == (status, status == 200)
    assert ("www-authenticate" in reply.headers) == (status == 401)


async def test_reports_and_vens_are_their_clients_own(raw):
    raw.server.book.publish(EVENT)
    await raw.login()
    period = {"start": "2025-03-01T00:00:00Z", "duration": "PT10S"}
    values = [{"id": n, "payloads": [{"type": "DEMAND", "values": [float(n)]}]} for n in (0, 1)]
    resource = {"resourceName": "one", "intervalPeriod": period, "intervals": values}
    report = {"eventID": "ev-a", "clientName": "me", "resources": [resource]}
    made = await raw.post("/reports", json=report)
    assert (made.status_code, made.json()["objectType"]) == (201, "REPORT")
    first, second = raw.server.rest.samples["ev-a", "one"]
    assert (second.at_s - first.at_s, second.value) == (pytest.approx(600, abs=1), 1.0)
    assert (await raw.post("/reports", json=report | {"eventID": "none"})).status_code == 404
    assert (await raw.post("/vens", json={"venName": "mine"})).status_code == 201
    assert (await raw.post("/vens", json={"venName": "mine"})).status_code == 409
    assert [len((await raw.get(path)).json()) for path in ("/reports", "/vens")] == [1, 1]
    await raw.login("other", "secret-2")
    assert [len((await raw.get(path)).json()) for path in ("/reports", "/vens")] == [0, 0]


async def test_a_ven_and_its_resources_are_made_changed_and_taken_away_by_their_client_alone(raw):
    await raw.login()
    ven = (
        await raw.post("/vens", json={"venName": "mine", "attributes": [{"type": "LOCATION", "values": ["x"]}]})
    ).json()
    resource = {"resourceName": "one", "venID": ven["id"], "objectType": "VEN_RESOURCE_REQUEST"}
    made = await raw.post("/resources", json=resource)
    assert (made.status_code, made.json()["objectType"], made.json()["venID"]) == (201, "RESOURCE", ven["id"])
    own = made.json()["id"]
    assert (await raw.get(f"/vens/{ven['id']}")).json() == ven
    assert (await raw.get("/resources", resourceName="one")).json() == [made.json()]
    assert (await raw.get("/resources", resourceName="two")).json() == []
    for path, how, status in (
        ("/resources", {"json": resource}, 409),
        ("/resources", {"json": resource | {"resourceName": "two", "venID": "another's"}}, 400),
        ("/resources", {"json": {"venID": ven["id"]}}, 400),
        ("/resources", {"json": resource | {"resourceName": "two", "attributes": "many"}}, 400),
        ("/subscriptions", {"json": {}}, 501),
    ):
        assert (await raw.post(path, **how)).status_code == status, path
    renamed = await raw.http.put(f"{raw.base}/resources/{own}", json={"resourceName": "uno"}, headers=raw.headers)
    assert (renamed.status_code, renamed.json()["resourceName"], renamed.json()["id"]) == (200, "uno", own)
    assert ((await raw.get("/notifiers")).json(), (await raw.get("/subscriptions")).json()) == ({"WEBHOOK": False}, [])
    await raw.login("other", "secret-2")
    for method, path in (
        ("GET", f"/vens/{ven['id']}"),
        ("DELETE", f"/vens/{ven['id']}"),
        ("DELETE", f"/resources/{own}"),
    ):
        assert (await raw.http.request(method, raw.base + path, headers=raw.headers)).status_code == 404
    await raw.login()
    assert (await raw.http.delete(f"{raw.base}/vens/{ven['id']}", headers=raw.headers)).json()["id"] == ven["id"]
    assert [(await raw.get(path)).json() for path in ("/vens", "/resources")] == [[], []]
    assert (await raw.post("/vens", json={"venName": "again"})).status_code == 201


@pytest.mark.parametrize("odd", ["NaN", "-Infinity", "1e999", '"\\ud800"'])
async def test_what_could_not_be_answered_with_again_is_not_kept(raw, odd):
    raw.server.book.publish(EVENT)
    await raw.login()
    ven = f'{{"venName": "mine", "attributes": [{{"type": "X", "values": [{odd}]}}]}}'
    interval = '{"id": 0, "payloads": [{"type": "DEMAND", "values": [1.0]}]}'
    period = '{"start": "2025-03-01T00:00:00Z", "duration": "PT10S"}'
    resource = f'{{"resourceName": "one", "intervalPeriod": {period}, "intervals": [{interval}], "odd": {odd}}}'
    report = f'{{"eventID": "ev-a", "clientName": "me", "resources": [{resource}]}}'
    for path, body in (("/vens", ven), ("/reports", report)):
        assert (await raw.post(path, content=body)).status_code == 400
        assert ((await raw.get(path)).status_code, (await raw.get(path)).json()) == (200, [])
        assert (await raw.post(path, content=body.replace(odd, "1"))).status_code == 201


async def test_without_clients_there_is_no_3_1(tmp_path):
    async with vtn(tmp_path) as server, httpx.AsyncClient(trust_env=False) as http:
        assert "openadr3" not in server.urls
        reply = await http.get(f"http://127.0.0.1:{server.port}/openadr3/3.1.0/auth/server")
        assert reply.status_code == 404


class Heard(list):
    def __init__(self, is_in=True):
        super().__init__()
        self.is_in = is_in

    async def __call__(self, event):
        self.append(event)
        return Answer(self.is_in, "")


async def watts():
    return 1_250_000.0


@contextlib.asynccontextmanager
async def node(base, heard, secret="secret-1", meters=None, **changes):
    client = Client("me", SecretStr(secret))
    ven = RestVen(
        "hcp", base, heard, meters or {"one": watts}, ("response", "dr"), client, **{"report_s": 0.01} | changes
    )
    try:
        await ven.register()
        yield ven
    finally:
        await ven.close()


async def test_our_node_hears_events_changes_and_cancellations_and_reports_while_one_lasts(tmp_path):
    async with served(tmp_path) as server:
        server.book.publish(Event("ev-a", "response", "", ("one",), SIMULATED_S, 7200, 0.1))
        heard = Heard()
        async with node(server.urls["openadr3"], heard) as ven:
            (event,) = heard
            assert (event.event_id, event.programme, event.signal, event.resources) == (
                "ev-a",
                "response",
                "power_change",
                ("one",),
            )
            assert (event.intervals[0].value, event.end_at - event.start_at) == (-0.1, timedelta(seconds=120))
            assert server.rest.samples["ev-a", "one"][-1].value == 1250.0
            await ven.poll()
            assert len(heard) == 1
            server.book.publish(Event("ev-a", "response", "", ("one",), SIMULATED_S, 7200, 0.05))
            await ven.poll()
            assert heard[1].modification > event.modification
            server.book.cancel("ev-a")
            await ven.poll()
            assert (heard[2].is_cancelled, heard[2].modification > heard[1].modification) == (True, True)
            await ven.poll()
            assert len(heard) == 3


async def test_what_was_answered_before_a_restart_is_not_asked_again_and_missed_when_it_has_gone(tmp_path):
    async with served(tmp_path) as server:
        server.book.publish(EVENT)
        heard = Heard(is_in=False)
        async with node(server.urls["openadr3"], heard):
            pass
        now = datetime.now(UTC)
        span = (Interval(now, now + timedelta(hours=1), 0.0),)
        gone = GridEvent("ev-gone", 5, "response", "other", span)
        again = Heard()
        async with node(server.urls["openadr3"], again, standing=[heard[0], gone]):
            ((event_id, is_cancelled),) = [(event.event_id, event.is_cancelled) for event in again]
            assert (event_id, is_cancelled) == ("ev-gone", True)


async def test_a_wrong_secret_and_a_server_that_is_away_are_market_errors(tmp_path):
    async with served(tmp_path) as server:
        with pytest.raises(MarketError, match="no token"):
            async with node(server.urls["openadr3"], Heard(), secret="guess"):
                pass
        async with node(server.urls["openadr3"], Heard()) as ven:
            await server.stop()
            for failures in range(1, 4):
                with pytest.raises(MarketError):
                    await ven.poll()
                assert ven.is_lost == (failures == 3)


class Scripted:
    """A server of canned bodies by path, for what the world's would never say."""

    def __init__(self, replies):
        self.replies = replies

    async def __call__(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split()[1].partition("?")[0]
            base = f"http://{head.lower().partition('host: ')[2].splitlines()[0]}"
            body = self.replies.get(path, {"access_token": "t", "expires_in": 60})
            if path == "/auth/server":
                body = {"tokenURL": f"{base}/token"} | (body if "tokenURL" in body else {})
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(raw) + raw)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def scripted(**replies):
    paths = {"/vens": [{"venName": "hcp"}], "/programs": [{"id": "p", "programName": "dr"}], "/events": []}
    server = await asyncio.start_server(Scripted(paths | {f"/{k}": v for k, v in replies.items()}), "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    "replies",
    [
        {"events": {}},
        {"events": b"no json"},
        {"events": b"[" * 100_000},
        {"auth/server": {"tokenURL": "ftp://elsewhere"}},
        {"auth/server": {"tokenURL": 5}},
        {"vens": b""},
    ],
)
async def test_replies_that_are_none_are_market_errors(replies):
    async with scripted(**replies) as base:
        with pytest.raises(MarketError):
            async with node(base, Heard()):
                pass


@pytest.mark.parametrize("host", ["tokens.example", "127.0.0.1.tokens.example", "127.0.0.1@tokens.example"])
async def test_a_secret_is_sent_to_no_plain_address_that_a_server_tells(host):
    async with scripted(**{"auth/server": {"tokenURL": f"http://{host}/token"}}) as base:
        with pytest.raises(MarketError, match=f"no tokenURL that a secret may be sent to: http://{host}"):
            async with node(base, Heard()):
                pass


async def test_a_secret_is_sent_to_no_plain_address():
    ven = RestVen("hcp", "http://vtn.example", Heard(), {}, (), Client("me", SecretStr("s")))
    with pytest.raises(ConfigError, match="in clear"):
        await ven.register()


async def test_one_event_that_cant_be_read_is_told_once_and_costs_the_others_nothing():
    good = recorded(id="good")
    events = [recorded(id="bad", intervals=[]), {"id": 5}, "nothing", good]
    heard = Heard()
    with capture_logs() as logs:
        async with scripted(events=events) as base, node(base, heard) as ven:
            await ven.poll()
    assert [event.event_id for event in heard] == ["good"]
    assert [entry["event"] for entry in logs].count("event_unreadable") == 3


def recorded(**changes):
    """The simplest event of the standard's user guide, with a signal of ours and in days to come."""
    event = {
        "id": "0", "createdDateTime": "2025-01-01T14:13:26Z", "modificationDateTime": "2025-01-01T14:13:26.5Z",
        "objectType": "EVENT", "programID": "p", "eventName": "simple",
        "intervalPeriod": {"duration": "PT1H", "start": "2099-02-10T00:00:00.000Z"},
        "intervals": [{"id": 0, "payloads": [{"type": "DISPATCH_SETPOINT_RELATIVE", "values": [-2000]}]}],
    }  # fmt: skip
    return event | changes


NOW = datetime(2099, 2, 10, 12, tzinfo=UTC)
MIDNIGHT, HOUR = NOW - timedelta(hours=12), timedelta(hours=1)


def read(**changes):
    event = rest_event(recorded(**changes))
    return grid_event(event, "dr", NOW, meant_resources(event, ["one"], ["hcp"]))


def test_the_documents_simple_event_is_read():
    event = read(targets=["one", "group-7"])
    assert (event.event_id, event.programme, event.resources) == ("0", "dr", ("one",))
    assert event.intervals == (Interval(MIDNIGHT, MIDNIGHT + HOUR, -2.0),)
    assert read(modificationDateTime="2025-01-01T14:13:27Z").modification == event.modification + 500


def test_intervals_of_their_own_length_follow_each_other_as_in_the_documents():
    payload = [{"type": "SIMPLE", "values": [1]}]
    intervals = [{"id": 0, "payloads": payload}, {"id": 1, "intervalPeriod": {"duration": "PT2H"}, "payloads": payload}]
    first, second = read(intervals=intervals).intervals
    assert (first.start_at, second.start_at, second.end_at) == (MIDNIGHT, MIDNIGHT + HOUR, MIDNIGHT + 3 * HOUR)


def test_now_is_the_year_one_and_for_ever_9999_years():
    event = read(intervalPeriod={"start": "0001-01-01T00:00:00Z", "duration": "P9999Y"})
    assert (event.start_at, event.end_at) == (NOW, None)


def test_units_are_the_descriptors_and_a_limit_is_one():
    descriptors = [{"payloadType": "IMPORT_CAPACITY_LIMIT", "units": "MW"}]
    intervals = [{"payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [3.5]}]}]
    event = read(payloadDescriptors=descriptors, intervals=intervals)
    assert (event.signal, event.intervals[0].value) == ("power_limit", 3.5)
    price = [{"payloads": [{"type": "PRICE", "values": [0.17]}]}]
    assert read(intervals=price).signal == "other"


@pytest.mark.parametrize(
    "changes",
    [
        {"intervalPeriod": {"start": "2099-02-10T00:00:00", "duration": "PT1H"}},
        {"intervalPeriod": {"start": "soon", "duration": "PT1H"}},
        {"intervalPeriod": {"start": "2099-02-10T00:00:00Z", "duration": "1 hour"}},
        {"intervalPeriod": None},
        {"payloadDescriptors": [{"payloadType": "DISPATCH_SETPOINT_RELATIVE", "units": "HORSEPOWER"}]},
        {"intervals": [{"payloads": [{"type": "SIMPLE", "values": ["NaN"]}]}]},
        {"intervals": [{"payloads": [{"type": "SIMPLE", "values": []}]}]},
        {"modificationDateTime": "never"},
        {"id": "x" * 300},
        {"id": ".."},
        {"id": "a\x00b"},
        {"id": "a\ud800b"},
    ],
)
def test_an_event_that_is_none_can_not_be_read(changes):
    with pytest.raises(UnreadableError, match="can't be read"):
        read(**changes)


async def test_a_lapsed_event_is_not_asked_about():
    past = {"start": "2024-02-10T00:00:00Z", "duration": "PT1H"}
    heard = Heard()
    async with scripted(events=[recorded(intervalPeriod=past)]) as base, node(base, heard) as ven:
        await ven.poll()
    assert heard == []
