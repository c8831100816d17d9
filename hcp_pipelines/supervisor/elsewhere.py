"""The platform's processes one at a time, for whoever runs them elsewhere: containers, other machines, other supervisors.

What each is called and started with is the same as under `hcp up`.
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.fleet.inventory import load_inventories
from hcp_pipelines.orchestration import instance
from hcp_pipelines.orchestration.spreading import RUN_SERVER
from hcp_pipelines.settings import Settings, child_environment
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.configuration import REGISTER_GATEWAY, gateway_document
from hcp_pipelines.supervisor.gateway_tls import gateway_files
from hcp_pipelines.supervisor.processes import ALLOCATORS, API, FLEET, ROOT, SCHEDULER

OURS = {
    "feed": ("hcp_pipelines.feed",),
    "collector": ("hcp_pipelines.collector",),
    "alerts": ("hcp_pipelines.alerts",),
    FLEET: ("hcp_pipelines.fleet",),
    API: ("hcp_pipelines.api",),
    SCHEDULER: ("hcp_pipelines.workloads.scheduler",),
    **{name: ("hcp_pipelines.allocator", "--name", name) for name in ALLOCATORS},
}
HEALTHY_WITHIN_S = 5.0


@dataclass(frozen=True)
class Command:
    """What to execute."""

    argv: tuple[str, ...]
    environment: dict[str, str]


def names() -> list[str]:
    """Every process that `command` knows."""
    servers = [instance.code_server_name(location) for location in instance.LOCATIONS]
    more = [RUN_SERVER, instance.WEBSERVER, instance.DAEMON, instance.LAUNCHER, instance.CELERY_WORKER]
    return [*OURS, *servers, *more]


def command(settings: Settings, name: str, runs: int = 1) -> Command:
    """How to start a process; `runs` at once in a Celery worker.

    Raises:
        ConfigError: there is none of that name.
    """
    if name in OURS:
        env = child_environment(settings, HCP_PROCESS_NAME=name, PYTHONUNBUFFERED="1")
        return Command((sys.executable, "-m", *OURS[name]), env)
    if name not in names():
        raise ConfigError(
            f"{name!r} is no process of the platform: {', '.join(names())}; a gateway: hcp edge --config FILE"
        )
    process = _dagster_process(settings, name, runs)
    return Command(process.argv, dict(process.env))


def execute(settings: Settings, name: str, runs: int = 1) -> None:
    """Become the process; returns only where it can't be started."""
    if name not in OURS:
        instance.prepare(settings)
    become(command(settings, name, runs))


def become(chosen: Command) -> None:
    """Exchange this process for another, from the project's folder."""
    os.chdir(ROOT)
    os.execvpe(chosen.argv[0], chosen.argv, chosen.environment)  # noqa: S606 - no shell is the point


def dagster_command(settings: Settings, argv: Sequence[str]) -> Command:
    """Any command with the environment of Dagster's processes: what a Kubernetes job of a run is."""
    instance.prepare(settings)
    return Command(tuple(argv), instance.environment(settings))


def problem(settings: Settings, name: str) -> str:
    """What is wrong with a process of this machine; empty where nothing is."""
    return asyncio.run(_problem(settings, name))


async def _problem(settings: Settings, name: str) -> str:
    async with httpx.AsyncClient(timeout=HEALTHY_WITHIN_S) as client:
        if name not in OURS and name in names():
            probe = _dagster_process(settings, name, 1).probe
            if probe is not None:
                return await probe(client)
        try:
            record = json.loads(settings.at("run", f"{name}.json").read_text())
            reply = await client.get(record["urls"]["health"])
        except (OSError, ValueError, KeyError, httpx.HTTPError) as error:
            return f"{name} is not ready: {_why(settings, name, error)}"
        return "" if reply.status_code == 200 else reply.text


def _why(settings: Settings, name: str, error: Exception) -> str:
    path = settings.at("run", f"{name}.json")
    if isinstance(error, FileNotFoundError):
        return f"no {path}: it has never been ready here, or there is no such process (`hcp status` has their names)"
    if isinstance(error, httpx.HTTPError):
        return f"it doesn't answer ({type(error).__name__})"
    return f"{path} can't be read ({error})"


def _dagster_process(settings: Settings, name: str, runs: int) -> instance.DagsterProcess:
    if name == instance.CELERY_WORKER:
        return instance.celery_worker(settings, runs=runs)
    return next(process for process in instance.process_commands(settings) if process.name == name)


def assign_gateway(settings: Settings, gateway: str, address: str, facilities: Sequence[str]) -> dict[str, object]:
    """Write down at which address a gateway elsewhere serves facilities; the file that it runs by.

    Raises:
        ConfigError: a facility is not known, or the address is none.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"{address!r} is not HOST:PORT, where allocators and collector reach the gateway")
    with connect(settings, Role.ADMIN) as connection:
        everything = load_inventories(connection)
        own = [i for i in everything if i.facility_id in facilities]
        unknown = sorted(set(facilities) - {i.facility_id for i in own})
        if unknown:
            raise ConfigError(f"{unknown[0]!r} is no facility: hcp facility apply FILE first")
        with connection.transaction():
            for inventory in own:
                connection.execute(REGISTER_GATEWAY, (inventory.facility_id, address, gateway))
    document = gateway_document(settings, gateway, f"0.0.0.0:{port}", own, sum(i.capacity_mw for i in everything))
    return document | {"tls": gateway_files(settings)}
