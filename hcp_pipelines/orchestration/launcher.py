"""The tick launcher (`python -m hcp_pipelines.orchestration.launcher`): asks for a run as soon as a tick calls for one.

By Dagster's public GraphQL API; the tick sensor is the slower safety net and skips what was asked for here. One run at
a time: ticks that come meanwhile are answered by one run on the newest. Without a webserver it waits.
"""

import asyncio
import sys
from typing import Any

import httpx
import psycopg
from prometheus_client import Counter, Histogram

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.orchestration.probes import graphql
from hcp_pipelines.orchestration.requests import CONTROL_LOCATION, TICK_JOB, SolveRequest, solve_request
from hcp_pipelines.orchestration.state import read_solve_state
from hcp_pipelines.runtime.process import ProcessContext, run_process
from hcp_pipelines.runtime.spans import tell_span
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.notify import Listener
from hcp_pipelines.storage.platform import know_platform_at_once
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

NAME = "tick-launcher"
REPOSITORY = "__repository__"
FINISHED = frozenset({"SUCCESS", "FAILURE", "CANCELED"})
FOLLOW_POLL_S = 0.15
FOLLOW_AT_MOST_S = 60.0
RETRY_S = 1.0
POLL_S = 1.0
CHANNELS = ("hcp_tick", "hcp_directive")  # directives: signals of the grid are told there, too

REQUESTED = Counter("hcp_tick_runs_requested_total", "Runs of tick_job asked for by the launcher.", ["reason"])
REFUSED = Counter("hcp_tick_run_requests_failed_total", "Requests that the webserver did not take.")
REQUEST_SECONDS = Histogram("hcp_tick_run_request_seconds", "From reading a notification to Dagster's answer.")

LAUNCH = """
mutation Launch($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename
  ... on LaunchRunSuccess { run { runId } }
  ... on PythonError { message }
  ... on RunConflict { message }
  ... on UnauthorizedError { message }
  ... on PipelineNotFoundError { message }
  ... on InvalidSubsetError { message }
} }
"""
STATUS = "query Status($runId: ID!) { runOrError(runId: $runId) { __typename ... on Run { status } } }"


class LaunchError(Exception):
    """Dagster answered, but did not start the run."""


class TickLauncher:
    """Reads the state, asks for a run, follows it to its end."""

    def __init__(self, ctx: ProcessContext, client: httpx.AsyncClient) -> None:
        self._ctx = ctx
        self._client = client
        self._port = ctx.settings.dagster_port
        self._connection: psycopg.Connection[Any] | None = None
        self._last_tick_id = 0

    async def turn(self) -> bool:
        """Ask for the run that the present state calls for and follow it; False if none was called for or taken."""
        began_s = self._ctx.clock.monotonic_s()
        request = self._request()
        if request is None:
            return False
        try:
            run_id = await self._launch(request)
        except (httpx.HTTPError, LaunchError) as error:
            REFUSED.inc()
            self._ctx.health["webserver"] = f"tick {request.tick_id}: {error!r}"
            self._ctx.log.warning("run_not_taken", tick_id=request.tick_id, error=repr(error))
            await asyncio.sleep(RETRY_S)
            return False
        self._ctx.health["webserver"] = ""
        self._last_tick_id = request.tick_id
        request_s = self._ctx.clock.monotonic_s() - began_s
        REQUESTED.labels(request.reason.value).inc()
        REQUEST_SECONDS.observe(request_s)
        tell_span("run_requested", request.tick_id, request_s, reason=request.reason.value, run_id=run_id)
        self._ctx.log.info(
            "run_requested", tick_id=request.tick_id, reason=request.reason, run_id=run_id, seconds=round(request_s, 3)
        )
        await self._follow(run_id)
        return True

    def _request(self) -> SolveRequest | None:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = connect(self._ctx.settings, Role.CONTROL)
                know_platform_at_once(self._connection)
            state = read_solve_state(self._connection, self._ctx.clock.now())
        except (psycopg.OperationalError, StorageError) as error:
            self._ctx.health["postgres"] = repr(error)
            if self._connection is not None:
                self._connection.close()
            return None
        self._ctx.health["postgres"] = ""
        return solve_request(state, self._last_tick_id)

    async def _launch(self, request: SolveRequest) -> str:
        tags = [{"key": key, "value": value} for key, value in request.tags_as_sensor().items()]
        params = {
            "selector": {
                "repositoryLocationName": CONTROL_LOCATION,
                "repositoryName": REPOSITORY,
                "pipelineName": TICK_JOB,
            },
            "mode": "default",
            "runConfigData": {},
            "executionMetadata": {"tags": tags},
        }
        result = (await graphql(self._client, self._port, LAUNCH, {"params": params}))["launchRun"]
        if result["__typename"] != "LaunchRunSuccess":
            raise LaunchError(f"{result['__typename']}: {str(result.get('message', ''))[:300]}")
        return str(result["run"]["runId"])

    async def _follow(self, run_id: str) -> None:
        """Return when the run has ended, at the latest after a minute (run monitoring deals with it then)."""
        deadline_s = self._ctx.clock.monotonic_s() + FOLLOW_AT_MOST_S
        while not self._ctx.stop.is_set() and self._ctx.clock.monotonic_s() < deadline_s:
            await asyncio.sleep(FOLLOW_POLL_S)
            try:
                reply = await graphql(self._client, self._port, STATUS, {"runId": run_id})
            except httpx.HTTPError:
                continue
            if reply["runOrError"].get("status", "FAILURE") in FINISHED:
                return


async def body(ctx: ProcessContext) -> None:
    """Wake on each notification or poll, and ask until nothing more is called for."""
    async with httpx.AsyncClient() as client:
        launcher = TickLauncher(ctx, client)
        async with Listener(ctx.settings, Role.CONTROL, CHANNELS, poll_s=POLL_S) as listener:
            ctx.ready()
            while not ctx.stop.is_set():
                while await launcher.turn():
                    pass
                await listener.wait()


def main() -> int:
    """Run until told to stop."""
    return run_process(NAME, Settings.load(), body)


if __name__ == "__main__":
    sys.exit(main())
