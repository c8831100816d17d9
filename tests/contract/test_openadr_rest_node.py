"""Our node of OpenADR 3.1 against a server that forgets, mixes up and lacks things: what is heard, what is reported."""

import asyncio
import contextlib
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from hcp_pipelines.domain.errors import MarketError, NotRunningError
from hcp_pipelines.markets.openadr3 import RestVen
from hcp_pipelines.markets.openadr3_server import Client
from hcp_pipelines.markets.openadr_events import Answer


def event(event_id, programme="p", targets=("one",), **changes):
    """A level, under way for a minute and for an hour to come."""
    begins = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    return {
        "id": event_id, "programID": programme, "modificationDateTime": "2025-01-01T00:00:00Z",
        "targets": None if targets is None else list(targets), "reportDescriptors": [{"payloadType": "DEMAND"}],
        "intervalPeriod": {"start": begins, "duration": "PT1H"},
        "intervals": [{"id": 0, "payloads": [{"type": "SIMPLE", "values": [1]}]}],
    } | changes  # fmt: skip


class Server:
    """Lists its events by programme, all of them where it `filters` nothing; `statuses` by path go before what it has."""

    def __init__(self):
        self.programmes = [{"id": "p", "programName": "dr"}]
        self.vens = [{"venName": "hcp"}]
        self.events, self.unlisted, self.statuses = [], [], {}
        self.filters = True
        self.asked, self.reports = [], []

    async def __call__(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = int((head.lower().partition("content-length: ")[2].splitlines() or ["0"])[0])
            method, target, _ = head.split(maxsplit=2)
            status, body = self.answer(method, urlsplit(target), await reader.readexactly(length))
            raw = json.dumps(body).encode()
            writer.write(
                f"HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {len(raw)}\r\n\r\n".encode() + raw
            )
            await writer.drain()
        writer.close()

    def answer(self, method, url, content):
        query = parse_qs(url.query)
        self.asked.append((url.path, query))
        key = (url.path, query["programID"][0]) if "programID" in query else url.path
        if key in self.statuses:
            return self.statuses[key], {}
        if method == "POST" and url.path == "/reports":
            self.reports.append(json.loads(content))
            return 201, {}
        if url.path.startswith("/events/"):
            known = [each["id"] for each in (*self.events, *self.unlisted)]
            return (200 if unquote(url.path.removeprefix("/events/")) in known else 404), {}
        wanted = query.get("programID") if self.filters else None
        return 200, {
            "/auth/server": {"tokenURL": f"{self.base}/token"},
            "/token": {"access_token": "t", "expires_in": 3600},
            "/vens": self.vens,
            "/programs": self.programmes,
            "/events": [each for each in self.events if wanted in (None, [each["programID"]])],
        }[url.path]


@pytest.fixture
async def server():
    made = Server()
    listening = await asyncio.start_server(made, "127.0.0.1", 0)
    made.base = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with listening:
        yield made


class Heard(list):
    async def __call__(self, told):
        self.append((told.event_id, told.resources, told.is_cancelled))
        return Answer(True)

    @property
    def ids(self):
        return [event_id for event_id, _, is_cancelled in self if not is_cancelled]

    @property
    def cancelled(self):
        return [event_id for event_id, _, is_cancelled in self if is_cancelled]


async def watts():
    return 1_250_000.0


async def silent():
    raise NotRunningError("its gateway does not answer")


@contextlib.asynccontextmanager
async def node(server, heard, programmes=("dr",), **meters):
    ven = RestVen(
        "hcp", server.base, heard, meters or {"one": watts}, programmes, Client("me", SecretStr("s")), report_s=0.001
    )
    try:
        await ven.register()
        yield ven
    finally:
        await ven.close()


async def test_an_event_that_a_list_lacks_is_cancelled_only_if_the_server_says_that_it_is_not_there(server):
    server.events, heard = [event("a"), event("b/../x?y")], Heard()
    async with node(server, heard) as ven:
        server.events, server.unlisted = [], server.events
        for _ in range(5):
            await ven.poll()
        assert heard.cancelled == []
        assert "/events/b%2F..%2Fx%3Fy" in [path for path, _ in server.asked]
        server.statuses["/events/a"] = 500
        server.unlisted = []
        with capture_logs() as logs:
            for _ in range(3):
                await ven.poll()
        assert heard.cancelled == ["b/../x?y"]
        assert [(entry["event"], entry["id"]) for entry in logs] == [("event_unheard", "'a'")]
        del server.statuses["/events/a"]
        await ven.poll()
        assert heard.cancelled == ["b/../x?y", "a"]


async def test_an_event_for_everybody_in_the_programme_is_heard_and_lists_are_not_narrowed_by_targets(server):
    server.events, heard = [event("none", targets=None), event("empty", targets=()), event("ours")], Heard()
    async with node(server, heard, one=watts, two=watts):
        pass
    assert heard == [("none", (), False), ("empty", (), False), ("ours", ("one",), False)]
    assert not any("targets" in query for _, query in server.asked)


async def test_an_event_for_others_is_not_ours_and_one_that_becomes_theirs_is_over_for_us(server):
    server.events, heard = [event("theirs", targets=["other-site"]), event("moves")], Heard()
    async with node(server, heard) as ven:
        assert heard.ids == ["moves"]
        server.events = [event("moves", targets=["other-site"], modificationDateTime="2025-01-02T00:00:00Z")]
        await ven.poll()
        assert heard.cancelled == ["moves"]


@pytest.mark.parametrize("group", ["hcp", "feeder-7"])
async def test_our_name_and_the_groups_that_the_server_has_us_in_mean_all_of_ours(server, group):
    server.vens = [{"venName": "hcp", "targets": ["feeder-7", 5]}, {"venName": "other", "targets": ["feeder-8"]}]
    server.events, heard = [event("all", targets=["x", group]), event("theirs", targets=["feeder-8"])], Heard()
    async with node(server, heard, one=watts, two=watts):
        pass
    assert heard == [("all", (), False)]


async def test_programmes_that_we_are_not_enrolled_in_are_neither_asked_for_nor_heard(server):
    server.programmes.append({"id": "q", "programName": "another"})
    server.filters = False
    server.events, heard = [event("ours"), event("theirs", "q")], Heard()
    async with node(server, heard):
        pass
    assert heard.ids == ["ours"]
    assert [query["programID"] for path, query in server.asked if path == "/events"] == [["p"]]


async def test_a_programme_whose_events_cant_be_had_is_told_once_and_costs_neither_the_others_nor_its_events(server):
    server.programmes.append({"id": "q", "programName": "limits"})
    server.events, heard = [event("a"), event("b", "q")], Heard()
    async with node(server, heard, ("dr", "limits")) as ven:
        server.statuses["/events", "q"] = 404
        server.statuses["/events/b"] = 404
        server.events.append(event("c"))
        with capture_logs() as logs:
            await ven.poll()
            await ven.poll()
        assert [(entry["event"], entry["id"]) for entry in logs] == [("programme_unheard", "'q'")]
        assert (heard.ids, heard.cancelled) == (["a", "b", "c"], [])
        server.statuses["/events", "p"] = 404
        with pytest.raises(MarketError, match="404"):
            await ven.poll()


async def test_a_programme_that_the_server_does_not_have_is_told_once_until_it_has(server):
    with capture_logs() as logs:
        async with node(server, Heard(), ("dr", "misspelt")) as ven:
            await ven.poll()
            server.programmes.append({"id": "q", "programName": "misspelt"})
            await ven.poll()
    assert [(entry["event"], entry["id"]) for entry in logs] == [("programme_not_there", "'misspelt'")]
    assert server.asked[-1][1]["programID"] == ["q"]


@pytest.mark.parametrize(
    "wrong", [{"id": "a\x01b", "programName": "dr"}, {"id": "q"}, {"id": "a\ud800b", "programName": "dr"}, 5]
)
async def test_a_programme_that_cant_be_read_costs_the_others_nothing(server, wrong):
    server.programmes.insert(0, wrong)
    server.events, heard = [event("lost", "a\x01b"), event("missing", "nowhere"), event("\x00"), event("ours")], Heard()
    server.filters = False
    with capture_logs() as logs:
        async with node(server, heard):
            pass
    assert heard.ids == ["ours"]
    assert {entry["event"] for entry in logs} == {"programme_unreadable", "event_unreadable"}


async def test_a_silent_meter_is_left_out_of_reports_told_once_and_costs_the_others_nothing(server):
    server.events = [
        event("silent", targets=["one"]),
        event("mixed", targets=["one", "two"]),
        event("well", targets=["two"]),
    ]
    with capture_logs() as logs:
        async with node(server, Heard(), one=silent, two=watts) as ven:
            await ven.poll()
    sent = [(report["eventID"], [each["resourceName"] for each in report["resources"]]) for report in server.reports]
    assert sent == [("mixed", ["two"]), ("well", ["two"])] * 2
    assert [(entry["event"], entry["resource"]) for entry in logs] == [("meter_silent", "one")]


async def test_a_report_that_is_not_taken_is_told_and_sent_again(server):
    server.events, server.statuses["/reports"] = [event("a")], 503
    with capture_logs() as logs:
        async with node(server, Heard()) as ven:
            del server.statuses["/reports"]
            await ven.poll()
    assert [entry["event"] for entry in logs] == ["report_not_taken"]
    assert [report["eventID"] for report in server.reports] == ["a"]
