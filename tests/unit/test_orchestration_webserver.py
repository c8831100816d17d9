"""Dagster's webserver: what only a page of another site would send does not reach it."""

import httpx
import pytest
from starlette.datastructures import Headers

from hcp_pipelines.orchestration import instance
from hcp_pipelines.settings import Settings

HOST = "127.0.0.1:3000"
MUTATION = "/graphql?query=mutation%7BreloadWorkspace%7B__typename%7D%7D"


@pytest.fixture
def webserver():
    """Imported by the process that runs this file, not by each that collects it: a second of CPU and more."""
    from hcp_pipelines.orchestration import webserver

    return webserver


async def inner(scope, _receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(
    ("method", "target", "headers", "status"),
    [
        ("GET", "/", {}, 200),
        ("GET", "/graphql", {}, 200),
        ("POST", "/graphql", {}, 200),
        ("POST", "/graphql", {"origin": f"http://{HOST}"}, 200),
        ("POST", "/graphql", {"host": "localhost:8080", "origin": "http://localhost:8080"}, 200),  # through a tunnel
        ("POST", "/graphql", {"host": "[::1]:3000"}, 200),
        ("GET", MUTATION, {}, 403),  # the address of an image
        ("POST", MUTATION, {"origin": "https://example.org"}, 403),  # a form
        ("POST", MUTATION, {"origin": "null"}, 403),
        ("POST", "/graphql", {"origin": "http://127.0.0.1:8888"}, 403),
        ("GET", "/runs", {"host": "example.org:3000"}, 403),  # a name that was made to resolve to loopback
        ("POST", "/graphql", {"host": "example.org:3000", "origin": "http://example.org:3000"}, 403),
        ("POST", "/graphql", {"host": "127.0.0.1.example.org"}, 403),
        ("POST", "/graphql", {"host": "["}, 403),
    ],
)
async def test_pages_of_other_sites_are_refused(webserver, method, target, headers, status):
    transport = httpx.ASGITransport(webserver.LocalPagesOnly(inner))
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as client:
        assert (await client.request(method, target, headers=headers)).status_code == status


@pytest.mark.parametrize(("origin", "is_taken"), [(f"http://{HOST}", True), ("https://example.org", False)])
async def test_a_web_socket_of_another_site_is_closed_before_it_is_accepted(webserver, origin, is_taken):
    sent, passed = [], []

    async def send(message):
        sent.append(message)

    async def accept(scope, _receive, _send):
        passed.append(scope)

    headers = [(b"host", HOST.encode()), (b"origin", origin.encode())]
    scope = {"type": "websocket", "path": "/graphql", "query_string": b"", "headers": headers}
    await webserver.LocalPagesOnly(accept)(scope, None, send)
    assert (bool(passed), sent) == (is_taken, [] if is_taken else [{"type": "websocket.close", "code": 1008}])


def test_a_request_without_a_host_is_refused(webserver):
    assert webserver.refusal("GET", "/", "", Headers({})) == "Host is '', not loopback"


def test_it_is_the_server_that_hcp_up_starts(webserver, tmp_path, monkeypatch):
    monkeypatch.setattr(instance, "environment", lambda _settings: {})
    [web] = [p for p in instance.process_commands(Settings(state_dir=tmp_path)) if p.name == instance.WEBSERVER]
    assert web.argv[1:3] == ("-m", "hcp_pipelines.orchestration.webserver")
    closed = webserver.ClosedWebserver
    assert closed.build_middleware(object.__new__(closed))[0].cls is webserver.LocalPagesOnly
