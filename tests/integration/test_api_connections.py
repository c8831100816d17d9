"""Connections as a stranger may use them: half-sent requests, silence, trickles, too many; and known callers beside."""

import contextlib
import socket
import time
from urllib.parse import urlsplit

import pytest

from hcp_pipelines.api import arriving, connections, service
from tests.support.api import running_api
from tests.support.postgres import fresh_database

HALF = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
ASK = b"GET /api/v1/auth/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n"


@pytest.fixture(scope="module")
def api(postgres):
    """One for all, whose deadlines are short."""
    fresh_database(postgres)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arriving, "ARRIVE_WITHIN_S", 1.0)
        patch.setattr(connections, "HEAD_WITHIN_S", 0.5)
        patch.setattr(connections, "BODY_WITHIN_S", 1.5)
        with running_api(postgres) as running:
            yield running


@contextlib.contextmanager
def connected(api, number=1):
    """Sockets to the API."""
    where = urlsplit(api.base_url)
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection((where.hostname, where.port), 60)) for _ in range(number)]


def end_of(one):
    """All that still comes on a connection; and how long until its end."""
    began, told = time.monotonic(), b""
    with contextlib.suppress(ConnectionResetError):
        while part := one.recv(65_536):
            told += part
    return told, time.monotonic() - began


def answered(one, asked):
    """The status of an answer that is read to its end."""
    one.sendall(asked)
    told = b""
    while not told.endswith(b"}"):
        told += one.recv(4096)
    return int(told.split(b" ")[1])


def test_half_sent_bodies_stop_nobody_who_is_whole(api):
    with api.client("viewer") as known, connected(api, 300) as many:
        assert known.get("/api/v1/auth/me").status_code == 200
        for one in many:
            one.sendall(HALF)
        assert known.get("/api/v1/auth/me").status_code == 200, "a known caller"
        assert api.log_in("admin").status_code == 200, "a stranger of the same address whose request is whole"
        statuses = [end_of(one)[0].split(b" ")[1] for one in many]
    assert set(statuses) == {b"408", b"429"}, "those beyond their places at once, the others at their deadline"
    assert statuses.count(b"408") <= arriving.STRANGERS_PLACES_OF_ONE


def test_half_sent_bodies_of_a_known_caller_are_bounded_too(api):
    key = api.people["operator"].key
    half = HALF.replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer " + key.encode() + b"\r\n\r\n")
    with api.client("operator") as own:
        own.get("/api/v1/auth/me")
    with connected(api, arriving.KNOWN_PLACES_OF_ONE + 20) as many:
        for one in many:
            one.sendall(half)
        statuses = [end_of(one)[0].split(b" ")[1] for one in many]
    assert statuses.count(b"429") >= 20
    assert statuses.count(b"408") <= arriving.KNOWN_PLACES_OF_ONE


@pytest.mark.parametrize(
    "said", [b"", b"GET /health HTTP/1.1\r\nHost: x\r\n", b"\r\n"], ids=["nothing", "half a head", "empty lines"]
)
def test_a_connection_without_a_request_ends_within_its_deadline(api, said):
    with connected(api) as (one,):
        if said:
            one.sendall(said)
        told, took_s = end_of(one)
    assert told == b""
    assert took_s < 30


def test_what_trickles_in_does_not_put_the_deadline_off(api):
    with connected(api) as (one,):
        one.settimeout(0.1)
        began, rest = time.monotonic(), iter(b"GET /health HTTP/1.1\r\n" + b"x: y\r\n" * 1000)
        is_open = True
        while is_open and time.monotonic() < began + 30:
            try:
                one.sendall(bytes([next(rest)]))
                is_open = one.recv(1) != b""
            except TimeoutError:
                continue
            except OSError:
                is_open = False
    assert not is_open


def test_a_request_too_large_to_be_read_ends_its_connection_after_the_answer(api):
    with connected(api) as (one,):
        one.sendall(HALF.replace(b"100", b"1000000"))
        told, took_s = end_of(one)
    assert b" 413 " in told
    assert took_s < 30


def test_where_connections_are_too_many_the_oldest_stranger_goes_and_the_known_stay(settings, monkeypatch):
    monkeypatch.setattr(service, "LEAST_CONNECTIONS", 20)
    monkeypatch.setattr(service, "OTHER_FILES", 10**9)
    with running_api(settings) as api, connected(api) as (known,):
        asked = ASK % api.people["viewer"].key.encode()
        assert answered(known, asked) == 200
        with connected(api, 20) as many:
            assert end_of(many[0])[1] < 5, "the first of 20 beside the known one, of 20 that there may be"
            assert answered(known, asked) == 200
            assert answered(many[-1], asked) == 200
