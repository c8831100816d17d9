"""Is it ready? One probe a Dagster process: '' when it is, else what is missing. Imports no dagster.

Signature as the supervisor wants it: given an HTTP client, awaitable. No threads and no gRPC, since it forks.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from hcp_pipelines.domain.clock import Clock

TIMEOUT_S = 5.0
REFUSED = "GraphQL refused"
Probe = Callable[[httpx.AsyncClient], Awaitable[str]]

LOCATIONS_QUERY = """
query Locations { workspaceOrError { __typename ... on Workspace { locationEntries {
  name loadStatus locationOrLoadError { __typename ... on PythonError { message } } } } } }
"""
DAEMONS_QUERY = "query Daemons { instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } }"


def graphql_url(port: int) -> str:
    """The webserver's public API."""
    return f"http://127.0.0.1:{port}/graphql"


async def graphql(
    client: httpx.AsyncClient,
    port: int,
    query: str,
    variables: dict[str, Any] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> dict[str, Any]:
    """The `data` of a GraphQL reply.

    Raises:
        httpx.HTTPError: the webserver is away, or refused the query.
    """
    body = {"query": query, "variables": variables or {}}
    reply = await client.post(graphql_url(port), json=body, timeout=timeout_s)
    reply.raise_for_status()
    document = reply.json()
    if document.get("errors"):
        raise httpx.HTTPError(f"{REFUSED}: {document['errors'][0].get('message')}")
    data = document["data"]
    return data if isinstance(data, dict) else {}


async def patient_graphql(
    client: httpx.AsyncClient,
    port: int,
    clock: Clock,
    query: str,
    variables: dict[str, Any],
    away_at_most_s: float,
    poll_s: float = 1.0,
) -> dict[str, Any]:
    """As `graphql`, for what may be asked twice: a webserver that is away for a while is waited for.

    Raises:
        httpx.HTTPError: it has been away for so long, or refused the query.
    """
    began_s = clock.monotonic_s()
    while True:
        try:
            return await graphql(client, port, query, variables)
        except httpx.HTTPError as error:
            if clock.monotonic_s() - began_s > away_at_most_s or REFUSED in str(error):
                raise
            await asyncio.sleep(poll_s)


def code_server(path: Path) -> Probe:
    """A code server listens, which it does once its definitions are loaded."""

    async def probe(_client: httpx.AsyncClient) -> str:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                _, writer = await asyncio.open_unix_connection(path)
                writer.close()
        except (OSError, TimeoutError) as error:
            return f"nobody listens on {path}: {error!r}"
        return ""

    return probe


def run_server(path: Path) -> Probe:
    """The fork server answers on its socket."""

    async def probe(_client: httpx.AsyncClient) -> str:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(b'{"op": "ping"}\n')
                answer = json.loads(await reader.readline())
                writer.close()
        except (OSError, TimeoutError, ValueError) as error:
            return f"no answer on {path}: {error!r}"
        return "" if answer.get("ok") else str(answer)

    return probe


def webserver(port: int, locations: Sequence[str]) -> Probe:
    """The UI answers and has loaded these code locations."""

    async def probe(client: httpx.AsyncClient) -> str:
        try:
            data = await graphql(client, port, LOCATIONS_QUERY)
        except httpx.HTTPError as error:
            return f"no answer on {graphql_url(port)}: {error!r}"
        entries = {e["name"]: e for e in data["workspaceOrError"].get("locationEntries", [])}
        return "; ".join(reason for name in locations if (reason := _location_problem(name, entries.get(name))))

    return probe


def _location_problem(name: str, entry: dict[str, Any] | None) -> str:
    if entry is None:
        return f"code location {name} is not in the workspace"
    loaded = entry["locationOrLoadError"] or {}
    if entry["loadStatus"] != "LOADED" or not loaded:
        return f"code location {name} is loading"
    if loaded["__typename"] == "PythonError":
        return f"code location {name}: {loaded['message'][:200]}"
    return ""


def daemon(port: int) -> Probe:
    """The Dagster daemon's parts report that they are well (asked through the webserver)."""

    async def probe(client: httpx.AsyncClient) -> str:
        try:
            data = await graphql(client, port, DAEMONS_QUERY)
        except httpx.HTTPError as error:
            return f"no answer on {graphql_url(port)}: {error!r}"
        statuses = data["instance"]["daemonHealth"]["allDaemonStatuses"]
        unwell = [s["daemonType"] for s in statuses if s["required"] and not s["healthy"]]
        return f"not healthy: {', '.join(unwell)}" if unwell else ""

    return probe


def broker(url: str) -> Probe:
    """Celery's broker answers; whether the worker takes runs, only a run shows."""

    async def probe(_client: httpx.AsyncClient) -> str:
        from kombu import Connection

        try:
            with Connection(url) as connection:
                connection.ensure_connection(max_retries=1, timeout=TIMEOUT_S)
        except Exception as error:  # noqa: BLE001 - each broker has errors of its own
            return f"the broker does not answer: {type(error).__name__}"
        return ""

    return probe
