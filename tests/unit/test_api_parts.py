"""The API's parts without a database: limits, tokens, pages, passwords, what it refuses to start with."""

import asyncio
import base64
import contextlib
import json
import socket
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from hcp_pipelines.api import arriving, frame, line, under_way
from hcp_pipelines.api.connections import EXTENSION
from hcp_pipelines.api.frame import Frame
from hcp_pipelines.api.instants import LONGEST, window
from hcp_pipelines.api.limits import Buckets, Limit
from hcp_pipelines.api.paging import cursor_of, key_of, page
from hcp_pipelines.api.problems import ProblemError
from hcp_pipelines.api.proxies import Proxies, networks
from hcp_pipelines.api.routes.resource_shapes import Counts, Resource
from hcp_pipelines.api.routes.resources import issues_of
from hcp_pipelines.api.seen import of_devices, seen_of
from hcp_pipelines.api.service import BY_DEFAULT, listening, refuse_open, refuse_unread, where
from hcp_pipelines.api.tokens import Claims, SigningKeys
from hcp_pipelines.domain.clock import ManualClock
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.operators.api_keys import digest, prefix_of
from hcp_pipelines.operators.passwords import SHORTEST, generated, hashed, is_right
from hcp_pipelines.settings import Settings
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import encode_slots
from tests.support import fleet

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def test_what_is_wrong_with_devices_is_in_the_health_of_their_group_and_of_each():
    made = fleet.inventory()
    group = made.groups[1]
    first = group.first_slot
    told = pb.FacilityState(observed=bytes(made.slots), reachable=encode_slots(np.arange(made.slots, dtype=np.uint32)))
    told.issues.add(issue_type="xid", severity="critical", slots=encode_slots(np.uint32([first + 2])))
    told.issues.add(
        issue_type="elevated_temperature", severity="warning", slots=encode_slots(np.uint32([0, first, first + 2]))
    )
    seen = seen_of(made, told)
    of_group = seen.groups[group.group_id]
    assert of_group.issues == {("xid", "critical"): 1, ("elevated_temperature", "warning"): 2}
    assert of_devices(seen, slice(first + 1, first + 2)).issues == {}
    booked = Counts(available=group.devices, allocated=0, maintenance=1, failed=0, vanished=0)
    one = Resource(
        id="a/b", kind="group", facility_id="a", type="GPU", subtype="", devices=group.devices, status=booked,
        specifications={},
    )  # fmt: skip
    found = [(issue.severity, issue.issue_type, issue.message) for issue in issues_of(one, of_group)]
    assert found == [
        ("Critical", "xid", f"1 of {group.devices} devices with xid"),
        ("Warning", "maintenance", f"1 of {group.devices} devices in maintenance"),
        ("Warning", "elevated_temperature", f"2 of {group.devices} devices with elevated temperature"),
    ], "the worst first"


@given(st.lists(st.floats(0, 30), max_size=60))
def test_a_bucket_gives_no_more_than_its_burst_and_what_time_has_filled(pauses):
    buckets, limit, now_s, taken = Buckets(), Limit(60, 5), 0.0, 0
    for pause in pauses:
        now_s += pause
        taken += buckets.take("a", limit, now_s).is_allowed
        assert taken <= limit.burst + now_s * limit.per_minute / 60 + 1e-6


def test_who_was_refused_and_waits_as_told_is_let_in():
    buckets, limit = Buckets(), Limit(10, 2)
    assert [buckets.take("a", limit, 0.0).is_allowed for _ in range(3)] == [True, True, False]
    refused = buckets.take("a", limit, 0.0)
    assert refused.headers()["Retry-After"] == "6"
    assert buckets.take("a", limit, float(refused.retry_after_s)).is_allowed
    assert buckets.take("b", limit, 0.0).is_allowed, "another account's bucket is another one"


def test_the_number_of_buckets_is_bounded():
    buckets = Buckets(most=3)
    for n in range(10):
        buckets.take(str(n), Limit(60, 1), 0.0)
    assert not buckets.take("9", Limit(60, 1), 0.0).is_allowed
    assert buckets.take("0", Limit(60, 1), 0.0).is_allowed


def test_a_token_says_whose_it_is_until_it_ends():
    keys = SigningKeys(["k" * 64])
    token = keys.issue(Claims("user/1", 3), NOON, 60)
    assert keys.read(token, NOON) == Claims("user/1", 3)
    assert keys.read(token, NOON + timedelta(seconds=60)) is None
    assert SigningKeys(["l" * 64]).read(token, NOON) is None


def test_the_key_that_signs_can_be_changed_without_ending_sessions():
    before = SigningKeys(["k" * 64])
    token = before.issue(Claims("user/1", 1), NOON, 60)
    after = SigningKeys(["l" * 64, "k" * 64])
    assert after.read(token, NOON) == Claims("user/1", 1)
    assert before.read(after.issue(Claims("user/1", 1), NOON, 60), NOON) is None


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=50),
    st.integers(-(2**63) + 1, 2**63 - 1),
)
def test_a_cursor_leads_back_to_its_key(text, number):
    assert key_of(cursor_of([text, number]), (str, int)) == (text, number)


@given(st.text(max_size=60))
def test_any_other_cursor_is_refused_and_nothing_worse(text):
    with contextlib.suppress(ProblemError):
        assert len(key_of(text, (str, int))) == 2


def test_a_cursor_that_nothing_can_keep_is_refused():
    forged = base64.urlsafe_b64encode(b'["\\ud800", 1]').decode()
    with pytest.raises(ProblemError, match=r"query\.after"):
        key_of(forged, (str, int))


def test_a_cursor_of_another_list_is_refused():
    with pytest.raises(ProblemError):
        key_of(cursor_of(["a"]), (int,))
    with pytest.raises(ProblemError):
        key_of(cursor_of([2**80]), (int,))


def test_the_last_page_has_no_next():
    assert page([1, 2], 2, lambda n: [n]) == ([1, 2], None)
    assert page([1, 2, 3], 2, lambda n: [n]) == ([1, 2], cursor_of([2]))


def test_windows_are_half_open_bounded_and_end_now_unless_said():
    assert window(NOON, None, None, timedelta(days=1)) == (NOON - timedelta(days=1), NOON)
    for start, end in (
        (NOON, NOON),
        (NOON - LONGEST - timedelta(days=1), NOON),
        (datetime.max.replace(tzinfo=UTC), NOON),
    ):
        with pytest.raises(ProblemError):
            window(NOON, start, end, timedelta(days=1))


def test_passwords():
    kept = hashed("correct horse battery")
    assert kept.startswith("$argon2id$")
    assert is_right(kept, "correct horse battery")
    assert not is_right(kept, "correct horse batterx")
    assert not is_right(None, "correct horse battery")
    assert generated() != generated()
    with pytest.raises(ConfigError, match="12 to 200"):
        hashed("x" * (SHORTEST - 1))


def test_a_keys_digest_is_of_no_use_without_the_pepper():
    key = "hcp_0123456789ab_" + "0" * 32
    assert prefix_of(key) == "0123456789ab"
    assert prefix_of(key + "0") is None
    assert digest(key, b"a") != digest(key, b"b")


def test_tokens_never_go_over_a_network_in_the_clear(tmp_path):
    file = tmp_path / "x.pem"
    file.touch()
    both = {"api_certificate_file": file, "api_certificate_key_file": file}
    refuse_open(Settings(), "127.0.0.1")
    refuse_open(Settings(**both, api_profile="production"), "0.0.0.0")
    for settings, host, words in (
        (Settings(), "0.0.0.0", "beyond loopback the API needs TLS"),
        (Settings(api_profile="production"), "127.0.0.1", "takes no plain HTTP"),
        (Settings(api_certificate_file=file), "127.0.0.1", "go together"),
        (Settings(**both | {"api_certificate_key_file": tmp_path / "none"}), "127.0.0.1", "no such file"),
    ):
        with pytest.raises(ConfigError, match=words):
            refuse_open(settings, host)


async def told_by(one, path="/x", headers=(), body=b""):
    """Status, headers and body that a frame answers a request with."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": path, "query_string": b"", "headers": list(headers), "client": ("127.0.0.1", 1),
    }  # fmt: skip
    await one(scope, receive, send)
    head = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
    return sent[0]["status"], head, json.loads(sent[1]["body"])


def framed(app, caller=None):
    return Frame(app, ManualClock(NOON), structlog.get_logger(), True, lambda _: caller, Proxies())


async def test_a_defect_is_answered_and_tells_nothing_of_itself():
    async def app(*_):
        raise RuntimeError("secret")

    with capture_logs() as logs:
        status, head, body = await told_by(framed(app))
    assert (status, body["status"], body["request_id"]) == (500, 500, head["x-request-id"])
    assert "secret" not in json.dumps(body)
    assert "secret" in repr(logs[0]["exc_info"])
    assert head["strict-transport-security"]


async def test_an_answer_that_takes_too_long_is_cut_off_with_when_to_come_back(monkeypatch):
    async def app(*_):
        await asyncio.Event().wait()

    monkeypatch.setattr(frame, "ANSWER_WITHIN_S", 0.01)
    status, head, _ = await told_by(framed(app))
    assert (status, head["retry-after"]) == (503, "5")


async def test_no_more_requests_are_under_way_than_there_may_be(monkeypatch):
    is_in, go_on = asyncio.Event(), asyncio.Event()

    async def app(_, __, send):
        is_in.set()
        await go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    monkeypatch.setattr(under_way, "STRANGERS_OF_ONE", 1)
    one = framed(app)
    first = asyncio.create_task(told_by(one))
    await is_in.wait()
    status, head, _ = await told_by(one)
    assert (status, head["retry-after"]) == (503, "1")
    go_on.set()
    assert (await first)[0] == 200
    assert (await told_by(one))[0] == 200, "the place is free again"


async def test_known_callers_stand_in_line_for_a_place(monkeypatch):
    go_on = asyncio.Event()

    async def app(_, __, send):
        await go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    monkeypatch.setattr(under_way, "MOST", 1)
    one = framed(app, caller="a")
    many = [asyncio.create_task(told_by(one)) for _ in range(3)]
    await asyncio.sleep(0)
    monkeypatch.setattr(line, "WAITS_S", 0.01)
    status, head, _ = await told_by(one)
    assert (status, head["retry-after"]) == (503, "1"), "not in time"
    go_on.set()
    assert [status for status, *_ in await asyncio.gather(*many)] == [200] * 3


async def test_a_stranger_becomes_known_in_turn_while_others_stand_in_line(monkeypatch):
    go_on, recognised = asyncio.Event(), []

    async def app(scope, _, send):
        told = scope["state"]
        if told["is_known"]:
            await go_on.wait()
        recognised.append((told["is_known"], await told["recognised"]("b")))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    monkeypatch.setattr(under_way, "MOST", 1)
    monkeypatch.setattr(under_way, "STRANGERS", 1)
    one = Frame(app, ManualClock(NOON), structlog.get_logger(), True, lambda given: given or None, Proxies())
    known = [asyncio.create_task(told_by(one, headers=[(b"authorization", b"a")])) for _ in range(3)]
    await asyncio.sleep(0)
    stranger = asyncio.create_task(told_by(one))
    await asyncio.sleep(0)
    assert (await told_by(one))[0] == 503, "it has its place among strangers until it is known"
    go_on.set()
    await asyncio.gather(*known, stranger)
    assert recognised == [(True, None), (True, None), (False, None), (True, None)], "b's turn comes between a's"
    monkeypatch.setattr(line, "WAITS_S", 0.01)
    go_on.clear()
    holds = asyncio.create_task(told_by(one, headers=[(b"authorization", b"a")]))
    await asyncio.sleep(0)
    await told_by(one)
    assert recognised.pop() == (False, 1), "not in time"
    go_on.set()
    assert (await holds)[0] == 200
    assert (await told_by(one))[0] == 200, "no place is lost"


async def test_a_body_that_does_not_arrive_is_given_up(monkeypatch):
    async def app(_, receive, __):
        await receive()

    async def never():
        await asyncio.Event().wait()

    monkeypatch.setattr(arriving, "ARRIVE_WITHIN_S", 0.01)
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/x", "query_string": b"", "headers": []}
    await framed(app)(scope, never, send)
    assert sent[0]["status"] == 408


class Connection:
    """What the server's connection can be told."""

    is_aborted = False

    def abort(self):
        self.is_aborted = True


async def test_who_does_not_take_an_answer_is_left(monkeypatch):
    async def app(_, __, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})

    async def whole():
        return {"type": "http.request"}

    async def send(message):
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()  # as a connection whose reader reads nothing

    monkeypatch.setattr(frame, "TAKEN_WITHIN_S", 0.01)
    connection = Connection()
    scope = {
        "type": "http", "method": "GET", "path": "/x", "query_string": b"", "headers": [], "client": None,
        "extensions": {EXTENSION: connection},
    }  # fmt: skip
    await framed(app)(scope, whole, send)
    assert connection.is_aborted


def test_a_taken_default_port_gives_a_free_one_and_a_taken_chosen_port_is_said():
    assert where(Settings()) == BY_DEFAULT
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with listening("127.0.0.1", port, is_by_default=True) as own:
            assert own.getsockname()[1] != port
        with (
            pytest.raises(ConfigError, match=f"HCP_API_LISTEN=127.0.0.1:{port}"),
            listening("127.0.0.1", port, is_by_default=False),
        ):
            raise AssertionError("it listens")


TRUSTED = Proxies(networks("10.0.0.0/8, 2001:db8::/32"))


@pytest.mark.parametrize(
    ("peer", "headers", "client"),
    [
        ("192.0.2.1", {"x-forwarded-for": "203.0.113.5"}, "192.0.2.1"),
        ("10.1.1.1", {}, "10.1.1.1"),
        ("10.1.1.1", {"x-forwarded-for": "203.0.113.5"}, "203.0.113.5"),
        ("10.1.1.1", {"x-forwarded-for": "1.1.1.1, 203.0.113.5, 10.2.2.2"}, "203.0.113.5"),
        ("10.1.1.1", {"x-forwarded-for": "unknown"}, "10.1.1.1"),
        ("10.1.1.1", {"x-forwarded-for": "203.0.113.5:4711"}, "203.0.113.5"),
        ("10.1.1.1", {"forwarded": 'for=1.1.1.1, by=x;For="[2001:db9::7]:80";proto=https'}, "2001:db9::7"),
        ("10.1.1.1", {"forwarded": "for=_hidden"}, "10.1.1.1"),
        ("10.1.1.1", {"forwarded": "for=1.1.1.1", "x-forwarded-for": "203.0.113.5"}, "10.1.1.1"),
        ("10.1.1.1", {"forwarded": "for=203.0.113.5", "x-forwarded-for": "203.0.113.5"}, "203.0.113.5"),
        ("::ffff:10.1.1.1", {"x-forwarded-for": "203.0.113.5"}, "203.0.113.5"),
    ],
)
def test_only_named_proxies_tell_who_asks_and_the_last_stranger_counts(peer, headers, client):
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert TRUSTED.client_of({"client": (peer, 1), "headers": encoded})[0] == client
    assert Proxies().client_of({"client": (peer, 1), "headers": encoded}) == (peer, 1)


def test_proxies_that_are_no_network_are_said():
    with pytest.raises(ConfigError, match="HCP_API_TRUSTED_PROXIES"):
        refuse_unread(Settings(api_trusted_proxies="10.0.0.1/8"))
