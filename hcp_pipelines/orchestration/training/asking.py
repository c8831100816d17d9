"""Asks Dagster to learn a forecast and follows the run, by its public API as its UI does. Imports no dagster."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass

import httpx

from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import NotRunningError
from hcp_pipelines.orchestration.launcher import FINISHED, LAUNCH, REPOSITORY, STATUS
from hcp_pipelines.orchestration.probes import graphql, patient_graphql
from hcp_pipelines.orchestration.training.told import Asked

LOCATION = "analytics"
ASKED_AT = "hcp/asked_at"  # a run's tag: the instant of the world
POLL_S = 1.0
AWAY_AT_MOST_S = 60.0  # a launch too: on a busy machine it takes many seconds, and asked for twice it would run twice


@dataclass(frozen=True)
class Run:
    """A run that has ended, or goes on without us."""

    id: str
    status: str


def job_of(name: str) -> str:
    """The job that learns a target."""
    return f"retrain_{name}_job"


def config_of(asked: Asked) -> dict[str, object]:
    """The run's configuration, as the launchpad takes it."""
    config = {key: value for key, value in asdict(asked).items() if key != "target"} | {"groups": list(asked.groups)}
    return {"ops": {f"core_hcp__{asked.target}_model": {"config": config}}}


async def request(
    client: httpx.AsyncClient, port: int, clock: Clock, asked: Asked, began: Callable[[str], None] = lambda _: None
) -> Run:
    """Ask for a run, say its id, return when it has ended.

    Raises:
        NotRunningError: the webserver is away, or refuses.
    """
    selector = {
        "repositoryLocationName": LOCATION, "repositoryName": REPOSITORY, "pipelineName": job_of(asked.target),
    }  # fmt: skip
    params = {
        "selector": selector,
        "mode": "default",
        "runConfigData": config_of(asked),
        "executionMetadata": {"tags": [{"key": ASKED_AT, "value": clock.now().isoformat()}]},
    }
    try:
        reply = (await graphql(client, port, LAUNCH, {"params": params}, AWAY_AT_MOST_S))["launchRun"]
    except httpx.HTTPError as error:
        raise NotRunningError(
            f"Dagster's webserver on port {port} does not answer ({error!r}): `hcp up` starts it"
        ) from error
    if reply["__typename"] != "LaunchRunSuccess":
        raise NotRunningError(f"Dagster refuses: {reply['__typename']}: {str(reply.get('message', ''))[:300]}")
    run_id = str(reply["run"]["runId"])
    began(run_id)
    return Run(run_id, await _ended(client, port, clock, run_id))


async def _ended(client: httpx.AsyncClient, port: int, clock: Clock, run_id: str) -> str:
    """Its last status; a webserver that is away for a minute is not waited for."""
    while True:
        await asyncio.sleep(POLL_S)
        try:
            reply = await patient_graphql(client, port, clock, STATUS, {"runId": run_id}, AWAY_AT_MOST_S, POLL_S)
        except httpx.HTTPError as error:
            raise NotRunningError(
                f"Dagster's webserver is away ({error!r}); run {run_id} goes on without it"
            ) from error
        status = str(reply["runOrError"].get("status", "FAILURE"))
        if status in FINISHED:
            return status
