"""Dagster's webserver (`python -m hcp_pipelines.orchestration.webserver`), shut to web pages of other sites.

It has no login and carries out mutations that come by GET. So any page that a browser on this machine shows could start
runs (by a mere image's address), and one whose name resolves to loopback could read the answers too. What is refused here is
what only a page can send; another program of this machine is not kept out (docs/security.md).
"""

from typing import Any
from urllib.parse import urlsplit

from dagster_webserver import app as dagster_app
from dagster_webserver.cli import cli
from dagster_webserver.webserver import DagsterWebserver
from starlette.datastructures import Headers, QueryParams
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OWN_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


def refusal(method: str, path: str, query: str, headers: Headers) -> str:
    """Why a request is refused; empty when it is not. Any port is ours: the UI may come through a tunnel.

    >>> refusal("GET", "/runs", "", Headers({"host": "localhost:3000"}))
    ''
    >>> refusal("GET", "/runs", "", Headers({"host": "example.org:3000"}))
    "Host is 'example.org:3000', not loopback"
    """
    host, origin = headers.get("host", ""), headers.get("origin")
    if _name_in(f"//{host}") not in OWN_NAMES:
        return f"Host is {host!r}, not loopback"
    if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
        return f"Origin is {origin!r}, another site's"
    if path.rstrip("/").endswith("/graphql") and method != "POST" and "query" in QueryParams(query):
        return "a query comes by POST"
    return ""


def _name_in(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


class LocalPagesOnly:
    """ASGI middleware: 403 for what `refusal` names, web sockets included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] in ("http", "websocket"):
            method = scope.get("method", "POST")  # a web socket carries its queries inside
            reason = refusal(method, scope["path"], scope["query_string"].decode("latin-1"), Headers(scope=scope))
            if reason and scope["type"] == "http":
                await PlainTextResponse(f"refused: {reason}. See docs/security.md.\n", 403)(scope, receive, send)
                return
            if reason:
                await send({"type": "websocket.close", "code": 1008})
                return
        await self._app(scope, receive, send)


class ClosedWebserver(DagsterWebserver[Any, Any]):
    """Dagster's, with the middleware in front."""

    def build_middleware(self) -> list[Middleware]:
        """Ours first."""
        return [Middleware(LocalPagesOnly), *super().build_middleware()]


def main() -> None:
    """Run Dagster's own command line with our server in it."""
    vars(dagster_app)["DagsterWebserver"] = ClosedWebserver  # its one place of use; there is no public way in
    cli(auto_envvar_prefix="DAGSTER_WEBSERVER")


if __name__ == "__main__":
    main()
